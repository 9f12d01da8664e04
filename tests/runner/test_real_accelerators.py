"""Accelerators that are really here: `pytest --gpu -m gpu`. Where there are none, these tests fail; they never skip.

What Redline says is held against another witness: NVIDIA's own program, or the topology that AMD's kernel driver shows.
Nothing is changed on a device, and nothing has to run on it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from pathlib import Path

import pytest

from redline.cli import main
from redline.errors import AcceleratorError
from redline.machine_readings import CPU, READ_FAILED, SAMPLER
from redline.model import Device
from redline.runner.accelerators import SAMPLE_NAMES, opened_readers
from redline.runner.fingerprint import read_fingerprint
from redline.runner.telemetry_process import telemetry_sampler
from redline.units import NS_PER_S

pytestmark = pytest.mark.gpu

PLATFORMS = {"nvidia": "cuda", "amd": "rocm"}
MIB = 1 << 20
WINDOW_S = 3.0
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")


@pytest.fixture(scope="module")
def devices() -> tuple[Device, ...]:
    """Every accelerator of this machine, of one vendor."""
    with opened_readers() as opened:
        found = tuple(device for reader in opened.readers for device in reader.devices())
        assert found, f"no accelerator can be read here: {(*opened.problems, *opened.absent)}"
        assert opened.problems == ()
    assert len({device.vendor for device in found}) == 1
    return found


def told_by_nvidia(columns: str) -> list[list[str]]:
    """One row of values for each device, in NVIDIA's own words."""
    command = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return [[value.strip() for value in line.split(",")] for line in text.splitlines()]


def told_by_amds_kernel() -> set[str]:
    """The UUIDs of every accelerator that the kernel driver lists; CPUs have the number 0."""
    found = set()
    for path in KFD_NODES.glob("*/properties"):
        table = dict(line.split(" ", 1) for line in path.read_text().splitlines())
        found |= {f"GPU-{int(table['unique_id']):016x}"} if int(table.get("unique_id", 0)) else set()
    return found


def test_every_accelerator_is_found_and_no_other(devices):
    """They are those that the other witness names, with model, memory and address where it tells them."""
    if devices[0].vendor == "amd":
        assert {device.uuid for device in devices} <= told_by_amds_kernel()
        return
    told = {row[0]: row[1:] for row in told_by_nvidia("uuid,name,memory.total,pci.bus_id")}
    assert {device.uuid for device in devices} == set(told)
    for device in devices:
        name, memory_mib, bus_id = told[device.uuid]
        assert device.model == name
        assert device.memory_bytes // MIB == int(memory_mib)
        assert device.pci_bus_id == bus_id.lower().removeprefix("0000")
        assert device.numa_node >= -1


def test_the_doctor_looks_at_each(devices, tmp_path, capsys):
    """It gives a verdict, and of every device its driver, power cap and temperature as the other witness has them."""
    status = main(["doctor", "--json", "--state-dir", str(tmp_path / "state")])
    said = json.loads(capsys.readouterr().out)
    assert status in (0, 4), said
    assert said["exit_code"] == status
    assert said["reading"]["problems"] == []
    found = {each["device"]["uuid"]: each for each in said["reading"]["devices"]}
    assert set(found) == {device.uuid for device in devices}
    for health in found.values():
        assert health["driver_version"]
        assert health["runtime_version"]
        assert 0 < health["temperature_c"] < 120
        assert 0 < health["graphics_clock_hz_max"] < 10e9
    if devices[0].vendor == "nvidia":
        for uuid, driver, cap_w in told_by_nvidia("uuid,driver_version,power.limit"):
            assert found[uuid]["driver_version"] == driver
            assert found[uuid]["power_cap_w"] == pytest.approx(float(cap_w), abs=0.01)


def test_the_fingerprint_names_them(devices):
    """Two readings agree; one device alone is another machine; one that is not here is refused by name."""
    platform = PLATFORMS[devices[0].vendor]
    first, second = read_fingerprint(platform), read_fingerprint(platform)
    assert first.fingerprint_id == second.fingerprint_id != read_fingerprint("cpu").fingerprint_id
    assert first.facts["gpu_uuids"] == " ".join(sorted(device.uuid for device in devices))
    assert first.facts["gpu_count"] == str(len(devices))
    assert "unknown" not in (first.facts["gpu_model"], first.facts["gpu_driver"], first.facts["gpu_memory_gib"])
    alone = read_fingerprint(platform, uuids=(devices[-1].uuid,))
    assert alone.facts["gpu_uuids"] == devices[-1].uuid
    with pytest.raises(AcceleratorError, match="is not there") as caught:
        read_fingerprint(platform, uuids=("GPU-none",))
    assert caught.value.found == "GPU-none"


def test_telemetry_reads_each_through_a_window(devices):
    """No reading fails, all are finite and of known names, and the energy used is what the power adds up to."""
    uuids = [device.uuid for device in devices]
    with telemetry_sampler(uuids) as sampler:
        sampler.begin([os.getpid()])
        start_ns = time.monotonic_ns()
        time.sleep(WINDOW_S)
        samples = sampler.end(start_ns, time.monotonic_ns() - start_ns)
    assert sampler.problems == []
    assert {sample.source for sample in samples} == {CPU, SAMPLER, *uuids}
    assert all(math.isfinite(sample.value) for sample in samples)
    for device in devices:
        read = [sample for sample in samples if sample.source == device.uuid]
        names = {sample.name for sample in read}
        assert READ_FAILED not in names
        assert names <= {*SAMPLE_NAMES, "foreign_process_count", "unseen_process_count"}
        assert {"graphics_clock_hz", "power_w", "temperature_c", "memory_used_bytes", "utilisation_share"} <= names
        power_w = [sample.value for sample in read if sample.name == "power_w"]
        assert all(1 < value < 3000 for value in power_w)
        assert all(0 <= sample.value <= 1 for sample in read if sample.name == "utilisation_share")
        assert all(0 <= sample.value <= device.memory_bytes for sample in read if sample.name == "memory_used_bytes")
        energy = [(sample.at_ns, sample.value) for sample in read if sample.name == "energy_j"]
        if energy:  # not every device counts it
            (begin_ns, begin_j), (end_ns, end_j) = energy[0], energy[-1]
            mean_w = (end_j - begin_j) * NS_PER_S / (end_ns - begin_ns)
            assert 0.5 * min(power_w) < mean_w < 2 * max(power_w)
