"""The official LoadGen drives the same client as the native driver does, and both tell the same story."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from redline.errors import LoadError
from redline.load.client import LoadPlan
from redline.load.loadgen_driver import run_loadgen
from redline.load.loadgen_logs import ACCURACY, DETAIL, TRACE, read_logs
from redline.load.loadgen_settings import LoadgenSettings, planned_issue
from redline.load.worker import Window, load_worker
from redline.mlperf import ROUND_SEEDS
from redline.model import Outcome, Request, RequestRecord, TokenPrompt
from redline.simulator.process import RunningSimulator, simulator
from redline.simulator.settings import Chance, Failures, Settings, Timing
from tests.load.hold_ups import TimesDifferError, in_quiet

pytestmark = pytest.mark.slow

TTFT_S, ITL_S = 0.05, 0.005
OUTPUT_TOKENS = 8
PACED = Settings(timing=Timing(ttft_s=TTFT_S, itl_s=ITL_S))
MEDIAN_S_TOLERANCE, P99_S_TOLERANCE = 0.04, 0.25
"""Two busy cores hold up a process for tens of milliseconds: what is tested is that both measure the same thing."""

SERVER = LoadgenSettings(
    scenario="Server",
    mode="performance",
    seeds=ROUND_SEEDS["v6.0"],
    target_rate_per_s=300.0,
    duration_s_min=0.0,
    query_count_min=40,
    sample_count=40,
    performance_sample_count=40,
    ttft_ns_max=10**9,
    tpot_ns_max=10**9,
)
OFFLINE = replace(SERVER, scenario="Offline", query_count_min=60, sample_count=30, performance_sample_count=30)


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSimulator]:
    """One stand-in of a known pace for this module."""
    with simulator(PACED) as running:
        yield running


@pytest.fixture
def server(shared: RunningSimulator) -> Iterator[RunningSimulator]:
    """The same, its settings put back afterwards."""
    yield shared
    shared.change(PACED)


def plan_of(url: str, settings: LoadgenSettings, bound: int | None = None, **values: object) -> LoadPlan:
    """The plan that LoadGen must issue: the prompt says which item it is, so that answers can be told apart."""
    planned = planned_issue(settings)
    requests = tuple(
        Request(index, TokenPrompt((item + 3,) * (item + 3)), OUTPUT_TOKENS, True, offset_ns, "salt")
        for index, (item, offset_ns) in enumerate(zip(planned.items, planned.offsets_ns, strict=True))
    )
    return LoadPlan((url,), "tiny", requests, bound, **({"window_s_max": 20.0} | values))


def official(plan: LoadPlan, settings: LoadgenSettings, log_dir: Path) -> Window:
    """The window as LoadGen drives it."""
    return run_loadgen(plan, planned_issue(settings).items, settings, log_dir)


def said(record: RequestRecord) -> tuple[object, ...]:
    """What does not depend on time."""
    return record.index, record.outcome, record.prompt_tokens, record.output_tokens, record.output_text


def ttft_s(records: Sequence[RequestRecord]) -> list[float]:
    """TTFT of every record, ascending."""
    return sorted((record.chunk_ns[0] - record.sched_ns) / 1e9 for record in records)


def tpot_s(records: Sequence[RequestRecord]) -> list[float]:
    """TPOT of every record, ascending."""
    return sorted((each.done_ns - each.chunk_ns[0]) / (each.output_tokens - 1) / 1e9 for each in records)


def p99(ascending: Sequence[float]) -> float:
    """LoadGen's p99: the value at 0.99 of the count, rounded down. Source: results.cc, ProcessLatencies."""
    return ascending[int(len(ascending) * 0.99)]


def test_both_drivers_tell_the_same_story_in_server(server: RunningSimulator, tmp_path: Path) -> None:
    """Order, due times, tokens and texts are equal; medians of TTFT and TPOT agree; so do LoadGen's own figures."""
    plan = plan_of(server.base_url, SERVER)
    due_ns = [request.offset_ns for request in plan.requests]

    def drive_both(logs: Path) -> tuple[Window, Window]:
        with load_worker() as worker:
            native = worker.run(plan)
        window = official(plan, SERVER, logs)
        assert [said(record) for record in window.records] == [said(record) for record in native.records]
        assert {record.outcome for record in window.records} == {Outcome.OK}
        assert [record.sched_ns for record in window.records] == due_ns == [each.sched_ns for each in native.records]
        assert all(record.send_ns >= record.sched_ns for record in window.records)
        return native, window

    in_quiet(server, lambda logs: require_same_times(*drive_both(logs), logs), tmp_path)


