"""Whole commands against `redline simulate`: everything works, and nothing passes for a measurement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from flows.workspace import CHECKOUT
from redline.simulator.process import simulator
from redline.simulator.settings import Serving, Settings, Timing
from redline.store.trials import list_trials, read_trial

pytestmark = pytest.mark.slow

STAND_IN = Settings(
    timing=Timing(ttft_s=0.005, itl_s=0.001, itl_s_per_running=0.0002), serving=Serving(model="speed-llama")
)


@pytest.fixture
def content(tmp_path):
    """This checkout's content, its server scenario ten times as fast, and nothing in it that a busy machine breaks.

    How late the client is, and what others take of the CPU, is not what is tested here.
    """
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners", "baselines"):
        shutil.copytree(CHECKOUT / name, root / name)
    shutil.copytree(CHECKOUT / "checks" / "policies", root / "checks" / "policies")
    scenario = root / "scenarios" / "server-short.toml"
    text = scenario.read_text().replace("rate_per_s = 12.0", "rate_per_s = 120.0")
    assert "schedule_lag_s_p99_max = 0.02" in text
    scenario.write_text(text.replace("schedule_lag_s_p99_max = 0.02", "schedule_lag_s_p99_max = 60.0"))
    runner = root / "runners" / "cpu.toml"
    text = runner.read_text()
    assert "foreign_cpu_share_max = 0.05" in text
    runner.write_text(text.replace("foreign_cpu_share_max = 0.05", "foreign_cpu_share_max = 1.0"))
    return root


def redline(content, state, *arguments, **environment):
    """A finished `redline` process."""
    return subprocess.run(
        [sys.executable, "-m", "redline.cli", *arguments, "--state-dir", str(state), "--wait", "300", "--quiet"],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=CHECKOUT,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(state), "REDLINE_CONTENT": str(content), **environment},
    )


def test_a_run_against_the_stand_in_is_invalid(content, tmp_path):
    """Exit code 4; the reason is named; the trials are kept, marked; the key is sent and stored nowhere."""
    with simulator(STAND_IN, api_key="sesame-7f3a") as stand_in:
        arguments = ["run", "--endpoint", stand_in.base_url, "--scenario", "server-short"]
        locked_out = redline(content, tmp_path, *arguments)
        found = redline(content, tmp_path, *arguments, REDLINE_API_KEY="sesame-7f3a")
    assert locked_out.returncode == 5
    assert "asks for an API key" in locked_out.stdout
    assert found.returncode == 4, found.stderr
    assert "redline simulate" in found.stdout
    trials = [read_trial(path) for path in list_trials(tmp_path / "trials")]
    assert [(trial.status.value, trial.detail) for trial in trials] == [("invalid", "a real server answers")]
    assert all(repeat.client.simulated for repeat in trials[0].repeats)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"sesame-7f3a" in path.read_bytes()]
    assert kept == []


def test_load_is_spread_evenly_over_replicas(content, tmp_path):
    """Two replicas of one version get every other request each; replicas of two versions are refused."""
    other = Settings(timing=STAND_IN.timing, serving=Serving(model="speed-llama", version="0.31.0"))
    with simulator(STAND_IN) as first, simulator(STAND_IN) as second, simulator(other) as stranger:
        both = f"{first.base_url},{second.base_url}"
        found = redline(content, tmp_path, "run", "--endpoint", both, "--scenario", "server-short")
        mixed = redline(content, tmp_path / "mixed", "run", "--endpoint", f"{both},{stranger.base_url}")
    assert found.returncode == 4, found.stderr
    (path,) = list_trials(tmp_path / "trials")
    for repeat in read_trial(path).repeats:
        assert [record.replica for record in repeat.records] == [index % 2 for index in range(24)]
        assert repeat.server_counters["vllm:request_success_total"] == 24
    assert mixed.returncode == 5
    assert "not one build" in mixed.stdout


def test_a_closed_loop_is_labelled_as_one(content, tmp_path):
    """Latencies count from when a place was free, never more than the bound are open, and the report says so."""
    scenario = content / "scenarios" / "server-short.toml"
    arrivals = scenario.read_text().replace(
        'kind = "server"\nrate_per_s = 120.0', 'kind = "concurrency"\nin_flight = 3'
    )
    (content / "scenarios" / "closed.toml").write_text(arrivals)
    with simulator(STAND_IN) as stand_in:
        found = redline(content, tmp_path, "run", "--endpoint", stand_in.base_url, "--scenario", "closed")
    assert found.returncode == 4, found.stderr
    (path,) = list_trials(tmp_path / "trials")
    for repeat in read_trial(path).repeats:
        edges = sorted(edge for record in repeat.records for edge in ((record.send_ns, 1), (record.done_ns, -1)))
        open_now = [sum(step for _, step in edges[: index + 1]) for index in range(len(edges))]
        assert max(open_now) <= 3
        assert len({record.sched_ns for record in repeat.records}) > 3  # due one by one, not all at once
    (report,) = (tmp_path / "reports").glob("*.md")
    assert "closed loop" in report.read_text()


def test_a_rate_is_searched_and_marked(content, tmp_path):
    """Some rate is bracketed, its probes are kept, and exit code 4 says that it is no measurement.

    Above 300 requests a second the stand-in takes ever longer for a token, and a window is beyond any limit; below, the
    limits are ten times and more what it takes, so that a busy machine keeps them.
    """
    with simulator(STAND_IN) as stand_in:
        arguments = [
            "rate",
            "server-short",
            "--endpoint",
            stand_in.base_url,
            "--ttft-p99",
            "30",
            "--tpot-p99",
            "0.025",
        ]
        found = redline(
            content, tmp_path, *arguments, "--searches", "1", "--seconds", "1", "--resolution", "1", "--json"
        )
    assert found.returncode == 4, found.stderr
    answer = json.loads(found.stdout)
    assert answer["simulated"] is True
    (bracket,) = answer["brackets"]
    assert 0 < bracket["held_per_s"] < bracket["broken_per_s"] <= 2 * bracket["held_per_s"]
    arms = {read_trial(path).arm.value for path in list_trials(tmp_path / "trials")}
    assert arms == {"probe"}


def test_a_rate_needs_a_server_scenario(content, tmp_path):
    """An offline scenario has no rate: exit code 2 before anything is started."""
    found = redline(content, tmp_path, "rate", "offline-short", "--ttft-p99", "1", "--tpot-p99", "1")
    assert found.returncode == 2
    assert "one server scenario" in found.stderr
    assert not (tmp_path / "trials").exists()
