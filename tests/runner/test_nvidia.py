"""NVIDIA's accelerators, through the real pynvml over a stand-in of the library that it opens."""

from __future__ import annotations

import pytest

from redline.errors import AcceleratorError
from redline.runner.accelerators import SAMPLE_NAMES
from redline.runner.nvidia import NvidiaReader, open_reader
from redline.runner.vendor_library import Absent, Failed
from tests.fakes import nvml_answers as nvml
from tests.fakes.nvml_answers import UUIDS, NvmlLibrary, pynvml_over


def reader_over(library: NvmlLibrary) -> NvidiaReader:
    """The reader of a machine whose driver's library is this one."""
    opened = open_reader(pynvml_over(library))
    assert isinstance(opened, NvidiaReader), opened
    return opened


def test_this_machine_is_asked_for_real() -> None:
    """Devices where there is a driver; without one the real library's own error says that there is none."""
    opened = open_reader()
    if isinstance(opened, NvidiaReader):
        assert opened.devices()
        opened.close()
    else:
        assert isinstance(opened, Absent)
        assert "NVMLError_LibraryNotFound" in opened.reason


def test_devices_are_named_as_the_driver_names_them() -> None:
    """UUID, model, memory in bytes and the bus id as the kernel writes it."""
    devices = reader_over(NvmlLibrary(2)).devices()
    assert [device.uuid for device in devices] == list(UUIDS[:2])
    assert devices[0].model == "NVIDIA H200"
    assert devices[0].memory_bytes == 140 * nvml.GIB
    assert devices[0].pci_bus_id == "0000:17:00.0"


def test_a_sample_is_in_base_units() -> None:
    """MHz, milliwatts, millijoules, percent and nanoseconds leave as Hz, W, J, shares and seconds."""
    library = NvmlLibrary(reasons=0x4 | 0x40)
    found = reader_over(library).sample(UUIDS[0])
    assert found == {
        "graphics_clock_hz": 1980e6,
        "memory_clock_hz": 3201e6,
        "power_w": pytest.approx(78.123),
        "power_cap_w": pytest.approx(700),
        "energy_j": pytest.approx(5_000_000.25),
        "temperature_c": 31,
        "memory_temperature_c": 40,
        "utilisation_share": 0.07,
        "memory_used_bytes": nvml.GIB,
        "throttled_thermal": 1,
        "throttled_power": 1,
        "throttled_hardware": 0,
        "violation_power_s": pytest.approx(1.5),
        "violation_thermal_s": 0,
    }
    assert set(found) == set(SAMPLE_NAMES)


def test_an_idle_or_held_clock_is_not_throttled() -> None:
    """Idle and an administrator's fixed clock are reasons of NVML's, and no throttling."""
    found = reader_over(NvmlLibrary(reasons=0x1 | 0x2)).sample(UUIDS[0])
    assert [found[f"throttled_{kind}"] for kind in ("thermal", "power", "hardware")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("function", "code", "lost"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", nvml.NOT_SUPPORTED, {"energy_j"}),
        ("nvmlDeviceGetUtilizationRates", nvml.NOT_SUPPORTED, {"utilisation_share"}),  # as on a device split by MIG
        ("nvmlDeviceGetMemoryInfo", nvml.NO_PERMISSION, {"memory_used_bytes"}),
        ("nvmlDeviceGetTemperature", nvml.UNKNOWN, {"temperature_c"}),
        (
            "nvmlDeviceGetCurrentClocksEventReasons",
            nvml.NOT_SUPPORTED,
            {"throttled_thermal", "throttled_power", "throttled_hardware"},
        ),
    ],
)
def test_a_value_that_is_not_given_is_absent(function: str, code: int, lost: set[str]) -> None:
    """Each call may fail alone: its value is left out, never 0, and the others are there."""
    library = NvmlLibrary()
    reader = reader_over(library)
    library.errors[function] = code
    assert set(SAMPLE_NAMES) - set(reader.sample(UUIDS[0])) == lost


def test_violations_come_from_field_values_where_the_old_call_is_gone() -> None:
    """Newer drivers give the same counters as field values 74 and 75."""
    library = NvmlLibrary(fields={74: (3, 2_000_000_000), 75: (3, 0)})
    library.missing.add("nvmlDeviceGetViolationStatus")
    found = reader_over(library).sample(UUIDS[0])
    assert found["violation_power_s"] == pytest.approx(2)
    assert found["violation_thermal_s"] == 0
    assert "memory_temperature_c" not in found


def test_a_lost_device_is_an_error_that_names_it() -> None:
    """A device that falls off the bus ends the reading of it, not of its neighbour."""
    library = NvmlLibrary(2)
    reader = reader_over(library)
    library.errors["*", 0] = nvml.GPU_IS_LOST
    with pytest.raises(AcceleratorError, match="GPU-00000000") as caught:
        reader.sample(UUIDS[0])
    assert "GPU is lost" in caught.value.found
    with pytest.raises(AcceleratorError):
        reader.inspect(UUIDS[0])
    assert reader.sample(UUIDS[1])["temperature_c"] == 31


def test_a_device_that_says_nothing_any_more_is_lost() -> None:
    """Whatever error every call gives, no value at all is not an empty sample."""
    library = NvmlLibrary()
    reader = reader_over(library)
    library.errors["*", 0] = nvml.UNKNOWN
    with pytest.raises(AcceleratorError):
        reader.sample(UUIDS[0])


