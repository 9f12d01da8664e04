"""AMD's accelerators, through a stand-in of the module that ROCm brings."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from checks.machine_validity import THERMAL, machine_validity
from redline.errors import AcceleratorError
from redline.model import RunnerClass, TelemetrySample, ValidityReading
from redline.runner.accelerators import SAMPLE_NAMES
from redline.runner.amd import AmdReader, open_reader
from redline.runner.amd_import import import_amdsmi
from redline.runner.amd_residency import Residencies
from redline.runner.vendor_library import Absent, Failed
from redline.units import NS_PER_S
from tests.fakes import amdsmi_answers as amd
from tests.fakes.amdsmi_answers import AmdSmi
from tests.store.trial_examples import make_trial

UUID = "GPU-11e4e4b0dd6d7d2e"


def reader_over(library: AmdSmi) -> AmdReader:
    """The reader of a machine whose ROCm has this module."""
    opened = open_reader(library)
    assert isinstance(opened, AmdReader), opened
    return opened


def test_this_machine_is_asked_for_real() -> None:
    """Devices where there is a driver; without one, what was missing and what importing the module said."""
    opened = open_reader()
    if isinstance(opened, AmdReader):
        assert opened.devices()
        opened.close()
    else:
        assert "amdsmi cannot be" in opened.reason
        assert isinstance(opened, Failed if Path("/dev/kfd").exists() else Absent)


def test_devices_have_the_uuid_that_the_runtime_takes() -> None:
    """The chip's serial as ROCR_VISIBLE_DEVICES takes it, the market name, memory in bytes."""
    first, second = reader_over(AmdSmi(2)).devices()
    assert first.uuid == UUID
    assert second.uuid == "GPU-11e4e4b0dd6d7d2f"
    assert (first.model, first.memory_bytes) == ("AMD Instinct MI300X", 192 * amd.GIB)
    assert first.pci_bus_id == "0000:05:00.0"


def test_the_kernel_s_own_number_comes_before_the_serial(tmp_path: Path) -> None:
    """A partition has a number of its own in the kernel's topology, and the serial of its neighbours."""
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "properties").write_text("cpu_cores_count 0\nunique_id 1289160867318930735\ngfx_target 90402\n")
    reader = AmdReader(AmdSmi(node_id=3), nodes=tmp_path)
    assert [device.uuid for device in reader.devices()] == [f"GPU-{1289160867318930735:016x}"]


@pytest.mark.parametrize("market_name", ["N/A", "0x74a1", ""])
def test_a_model_without_a_market_name_has_its_board_s(market_name: str) -> None:
    """Drivers that do not know a chip give its number."""
    library = AmdSmi(asic=amd.QUIET["asic"] | {"market_name": market_name})
    assert reader_over(library).devices()[0].model == "AMD Instinct MI300X OAM"


def test_a_sample_is_in_base_units() -> None:
    """MHz, microwatts, ticks of 15.3 microjoules and percent leave as Hz, W, J and shares."""
    reader = reader_over(AmdSmi())
    found = reader.sample(UUID)
    assert found == {
        "graphics_clock_hz": 2100e6,  # the fastest of its engines
        "memory_clock_hz": 900e6,
        "power_w": 142,
        "power_cap_w": pytest.approx(750),
        "energy_j": pytest.approx(15.3),
        "temperature_c": 41,
        "memory_temperature_c": 36,
        "utilisation_share": 0.25,
        "memory_used_bytes": 283 << 20,
        "violation_power_s": 0,
        "violation_thermal_s": 0,
    }
    reader._amdsmi.devices[0]["metrics"]["accumulation_counter"] += 100
    assert set(reader.sample(UUID)) == {name for name in SAMPLE_NAMES if not name.startswith("throttled_")}


def test_time_held_back_is_the_share_of_the_firmware_s_rounds() -> None:
    """30 of 100 rounds in two seconds are 0.6 s; the counters only ever grow, and start at the first sample."""
    counted = Residencies()
    first = dict(amd.METRICS)
    assert counted.values(first, 10.0) == {"violation_power_s": 0, "violation_thermal_s": 0}
    second = first | {"accumulation_counter": 1_000_100, "ppt_residency_acc": 430, "hbm_thm_residency_acc": 5}
    assert counted.values(second, 12.0) == {
        "violation_power_s": pytest.approx(0.6),
        "violation_thermal_s": pytest.approx(0.1),
    }
    third = second | {"accumulation_counter": 1_000_200, "prochot_residency_acc": 50}
    assert counted.values(third, 13.0) == {
        "violation_power_s": pytest.approx(0.6),
        "violation_thermal_s": pytest.approx(0.6),  # the hardware's own protection is one against heat
    }


def test_a_stale_reading_takes_no_time_away() -> None:
    """Firmware that did not renew its table in between: half of the rounds of four seconds are two seconds."""
    counted = Residencies()
    first = dict(amd.METRICS)
    counted.values(first, 10.0)
    assert counted.values(first, 12.0)["violation_power_s"] == 0
    later = first | {"accumulation_counter": 1_000_200, "ppt_residency_acc": 500}
    assert counted.values(later, 14.0)["violation_power_s"] == pytest.approx(2.0)