def require_same_times(native: Window, window: Window, logs: Path) -> None:
    """Raises TimesDifferError unless both drivers, and LoadGen's own figures, tell the same times."""
    try:
        assert_same_times(native, window, logs)
    except AssertionError as error:
        raise TimesDifferError(str(error), native, window) from error


def assert_same_times(native: Window, window: Window, logs: Path) -> None:
    """The medians of both windows agree, and LoadGen's own figures with ours."""
    for figure in (ttft_s, tpot_s):
        ours, theirs = (statistics.median(figure(each.records)) for each in (native, window))
        assert theirs == pytest.approx(ours, abs=MEDIAN_S_TOLERANCE)
    assert statistics.median(ttft_s(window.records)) >= TTFT_S

    result = read_logs(logs).result
    assert result is not None
    assert result.query_count == len(window.records)
    # LoadGen hears of a token after the kernel stamped it, so its figures lie above ours, and not far above.
    for theirs_ns, ours_s in ((result.ttft_ns, ttft_s(window.records)), (result.tpot_ns, tpot_s(window.records))):
        assert -0.001 < theirs_ns[50.0] / 1e9 - statistics.median(ours_s) < MEDIAN_S_TOLERANCE
        assert abs(theirs_ns[99.0] / 1e9 - p99(ours_s)) < P99_S_TOLERANCE
    last_s = window.records[-1].done_ns / 1e9
    tokens = sum(record.output_tokens for record in window.records)
    assert result.tokens_per_s == pytest.approx(tokens / last_s, rel=0.25)


def test_both_drivers_tell_the_same_story_in_offline(server: RunningSimulator, tmp_path: Path) -> None:
    """One query of every sample, sent within the plan's bound; order, tokens and texts are those of the native run."""
    in_quiet(server, lambda logs: require_same_offline(server, logs), tmp_path)


def require_same_offline(server: RunningSimulator, folder: Path) -> None:
    """Raises TimesDifferError if only the rate of samples differs."""
    plan = plan_of(server.base_url, OFFLINE, bound=16)
    with load_worker() as worker:
        native = worker.run(plan)
    window = official(plan, OFFLINE, folder)
    assert [said(record) for record in window.records] == [said(record) for record in native.records]
    edges = sorted(edge for each in window.records for edge in ((each.send_ns, 1), (each.done_ns, -1)))
    in_flight = [sum(step for _, step in edges[: count + 1]) for count in range(len(edges))]
    assert max(in_flight) == 16
    logs = read_logs(folder)
    assert [(each.query_count, each.samples_per_query) for each in logs.generated] == [(1, 60)]
    assert logs.result is not None
    assert logs.result.ttft_ns == {}
    if logs.result.samples_per_s != pytest.approx(60 / (window.duration_ns / 1e9), rel=0.25):
        raise TimesDifferError(f"{logs.result.samples_per_s} samples/s, {window.duration_ns} ns for 60", window)


@pytest.mark.parametrize("settings", [SERVER, pytest.param(OFFLINE, marks=pytest.mark.slow)], ids=["Server", "Offline"])
def test_the_accuracy_log_holds_every_answer(
    server: RunningSimulator, tmp_path: Path, settings: LoadgenSettings
) -> None:
    """In accuracy mode each sample is asked once; its tokens and its text are in LoadGen's log as in the records."""
    settings = replace(settings, mode="accuracy")
    plan = plan_of(server.base_url, settings, bound=None if settings.scenario == "Server" else 8)
    window = official(plan, settings, tmp_path)
    logged = {each["seq_id"]: each for each in json.loads((tmp_path / ACCURACY).read_text())}
    items = planned_issue(settings).items
    assert sorted(items) == list(range(settings.sample_count))
    assert [logged[number]["qsl_idx"] for number in range(len(items))] == list(items)
    for number, record in enumerate(window.records):
        assert logged[number]["token_count"] == record.output_tokens == OUTPUT_TOKENS
        assert bytes.fromhex(logged[number]["data"]).decode() == record.output_text != ""
    assert read_logs(tmp_path).result is None


