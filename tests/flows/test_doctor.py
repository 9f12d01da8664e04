"""`redline doctor` from end to end: this machine for real, and machines with accelerators from recorded answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.doctor import DoctorRequest, doctor, read_machine
from flows.workspace import CHECKOUT, Workspace
from redline.errors import ContentError, ExitCode, UsageError
from redline.model import HostFinding, Severity
from redline.runner.amd import open_reader as open_amd
from redline.runner.nvidia import open_reader as open_nvidia
from reports.doctor import COLUMNS, doctor_lines
from tests.fakes import nvml_answers
from tests.fakes.amdsmi_answers import AmdSmi
from tests.fakes.nvml_answers import UUIDS, NvmlLibrary, pynvml_over


@pytest.fixture(autouse=True)
def _no_choice_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def nvidia(library: NvmlLibrary):
    """Openers of a machine with these NVIDIA devices."""
    return (lambda: open_nvidia(pynvml_over(library)),)


def about_devices(text: str) -> list[dict[str, str]]:
    """The findings of a JSON answer that are about accelerators."""
    findings: list[dict[str, str]] = json.loads(text)["findings"]
    return [each for each in findings if each["topic"].startswith(("nvidia", "amd", "accel"))]


def test_this_machine_is_fit_or_not_and_says_why(tmp_path: Path) -> None:
    """Exit code and first line agree, the page is one screen, and nothing is written."""
    answer = doctor(DoctorRequest(tmp_path / "state"), sample_s=0.05)
    assert answer.exit_code in {ExitCode.NO_WORSE, ExitCode.INVALID}
    assert answer.lines[0].startswith("this machine is " + ("NOT fit" if answer.exit_code else "fit"))
    assert len(answer.lines) <= 60
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_prints_everything_for_machines(tmp_path: Path) -> None:
    """JSON alone on standard output, with all that was read; its exit code is the process's."""
    program = [sys.executable, "-m", "redline.cli", "doctor", "--json", "--state-dir", str(tmp_path)]
    answer = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    said = json.loads(answer.stdout)
    assert (said["schema"], said["exit_code"]) == (1, answer.returncode)
    assert said["fit"] is (answer.returncode == 0)
    assert said["reading"]["host"]["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()


def test_an_unknown_class_is_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(ContentError, match="no-such"):
        doctor(DoctorRequest(tmp_path, "no-such"))


def test_a_healthy_host_of_a_class_has_nothing_to_say_of_its_accelerators(tmp_path: Path) -> None:
    """Eight H200 as the class wants them."""
    library = NvmlLibrary(8, memory=(150_754_820_096, 150_000_000_000, 700_000_000))
    answer = doctor(DoctorRequest(tmp_path, "h200-8", as_json=True), openers=nvidia(library), sample_s=0.01)
    assert {each["severity"] for each in about_devices(answer.lines[0])} == {"ok"}
    assert len(json.loads(answer.lines[0])["reading"]["devices"]) == 8


def test_a_sick_host_is_not_fit(tmp_path: Path) -> None:
    """Another job, a lowered cap and an uncorrected error: exit code 4, each with its remedy."""
    library = NvmlLibrary(8, memory=(150_754_820_096, 10, 150_000_000_000), processes=(4211,))
    library.devices[2] |= {"caps_mw": (500_000, 700_000, 200_000, 700_000), "ecc_errors": {0: 2, 1: 2}}
    answer = doctor(DoctorRequest(tmp_path, "h200-8"), openers=nvidia(library), sample_s=0.01)
    page = "\n".join(answer.lines)
    assert answer.exit_code is ExitCode.INVALID
    assert "NOT fit to measure as runner class h200-8" in page
    for said in ("nvidia 0-7: other processes", "nvidia 2: power cap: 500 W", "nvidia-smi -pl 700", "2 uncorrected"):
        assert said in page


def test_a_device_lost_while_it_is_looked_at_is_a_problem(tmp_path: Path) -> None:
    """The others are still read."""
    library = NvmlLibrary(2)
    library.errors["nvmlDeviceGetPowerUsage", 1] = nvml_answers.GPU_IS_LOST
    reading = read_machine(tmp_path, openers=nvidia(library), sample_s=0.01)
    assert [each.device.uuid for each in reading.devices] == [UUIDS[0]]
    assert len(reading.problems) == 1
    assert UUIDS[1] in reading.problems[0]


def test_only_what_the_caller_left_visible_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a class, as a measurement would see it; a variable that names none is refused."""
    runner_class = Workspace(CHECKOUT, tmp_path).runner_class("h200-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[1])
    reading = read_machine(tmp_path, runner_class, openers=nvidia(NvmlLibrary(2)), sample_s=0.01)
    assert [each.device.uuid for each in reading.devices] == [UUIDS[1]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    with pytest.raises(UsageError):
        read_machine(tmp_path, runner_class, openers=nvidia(NvmlLibrary(2)), sample_s=0.01)


def test_an_amd_host_is_judged_by_its_class(tmp_path: Path) -> None:
    """Split into partitions it is not the machine that the class describes."""
    library = AmdSmi(8, compute="CPX", memory_partition="NPS4", memory_total=206_141_652_992)
    answer = doctor(
        DoctorRequest(tmp_path, "mi300x-8", as_json=True), openers=(lambda: open_amd(library),), sample_s=0.01
    )
    unfit = [each for each in about_devices(answer.lines[0]) if each["severity"] == "unfit"]
    assert [each["topic"] for each in unfit] == ["amd 0-7: partition"]
    assert "CPX NPS4" in unfit[0]["found"]


def test_hostile_names_cannot_write_on_the_terminal() -> None:
    """Names of processes and devices come from others: no control character, no line of their own."""
    name = "x\x1b[2J\x1b]0;title\x07\r\nthis machine is fit\u202e" + "y" * 500
    lines = doctor_lines(
        [
            HostFinding("other processes", Severity.WARNING, name, "effect", "mend"),
            HostFinding(name, Severity.OK, name),
        ],
        runner="",
    )
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("this machine is") for line in lines) == 1


def test_the_page_counts_and_wraps() -> None:
    """The first line counts what is wrong; what is in order is one paragraph."""
    found = [
        HostFinding("memory", Severity.UNFIT, "1 GB", "servers are killed", "add some"),
        *(HostFinding(f"topic {index}", Severity.NOTE, "on", "it varies", "turn it off") for index in range(2)),
        *(HostFinding(f"thing {index}", Severity.OK, "in order") for index in range(40)),
    ]
    lines = doctor_lines(found, runner="runner class cpu")
    assert lines[0] == "this machine is NOT fit to measure as runner class cpu: 1 unfit, 2 notes"
    assert lines[1:4] == ("unfit     memory: 1 GB", "          servers are killed", "          mend: add some")
    assert sum(line.startswith("ok ") for line in lines) == 1
    assert max(map(len, lines)) <= COLUMNS