def judged_window(*metrics: dict[str, int]) -> dict[str, ValidityReading]:
    """The machine's rules over a window of ten seconds, of the firmware's tables as they were read in it.

    A table of before the window comes first: a minute passes until the next one.
    """
    counted = Residencies()
    counted.values(metrics[0], 0.0)
    step_s = 10.0 / len(metrics[1:])
    samples = [TelemetrySample(0, "sampler", "period_s", step_s)]
    for index, each in enumerate(metrics[1:]):
        at_s = index * step_s
        values = counted.values(each, 60.0 + at_s) | {"power_w": 600.0}
        samples += [TelemetrySample(round(at_s * NS_PER_S), UUID, name, value) for name, value in values.items()]
    plain = make_trial(request_count=1, repeat_count=1).repeats[0]
    repeat = replace(plain, drop_reason="", duration_ns=10 * NS_PER_S, telemetry=tuple(samples))
    rocm = RunnerClass("mi", "d", "rocm", "gpu", 1, 0.05, 3, 0, "MI300X", 1)
    return {reading.rule: reading for reading in machine_validity([repeat], rocm)}


def tables(*steps: tuple[int, int]) -> list[dict[str, int]]:
    """The firmware's tables after steps of (rounds, rounds of them held back by heat)."""
    found = [{"accumulation_counter": 1_000_000, "socket_thm_residency_acc": 0}]
    for rounds, hot in steps:
        rounds_before, hot_before = found[-1].values()
        found.append({"accumulation_counter": rounds_before + rounds, "socket_thm_residency_acc": hot_before + hot})
    return found


def test_throttling_between_two_windows_spoils_neither() -> None:
    """A minute of heat before the window is none of its business; the same within it is."""
    cool = [(1000, 0)] * 9
    assert judged_window(*tables((60_000, 60_000), *cool))[THERMAL].ok
    hot = judged_window(*tables((60_000, 0), *cool[:4], (1000, 500), *cool[:4]))[THERMAL]
    assert not hot.ok
    assert "by its counter" in hot.reading


def test_one_round_of_the_firmware_is_no_throttling() -> None:
    """Far below a thousandth of the window, although some sample has it."""
    found = judged_window(*tables((60_000, 0), *[(2000, 0)] * 4, (2000, 1), *[(2000, 0)] * 4))
    assert found[THERMAL].ok
    assert found[THERMAL].reading == "none"


def test_a_reset_of_the_firmware_s_counters_is_no_throttling() -> None:
    """Counters that fall are a reset: nothing is said of that stretch, and what was counted stays."""
    counted = Residencies()
    counted.values({"accumulation_counter": 1000, "ppt_residency_acc": 500}, 0.0)
    counted.values({"accumulation_counter": 1100, "ppt_residency_acc": 550}, 1.0)
    found = counted.values({"accumulation_counter": 5, "ppt_residency_acc": 0}, 2.0)
    assert found == {"violation_power_s": pytest.approx(0.5)}


def test_a_chip_that_does_not_count_says_nothing_of_throttling() -> None:
    """Before MI300 there are no such counters."""
    assert Residencies().values({"accumulation_counter": "N/A", "ppt_residency_acc": "N/A"}) == {}


@pytest.mark.parametrize(
    ("function", "lost"),
    [
        ("amdsmi_get_energy_count", {"energy_j"}),
        ("amdsmi_get_power_cap_info", {"power_cap_w"}),
        ("amdsmi_get_gpu_memory_usage", {"memory_used_bytes"}),
    ],
)
def test_a_value_that_is_not_given_is_absent(function: str, lost: set[str]) -> None:
    """Each call may fail alone: its value is left out and the others are there."""
    library = AmdSmi()
    reader = reader_over(library)
    whole = set(reader.sample(UUID))
    library.errors[function] = amd.NOT_SUPPORTED
    library.devices[0]["metrics"]["accumulation_counter"] = "N/A"
    assert whole - set(reader.sample(UUID)) == lost | {"violation_power_s", "violation_thermal_s"}


def test_without_metrics_the_single_calls_are_asked() -> None:
    """Clocks, power and temperatures have calls of their own, on chips and drivers without a metrics table."""
    library = AmdSmi()
    library.errors["amdsmi_get_gpu_metrics_info"] = amd.NOT_SUPPORTED
    found = reader_over(library).sample(UUID)
    assert found["graphics_clock_hz"] == 132e6
    assert (found["power_w"], found["temperature_c"], found["memory_temperature_c"]) == (142, 41, 36)
    assert "utilisation_share" not in found


def test_a_module_that_lacks_a_name_still_serves() -> None:
    """Functions and enumerations come and go between releases of ROCm."""
    library = AmdSmi()
    library.missing |= {"AmdSmiLinkType", "amdsmi_get_rocm_version", "amdsmi_get_violation_status", "AmdSmiClkType"}
    reader = reader_over(library)
    health = reader.inspect(UUID)
    assert (health.interconnect, health.throttle_reasons, health.graphics_clock_hz_max) == ("", None, None)
    assert any("amdsmi_get_violation_status: AttributeError" in each for each in health.unread)
    assert reader.sample(UUID)["power_w"] == 142