@pytest.mark.slow
def test_its_zero_is_loadgens_start(server: RunningSimulator, tmp_path: Path) -> None:
    """What is taken for LoadGen's start lies at most 20 ms behind the instant that LoadGen's trace has."""
    in_quiet(server, lambda logs: require_start_of_trace(server, logs), tmp_path)


def require_start_of_trace(server: RunningSimulator, logs: Path) -> None:
    """Raises TimesDifferError unless the window's zero is the start that LoadGen's trace has."""
    settings = replace(SERVER, trace=True)
    window = official(plan_of(server.base_url, settings), settings, logs)
    lines = (logs / TRACE).read_text().splitlines()
    (origin,) = (json.loads(f"{{{line.rstrip(',')}}}")["ts"] for line in lines if line.startswith('"ts":'))
    first = next(line for line in lines if line.startswith('{"name":"Sample"') and '"sample_seq":0,' in line)
    start_realtime_s = (origin + json.loads(first.rstrip(","))["ts"]) / 1e6
    now_s = max(time.time() - time.monotonic() for _ in range(10))  # a hold-up between the two makes it smaller
    behind_s = window.start_monotonic_ns / 1e9 + now_s - start_realtime_s
    if not -0.001 < behind_s < 0.02:
        raise TimesDifferError(f"{behind_s:.3f} s behind LoadGen's start", window)


FAILURES = Failures(
    http_error=Chance(share=0.2), truncate=Chance(share=0.2), reset_early=Chance(share=0.1), short_output=Chance(0.1)
)


def test_failures_are_in_the_records_and_in_loadgens_log(server: RunningSimulator, tmp_path: Path) -> None:
    """A run with failures ends; each is a failure in the records and one error of LoadGen's; the others are well."""
    server.change(replace(PACED, failures=FAILURES))
    window = official(plan_of(server.base_url, SERVER), SERVER, tmp_path)
    failed = [record for record in window.records if record.outcome is not Outcome.OK]
    assert {Outcome.HTTP_ERROR, Outcome.TRUNCATED, Outcome.SHORT} <= {record.outcome for record in failed}
    assert all(record.detail for record in failed)
    assert len(failed) < len(window.records)
    assert len(read_logs(tmp_path).errors) == len(failed)


def test_failures_that_loadgen_cannot_see_are_in_the_records(server: RunningSimulator, tmp_path: Path) -> None:
    """Where LoadGen counts no tokens it takes a failure for an answer: only the records know, and they do."""
    settings = replace(SERVER, use_token_latencies=False, latency_ns_max=10**9)
    server.change(replace(PACED, failures=Failures(http_error=Chance())))
    window = official(plan_of(server.base_url, settings), settings, tmp_path)
    assert {record.outcome for record in window.records} == {Outcome.HTTP_ERROR}
    logs = read_logs(tmp_path)
    assert logs.errors == ()
    assert logs.result is not None
    assert logs.result.query_count == len(window.records)


def test_the_end_of_the_window_ends_what_hangs(server: RunningSimulator, tmp_path: Path) -> None:
    """Answers that never come time out with the window, LoadGen is told, and its run ends with its logs whole."""
    server.change(replace(PACED, failures=Failures(hang=Chance())))
    window = official(plan_of(server.base_url, SERVER, window_s_max=0.08), SERVER, tmp_path)
    assert {record.outcome for record in window.records} == {Outcome.TIMEOUT}
    unsent = [record for record in window.records if record.detail == "the window ended before it could be sent"]
    assert {"no complete answer within the window of 0.08 s"} >= {
        record.detail for record in window.records if record not in unsent
    }
    assert unsent == list(window.records[len(window.records) - len(unsent) :])
    assert len(read_logs(tmp_path).errors) == len(window.records)


def test_another_sample_than_planned_is_a_load_error(server: RunningSimulator, tmp_path: Path) -> None:
    """Each sample is checked as it is issued: the error names the place, what was planned and what came."""
    items = list(planned_issue(SERVER).items)
    place = next(place for place in range(5, 40) if items[place] != items[place + 1])
    swapped = [*items[:place], items[place + 1], items[place], *items[place + 2 :]]
    with pytest.raises(LoadError, match="another sample") as caught:
        run_loadgen(plan_of(server.base_url, SERVER), swapped, SERVER, tmp_path)
    assert caught.value.expected == f"sample {swapped[place]} as number {place}"
    assert caught.value.found.startswith(f"sample {items[place]}")


