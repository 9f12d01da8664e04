"""The main job on a real vLLM: measure, accept, compare, gate; and what is left after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from flows.workspace import Workspace
from redline.content import recipe as read_recipe
from redline.deploy.process import launch
from redline.deploy.server_metrics import read_counters
from redline.errors import ServerDiedError
from redline.store.trials import list_trials, read_trial
from tests.flows.commands import BUILD, measure_for_long, redline

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.vllm
GONE_S_MAX = 120.0
WINDOW_S_MAX = 240.0
THREE_WINDOWS = 3 * 24
"""Requests of `server-short`. Whatever else the server was asked is less than a window: one is over."""


def processes_with(marker: str) -> list[int]:
    """Pids of processes whose environment or command line holds this run's own state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if marker.encode() in text and state != "Z":
            found.append(int(entry.name))
    return found


def gone_within(marker: str, bound_s: float) -> bool:
    """True if no process of this run is left before the bound."""
    deadline = time.monotonic() + bound_s
    while processes_with(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_measure_and_accept(environment: dict[str, str], content: Path) -> None:
    """A first run has no baseline (exit 6, not a pass); accepted, it is one, with its pin beside it."""
    code, printed = redline(environment, "run")
    assert code == 6, printed
    lines = printed.strip().splitlines()
    report = next(line for line in lines if line.startswith("report: ")).removeprefix("report: ")
    assert any(line.startswith("verdict: no baseline") for line in lines)
    text = Path(report).read_text()
    assert "baseline accept" in text
    code, printed = redline(environment, "baseline", "accept", "latest", "--reason", "test", "--by", "Ada")
    assert code == 0, printed
    stored = json.loads((content / "baselines" / "cpu" / "offline-short.json").read_text())
    assert stored["accepted_by"] == "Ada"
    assert stored["readings"]["output_tokens_per_s"][0] > 0
    pins = list((content / "baselines" / "cpu" / "pins").glob("*.json"))
    assert len(pins) == 1


def test_a_slower_candidate_is_regressed(environment: dict[str, str]) -> None:
    """A server argument that halves the throughput is found by the gate: exit 1, metric and interval named."""
    code, printed = redline(
        environment,
        *("gate", "--baseline", BUILD, "--candidate", BUILD, "--candidate-args", "--max-num-seqs 2"),
        *("--scenario", "offline-short", "--json", "--quiet"),
    )
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (1, "regressed"), printed
    found = answer["comparisons"][0]
    assert found["metric"] == "output_tokens_per_s"
    assert 0 < found["effect_low"] < found["effect"] < found["effect_high"]
    policy = Workspace(Path(environment["REDLINE_CONTENT"]), Path(environment["REDLINE_STATE"])).policy("cpu")
    assert policy.pair_count_min <= found["pair_count"] <= policy.pair_count_max
    report = Path(answer["report"]).read_text()
    assert "--max-num-seqs 2" in report
    assert "queue time per request" in report


def test_a_candidate_that_answers_worse_is_regressed(environment: dict[str, str], tmp_path: Path) -> None:
    """A damaged copy of the weights is as fast and wrong: exit 1 on accuracy, with answers that changed."""
    damaged = tmp_path / "damaged"
    damage = [sys.executable, "models/damage.py", "models/tiny-skill", str(damaged), "--noise", "0.3", "--seed", "1"]
    subprocess.run(damage, cwd=ROOT, check=True, timeout=300)
    code, printed = redline(
        environment,
        *("gate", "--baseline", BUILD, "--candidate", BUILD, "--candidate-model", f"tiny-skill={damaged}"),
        *("--scenario", "accuracy-tiny", "--json", "--quiet"),
    )
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (1, "regressed"), printed
    assert answer["accuracy"][0]["lost_count"] > answer["accuracy"][0]["gained_count"]
    assert answer["accuracy"][0]["examples"]


def answered(marker: str) -> float:
    """Requests that the servers of this run have answered, by their own counters; 0 while none can be asked."""
    ports = set()
    for pid in processes_with(marker):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        ports |= {words[at + 1] for at, word in enumerate(words[:-1]) if word == "--port"}
    total = 0.0
    for port in ports:
        with suppress(ServerDiedError):  # it does not listen yet, or is Prefect's
            counters = read_counters(f"http://127.0.0.1:{port}") or {}  # None: too busy to say, asked again
            total += counters.get("vllm:request_success_total", 0.0)
    return total


def ended_while_measuring(environment: dict[str, str], scenario: str, number: int) -> tuple[int, str]:
    """(exit code, what was said after the measuring began) of a run that got a signal some windows later."""
    command = [sys.executable, "-m", "redline.cli", "run", "--scenario", scenario]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"measuring {scenario}" in line:
                break
        deadline = time.monotonic() + WINDOW_S_MAX
        while answered(environment["REDLINE_STATE"]) < THREE_WINDOWS:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, "no window ended"
            time.sleep(0.2)
        assert len(processes_with(environment["REDLINE_STATE"])) > 2
        process.send_signal(number)
        rest = process.stderr.read() if number != signal.SIGKILL else ""
        return process.wait(GONE_S_MAX), rest


def require_partial(environment: dict[str, str], code: int, rest: str, number: int) -> None:
    """Torn down, no stack trace, and the windows measured so far kept as a partial trial."""
    assert code == 128 + number, rest
    assert "Traceback" not in rest
    assert gone_within(environment["REDLINE_STATE"], GONE_S_MAX)
    trials = [read_trial(path) for path in list_trials(Path(environment["REDLINE_STATE"]) / "trials")]
    assert [trial.status.value for trial in trials] == ["partial"]
    assert "interrupted" in trials[0].detail


def test_ctrl_c_keeps_what_was_measured_and_kill_9_leaves_no_process_and_no_damage(environment: dict[str, str]) -> None:
    """Ctrl-C, then kill -9, both in the middle of a measurement; the next run is whole, and so is all before it."""
    state = Path(environment["REDLINE_STATE"])
    measure_for_long(environment, "server-short")
    code, rest = ended_while_measuring(environment, "server-short", signal.SIGINT)
    require_partial(environment, code, rest, signal.SIGINT)
    before = {path.name: path.stat().st_mtime_ns for path in list_trials(state / "trials")}
    code, _ = ended_while_measuring(environment, "server-short", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert gone_within(str(state), GONE_S_MAX)
    code, printed = redline(environment, "run", "--scenario", "offline-short")
    assert code == 6, printed
    after = list_trials(state / "trials")
    assert len(after) == len(before) + 1
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in after}.items()
    assert all(read_trial(path).repeats for path in after)
    code, printed = redline(environment, "db", "SELECT count(*) AS n FROM trials")
    assert code == 0, printed
    assert printed.splitlines()[2].strip() == str(len(after))


def test_sigterm_keeps_what_was_measured(environment: dict[str, str]) -> None:
    """What a runner's cancellation or a shutdown sends, ends a run as Ctrl-C does."""
    measure_for_long(environment, "server-short")
    code, rest = ended_while_measuring(environment, "server-short", signal.SIGTERM)
    require_partial(environment, code, rest, signal.SIGTERM)


def test_a_candidate_that_cannot_start_is_an_error_not_a_pass(environment: dict[str, str]) -> None:
    """A server that refuses its arguments is exit 5, and the report holds the line of its log that says why."""
    code, printed = redline(
        environment,
        *("gate", "--baseline", BUILD, "--candidate", BUILD, "--candidate-args=--no-such-flag"),
        *("--scenario", "offline-short", "--json", "--quiet"),
    )
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (5, "error"), printed
    assert "no-such-flag" in Path(answer["report"]).read_text()


def test_a_server_that_somebody_else_started(environment: dict[str, str], vllm_build: Any, tmp_path: Path) -> None:
    """`run --endpoint` measures a live server it did not start, does not stop it, and its pin is no lock."""
    recipe = read_recipe(ROOT / "recipes" / "tiny-skill.toml")
    with launch(
        python=vllm_build.python,
        recipe=recipe,
        platform="cpu",
        extra_args=(),
        model=str(ROOT / recipe.model),
        state_dir=Path(environment["REDLINE_STATE"]),
        log_path=tmp_path / "server.log",
        distribution=vllm_build.distribution,
        installed_version=vllm_build.installed_version,
    ) as server:
        url = server.wait_ready().base_url
        code, printed = redline(environment, "run", "--endpoint", url, "--scenario", "accuracy-tiny")
        server.check_alive()
    assert code == 6, printed
    (path,) = list_trials(Path(environment["REDLINE_STATE"]) / "trials")
    trial = read_trial(path)
    assert (trial.status.value, trial.sut.pin.kind.value, trial.sut.pin.url) == ("valid", "endpoint", url)
    assert trial.reported_version == "0.32.0"
