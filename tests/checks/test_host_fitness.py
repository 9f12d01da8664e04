"""Which machines are fit to measure, and what is said of those that are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.host_fitness import findings, is_fit
from redline.model import (
    BusyProcess,
    ClusterSettings,
    Device,
    DeviceHealth,
    HealthyHost,
    HostFinding,
    HostReading,
    MachineReading,
    RunnerClass,
    Severity,
)

GB = 1_000_000_000
HOST = HostReading(
    kernel="6.8.0",
    cpu_model="A CPU",
    cpu_count=64,
    cpu_count_online=64,
    load_1min=0.1,
    steal_share_boot=0.0,
    memory_bytes=500 * GB,
    memory_bytes_available=480 * GB,
    state_dir="state",
    disk_bytes_free=900 * GB,
    open_files_soft=65536,
    open_files_hard=1 << 20,
    sample_s=0.5,
    foreign_cpu_share=0.01,
    steal_share=0.0,
    clock_read_s=60e-9,
    clock_source="tsc",
    clock_sources=("tsc", "hpet", "acpi_pm"),
    clock_synchronised=True,
    smt=False,
    numa_node_count=2,
    numa_balancing=False,
    governors=("performance",),
    frequency_driver="intel_pstate",
    turbo=False,
    transparent_huge_pages="madvise",
    shm_bytes=250 * GB,
    pressure_cpu_share=0.0,
    pressure_memory_share=0.0,
    pressure_io_share=0.0,
)
DEVICE = DeviceHealth(
    Device("nvidia", 0, "GPU-0", "NVIDIA H200", 150_754_820_096, "0000:17:00.0"),
    driver_version="580.95.05",
    power_cap_w=700,
    power_cap_w_default=700,
    temperature_c=31,
    temperature_c_slowdown=90,
    ecc=True,
    ecc_pending=True,
    ecc_uncorrected_count=0,
    ecc_uncorrected_count_lifetime=0,
    memory_retired_count=0,
    memory_retirement_pending=False,
    memory_retirement_failed=False,
    partition="none",
    partitioned=False,
    clock_policy="auto",
    persistence_mode=True,
    compute_mode="default",
    pcie_generation=5,
    pcie_generation_max=5,
    pcie_width=16,
    pcie_width_max=16,
    throttle_reasons=(),
    memory_used_bytes=1 << 29,
    process_ids=(),
)
CPU = RunnerClass("cpu", "a CPU", "cpu", "cpu", 2, 0.05, 6, 6 * GB)
H200 = RunnerClass(
    "h200-2",
    "two H200",
    "cuda",
    "gpu",
    1,
    0.05,
    3,
    64 * GB,
    accelerator="H200",
    accelerator_count=2,
    healthy=HealthyHost(
        device_model="NVIDIA H200",
        device_memory_bytes_min=150 * GB,
        power_cap_w_min=700,
        temperature_c_max=50,
        driver_version_min="580",
        persistence_mode=True,
        ecc=True,
        partitioned=False,
        steal_share_max=0.01,
    ),
)


def devices(count: int = 2, **changes: object) -> tuple[DeviceHealth, ...]:
    """Equal devices but for their index."""
    return tuple(replace(DEVICE, device=replace(DEVICE.device, index=index), **changes) for index in range(count))


def of(found: tuple[HostFinding, ...], topic: str) -> list[HostFinding]:
    """The findings of a topic, whichever device it is about."""
    return [each for each in found if each.topic.rpartition(": ")[2] == topic]


def test_a_quiet_host_is_fit_without_a_word() -> None:
    """Nothing but ok, on a bare CPU and on the class's own accelerators."""
    for reading, runner_class in (
        (MachineReading(HOST, absent=("no driver",)), CPU),
        (MachineReading(HOST, devices()), H200),
        (MachineReading(HOST, devices()), None),
    ):
        found = findings(reading, runner_class)
        assert {each.severity for each in found} == {Severity.OK}
        assert is_fit(found)


