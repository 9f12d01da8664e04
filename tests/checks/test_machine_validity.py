"""Rules about the machine: each broken by what it is about, by nothing else, and honest where nothing was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from checks.machine_validity import (
    BREAKABLE_RULES,
    CPU_CLOCK,
    GRAPHICS_CLOCK,
    HARDWARE,
    MEMORY_CLOCK,
    NOT_READ,
    POWER,
    POWER_CAP,
    SAMPLED,
    STEAL,
    STRANGERS,
    THERMAL,
    machine_validity,
)
from redline.machine_readings import CPU, READ_FAILED, SAMPLER
from redline.model import HealthyHost, Repeat, RunnerClass, TelemetrySample, ValidityReading
from redline.units import NS_PER_S
from tests.store.trial_examples import make_trial

INSTANT_COUNT = 20
PERIOD_NS = NS_PER_S // 2
GPU_CLASS = RunnerClass("h200", "", "cuda", "gpu", 1, 0.1, 2, 0, "H200", 1)
CPU_CLASS = RunnerClass("cpu", "", "cpu", "cpu", 2, 0.1, 2, 0)
A, B = "GPU-aaaaaaaa-1111", "GPU-aaaaaaaa-2222"
SHORT_A = "GPU-aaaaaaaa…"
DEVICE_RULES = (THERMAL, HARDWARE, POWER, POWER_CAP, GRAPHICS_CLOCK, MEMORY_CLOCK, STRANGERS)

Values = Mapping[str, float | Sequence[float]]
HEALTHY: Values = {
    "graphics_clock_hz": 1.98e9,
    "memory_clock_hz": 2.619e9,
    "power_cap_w": 700.0,
    "utilisation_share": 0.99,
    "throttled_thermal": 0.0,
    "throttled_hardware": 0.0,
    "throttled_power": 0.0,
    "violation_thermal_s": 3.5,
    "foreign_process_count": 0.0,
    "unseen_process_count": 0.0,
}


def repeat_of(
    sources: Mapping[str, Values], index: int = 1, count: int = INSTANT_COUNT, drop_reason: str = ""
) -> Repeat:
    """A repeat of ten seconds, each source sampled at its first `count` instants; a sequence is a value an instant."""
    samples = [TelemetrySample(0, SAMPLER, "period_s", 0.5), TelemetrySample(0, SAMPLER, "cpu_share", 0.004)]
    for source, values in {CPU: {"busy_share": 0.5, "frequency_hz": 3e9}, **sources}.items():
        for instant in range(count):
            samples += [
                TelemetrySample(
                    instant * PERIOD_NS,
                    source,
                    name,
                    float(value if isinstance(value, int | float) else value[instant]),
                )
                for name, value in values.items()
            ]
    plain = make_trial(request_count=1, repeat_count=1).repeats[0]
    return replace(
        plain,
        index=index,
        duration_ns=INSTANT_COUNT * PERIOD_NS,
        drop_reason=drop_reason,
        telemetry=tuple(samples),
    )


def judged(*repeats: Repeat, runner_class: RunnerClass = GPU_CLASS) -> dict[str, ValidityReading]:
    """The readings by rule."""
    return {reading.rule: reading for reading in machine_validity(repeats, runner_class)}


def broken(*repeats: Repeat) -> list[str]:
    """The rules that are broken."""
    return [rule for rule, reading in judged(*repeats).items() if not reading.ok]


def healthy(index: int = 1, **changes: float | Sequence[float]) -> Repeat:
    """A repeat of one accelerator with nothing to say against it but the changes."""
    return repeat_of({A: {**HEALTHY, **changes}}, index)


def series(value: float, at: Mapping[int, float]) -> list[float]:
    """One value at every instant, but for some."""
    return [at.get(instant, value) for instant in range(INSTANT_COUNT)]


def test_a_quiet_machine_keeps_every_rule_and_each_was_read() -> None:
    """Nothing broken and nothing unread: every rule says what it saw."""
    readings = judged(healthy(1), healthy(2), healthy(3))
    assert all(reading.ok for reading in readings.values())
    assert not any(NOT_READ in reading.reading for reading in readings.values())
    assert set(readings) == {SAMPLED, STEAL, CPU_CLOCK, *DEVICE_RULES}
    assert readings[GRAPHICS_CLOCK].reading == "1980 MHz; the largest change 0.0 %"
    assert readings[POWER_CAP].reading == "700 W, unchanged"
    assert (
        readings[SAMPLED].reading
        == "100 % of the instants due (worst source and repeat); the sampler took 0.4 % of one CPU"
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"throttled_thermal": series(0, {7: 1})}, THERMAL),
        ({"violation_thermal_s": series(3.5, {19: 3.6})}, THERMAL),
        ({"throttled_hardware": series(0, {0: 1})}, HARDWARE),
        ({"power_cap_w": series(700, {19: 600})}, POWER_CAP),
        ({"foreign_process_count": series(0, {3: 2})}, STRANGERS),
        ({"graphics_clock_hz": 1.85e9}, GRAPHICS_CLOCK),
        ({"memory_clock_hz": 1.593e9}, MEMORY_CLOCK),
    ],
)
def test_one_repeat_is_enough_to_break_a_rule(changes: dict[str, float], rule: str) -> None:
    """Each rule is broken by its own reading in one repeat of three, says where, and breaks no other."""
    assert broken(healthy(1), healthy(2, **changes), healthy(3)) == [rule]
    dropped = replace(healthy(2, **changes), drop_reason="warm-up")
    assert broken(healthy(1), dropped, healthy(3)) == [], "a repeat that does not count says nothing"


def test_the_rules_that_a_machine_breaks_are_told_from_those_that_are_listed() -> None:
    """Every rule is one or the other, and the listed ones stay kept by the worst that can be read."""
    worst: dict[str, float | Sequence[float]] = {
        "throttled_thermal": 1.0,
        "throttled_hardware": 1.0,
        "throttled_power": 1.0,
        "power_cap_w": series(700, {19: 600}),
        "graphics_clock_hz": 1e9,
        "memory_clock_hz": 1e9,
        "foreign_process_count": 1.0,
    }
    stolen = replace(healthy(2, **worst), steal_share=0.5)
    limited = replace(GPU_CLASS, healthy=HealthyHost(steal_share_max=0.02))
    readings = judged(healthy(1), stolen, healthy(3), runner_class=limited)
    assert {rule for rule, reading in readings.items() if not reading.ok} == BREAKABLE_RULES
    assert set(readings) - BREAKABLE_RULES == {SAMPLED, CPU_CLOCK, POWER}


def test_a_change_between_repeats_breaks_the_power_cap() -> None:
    """Steady within each repeat and different between them is a change all the same."""
    found = judged(healthy(1), healthy(2, power_cap_w=600.0))[POWER_CAP]
    assert not found.ok
    assert "between 600 W and 700 W" in found.reading


def test_the_power_cap_may_hold_a_loaded_accelerator() -> None:
    """Running at the cap all the time is listed with its share and breaks nothing."""
    found = judged(healthy(1, throttled_power=1.0, violation_power_s=[float(i) for i in range(INSTANT_COUNT)]))[POWER]
    assert found.ok
    assert "100 % of the samples" in found.reading
    assert "by its counter" in found.reading


@pytest.mark.parametrize(("clock_hz", "ok"), [(1.98e9 * 0.951, True), (1.98e9 * 0.949, False), (1.98e9 * 1.06, False)])
def test_clocks_within_five_percent_are_the_same(clock_hz: float, ok: bool) -> None:
    """The limit holds in both directions, against the median over repeats."""
    assert judged(healthy(1), healthy(2), healthy(3, graphics_clock_hz=clock_hz))[GRAPHICS_CLOCK].ok is ok


def test_of_two_repeats_the_faster_one_counts() -> None:
    """Half way between two clocks nothing would be far from it: the upper one is what the machine can do."""
    assert broken(healthy(1), healthy(2, graphics_clock_hz=1.8e9)) == [GRAPHICS_CLOCK]


def test_clocks_of_an_idle_accelerator_say_nothing() -> None:
    """Samples taken while it waited for requests are left out; if it mostly waited, the rule was not read."""
    waits = dict.fromkeys(range(15), 0.0)
    idle = {
        "utilisation_share": series(0.9, waits),
        "graphics_clock_hz": series(1.98e9, dict.fromkeys(waits, 345e6)),
    }
    assert broken(healthy(1), healthy(2, **idle), healthy(3)) == []
    found = judged(healthy(1, utilisation_share=0.2), healthy(2, utilisation_share=0.2))[GRAPHICS_CLOCK]
    assert found.ok
    assert found.reading.startswith(NOT_READ)
    assert "never 50 % busy" in found.reading


def test_what_the_driver_does_not_give_is_not_read() -> None:
    """A device without flags, caps and processes: every rule about them says so, and none is called kept."""
    readings = judged(repeat_of({A: {"power_w": 300.0}}))
    for rule in DEVICE_RULES:
        assert readings[rule].ok, rule
        assert readings[rule].reading.startswith(NOT_READ), rule


def test_a_device_read_in_part_is_said_to_be() -> None:
    """One repeat of three without samples is named with its device; what the others say stands."""
    lost = repeat_of({A: {READ_FAILED: 1.0}}, 2, count=1)
    readings = judged(healthy(1), lost, healthy(3))
    assert readings[THERMAL].ok
    assert readings[THERMAL].reading == f"none; {NOT_READ} on {SHORT_A} in 1 repeat"
    assert f"{SHORT_A} could not be read in 1 repeat" in readings[SAMPLED].reading
    assert readings[SAMPLED].reading.startswith("0 % of the instants due")


def test_samples_with_gaps_prove_what_they_saw_but_not_the_rest() -> None:
    """With fewer than half of the samples due, nothing seen is `not read`; throttling that was seen is broken."""
    sparse = repeat_of({A: HEALTHY}, count=9)
    assert judged(sparse)[THERMAL].reading.startswith(NOT_READ)
    seen = repeat_of({A: {**HEALTHY, "throttled_thermal": 1.0}}, count=9)
    found = judged(seen)[THERMAL]
    assert not found.ok
    assert f"{NOT_READ} on {SHORT_A} in 1 repeat" in found.reading


def test_a_lost_sampler_is_listed_and_nothing_is_kept_by_it() -> None:
    """Its window is unread for every device; the trial is not called broken for it."""
    gone = replace(healthy(2), telemetry=(TelemetrySample(0, SAMPLER, "failed", 1.0),))
    readings = judged(healthy(1), gone)
    assert all(reading.ok for reading in readings.values())
    assert "the sampler was lost in 1 repeat" in readings[SAMPLED].reading
    assert "0 % of the instants due" in readings[SAMPLED].reading
    assert f"{NOT_READ} on {SHORT_A} in 1 repeat" in readings[STRANGERS].reading


def test_processes_of_another_container_are_not_called_strangers() -> None:
    """What cannot be seen from here is listed as not read, with how many there are."""
    found = judged(healthy(1, unseen_process_count=2.0))[STRANGERS]
    assert found.ok
    assert "2 at once cannot be seen from here: whose they are is not read" in found.reading


def test_the_worst_of_several_accelerators_is_named_so_that_it_can_be_told() -> None:
    """Eight devices that differ at the end of their UUIDs: the worst is named as far as it takes to tell it."""
    hot = {**HEALTHY, "throttled_thermal": 1.0}
    warm = {**HEALTHY, "throttled_thermal": series(0, {1: 1})}
    found = judged(repeat_of({A: warm, B: hot, "GPU-cool": HEALTHY}))[THERMAL]
    assert found.reading == f"{B[:14]}…: 100 % of the samples of repeat 1, and 1 more of 3"


def test_accelerators_of_the_class_that_were_not_sampled_are_missed() -> None:
    """A class of eight with one sampled says so; on a CPU class there is nothing to miss, nor are there their rules."""
    of_eight = replace(GPU_CLASS, accelerator_count=8)
    assert "1 of the 8 accelerators" in judged(healthy(1), runner_class=of_eight)[SAMPLED].reading
    readings = judged(repeat_of({}), runner_class=CPU_CLASS)
    assert set(readings) == {SAMPLED, STEAL, CPU_CLOCK}
    assert judged(repeat_of({}))[THERMAL].reading == f"{NOT_READ}: no accelerator was sampled"


def test_without_telemetry_one_line_says_so() -> None:
    """A trial from before, or of servers elsewhere: unknown, listed, and no rule pretends to be kept."""
    readings = judged(replace(healthy(1), telemetry=()))
    assert set(readings) == {SAMPLED, STEAL}
    assert readings[SAMPLED].reading.startswith(NOT_READ)
    assert judged()[STEAL].reading.startswith(NOT_READ)


@pytest.mark.parametrize(
    ("limit", "share", "ok"), [(0.0, 0.5, True), (0.02, 0.02, True), (0.02, 0.021, False), (0.02, float("nan"), False)]
)
def test_steal_is_limited_by_its_class(limit: float, share: float, ok: bool) -> None:
    """Only where the class says so, by the worst counted repeat; what is no number is not within a limit."""
    runner_class = replace(CPU_CLASS, healthy=HealthyHost(steal_share_max=limit))
    stolen = replace(repeat_of({}, 2), steal_share=share)
    assert judged(repeat_of({}), stolen, runner_class=runner_class)[STEAL].ok is ok


def test_a_slower_cpu_is_listed_with_its_drop() -> None:
    """The frequency over repeats and the slowest against the fastest; it breaks nothing."""
    slow = repeat_of({CPU: {"frequency_hz": 2.7e9}}, 2)
    found = judged(repeat_of({}), slow, runner_class=CPU_CLASS)[CPU_CLOCK]
    assert found.ok
    assert found.reading == "2.85 GHz; the slowest repeat 10.0 % below the fastest"


def test_rules_are_blind_to_results() -> None:
    """Other outcomes, latencies and arms change no reading."""
    repeats = (healthy(1, throttled_thermal=1.0), healthy(2))
    emptied = tuple(replace(repeat, records=()) for repeat in repeats)
    assert machine_validity(repeats, GPU_CLASS) == machine_validity(emptied, GPU_CLASS)
