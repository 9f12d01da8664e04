"""Was the machine itself while a trial was measured? Rules over its telemetry: throttling, clocks, power, strangers.

Blind to results and the same for both arms, like every validity rule, and read over the repeats that count. A rule
that could not be read says `not read` and where: it is listed and breaks nothing, since nothing is known against the
trial; who wants it read mends the sampling.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from redline.machine_readings import (
    BUSY_SHARE_MIN,
    COVERED_SHARE_MIN,
    CPU,
    READ_FAILED,
    SAMPLER,
    WindowReadings,
    short_names,
    window_readings,
)
from redline.model import Repeat, RunnerClass, ValidityReading
from redline.units import NS_PER_S

SAMPLED, STEAL, CPU_CLOCK = "machine sampled", "steal", "CPU frequency"
THERMAL, HARDWARE, POWER = "thermal throttling", "hardware slowdown", "power throttling"
POWER_CAP, STRANGERS = "power cap", "foreign processes on accelerators"
GRAPHICS_CLOCK, MEMORY_CLOCK = "graphics clock", "memory clock"
BREAKABLE_RULES = frozenset({STEAL, THERMAL, HARDWARE, POWER_CAP, GRAPHICS_CLOCK, MEMORY_CLOCK, STRANGERS})
"""Rules that a machine breaks, whatever the build: what was measured is measured again. The others are listed only."""

CLOCK_CHANGE_MAX = 0.05
POWER_CAP_CHANGE_W_MAX = 1.0
COUNTER_SHARE_MAX = 0.001
BUSY_INSTANTS_MIN = 3
NOT_READ = "not read"
LISTED = "listed only"


@dataclass(frozen=True, slots=True)
class _Machine:
    """The counted windows of a trial and its accelerators, with names that are short enough for a line."""

    windows: tuple[WindowReadings, ...]
    devices: tuple[str, ...]
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a rule found on one device: how bad it is (0: nothing), in words; `unread_count` windows said nothing."""

    device: str
    severity: float
    words: str
    unread_count: int


def machine_validity(repeats: Sequence[Repeat], runner_class: RunnerClass) -> tuple[ValidityReading, ...]:
    """Every rule about the machine with its reading and limit, kept, broken or not read."""
    counted = [repeat for repeat in repeats if not repeat.drop_reason]
    windows = tuple(map(window_readings, counted))
    devices = tuple(sorted({device for window in windows for device in window.devices}))
    machine = _Machine(windows, devices, short_names(devices))
    readings = [_sampled(machine, runner_class), _steal(counted, runner_class)]
    if not any(window.by_source for window in windows):
        return tuple(readings)
    readings.append(_cpu_clock(machine))
    if devices or runner_class.platform != "cpu":
        readings += [
            _throttled(machine, THERMAL, "throttled_thermal", "violation_thermal_s"),
            _throttled(machine, HARDWARE, "throttled_hardware", ""),
            _throttled(machine, POWER, "throttled_power", "violation_power_s"),
            _power_cap(machine),
            _clock(machine, GRAPHICS_CLOCK, "graphics_clock_hz"),
            _clock(machine, MEMORY_CLOCK, "memory_clock_hz"),
            _strangers(machine),
        ]
    return tuple(readings)


def _sampled(machine: _Machine, runner_class: RunnerClass) -> ValidityReading:
    """Listed: how much of the windows the sampler saw, and what it could not read."""
    limit = f"at least {COVERED_SHARE_MIN * 100:.0f} % of the instants due ({LISTED})"
    windows = machine.windows
    if not any(window.by_source for window in windows):
        return ValidityReading(
            SAMPLED, f"{NOT_READ}: no telemetry of a repeat that counts, the machine's state is unknown", limit, ok=True
        )
    shares = [window.covered_share(source) for window in windows for source in (CPU, *machine.devices)]
    parts = [f"{min(1.0, *shares) * 100:.0f} % of the instants due (worst source and repeat)"]
    own = [share for window in windows for share in window.values(SAMPLER, "cpu_share")]
    parts += [f"the sampler took {max(own) * 100:.1f} % of one CPU"] if own else []
    lost = sum(window.sampler_failed for window in windows)
    parts += [f"the sampler was lost in {_repeats(lost)}"] if lost else []
    for source in (CPU, *machine.devices):
        failed = sum(any(window.values(source, READ_FAILED)) for window in windows)
        parts += [f"{machine.names.get(source, source)} could not be read in {_repeats(failed)}"] if failed else []
    asked = runner_class.accelerator_count if runner_class.platform != "cpu" else 0
    if len(machine.devices) < asked:
        parts.append(f"{len(machine.devices)} of the {asked} accelerators of the class sampled")
    return ValidityReading(SAMPLED, "; ".join(parts), limit, ok=True)


