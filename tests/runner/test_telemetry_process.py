"""The telemetry sampler in its own process: started, asked, killed, stopped, hung."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from redline.machine_readings import CPU, READ_FAILED, SAMPLER
from redline.model import TelemetrySample
from redline.runner.telemetry_devices import Family
from redline.runner.telemetry_process import (
    CPU_SHARE_MAX,
    STARTS_MAX,
    TelemetrySampler,
    _in_window,
    telemetry_sampler,
)
from redline.runner.telemetry_program import PROBLEMS_MAX, Problems, Windows, keep_sampling
from redline.units import NS_PER_S
from tests.fakes.nvml_answers import UUIDS

PERIOD_S = 0.05


def window(sampler: TelemetrySampler, length_s: float = 0.4) -> tuple[int, tuple[TelemetrySample, ...]]:
    """(duration, samples) of a window in which nothing happens."""
    sampler.begin([os.getpid()])
    start_ns = time.monotonic_ns()
    time.sleep(length_s)
    duration_ns = time.monotonic_ns() - start_ns
    return duration_ns, sampler.end(start_ns, duration_ns)


def sampled_window(
    sampler: TelemetrySampler, source: str = CPU, instants_min: int = 1
) -> tuple[int, tuple[TelemetrySample, ...]]:
    """The first window in which a source gave so many instants: a busy machine may let a sampler miss a short one."""
    lengths_s = [0.4, 4.0, 20.0]
    while True:
        duration_ns, samples = window(sampler, lengths_s.pop(0))
        if len({sample.at_ns for sample in samples if sample.source == source}) >= instants_min or not lengths_s:
            return duration_ns, samples


def names_of(samples: Iterable[TelemetrySample], source: str) -> set[str]:
    """What a source gave."""
    return {sample.name for sample in samples if sample.source == source}


def test_windows_are_sampled_one_after_the_other() -> None:
    """Each window has its own samples, ascending, finite and within it; between windows nothing is taken."""
    with telemetry_sampler(period_s=PERIOD_S) as sampler:
        found = []
        for _ in range(2):
            found.append(sampled_window(sampler, instants_min=2))
            time.sleep(0.1)
        (pid,) = sampler.pids
    for duration_ns, samples in found:
        assert list(samples) == sorted(samples, key=lambda sample: sample.at_ns)
        assert all(0 <= sample.at_ns <= duration_ns and math.isfinite(sample.value) for sample in samples)
        assert {"memory_available_bytes", "load_1min_count"} <= names_of(samples, CPU)
        assert names_of(samples, SAMPLER) == {"period_s", "cpu_share"}
        assert len({sample.at_ns for sample in samples if sample.source == CPU}) >= 2
    assert sampler.problems == []
    assert not Path(f"/proc/{pid}").exists()


def test_the_sampler_keeps_to_its_cpus() -> None:
    """It runs on the CPUs that it is given and on no other."""
    cpu_id = max(os.sched_getaffinity(0))
    with telemetry_sampler(cpu_ids=(cpu_id,)) as sampler:
        (pid,) = sampler.pids
        assert {frozenset(os.sched_getaffinity(int(task.name))) for task in Path(f"/proc/{pid}/task").iterdir()} == {
            frozenset({cpu_id})
        }


def test_a_device_that_is_not_here_is_said_to_be_unread() -> None:
    """Every device that was asked for has a sample: one that nobody knows, the sample that says so, with a reason."""
    with telemetry_sampler(("GPU-none",), period_s=PERIOD_S) as sampler:
        _, samples = sampled_window(sampler, "GPU-none")
    assert [sample.value for sample in samples if sample.source == "GPU-none"] == [1.0]
    assert names_of(samples, "GPU-none") == {READ_FAILED}
    assert any(problem.startswith("GPU-none: ") for problem in sampler.problems)


@pytest.mark.slow
def test_a_sampler_that_was_killed_says_so_and_the_next_window_gets_another() -> None:
    """Nothing is raised and nothing hangs: the window has `failed` and no other claim, the next one is sampled."""
    with telemetry_sampler(period_s=PERIOD_S) as sampler:
        sampler.begin([])
        (pid,) = sampler.pids
        os.kill(pid, signal.SIGKILL)
        samples = sampler.end(time.monotonic_ns(), NS_PER_S)
        assert samples == (
            TelemetrySample(0, SAMPLER, "failed", 1.0),
            TelemetrySample(0, SAMPLER, "period_s", PERIOD_S),
        )
        assert "lost" in sampler.problems[0]
        assert not Path(f"/proc/{pid}").exists(), "what is left of it is reaped"
        assert names_of(window(sampler)[1], SAMPLER) == {"period_s", "cpu_share"}
        for _ in range(3 * STARTS_MAX):  # a death may be noticed only one window later
            for living in sampler.pids:
                os.kill(living, signal.SIGKILL)
            samples = window(sampler, 0.0)[1]
        assert sampler.pids == (), "one that always dies is not started for ever"
        assert "failed" in names_of(samples, SAMPLER)


def test_a_sampler_that_takes_much_of_a_cpu_is_told_once() -> None:
    """Here because it is asked for thousands of samples a second; elsewhere a driver may be slow."""
    with telemetry_sampler(period_s=0.0002) as sampler:
        found: list[float] = []
        for length_s in (0.2, 0.2, 0.2, 2.0, 2.0, 20.0, 20.0):  # this machine may give it less in some of them
            shares = [sample.value for sample in window(sampler, length_s)[1] if sample.name == "cpu_share"]
            found += [share for share in shares if share > CPU_SHARE_MAX]
            if len(found) == 2:
                break
    assert len(found) == 2
    assert sampler.problems == ["the telemetry sampler took more than 5 % of one CPU in a window"]


def test_a_sampler_that_does_not_answer_is_given_up() -> None:
    """A stopped process costs the wait that was agreed, and is then ended."""
    with telemetry_sampler(period_s=PERIOD_S, answer_s_max=0.2) as sampler:
        sampler.begin([])
        (pid,) = sampler.pids
        os.kill(pid, signal.SIGSTOP)
        assert "failed" in names_of(sampler.end(time.monotonic_ns(), NS_PER_S), SAMPLER)
        assert not Path(f"/proc/{pid}").exists()
    assert "no answer" in sampler.problems[0]


def test_a_sampler_that_cannot_start_tells_its_last_words() -> None:
    """An impossible CPU ends the process at once: the measurement goes on, and the reason is kept."""
    with telemetry_sampler(cpu_ids=(100_000,)) as sampler:
        assert "failed" in names_of(window(sampler, 0.0)[1], SAMPLER)
    assert "Invalid argument" in sampler.problems[0]


def test_an_end_without_a_begin_is_no_window() -> None:
    """There is nothing to say of a window that was never begun."""
    with telemetry_sampler() as sampler:
        assert "failed" in names_of(sampler.end(time.monotonic_ns(), NS_PER_S), SAMPLER)


@pytest.mark.slow
def test_a_sampler_ends_when_its_caller_is_killed() -> None:
    """Kill -9 of the caller leaves no sampler behind, even in the middle of a window."""
    code = (
        "import time\nfrom redline.runner.telemetry_process import telemetry_sampler\n"
        "with telemetry_sampler() as sampler:\n    sampler.begin([])\n    print(*sampler.pids, flush=True)\n"
        "    time.sleep(600)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    caller.kill()
    caller.wait(10)
    caller.stdout.close()
    deadline_s = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


class Hanging:
    """A source whose second sample never comes back, as a driver's call may not."""

    def __init__(self, hung: threading.Event, let_go: threading.Event) -> None:
        self.hung, self.let_go, self.count = hung, let_go, 0

    def restart(self) -> None:
        """Nothing to forget."""

    def samples(self, _family: Family) -> Iterator[tuple[str, Mapping[str, float]]]:
        """One sample, then none."""
        self.count += 1
        if self.count > 1:
            self.hung.set()
            self.let_go.wait(120)
        yield "hanging", {"value": 1.0}