def test_a_plan_that_loadgen_will_not_issue_is_refused_before_the_run(server: RunningSimulator, tmp_path: Path) -> None:
    """Other due times, another number of requests, or a bound on an open loop: refused, and nothing is written."""
    plan, items = plan_of(server.base_url, SERVER), planned_issue(SERVER).items
    late = (*plan.requests[:-1], replace(plan.requests[-1], offset_ns=plan.requests[-1].offset_ns + 1))
    log_dir = tmp_path / "logs"
    with pytest.raises(LoadError, match="not what LoadGen will issue") as caught:
        run_loadgen(replace(plan, requests=late), items, SERVER, log_dir)
    assert f"request {len(late) - 1} due after" in caught.value.expected
    with pytest.raises(LoadError, match="not what LoadGen will issue"):
        run_loadgen(replace(plan, requests=plan.requests[:-1]), items[:-1], SERVER, log_dir)
    with pytest.raises(LoadError, match="not what LoadGen will issue"):
        run_loadgen(replace(plan, in_flight_max=4), items, SERVER, log_dir)
    assert not log_dir.exists()


def test_the_logs_of_another_run_are_not_overwritten(server: RunningSimulator, tmp_path: Path) -> None:
    """A folder that holds a run's logs is refused, and they stay as they are."""
    (tmp_path / DETAIL).write_text("kept")
    with pytest.raises(LoadError, match="another run"):
        official(plan_of(server.base_url, SERVER), SERVER, tmp_path)
    assert (tmp_path / DETAIL).read_text() == "kept"


def test_a_loadgen_that_cannot_write_is_a_load_error(server: RunningSimulator, tmp_path: Path) -> None:
    """LoadGen then returns without a word to its caller: nothing was issued, and what it printed is in the error."""
    (tmp_path / TRACE).mkdir()
    with pytest.raises(LoadError, match="did not issue") as caught:
        official(plan_of(server.base_url, SERVER), SERVER, tmp_path)
    assert "Failed to open trace file" in caught.value.found


def test_a_server_that_is_not_there_is_a_load_error(tmp_path: Path) -> None:
    """Nothing to connect to: no run, no window of failures."""
    with pytest.raises(LoadError, match="process failed") as caught:
        official(plan_of("http://127.0.0.1:9", SERVER), SERVER, tmp_path)
    assert "ConnectError" in caught.value.found


def test_without_the_package_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mlcommons-loadgen has no wheel, the driver says so and names the other one."""
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(LoadError, match="not installed") as caught:
        official(plan_of("http://127.0.0.1:9", SERVER), SERVER, tmp_path)
    assert "native driver" in caught.value.next_step


CALLER = """
import sys
from pathlib import Path
from tests.load.test_loadgen_driver import SERVER, official, plan_of
try:
    official(plan_of(sys.argv[1], SERVER), SERVER, Path(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def hanging_caller(server: RunningSimulator, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A caller in a run that will not end soon, and the process id of its LoadGen."""
    server.change(replace(PACED, failures=Failures(hang=Chance())))
    command = [sys.executable, "-c", CALLER, server.base_url, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as caller:
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children")
        deadline_s = time.monotonic() + 60
        while not (tmp_path / DETAIL).exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        (child,) = children.read_text().split()
        yield caller, int(child)
        caller.kill()


@pytest.mark.slow
def test_the_process_ends_when_its_caller_is_killed(hanging_caller: tuple[subprocess.Popen[str], int]) -> None:
    """Kill -9 of the caller leaves no LoadGen behind, even in the middle of a run."""
    caller, pid = hanging_caller
    assert Path(f"/proc/{pid}").exists()
    caller.kill()
    caller.wait(10)
    deadline_s = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_loadgen_that_dies_is_a_load_error(hanging_caller: tuple[subprocess.Popen[str], int]) -> None:
    """A LoadGen that aborts ends the run at once, with its exit status and the end of its log."""
    caller, pid = hanging_caller
    os.kill(pid, signal.SIGABRT)
    text, _ = caller.communicate(timeout=60)
    assert text.startswith("LoadError LoadGen's process ended with exit status -6")
    assert "the log ends with" in text