def _steal(counted: Sequence[Repeat], runner_class: RunnerClass) -> ValidityReading:
    """CPU time that the host gave to others, the worst repeat; broken only where the class sets a limit."""
    limit = runner_class.healthy.steal_share_max if runner_class.healthy is not None else 0.0
    stated = f"at most {limit * 100:g} % of the CPUs" if limit > 0 else LISTED
    if not counted:
        return ValidityReading(STEAL, f"{NOT_READ}: no repeat counts", stated, ok=True)
    shares = [repeat.steal_share for repeat in counted]
    kept = all(share <= limit for share in shares)  # False for one that is no number
    return ValidityReading(STEAL, f"{max(shares) * 100:.2f} % (worst repeat)", stated, kept or limit <= 0)


def _cpu_clock(machine: _Machine) -> ValidityReading:
    """Listed: governors and turbo move it, and a virtual machine does not show it."""
    medians = [
        statistics.median(values) for window in machine.windows if (values := window.values(CPU, "frequency_hz"))
    ]
    if not medians:
        return ValidityReading(CPU_CLOCK, f"{NOT_READ}: not visible on this machine", LISTED, ok=True)
    lowest, highest = min(medians), max(medians)
    drop = 1 - lowest / highest if highest > 0 else 0.0
    words = f"{statistics.median(medians) / 1e9:.2f} GHz; the slowest repeat {drop * 100:.1f} % below the fastest"
    unread = len(machine.windows) - len(medians)
    words += f"; {NOT_READ} in {_repeats(unread)}" if unread else ""
    return ValidityReading(CPU_CLOCK, words, LISTED, ok=True)


def _throttled(machine: _Machine, rule: str, flag: str, counter: str) -> ValidityReading:
    """Slowed down by heat or by the hardware's own protection is broken; by the power cap is how a loaded one runs.

    Read where the flag or the counter is: the flag is what a sample happened to see, the counter misses nothing.
    """
    found = []
    for device in machine.devices:
        severity, words, unread = 0.0, "", 0
        for window in machine.windows:
            flags, grown_s = window.values(device, flag), window.growth(device, counter)
            unread += not window.is_read(device) or (not flags and grown_s is None)
            seen, counted = _share(flags), (grown_s or 0.0) * NS_PER_S / max(1, window.duration_ns)
            said = [f"{seen * 100:.0f} % of the samples"] if seen > 0 else []
            said += [f"{counted * 100:.1f} % of the time by its counter"] if counted > COUNTER_SHARE_MAX else []
            if said and max(seen, counted) > severity:
                severity, words = max(seen, counted), f"{' and '.join(said)} of repeat {window.index}"
        found.append(_Found(device, severity, words, unread))
    if rule == POWER:
        limit = f"{LISTED}: at full load an accelerator runs at its power cap"
        return ValidityReading(rule, _said(machine, found, "none"), limit, ok=True)
    limit = f"in no sample, and at most {COUNTER_SHARE_MAX * 100:g} % of a repeat by its counter"
    return ValidityReading(rule, _said(machine, found, "none"), limit, not any(each.severity for each in found))


def _share(flags: Sequence[float]) -> float:
    return sum(flag > 0 for flag in flags) / len(flags) if flags else 0.0


def _power_cap(machine: _Machine) -> ValidityReading:
    """The same in every sample of every repeat: somebody who changes it changes what the machine can do."""
    found, caps_w = [], []
    for device in machine.devices:
        of_windows = [window.values(device, "power_cap_w") for window in machine.windows]
        values = [value for each in of_windows for value in each]
        change_w = max(values) - min(values) if values else 0.0
        changed = change_w > POWER_CAP_CHANGE_W_MAX
        words = f"between {min(values):.0f} W and {max(values):.0f} W" if changed else ""
        found.append(_Found(device, change_w if changed else 0.0, words, _unread(machine, device, of_windows)))
        caps_w += values
    return ValidityReading(
        POWER_CAP,
        _said(machine, found, f"{_span(caps_w)} W, unchanged"),
        f"no change by more than {POWER_CAP_CHANGE_W_MAX:g} W",
        not any(each.severity for each in found),
    )