def test_a_lost_driver_is_an_error_that_names_the_device() -> None:
    """A driver that is reset under the reader ends the reading; no empty sample is taken for a quiet device."""
    library = AmdSmi()
    reader = reader_over(library)
    library.errors["*", 0] = amd.NOT_INIT
    with pytest.raises(AcceleratorError, match=UUID):
        reader.sample(UUID)
    library.errors["*", 0] = amd.NO_DATA
    library.devices[0]["metrics"] = {}
    with pytest.raises(AcceleratorError, match=UUID):
        reader.sample(UUID)


def test_a_library_that_fails_is_reported_where_there_is_a_driver(tmp_path: Path) -> None:
    """With the driver's device file it is a problem with its remedy, without one the vendor is absent."""
    library = AmdSmi()
    library.errors["amdsmi_init"] = amd.DRIVER_NOT_LOADED
    kfd = tmp_path / "kfd"
    assert isinstance(open_reader(library, kfd), Absent)
    kfd.touch()
    opened = open_reader(library, kfd)
    assert isinstance(opened, Failed)
    assert "AMDSMI_STATUS_DRIVER_NOT_LOADED" in opened.reason
    assert "ROCM_PATH" in opened.reason


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("print('Unable to find libamd_smi.so'); {}['libamd_smi.so']", KeyError),
        ("raise OSError('libamd_smi.so: cannot open shared object file')", OSError),
        ("import os; os.no_such_symbol", AttributeError),
    ],
)
def test_importing_it_may_raise_anything_and_print_nothing(
    tmp_path: Path, line: str, error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """ROCm's own copy is tried first; what it raises is passed on, what it prints is not, and the path is as before."""
    (tmp_path / "amdsmi").mkdir()
    (tmp_path / "amdsmi" / "__init__.py").write_text(line)
    before = list(sys.path)
    with pytest.raises(error):
        import_amdsmi([tmp_path])
    assert capsys.readouterr() == ("", "")
    assert sys.path == before
    assert "amdsmi" not in sys.modules


def test_everything_is_inspected() -> None:
    """What a person judges a device by, in base units and words."""
    library = AmdSmi(8, violations=amd.QUIET["violations"] | {"active_ppt_pwr": True})
    health = reader_over(library).inspect(UUID)
    assert (health.driver_version, health.runtime_version) == ("6.14.14", "ROCm 7.0.2")
    assert health.power_cap_w == health.power_cap_w_default == pytest.approx(750)
    assert health.power_cap_w_min is None
    assert (health.graphics_clock_hz_max, health.memory_clock_hz_max) == (2100e6, 1300e6)
    assert (health.ecc, health.ecc_uncorrected_count) == (True, 0)
    assert (health.partition, health.memory_partition, health.partitioned) == ("SPX", "NPS1", False)
    assert (health.pcie_generation, health.pcie_generation_max, health.pcie_width) == (5, 5, 16)
    assert health.throttle_reasons == ("power cap",)
    assert health.interconnect == "XGMI to 7 others"
    assert (health.temperature_c, health.temperature_c_slowdown) == (41, 100)
    assert health.clock_policy == "auto"
    assert health.persistence_mode is None


def test_a_compute_partition_other_than_spx_is_a_split() -> None:
    """CPX and its like are parts of a device; a partition that is not given is unknown."""
    assert reader_over(AmdSmi(compute="CPX")).inspect(UUID).partitioned is True
    assert reader_over(AmdSmi(compute="N/A")).inspect(UUID).partitioned is None


@pytest.mark.parametrize(
    ("pages", "count", "pending", "failed"),
    [
        ([{"value": 0, "page_address": 1, "page_size": 4096, "status": 1}], 1, True, False),
        ([{"value": 0, "page_address": 1, "page_size": 4096, "status": 2}], 1, False, True),
        ("No bad pages found.", 0, False, False),
    ],
)
def test_bad_pages_are_counted(pages: object, count: int, pending: bool, failed: bool) -> None:
    """By their status; older releases say in words that there are none."""
    health = reader_over(AmdSmi(pages=pages)).inspect(UUID)
    assert health.memory_retired_count == count
    assert (health.memory_retirement_pending, health.memory_retirement_failed) == (pending, failed)


def test_only_processes_that_use_the_device_count() -> None:
    """The list names every user of the driver, also those that have nothing on this device."""
    library = AmdSmi(processes=[amd.process(900, 4 << 30), amd.process(77, 0)])
    assert reader_over(library).process_ids(UUID) == (900,)


def test_caps_in_watts_are_understood() -> None:
    """AMD's host driver says watts where bare metal says microwatts."""
    library = AmdSmi(caps=amd.QUIET["caps"] | {"power_cap": 750})
    assert reader_over(library).sample(UUID)["power_cap_w"] == 750
