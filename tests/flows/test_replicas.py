"""Two replicas of a real vLLM on this CPU: the load is spread evenly, and a killed one is named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redline.model import TrialStatus
from redline.store.trials import list_trials, read_trial
from tests.flows.commands import BUILD, ROOT, redline

pytestmark = pytest.mark.vllm
RUN = ("run", "--runner", "cpu-2-replicas", "--build", BUILD, "--scenario", "offline-short")
WARM_UP = re.compile(r"measuring offline-short")


def listener_of(log_path: Path) -> int:
    """The pid of the server that writes this log: the process whose standard output it is."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "fd" / "1").readlink() == log_path and b"api_server" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no server writes {log_path}")


def test_two_replicas_share_the_load(environment: dict[str, str]) -> None:
    """Each gets every second request of every window; the report has a row for each."""
    code, printed = redline(environment, *RUN, "--json", "--quiet")
    assert code == 6, printed
    answer = json.loads(printed[printed.index("{") :])
    (trial,) = [read_trial(path) for path in list_trials(Path(environment["REDLINE_STATE"]) / "trials")]
    assert trial.status is TrialStatus.VALID, trial.detail
    assert [replica.name for replica in trial.replicas] == ["replica 0", "replica 1"]
    for repeat in trial.repeats:
        assert [record.replica for record in repeat.records] == [index % 2 for index in range(len(repeat.records))]
    report = Path(answer["report"]).read_text()
    assert "Load spread over 2 replicas" in report
    rows = [line for line in report.splitlines() if line.startswith("| replica ") and "accelerators" not in line]
    assert len(rows) == 2
    assert all(re.search(r"\| +48 \|", row) for row in rows)  # 3 counted windows of 32 requests


def test_a_replica_killed_in_a_run_makes_the_trial_invalid(environment: dict[str, str]) -> None:
    """Exit code 4, a report and a stored trial that name the replica, and no process left."""
    state = Path(environment["REDLINE_STATE"])
    with subprocess.Popen(
        [sys.executable, "-m", "redline.cli", *RUN], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if WARM_UP.search(line):
                break
        time.sleep(0.5)
        (log_path,) = state.glob("logs/*/speed-llama-00-single-replica-1.log")
        os.kill(listener_of(log_path.resolve()), signal.SIGKILL)
        rest = process.stderr.read()
    assert process.returncode == 4, rest
    (trial,) = [read_trial(path) for path in list_trials(state / "trials")]
    assert trial.status is TrialStatus.INVALID
    assert "replica 1 of 2" in trial.detail
    assert "SIGKILL" in (state / "reports").glob("*.md").__next__().read_text()
    broken = [reading.reading for reading in trial.validity if not reading.ok]
    assert any("replica 1 of 2" in reading for reading in broken)