def test_one_broken_device_does_not_hide_the_others() -> None:
    """What cannot be opened is a problem beside those that can."""
    library = NvmlLibrary(3)
    library.errors["nvmlDeviceGetHandleByIndex_v2", 1] = nvml.GPU_IS_LOST
    reader = reader_over(library)
    assert [device.index for device in reader.devices()] == [0, 2]
    assert len(reader.problems) == 1
    assert "NVIDIA accelerator 1" in reader.problems[0]


@pytest.mark.parametrize(
    ("code", "says"),
    [(nvml.DRIVER_NOT_LOADED, "modprobe nvidia"), (nvml.MISMATCH, "reboot"), (nvml.UNKNOWN, "Unknown")],
)
def test_a_library_that_is_here_and_fails_is_reported(code: int, says: str) -> None:
    """It is not taken for a machine without accelerators."""
    library = NvmlLibrary()
    library.errors["nvmlInitWithFlags"] = code
    opened = open_reader(pynvml_over(library))
    assert isinstance(opened, Failed)
    assert says in opened.reason


def test_a_driver_without_devices_is_absent_and_let_go() -> None:
    """A driver that is loaded and serves nothing is no reader; the library is shut down."""
    library = NvmlLibrary(0)
    assert isinstance(open_reader(pynvml_over(library)), Absent)
    assert library.shut_down_count == 1


def test_processes_that_compute_are_listed_once() -> None:
    """Ascending, each once; one that only draws does not disturb, and is seen when the device is inspected."""
    library = NvmlLibrary(processes=(4211, 77), graphics=(77, 900))
    assert reader_over(library).process_ids(UUIDS[0]) == (77, 4211)
    assert 900 in (reader_over(library).inspect(UUIDS[0]).process_ids or ())


def test_everything_is_inspected() -> None:
    """What a person judges a device by, in base units and words."""
    health = reader_over(NvmlLibrary(rows=(2, 1, 1, 0), reasons=0x4 | 0x2)).inspect(UUIDS[0])
    assert (health.driver_version, health.runtime_version) == ("580.95.05", "CUDA 13.0")
    assert (health.power_cap_w, health.power_cap_w_default, health.power_cap_w_min) == (700, 700, 200)
    assert (health.ecc, health.persistence_mode, health.partition, health.partitioned) == (True, True, "none", False)
    assert (health.memory_retired_count, health.memory_retirement_pending) == (3, True)
    assert health.throttle_reasons == ("held by an applications or locked clock", "power cap")
    assert health.clock_policy == "held"
    assert (health.pcie_generation, health.pcie_width_max) == (5, 16)
    assert health.interconnect == "NVLink 4 x 18"
    assert health.memory_temperature_c == 40
    assert health.unread == ()


def test_mig_instances_are_counted() -> None:
    """A device split by MIG says so, with how many instances there are."""
    health = reader_over(NvmlLibrary(mig=(1, 1), mig_instances=3)).inspect(UUIDS[0])
    assert health.partition == "MIG, 3 instances"
    assert health.partitioned is True


@pytest.mark.parametrize(("code", "partitioned"), [(nvml.NOT_SUPPORTED, False), (nvml.NO_PERMISSION, None)])
def test_a_device_that_knows_no_mig_is_whole(code: int, partitioned: bool | None) -> None:
    """Not supported means not split; not permitted means unknown."""
    library = NvmlLibrary()
    library.errors["nvmlDeviceGetMigMode"] = code
    assert reader_over(library).inspect(UUIDS[0]).partitioned is partitioned


def test_pages_are_retired_where_rows_are_not_remapped() -> None:
    """Devices before Ampere retire pages; those of both causes are counted."""
    library = NvmlLibrary(pages={0: (0x1000,), 1: (0x2000, 0x3000)}, pages_pending=1)
    library.errors["nvmlDeviceGetRemappedRows"] = nvml.NOT_SUPPORTED
    health = reader_over(library).inspect(UUIDS[0])
    assert (health.memory_retired_count, health.memory_retirement_pending) == (3, True)


def test_what_is_not_said_is_listed_with_its_reason() -> None:
    """Nothing that a driver refuses is taken for 0; the call and its error are kept."""
    library = NvmlLibrary()
    for name in ("nvmlDeviceGetEccMode", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetPersistenceMode"):
        library.errors[name] = nvml.NOT_SUPPORTED
    library.missing.add("nvmlDeviceGetTemperatureThreshold")
    health = reader_over(library).inspect(UUIDS[0])
    assert (health.ecc, health.persistence_mode, health.interconnect) == (None, None, "")
    assert "nvmlDeviceGetEccMode: NVMLError_NotSupported: Not Supported" in health.unread
    assert any("nvmlDeviceGetTemperatureThreshold: NVMLError_FunctionNotFound" in each for each in health.unread)


def test_an_unknown_uuid_is_refused() -> None:
    """A UUID that is not here is an error that lists those that are."""
    with pytest.raises(AcceleratorError) as caught:
        reader_over(NvmlLibrary()).sample("GPU-none")
    assert UUIDS[0] in caught.value.expected


def test_closing_twice_lets_go_once() -> None:
    """The library counts its users."""
    library = NvmlLibrary()
    reader = reader_over(library)
    reader.close()
    reader.close()
    assert library.shut_down_count == 1
