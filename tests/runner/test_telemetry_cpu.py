"""The CPU's telemetry, from the kernel's files: those of this machine, and some made up to be others'."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.runner.telemetry_cpu import FREQUENCY_FILES_MAX, CpuSampler

STAT = "cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3\n"
CPUINFO = "processor\t: 0\nflags\t\t: fpu {flag}\ncpu MHz\t\t: {mhz:.3f}\n\nprocessor\t: 1\ncpu MHz\t\t: 3000.000\n\n"


def write_proc(proc: Path, *, user: int, idle: int, steal: int = 0, stalled_us: int = 0) -> Path:
    """A /proc with these clock ticks and microseconds of waiting for a CPU."""
    (proc / "pressure").mkdir(parents=True, exist_ok=True)
    (proc / "stat").write_text(STAT.format(user=user, idle=idle, steal=steal))
    (proc / "loadavg").write_text("1.50 0.00 0.00 1/2 3\n")
    (proc / "meminfo").write_text("MemTotal:  10 kB\nMemAvailable:    2048 kB\n")
    line = "some avg10=99.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    (proc / "pressure" / "cpu").write_text(line.format(stalled_us))
    return proc


def write_cpus(folder: Path, frequencies_khz: list[str]) -> Path:
    """A /sys/devices/system/cpu in which these CPUs show how fast they are."""
    for number, frequency in enumerate(frequencies_khz):
        (folder / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (folder / f"cpu{number}" / "cpufreq" / "scaling_cur_freq").write_text(frequency + "\n")
    return folder


def test_shares_are_of_the_time_since_the_sample_before(tmp_path: Path) -> None:
    """Counters since boot become shares between two samples; the first sample of a window has none."""
    proc = write_proc(tmp_path, user=1000, idle=9000, stalled_us=10**12)
    sampler = CpuSampler(proc, tmp_path)
    assert sampler.sample() == {"memory_available_bytes": 2048 * 1024.0, "load_1min_count": 1.5}
    write_proc(proc, user=1030, idle=9060, steal=10, stalled_us=10**12)
    second = sampler.sample()
    assert second["busy_share"] == pytest.approx(0.3)
    assert second["steal_share"] == pytest.approx(0.1)
    assert second["pressure_cpu_share"] == 0.0
    write_proc(proc, user=1030, idle=9060, steal=10, stalled_us=2 * 10**12)
    third = sampler.sample()
    assert third["pressure_cpu_share"] == 1.0, "more waiting than time is all of the time"
    assert "busy_share" not in third, "no tick went by: no share, rather than 0"
    sampler.restart()
    assert sampler.sample().keys() == {"memory_available_bytes", "load_1min_count"}


def test_frequency_is_the_mean_of_the_cpus_that_say_it(tmp_path: Path) -> None:
    """One that is offline, or says that it does not know, is left out; without any there is no frequency."""
    proc = write_proc(tmp_path / "proc", user=1, idle=1)
    cpus = write_cpus(tmp_path / "cpu", ["2000000", "<unknown>", "3000000"])
    assert CpuSampler(proc, cpus).sample()["frequency_hz"] == 2.5e9
    (cpus / "cpu0" / "cpufreq" / "scaling_cur_freq").unlink()
    (cpus / "cpu2" / "cpufreq" / "scaling_cur_freq").unlink()
    assert "frequency_hz" not in CpuSampler(proc, cpus).sample()


def test_a_large_host_is_sampled_evenly(tmp_path: Path) -> None:
    """Of 256 CPUs sixteen are read, from all over the machine: reading each would cost a window its quiet."""
    proc = write_proc(tmp_path / "proc", user=1, idle=1)
    cpus = write_cpus(tmp_path / "cpu", [str((number + 1) * 1000) for number in range(256)])
    sampler = CpuSampler(proc, cpus)
    assert len(sampler._frequency_files) == FREQUENCY_FILES_MAX
    assert 100e6 < sampler.sample()["frequency_hz"] < 160e6


@pytest.mark.parametrize(("flag", "expected_hz"), [("aperfmperf", 2.8e9), ("hypervisor", None)])
def test_a_constant_is_no_frequency(tmp_path: Path, flag: str, expected_hz: float | None) -> None:
    """/proc/cpuinfo is believed only where the CPU counts its clock; a virtual machine prints the model's."""
    proc = write_proc(tmp_path, user=1, idle=1)
    (proc / "cpuinfo").write_text(CPUINFO.format(flag=flag, mhz=2600.0))
    sampler = CpuSampler(proc, tmp_path)
    assert sampler.sample().get("frequency_hz") == expected_hz
    assert "frequency_hz" not in sampler.sample(), "a long file is not read every time"


def test_this_machine_is_read() -> None:
    """What this kernel shows is read: a share in [0, 1] of each kind, and memory that the machine has."""
    sampler = CpuSampler()
    first, second = sampler.sample(), {}
    while "busy_share" not in second:  # until a clock tick went by
        second = sampler.sample()
    assert first["memory_available_bytes"] > 0
    assert 0 <= second["busy_share"] + second["steal_share"] <= 1
    shown = {f"pressure_{name}_share" for name in ("cpu", "memory", "io") if Path("/proc/pressure", name).exists()}
    assert shown <= second.keys()
