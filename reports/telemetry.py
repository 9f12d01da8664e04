"""What the machine did while a scenario was measured: clocks, power, energy, temperature, arm beside arm."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redline.machine_readings import CPU, WindowReadings, short_names, window_readings
from redline.model import Arm, Repeat, Trial
from reports.markdown import Safe, code, table

DEVICES_SHOWN_MAX = 16
UNKNOWN = "not read"
GIB = 1 << 30
_THROTTLES = (("throttled_thermal", "heat"), ("throttled_hardware", "hardware"), ("throttled_power", "power cap"))
_STALLS = (
    ("pressure_cpu_share", "a CPU"),
    ("pressure_memory_share", "memory"),
    ("pressure_io_share", "input and output"),
)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One CPU or accelerator over the counted repeats of an arm's trials; None where nothing was read.

    `clock_hz`: (median, lowest, highest) of the samples. `throttled`: (reason, share of the samples), known ones only.
    """

    source: str
    clock_hz: tuple[float, float, float] | None
    power_w_median: float | None
    energy_j: float | None
    temperature_c_max: float | None
    busy_share_mean: float | None
    throttled: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class MachineSection:
    """The machine during the counted repeats of one arm of a scenario, over all of its trials.

    `energy_j` and `output_tokens` are of the repeats in which the energy of every accelerator is known, which are
    `energy_repeat_count` of `repeat_count`. `steal_share_max` is of single samples, `waits` (what for, share of the
    time in which some task waited) are means.
    """

    arm: Arm
    rows: tuple[SourceRow, ...]
    repeat_count: int
    energy_repeat_count: int
    energy_j: float
    output_tokens: int
    steal_share_max: float | None
    memory_available_bytes_min: float | None
    waits: tuple[tuple[str, float], ...]


def machine_sections(trials: Iterable[Trial]) -> tuple[MachineSection, ...]:
    """One section per arm, in order of appearance; none for trials without telemetry."""
    repeats: dict[Arm, list[Repeat]] = {}
    for trial in trials:
        repeats.setdefault(trial.arm, []).extend(repeat for repeat in trial.counted_repeats if repeat.telemetry)
    return tuple(_section(arm, of_arm) for arm, of_arm in repeats.items() if of_arm)


def machine_part(sections: Sequence[MachineSection]) -> Safe:
    """The sections as one folded table, a row per arm and source, and what does not fit a table below it."""
    names = short_names(row.source for section in sections for row in section.rows)
    rows = [_cells(section.arm, row, names) for section in sections for row in section.rows[: DEVICES_SHOWN_MAX + 1]]
    head = ["arm", "source", "clock, median (lowest to highest)", "power, median", "energy", "hottest", "busy, mean"]
    head.append("throttled, share of samples")
    parts = ["<details><summary>The machine meanwhile: clocks, power, energy, temperature</summary>"]
    parts.append(table(head, rows, right=(3, 4, 5, 6)))
    parts += [line for section in sections for line in _remarks(section)]
    return Safe("\n\n".join([*parts, "</details>"]))


# --- trials -> sections ---------------------------------------------------------------------------------------


def _section(arm: Arm, repeats: Sequence[Repeat]) -> MachineSection:
    windows = [window_readings(repeat) for repeat in repeats]
    devices = sorted({device for window in windows for device in window.devices})
    known = [
        (energy_j, sum(record.output_tokens for record in repeat.records))
        for repeat, window in zip(repeats, windows, strict=True)
        if (energy_j := _energy_of_all_j(window, devices)) is not None
    ]
    waits = [(what, statistics.fmean(shares)) for name, what in _STALLS if (shares := _values(windows, CPU, name))]
    return MachineSection(
        arm=arm,
        rows=tuple(_row(windows, source) for source in (CPU, *devices)),
        repeat_count=len(windows),
        energy_repeat_count=len(known),
        energy_j=sum(energy_j for energy_j, _ in known),
        output_tokens=sum(tokens for _, tokens in known),
        steal_share_max=max(_values(windows, CPU, "steal_share"), default=None),
        memory_available_bytes_min=min(_values(windows, CPU, "memory_available_bytes"), default=None),
        waits=tuple(waits),
    )


