"""Which readers a machine has, and what becomes of those that do not work."""

from __future__ import annotations

from pathlib import Path

from redline.runner.accelerators import open_readers, opened_readers
from redline.runner.amd import open_reader as open_amd
from redline.runner.nvidia import open_reader as open_nvidia
from redline.runner.pci_bus import accelerators, bus_id, numa_node
from redline.runner.vendor_library import Absent, Failed
from tests.fakes import nvml_answers
from tests.fakes.amdsmi_answers import AmdSmi
from tests.fakes.nvml_answers import NvmlLibrary, pynvml_over


def test_this_machine_is_asked_for_real() -> None:
    """Every vendor has a reader with devices, or a reason why it has none; nothing raises."""
    opened = open_readers()
    assert len(opened.readers) + len(opened.absent) + len(opened.problems) >= 2
    assert all(reader.devices() or reader.problems for reader in opened.readers)
    assert all(opened.absent) and all(opened.problems)
    opened.close()


def test_working_readers_come_with_what_failed_and_what_is_absent() -> None:
    """One vendor's trouble does not hide the other's devices, nor one device's its neighbour's."""
    library = NvmlLibrary(2)
    library.errors["nvmlDeviceGetHandleByIndex_v2", 1] = nvml_answers.GPU_IS_LOST
    opened = open_readers((
        lambda: open_nvidia(pynvml_over(library)),
        lambda: Failed("AMD's driver is here, but"),
        lambda: Absent("no third vendor"),
    ))  # fmt: skip
    assert [reader.vendor for reader in opened.readers] == ["nvidia"]
    assert [problem.split(" cannot")[0] for problem in opened.problems] == [
        "NVIDIA accelerator 1",
        "AMD's driver is here, but",
    ]
    assert opened.absent == ("no third vendor",)


def test_readers_are_closed_with_their_block() -> None:
    """Also when the block fails."""
    nvidia, amd = NvmlLibrary(), AmdSmi()
    try:
        with opened_readers((lambda: open_nvidia(pynvml_over(nvidia)), lambda: open_amd(amd))) as opened:
            assert len(opened.readers) == 2
            raise RuntimeError("the block fails")
    except RuntimeError:
        pass
    assert (nvidia.shut_down_count, amd.shut_down_count) == (1, 1)


def test_bus_ids_are_written_as_the_kernel_writes_them() -> None:
    """NVML has eight digits of domain and capitals; another text is no bus id."""
    assert bus_id("00000000:1B:00.0") == "0000:1b:00.0"
    assert bus_id("10000000:01:00.0") == "10000000:01:00.0"
    assert bus_id("05:00.0") == "0000:05:00.0"
    assert bus_id("../../etc/passwd") == ""


def test_the_bus_shows_accelerators_without_a_driver(tmp_path: Path) -> None:
    """Display and processing devices of the two vendors, by class; their NUMA node where the kernel says it."""
    for name, vendor, kind in (
        ("0000:17:00.0", "0x10de", "0x030200"),
        ("0000:05:00.0", "0x1002", "0x120000"),
        ("0000:02:00.0", "0x1a03", "0x030000"),  # the board's own display
        ("0000:17:00.1", "0x10de", "0x040300"),  # sound
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "0000:17:00.0" / "numa_node").write_text("1\n")
    assert accelerators(tmp_path) == ("amd 0000:05:00.0", "nvidia 0000:17:00.0")
    assert [numa_node(name, tmp_path) for name in ("0000:17:00.0", "0000:05:00.0", "")] == [1, -1, -1]
    assert accelerators(tmp_path / "none") == ()
