"""What is compared of a machine, and that it stays what accepted baselines hold."""

from __future__ import annotations

import os
import platform
import re
import socket
from pathlib import Path

import pytest

from redline.errors import AcceleratorError, ExitCode
from redline.runner.amd import open_reader as open_amd
from redline.runner.fingerprint import read_fingerprint
from redline.runner.nvidia import open_reader as open_nvidia
from redline.runner.vendor_library import Absent
from tests.fakes import amdsmi_answers, nvml_answers
from tests.fakes.amdsmi_answers import AmdSmi
from tests.fakes.nvml_answers import UUIDS, NvmlLibrary, pynvml_over

CPU_FACTS = ("accelerator", "machine", "cpu_model", "cpu_count", "cpu_features", "memory_gib", "host")


def nvidia(library: NvmlLibrary):
    """Openers of a machine with these NVIDIA devices."""
    return (lambda: open_nvidia(pynvml_over(library)),)


def test_the_facts_of_a_cpu_are_those_of_accepted_baselines() -> None:
    """Keys and texts: a baseline holds their digest, so one change would make all of them another machine's."""
    facts = read_fingerprint().facts
    info = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", Path("/proc/cpuinfo").read_text().split("\n\n")[0], re.MULTILINE))
    total = int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0]) * 1024
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
    assert tuple(facts) == CPU_FACTS
    assert facts == {
        "accelerator": "cpu",
        "machine": platform.machine(),
        "cpu_model": info.get("model name", platform.processor() or "unknown"),
        "cpu_count": str(len(os.sched_getaffinity(0))),
        "cpu_features": " ".join(name for name in wanted if name in info.get("flags", "").split()),
        "memory_gib": str(round(total / 2**30)),
        "host": socket.gethostname(),
    }


def test_notes_are_never_empty() -> None:
    """What cannot be seen is `unknown`; kernel and clock source are under the names that they always had."""
    notes = read_fingerprint().notes
    assert {"kernel", "clock_source", "microcode", "governor", "numa_nodes"} <= set(notes)
    assert all(notes.values())


def test_accelerators_are_facts() -> None:
    """Model, count, memory, UUIDs, driver, runtime, caps, clocks, ECC and partition, and the CPU's facts besides."""
    found = read_fingerprint("cuda", openers=nvidia(NvmlLibrary(2)))
    gpu = {key: value for key, value in found.facts.items() if key not in CPU_FACTS}
    assert found.facts["accelerator"] == "cuda"
    assert gpu == {
        "gpu_model": "NVIDIA H200",
        "gpu_count": "2",
        "gpu_memory_gib": "140",
        "gpu_uuids": " ".join(UUIDS[:2]),
        "gpu_driver": "580.95.05",
        "gpu_runtime": "CUDA 13.0",
        "gpu_power_cap_w": "700",
        "gpu_clock_max_mhz": "1980",
        "gpu_memory_clock_max_mhz": "3201",
        "gpu_ecc": "on",
        "gpu_partition": "none",
        "gpu_interconnect": "NVLink 4 x 18",
    }
    assert found.notes["gpu_pcie"] == "generation 5 x16"


def test_what_comes_and_goes_changes_no_fact() -> None:
    """Temperature, load and processes are not what a machine is; a lowered power cap is."""
    quiet = read_fingerprint("cuda", openers=nvidia(NvmlLibrary()))
    busy = NvmlLibrary(temperature=80, power_mw=690_000, clocks={0: 1200, 2: 3201}, reasons=0x4, processes=(4,))
    assert read_fingerprint("cuda", openers=nvidia(busy)).facts == quiet.facts
    capped = NvmlLibrary(caps_mw=(500_000, 700_000, 200_000, 700_000))
    assert read_fingerprint("cuda", openers=nvidia(capped)).facts["gpu_power_cap_w"] == "500"


def test_only_the_devices_that_are_used_are_named() -> None:
    """Two of four: the others are another measurement's machine."""
    found = read_fingerprint("cuda", UUIDS[1:3], openers=nvidia(NvmlLibrary(4)))
    assert found.facts["gpu_count"] == "2"
    assert found.facts["gpu_uuids"] == " ".join(UUIDS[1:3])
    with pytest.raises(AcceleratorError) as caught:
        read_fingerprint("cuda", ["GPU-gone"], openers=nvidia(NvmlLibrary()))
    assert caught.value.found == "GPU-gone"


def test_devices_that_differ_are_all_named() -> None:
    """One lowered cap among eight is seen."""
    library = NvmlLibrary(3)
    library.devices[1]["caps_mw"] = (400_000, 700_000, 200_000, 700_000)
    assert read_fingerprint("cuda", openers=nvidia(library)).facts["gpu_power_cap_w"] == "400, 700"


def test_what_a_device_does_not_say_is_unknown() -> None:
    """Never 0 and never left out: the same machine has the same keys."""
    library = NvmlLibrary()
    library.errors["nvmlDeviceGetEccMode"] = nvml_answers.NOT_SUPPORTED
    library.errors["nvmlDeviceGetEnforcedPowerLimit"] = nvml_answers.NO_PERMISSION
    facts = read_fingerprint("cuda", openers=nvidia(library)).facts
    assert (facts["gpu_ecc"], facts["gpu_power_cap_w"]) == ("unknown", "unknown")


def test_amd_s_partitions_are_facts() -> None:
    """Compute and memory partition together, and the ROCm that is installed."""
    facts = read_fingerprint("rocm", openers=(lambda: open_amd(AmdSmi(8)),)).facts
    assert (facts["gpu_model"], facts["gpu_count"]) == ("AMD Instinct MI300X", "8")
    assert (facts["gpu_partition"], facts["gpu_runtime"]) == ("SPX NPS1", "ROCm 7.0.2")
    assert facts["gpu_interconnect"] == "XGMI to 7 others"


def test_a_platform_whose_accelerators_are_not_here_is_refused() -> None:
    """With what the driver's library said, what to do, and the exit code of an infrastructure error."""
    with pytest.raises(AcceleratorError) as caught:
        read_fingerprint("cuda", openers=(lambda: Absent("no NVIDIA driver on this machine"),))
    assert caught.value.found == "no NVIDIA driver on this machine"
    assert "redline doctor" in caught.value.next_step
    assert caught.value.exit_code is ExitCode.INFRASTRUCTURE
    with pytest.raises(AcceleratorError):  # the other vendor's accelerators do not help
        read_fingerprint("rocm", openers=nvidia(NvmlLibrary()))


def test_a_device_lost_while_it_is_read_is_no_smaller_machine() -> None:
    """It is an error, not a fingerprint of what is left."""
    library = AmdSmi(2)
    library.errors["amdsmi_get_gpu_driver_info", 1] = amdsmi_answers.NOT_INIT
    with pytest.raises(AcceleratorError):
        read_fingerprint("rocm", openers=(lambda: open_amd(library),))