def _row(windows: Sequence[WindowReadings], source: str) -> SourceRow:
    clocks = _values(windows, source, "frequency_hz" if source == CPU else "graphics_clock_hz")
    power = _values(windows, source, "power_w")
    busy = _values(windows, source, "busy_share" if source == CPU else "utilisation_share")
    energies = [energy for window in windows if (energy := _energy_j(window, source)) is not None]
    flags = [(reason, _values(windows, source, name)) for name, reason in _THROTTLES]
    return SourceRow(
        source=source,
        clock_hz=(statistics.median(clocks), min(clocks), max(clocks)) if clocks else None,
        power_w_median=statistics.median(power) if power else None,
        energy_j=sum(energies) if len(energies) == len(windows) else None,
        temperature_c_max=max(_values(windows, source, "temperature_c"), default=None),
        busy_share_mean=statistics.fmean(busy) if busy else None,
        throttled=tuple((reason, sum(flag > 0 for flag in seen) / len(seen)) for reason, seen in flags if seen),
    )


def _values(windows: Iterable[WindowReadings], source: str, name: str) -> list[float]:
    return [value for window in windows for value in window.values(source, name)]


def _energy_j(window: WindowReadings, source: str) -> float | None:
    """The energy of the whole window, from the counter's samples in it; None if they are too few or too far apart."""
    return window.whole_growth(source, "energy_j") if window.is_read(source) else None


def _energy_of_all_j(window: WindowReadings, devices: Sequence[str]) -> float | None:
    """The energy of all accelerators together; None if there are none, or that of one is not known."""
    energies = [_energy_j(window, device) for device in devices]
    known = [energy for energy in energies if energy is not None]
    return sum(known) if known and len(known) == len(devices) else None


# --- sections -> text -----------------------------------------------------------------------------------------


def _cells(arm: Arm, row: SourceRow, names: dict[str, str]) -> tuple[str, ...]:
    never = Safe("") if row.source == CPU else UNKNOWN  # only accelerators are asked for these
    clock = UNKNOWN
    if row.clock_hz is not None:
        clock = "{:.0f} MHz ({:.0f} to {:.0f})".format(*(hz / 1e6 for hz in row.clock_hz))
    throttled = ", ".join(f"{share * 100:.3g} % {reason}" for reason, share in row.throttled if share > 0)
    return (
        Safe("") if arm is Arm.SINGLE else arm.value,
        "CPU" if row.source == CPU else code(names[row.source]),
        clock,
        never if row.power_w_median is None else f"{row.power_w_median:.0f} W",
        never if row.energy_j is None else _energy(row.energy_j),
        never if row.temperature_c_max is None else f"{row.temperature_c_max:.0f} °C",
        UNKNOWN if row.busy_share_mean is None else f"{row.busy_share_mean * 100:.0f} %",
        throttled or ("none" if row.throttled else never),
    )


def _remarks(section: MachineSection) -> list[Safe]:
    """Energy per token, what the CPU's row has no room for, and accelerators that were left out."""
    who = "In all: " if section.arm is Arm.SINGLE else f"{section.arm.value.capitalize()}: "
    parts = []
    if section.energy_repeat_count:
        of = "" if section.energy_repeat_count == section.repeat_count else f" of {section.repeat_count}"
        said = f"{_energy(section.energy_j)} by all accelerators over {section.energy_repeat_count}{of} counted repeats"
        tokens = section.output_tokens
        parts.append(said + (f", {section.energy_j / tokens:.3g} J per output token" if tokens else ""))
    if section.steal_share_max is not None:
        parts.append(f"steal at most {section.steal_share_max * 100:.1f} % in a sample")
    if section.waits:
        waits = ", ".join(f"for {what} {share * 100:.1f} %" for what, share in section.waits)
        parts.append(f"some task waited {waits} of the time")
    if section.memory_available_bytes_min is not None:
        parts.append(f"at least {section.memory_available_bytes_min / GIB:.1f} GiB of memory available")
    left_out = len(section.rows) - DEVICES_SHOWN_MAX - 1
    parts += [f"{left_out} more accelerators are in the data"] if left_out > 0 else []
    return [Safe(f"{who}{'; '.join(parts)}.")] if parts else []


def _energy(energy_j: float) -> str:
    for unit, size in (("MJ", 1e6), ("kJ", 1e3)):
        if energy_j >= size:
            return f"{energy_j / size:.3g} {unit}"
    return f"{energy_j:.3g} J"
