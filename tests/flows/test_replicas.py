"""Two replicas of a real vLLM on this CPU: the load is spread evenly, and a killed one is named."""

from __future__ import annotations

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
from tests.flows.commands import BUILD, ROOT, measure_for_long

pytestmark = pytest.mark.vllm
SCENARIOS = ("--scenario", "offline-short", "--scenario", "server-short")
RUN = ("run", "--runner", "cpu-2-replicas", "--build", BUILD, *SCENARIOS)


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


def test_two_replicas_share_the_load_until_one_is_killed(environment: dict[str, str]) -> None:
    """Each gets every second request of every window, and a row in the report; then one of them dies in a scenario.

    Exit code 4; what was measured before stays valid, the rest is stored as invalid and names the replica.
    """
    state = Path(environment["REDLINE_STATE"])
    measure_for_long(environment, "server-short")
    command = [sys.executable, "-m", "redline.cli", *RUN]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "measuring server-short" in line:
                break
        time.sleep(1.0)
        (log_path,) = state.glob("logs/*/speed-llama-00-single-replica-1.log")
        os.kill(listener_of(log_path.resolve()), signal.SIGKILL)
        rest = process.stderr.read()
    assert process.returncode == 4, rest
    trials = {trial.scenario: trial for trial in map(read_trial, list_trials(state / "trials"))}
    whole, cut = trials["offline-short"], trials["server-short"]
    assert whole.status is TrialStatus.VALID, whole.detail
    assert [replica.name for replica in whole.replicas] == ["replica 0", "replica 1"]
    for repeat in whole.repeats:
        assert [record.replica for record in repeat.records] == [index % 2 for index in range(len(repeat.records))]
    (path,) = (state / "reports").glob("*.md")
    report = path.read_text()
    assert "Load spread over 2 replicas" in report
    rows = [line for line in report.splitlines() if re.match(r"\| replica [01] ", line)]
    assert len([row for row in rows if re.search(r"\| +48 \|", row)]) >= 2  # 3 counted windows of 32 requests
    assert cut.status is TrialStatus.INVALID
    assert "replica 1 of 2" in cut.detail
    assert "SIGKILL" in report
    assert any("replica 1 of 2" in reading.reading for reading in cut.validity if not reading.ok)