class Steady:
    """A source that is always read; every third value is no number."""

    def __init__(self) -> None:
        self.count = self.window_count = 0

    def restart(self) -> None:
        """A window begins."""
        self.count = 0
        self.window_count += 1

    def wait_for(self, count: int, *, window: int) -> None:
        """Return once it was read more often than that in this window, from 1; fails after a minute."""
        deadline_s = time.monotonic() + 60
        while (self.window_count, self.count) <= (window, count):
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def samples(self, _family: Family) -> Iterator[tuple[str, Mapping[str, float]]]:
        """The next sample."""
        self.count += 1
        yield "steady", {"value": math.nan if self.count % 3 == 0 else 1.0, "count": float(self.count)}


def test_a_driver_that_hangs_stops_neither_the_others_nor_the_answer() -> None:
    """What was sampled before it hung is there, the other source goes on, and what comes too late counts nowhere."""
    windows, hung, let_go, steady = Windows(), threading.Event(), threading.Event(), Steady()
    for source in (Hanging(hung, let_go), steady):
        threading.Thread(target=keep_sampling, args=(windows, 1_000_000, source), daemon=True).start()
    windows.begin([])
    assert hung.wait(60)
    steady.wait_for(3, window=1)
    first = windows.end()
    assert [source for _, source, _ in first].count("hanging") == 1
    assert [source for _, source, _ in first].count("steady") >= 3
    assert all(math.isfinite(value) for _, _, values in first for value in values.values())
    windows.begin([])
    let_go.set()
    time.sleep(0.05)
    steady.wait_for(1, window=2)
    second = windows.end()
    assert next(values["count"] for _, source, values in second if source == "steady") == 1.0, "a window of its own"
    assert windows.end() == second, "nothing is taken while no window is open"