@pytest.mark.parametrize(
    ("changes", "topic", "severity"),
    [
        ({"governors": ("powersave",), "frequency_driver": "acpi-cpufreq"}, "frequency", Severity.WARNING),
        ({"governors": ("powersave",)}, "frequency", Severity.NOTE),  # intel_pstate's own, which follows load
        ({"governors": ("performance", "powersave")}, "frequency", Severity.WARNING),
        ({"governors": ()}, "frequency", Severity.OK),  # a virtual machine does not see it
        ({"frequency_hz_max": 2e9, "frequency_hz_max_hardware": 3.5e9}, "frequency limit", Severity.NOTE),
        ({"turbo": True}, "turbo", Severity.NOTE),
        ({"smt": True}, "hyper-threading", Severity.NOTE),
        ({"cpu_quota": 8.0}, "CPUs", Severity.WARNING),
        ({"cpu_quota": 64.0}, "CPUs", Severity.OK),
        ({"cpu_count": 1}, "CPUs", Severity.WARNING),
        ({"foreign_cpu_share": 0.04}, "other processes", Severity.OK),
        ({"foreign_cpu_share": 0.04, "steal_share": 0.02}, "other processes", Severity.WARNING),
        ({"foreign_cpu_share": 0.6}, "other processes", Severity.UNFIT),
        ({"steal_share_boot": 0.02}, "steal", Severity.NOTE),
        ({"pressure_memory_share": 0.2}, "pressure", Severity.WARNING),
        (
            {"pressure_cpu_share": None, "pressure_memory_share": None, "pressure_io_share": None},
            "pressure",
            Severity.OK,
        ),
        ({"memory_bytes_available": GB}, "memory", Severity.WARNING),
        ({"swap_bytes_used": 2 * GB}, "swap", Severity.WARNING),
        ({"disk_bytes_free": 5 * GB}, "disk", Severity.WARNING),
        ({"disk_bytes_free": GB // 2}, "disk", Severity.UNFIT),
        ({"open_files_soft": 1024, "open_files_hard": 4096}, "open files", Severity.WARNING),
        ({"open_files_soft": 1024}, "open files", Severity.OK),  # what needs more raises it to the hard one
        ({"open_files_hard": 512}, "open files", Severity.UNFIT),
        ({"shm_bytes": 64 << 20}, "shared memory", Severity.NOTE),
        ({"clock_source": "hpet"}, "clock source", Severity.WARNING),
        ({"clock_read_s": 3e-6}, "clock source", Severity.WARNING),
        ({"clock_source": "kvm-clock"}, "clock source", Severity.OK),
        ({"clock_synchronised": False}, "wall clock", Severity.NOTE),
        ({"numa_balancing": True}, "NUMA balancing", Severity.WARNING),
        ({"numa_balancing": True, "numa_node_count": 1}, "NUMA balancing", Severity.OK),
        ({"transparent_huge_pages": "always"}, "huge pages", Severity.NOTE),
        ({"virtualisation": "virtual machine (QEMU)"}, "surroundings", Severity.NOTE),
    ],
)
def test_each_thing_of_a_host_is_judged(changes: dict[str, object], topic: str, severity: Severity) -> None:
    """What is out of order is said with its effect; nothing else changes."""
    found = findings(MachineReading(replace(HOST, **changes)))
    assert [each.severity for each in of(found, topic)] == [severity]
    assert all(each.severity is Severity.OK for each in found if each.topic != topic)
    assert all(each.effect and each.mend for each in found if each.severity is not Severity.OK)


def test_a_better_clock_is_offered_only_where_there_is_one() -> None:
    """The command names a clock source that this kernel has."""
    offered = of(findings(MachineReading(replace(HOST, clock_source="hpet"))), "clock source")[0].mend
    assert offered.startswith("echo tsc >")
    without = replace(HOST, clock_source="hpet", clock_sources=("hpet",))
    assert "tsc=reliable" in of(findings(MachineReading(without)), "clock source")[0].mend


def test_a_class_s_own_limits_are_judged() -> None:
    """Memory, foreign CPU and steal by the class, whose lack makes a machine unfit."""
    low = replace(HOST, memory_bytes_available=5 * GB)
    assert is_fit(findings(MachineReading(low)))
    assert of(findings(MachineReading(low), CPU), "memory")[0].severity is Severity.UNFIT
    busy = replace(HOST, foreign_cpu_share=0.1, busy_processes=(BusyProcess(7, "make", 0.9),))
    tolerant = replace(CPU, foreign_cpu_share_max=0.15)
    assert of(findings(MachineReading(busy), tolerant), "other processes")[0].severity is Severity.OK
    assert "make (7) 90%" in of(findings(MachineReading(busy), CPU), "other processes")[0].found
    stolen = MachineReading(replace(HOST, steal_share=0.02), devices())
    assert of(findings(stolen, H200), "steal")[0].severity is Severity.UNFIT


@pytest.mark.parametrize(
    ("changes", "topic", "with_class", "without"),
    [
        ({"power_cap_w": 500}, "power cap", Severity.UNFIT, Severity.WARNING),
        ({"power_cap_w": None}, "power cap", Severity.UNFIT, None),
        ({"temperature_c": 60}, "temperature", Severity.UNFIT, Severity.OK),
        ({"temperature_c": 86}, "temperature", Severity.UNFIT, Severity.WARNING),
        ({"temperature_c": None}, "temperature", Severity.WARNING, None),
        ({"driver_version": "575.51.03"}, "driver", Severity.UNFIT, None),
        ({"driver_version": ""}, "driver", Severity.UNFIT, None),
        ({"ecc": False, "ecc_pending": False}, "ECC", Severity.UNFIT, Severity.NOTE),
        ({"ecc_pending": False}, "ECC", Severity.WARNING, Severity.WARNING),
        ({"ecc_uncorrected_count": 1}, "memory errors", Severity.UNFIT, Severity.UNFIT),
        ({"memory_retirement_failed": True}, "memory errors", Severity.UNFIT, Severity.UNFIT),
        ({"memory_retirement_pending": True}, "memory errors", Severity.WARNING, Severity.WARNING),
        ({"memory_retired_count": 2}, "memory errors", Severity.NOTE, Severity.NOTE),
        ({"partition": "MIG, 2 instances", "partitioned": True}, "partition", Severity.UNFIT, Severity.WARNING),
        ({"partition": "", "partitioned": None}, "partition", Severity.UNFIT, Severity.OK),
        ({"persistence_mode": False}, "persistence mode", Severity.UNFIT, Severity.WARNING),
        ({"compute_mode": "exclusive process"}, "compute mode", Severity.WARNING, Severity.WARNING),
        ({"compute_mode": "prohibited"}, "compute mode", Severity.UNFIT, Severity.UNFIT),
        ({"throttle_reasons": ("power cap",)}, "throttling", Severity.WARNING, Severity.WARNING),
        ({"throttle_reasons": None}, "throttling", Severity.OK, Severity.OK),
        ({"pcie_width": 8}, "PCIe", Severity.WARNING, Severity.WARNING),
        ({"pcie_generation": 1}, "PCIe", Severity.NOTE, Severity.NOTE),
        ({"process_ids": (4211,)}, "other processes", Severity.WARNING, Severity.WARNING),
        (
            {"process_ids": (4211,), "memory_used_bytes": 90 * GB},
            "other processes",
            Severity.UNFIT,
            Severity.UNFIT,
        ),
        ({"memory_used_bytes": 90 * GB}, "other processes", Severity.UNFIT, Severity.UNFIT),
        ({"clock_policy": "low"}, "clocks", Severity.WARNING, Severity.WARNING),
        ({"clock_policy": "determinism"}, "clocks", Severity.OK, Severity.OK),
    ],
)
def test_each_thing_of_a_device_is_judged(
    changes: dict[str, object], topic: str, with_class: Severity, without: Severity | None
) -> None:
    """By the class's limits, and by general ones without a class."""
    reading = MachineReading(HOST, devices(**changes))
    for runner_class, wanted in ((H200, with_class), (None, without)):
        said = [each for each in of(findings(reading, runner_class), topic) if each.topic.startswith("nvidia")]
        worst = sorted((each.severity for each in said), key=lambda severity: severity is Severity.OK)
        assert worst[:1] == ([] if wanted is None else [wanted])
        assert all(each.effect for each in said if each.severity is not Severity.OK)


def test_equal_findings_of_several_devices_are_one() -> None:
    """Eight devices fit one screen, and one that differs is named."""
    eight = list(devices(8))
    eight[3] = replace(eight[3], persistence_mode=False)
    found = findings(MachineReading(HOST, tuple(eight)))
    assert [each.topic for each in of(found, "persistence mode")] == [
        "nvidia 3: persistence mode",
        "nvidia 0-2,4-7: persistence mode",
    ]


def test_a_class_needs_its_own_accelerators_and_all_of_them() -> None:
    """Too few, other ones, or none: not fit, with what is here."""
    for there, said in (
        (devices(1), "1 of 2 x NVIDIA H200"),
        ((), "no NVIDIA driver"),
        ([replace(DEVICE, device=replace(DEVICE.device, model="NVIDIA H100 80GB HBM3"))], "H100"),
    ):
        found = findings(MachineReading(HOST, tuple(there), absent=("no NVIDIA driver",)), H200)
        assert not is_fit(found)
        assert any(said in each.found for each in of(found, "accelerators"))


def test_devices_that_are_not_alike_are_said() -> None:
    """The slowest of a tensor-parallel group decides."""
    one, other = devices(2)
    found = findings(MachineReading(HOST, (one, replace(other, power_cap_w=600, power_cap_w_default=600))))
    assert any("not alike in power cap: 600 W, 700 W" in each.found for each in found)


def test_what_cannot_be_read_is_said() -> None:
    """A failing library is a warning, and makes a machine unfit for a class that needs it; a bare card is a note."""
    broken = MachineReading(HOST, problems=("NVIDIA's management library is here and cannot be used",))
    assert of(findings(broken), "accelerators")[0].severity is Severity.WARNING
    assert not is_fit(findings(broken, H200))
    assert is_fit(findings(broken, CPU))
    bare = MachineReading(replace(HOST, pci_accelerators=("nvidia 0000:17:00.0",)), absent=("no NVIDIA driver",))
    assert of(findings(bare), "accelerators")[0].severity is Severity.NOTE
    seen = MachineReading(replace(HOST, pci_accelerators=("nvidia 0000:17:00.0",)), devices(1))
    assert all(each.severity is Severity.OK for each in findings(seen))


def test_accelerators_are_not_judged_where_they_are_not_used() -> None:
    """On a CPU class and on one that serves in a cluster they are one line."""
    hot = MachineReading(HOST, devices(temperature_c=95, ecc_uncorrected_count=9))
    cluster = replace(H200, deployer="kserve", cluster=ClusterSettings("perf"))
    for runner_class in (CPU, cluster):
        assert is_fit(findings(hot, runner_class))
        assert len(of(findings(hot, runner_class), "accelerators")) == 1


def test_the_worst_comes_first() -> None:
    """Unfit, warnings, notes, then what is in order."""
    reading = MachineReading(replace(HOST, disk_bytes_free=0, turbo=True, swap_bytes_used=9 * GB))
    assert [each.severity for each in findings(reading)][:4] == [
        Severity.UNFIT,
        Severity.WARNING,
        Severity.NOTE,
        Severity.OK,
    ]