def _clock(machine: _Machine, rule: str, name: str) -> ValidityReading:
    """The median clock of each repeat against the upper median over repeats, device by device.

    Every repeat does the same work, so the same clocks come out, also with boost and at the power cap, which make the
    single samples vary. Only instants at which the device was busy count: one that waits lowers its clocks at will.
    """
    found, middles, largest = [], [], 0.0
    for device in machine.devices:
        busy = [
            (window.index, window.busy_values(device, name)) for window in machine.windows if window.is_read(device)
        ]
        medians = [(index, statistics.median(values)) for index, values in busy if len(values) >= BUSY_INSTANTS_MIN]
        middle = statistics.median_high([value for _, value in medians]) if medians else 0.0
        changes = [(abs(value / middle - 1), index, value) for index, value in medians if middle > 0]
        change, index, value = max(changes, default=(0.0, 0, 0.0))
        words = f"{value / 1e6:.0f} MHz in repeat {index}, {middle / 1e6:.0f} MHz over all"
        moved = change > CLOCK_CHANGE_MAX
        unread = len(machine.windows) - len(medians)
        found.append(_Found(device, change if moved else 0.0, words if moved else "", unread))
        middles += [middle / 1e6] if medians else []
        largest = max(largest, change)
    steady = f"{_span(middles)} MHz; the largest change {largest * 100:.1f} %"
    return ValidityReading(
        rule,
        _said(machine, found, steady, f" or never {BUSY_SHARE_MIN * 100:.0f} % busy"),
        f"each repeat within {CLOCK_CHANGE_MAX * 100:g} % of the median over repeats, while busy",
        largest <= CLOCK_CHANGE_MAX,
    )


def _strangers(machine: _Machine) -> ValidityReading:
    """Processes that an accelerator serves and that are neither the servers nor started by them."""
    found, hidden = [], 0.0
    for device in machine.devices:
        counts = [window.values(device, "foreign_process_count") for window in machine.windows]
        most = max((count for each in counts for count in each), default=0.0)
        words = f"{most:.0f} at once" if most else ""
        found.append(_Found(device, most, words, _unread(machine, device, counts)))
        unseen = [count for window in machine.windows for count in window.values(device, "unseen_process_count")]
        hidden = max([hidden, *unseen])
    words = _said(machine, found, "none")
    if hidden:
        words += f"; {hidden:.0f} at once cannot be seen from here: whose they are is {NOT_READ}"
    return ValidityReading(STRANGERS, words, "none", not any(each.severity for each in found))


def _unread(machine: _Machine, device: str, of_windows: Sequence[Sequence[float]]) -> int:
    """In how many windows a value of a device was not there, or too seldom to say that nothing happened."""
    return sum(
        not values or not window.is_read(device) for window, values in zip(machine.windows, of_windows, strict=True)
    )


def _span(values: Sequence[float]) -> str:
    """`700`, or `350 to 700` where devices differ."""
    low, high = (f"{edge:.0f}" for edge in (min(values, default=0.0), max(values, default=0.0)))
    return low if low == high else f"{low} to {high}"


def _said(machine: _Machine, found: Sequence[_Found], steady: str, or_else: str = "") -> str:
    """The worst device and how many others, else `steady`; and where nothing was read, or too little."""
    if not found:
        return f"{NOT_READ}: no accelerator was sampled"
    bad = sorted((each for each in found if each.severity), key=lambda each: -each.severity)
    unread = [each for each in found if each.unread_count]
    if not bad and all(each.unread_count == len(machine.windows) for each in found):
        return f"{NOT_READ}: not given by the driver, not sampled{or_else}"
    said = f"{machine.names[bad[0].device]}: {bad[0].words}" if bad else steady
    said += f", and {len(bad) - 1} more of {len(found)}" if len(bad) > 1 else ""
    if unread:
        most = max(unread, key=lambda each: each.unread_count)
        others = f", less on {len(unread) - 1} more" if len(unread) > 1 else ""
        said += f"; {NOT_READ} on {machine.names[most.device]} in {_repeats(most.unread_count)}{others}"
    return said


def _repeats(count: int) -> str:
    return f"{count} repeat{'' if count == 1 else 's'}"
