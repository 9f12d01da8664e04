"""The machine's table: what was read in the counted repeats, arm beside arm, and what was not is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from redline.machine_readings import CPU, SAMPLER
from redline.model import Arm, Repeat, TelemetrySample, Trial
from redline.units import NS_PER_S
from reports.telemetry import DEVICES_SHOWN_MAX, machine_part, machine_sections
from tests.reports.markup import structure
from tests.store.trial_examples import make_trial

CPU_VALUES = {
    "busy_share": 0.5,
    "steal_share": 0.01,
    "frequency_hz": 3e9,
    "pressure_cpu_share": 0.2,
    "memory_available_bytes": 8 * 2**30,
}
GPU_VALUES = {
    "graphics_clock_hz": 1.98e9,
    "power_w": 500.0,
    "temperature_c": 61.0,
    "utilisation_share": 0.9,
    "throttled_thermal": 0.0,
    "throttled_power": 1.0,
}


def sampled(repeat: Repeat, sources: Mapping[str, Mapping[str, float]], power_w: float | None = 500.0) -> Repeat:
    """The repeat with eight instants of these sources, a second apart; energy grows by `power_w`."""
    samples = [TelemetrySample(0, SAMPLER, "period_s", 1.0)]
    for instant in range(8):
        at_ns = instant * NS_PER_S
        for source, values in sources.items():
            samples += [TelemetrySample(at_ns, source, name, value) for name, value in values.items()]
            if source != CPU and power_w is not None:
                samples.append(TelemetrySample(at_ns, source, "energy_j", 1e6 + power_w * instant))
    return replace(repeat, duration_ns=8 * NS_PER_S, telemetry=tuple(samples))


def trial_of(arm: Arm, sources: Mapping[str, Mapping[str, float]], power_w: float | None = 500.0) -> Trial:
    """A trial of four repeats, the first one dropped."""
    plain = make_trial(f"t-{arm.value}", arm=arm)
    return replace(plain, repeats=tuple(sampled(repeat, sources, power_w) for repeat in plain.repeats))


def test_a_gpu_and_a_cpu_have_a_row_each() -> None:
    """Medians, the hottest, the mean and what throttled, of the repeats that count; energy of the whole windows."""
    trial = trial_of(Arm.CANDIDATE, {CPU: CPU_VALUES, "GPU-a": GPU_VALUES})
    hot = [
        replace(sample, value=99.0) if sample.name == "temperature_c" else sample
        for sample in trial.repeats[0].telemetry
    ]
    trial = replace(trial, repeats=(replace(trial.repeats[0], telemetry=tuple(hot)), *trial.repeats[1:]))
    (section,) = machine_sections([trial])
    cpu, gpu = section.rows
    assert (cpu.source, cpu.clock_hz, cpu.busy_share_mean) == (CPU, (3e9, 3e9, 3e9), 0.5)
    assert (gpu.power_w_median, gpu.temperature_c_max) == (500.0, 61.0), "the dropped repeat was hotter"
    assert gpu.throttled == (("heat", 0.0), ("power cap", 1.0))
    assert gpu.energy_j == pytest.approx(3 * 8 * 500.0)
    assert (section.energy_repeat_count, section.repeat_count) == (3, 3)
    assert section.output_tokens == sum(record.output_tokens for it in trial.repeats[1:] for record in it.records)
    page = machine_part((section,))
    assert "12 kJ by all accelerators over 3 counted repeats" in page
    assert f"{12_000 / section.output_tokens:.3g} J per output token" in page
    assert "some task waited for a CPU 20.0 % of the time" in page
    assert "100 % power cap" in page


def test_energy_is_not_made_up() -> None:
    """A counter that one of two accelerators does not have, or that went back, gives no sum and no joules per token."""
    trial = trial_of(Arm.SINGLE, {CPU: CPU_VALUES, "GPU-a": GPU_VALUES, "GPU-b": GPU_VALUES})

    def without(repeat: Repeat) -> Repeat:
        kept = (each for each in repeat.telemetry if (each.source, each.name) != ("GPU-b", "energy_j"))
        return replace(repeat, telemetry=tuple(kept))

    one, two, *others = trial.repeats
    (section,) = machine_sections([replace(trial, repeats=(one, without(two), *others))])
    assert (section.energy_repeat_count, section.repeat_count) == (2, 3)
    assert section.rows[2].energy_j is None
    assert section.rows[1].energy_j is not None
    (section,) = machine_sections([trial_of(Arm.SINGLE, {"GPU-a": GPU_VALUES}, power_w=-1.0)])
    assert section.energy_repeat_count == 0
    assert "J per output token" not in machine_part((section,))


def test_what_was_not_read_says_so() -> None:
    """An accelerator that gave nothing has a row of `not read`, and none of it is 0 or none."""
    (section,) = machine_sections([trial_of(Arm.SINGLE, {CPU: {}, "GPU-a": {"read_failed": 1.0}}, power_w=None)])
    (line,) = [line for line in machine_part((section,)).splitlines() if "GPU-a" in line]
    assert line.count("not read") == 6
    assert "none" not in line


def test_trials_without_telemetry_have_no_section() -> None:
    """Nothing is shown where nothing was sampled; arms come in the order of their trials."""
    bare = make_trial()
    bare = replace(bare, repeats=tuple(replace(repeat, telemetry=()) for repeat in bare.repeats))
    assert machine_sections([bare]) == ()
    arms = [trial_of(arm, {CPU: CPU_VALUES}) for arm in (Arm.CANDIDATE, Arm.BASELINE, Arm.CANDIDATE)]
    sections = machine_sections(arms)
    assert [(section.arm, section.repeat_count) for section in sections] == [(Arm.CANDIDATE, 6), (Arm.BASELINE, 3)]
    page = machine_part(sections)
    assert "Candidate: steal at most 1.0 %" in page
    assert "Baseline: steal" in page


def test_a_pod_of_accelerators_is_cut_and_counted() -> None:
    """Beyond sixteen accelerators an arm, the rest are counted; the data hold them."""
    sources = {CPU: CPU_VALUES} | {f"GPU-{number:04d}-of-a-pod": GPU_VALUES for number in range(72)}
    page = machine_part(machine_sections([trial_of(Arm.SINGLE, sources)]))
    assert page.count("| `GPU-") == DEVICES_SHOWN_MAX
    assert "56 more accelerators are in the data" in page


@pytest.mark.parametrize("uuid", ["GPU|a`b", "</details><script>alert(1)</script>", "GPU\n\n# heading @team"])
def test_a_hostile_uuid_breaks_nothing(uuid: str) -> None:
    """Whatever a driver calls its device stays one cell of one row: the page has the structure of a tame one."""

    def page(name: str) -> str:
        return machine_part(machine_sections([trial_of(Arm.SINGLE, {CPU: CPU_VALUES, name: GPU_VALUES})]))

    assert structure(page(uuid)) == structure(page("GPU-a"))