def test_only_what_lies_in_the_window_is_kept() -> None:
    """Samples before and after are dropped, and a share over time before it; a failure before it is not forgotten."""
    instants = [
        (90, CPU, {"busy_share": 1.0, "load_1min_count": 1.0}),
        (90, "GPU-a", {READ_FAILED: 1.0}),
        (110, CPU, {"busy_share": 0.9, "load_1min_count": 2.0}),
        (120, "GPU-b", {"utilisation_share": 0.5, "power_w": math.inf}),
        (130, CPU, {"busy_share": 0.5}),
        (201, CPU, {"busy_share": 0.1}),
        (201, "GPU-c", {READ_FAILED: 1.0}),
    ]
    assert list(_in_window(instants, 100, 100)) == [
        TelemetrySample(0, "GPU-a", READ_FAILED, 1.0),
        TelemetrySample(10, CPU, "load_1min_count", 2.0),
        TelemetrySample(20, "GPU-b", "utilisation_share", 0.5),
        TelemetrySample(30, CPU, "busy_share", 0.5),
    ]


def test_problems_are_told_once_in_one_line_and_not_without_end() -> None:
    """A driver that fails in every sample with another text fills neither memory nor log."""
    problems = Problems()
    problems.tell("lost\n\x1b[31m  again")
    problems.tell("lost \x1b[31m again")
    assert problems.untold() == ["lost \x1b[31m again"]
    assert problems.untold() == []
    for number in range(1000):
        problems.tell(f"{number} " + "x" * 10_000)
    said = problems.untold()
    assert len(said) == PROBLEMS_MAX - 1
    assert max(map(len, said)) == 300


@pytest.mark.parametrize("noise", ["print('noise')", "import os; os.write(1, b'noise')"])
def test_what_a_library_prints_does_not_mix_with_the_answers(tmp_path: Path, noise: str) -> None:
    """A vendor's library that writes to standard output, from Python or from C, leaves the answers whole."""
    (tmp_path / "pynvml.py").write_text(f"{noise}\nraise OSError('half an installation\\nof a driver')\n")
    settings = json.dumps({"period_s": PERIOD_S, "cpu_ids": [], "uuids": ["GPU-a"]})
    with subprocess.Popen(
        [sys.executable, "-m", "redline.runner.telemetry_program", settings],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        ready = json.loads(program.stdout.readline())
        begun, found = {}, []
        for length_s in (0.1, 2.0, 20.0):  # a busy machine may let a source miss a short window
            program.stdin.write('{"begin": []}\n')
            program.stdin.flush()
            begun = json.loads(program.stdout.readline())
            time.sleep(length_s)
            program.stdin.write('{"end": true}\n')
            program.stdin.flush()
            found = [instant[1:] for instant in json.loads(program.stdout.readline())["instants"]]
            if any(name == "GPU-a" for name, _ in found):
                break
        rest, said = program.communicate(timeout=120)
    assert "half an installation of a driver" in ready["problems"][0]
    assert (ready["ready"], begun["begun"]) == (True, True)
    assert ["GPU-a", {READ_FAILED: 1.0}] in found
    assert (rest, program.returncode) == ("", 0)
    assert "noise" in said


STAND_IN_DRIVER = """
import os, sys
sys.path.remove(os.path.dirname(__file__))
del sys.modules["pynvml"]
import pynvml  # the real wrapper, which the stand-in needs
sys.path.insert(0, {root!r})
from tests.fakes.nvml_answers import NvmlLibrary, pynvml_over
sys.modules["pynvml"] = pynvml_over(NvmlLibrary(2, processes=({ours}, {stranger}), utilisation=(93, 3)))
"""


def test_accelerators_are_sampled_through_the_vendor_s_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the driver's library, here a stand-in, to samples by UUID: base units, and whose processes they are."""
    root = str(Path(__file__).parents[2])
    driver = STAND_IN_DRIVER.format(root=root, ours=os.getpid(), stranger=1)
    (tmp_path / "pynvml.py").write_text(driver)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with telemetry_sampler(UUIDS[:1], period_s=PERIOD_S) as sampler:
        _, samples = sampled_window(sampler, UUIDS[0])
    assert sampler.problems == []
    values = {sample.name: sample.value for sample in samples if sample.source == UUIDS[0]}
    assert values["utilisation_share"] == pytest.approx(0.93)
    assert values["graphics_clock_hz"] == 1980e6
    assert values["energy_j"] == pytest.approx(5_000_000.25)
    assert (values["foreign_process_count"], values["unseen_process_count"]) == (1.0, 0.0)
    assert {sample.source for sample in samples} == {CPU, SAMPLER, UUIDS[0]}, "the second device was not asked for"
