"""The machine as its kernel describes it: for real here, and from made-up files for what this one lacks."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redline.runner import host as host_module
from redline.runner.busy_processes import watch
from redline.runner.cgroup import Allowance, read_allowance
from redline.runner.cpu_frequency import read_frequency
from redline.runner.host import clock_read_s, read_host
from redline.runner.kernel_files import KernelFiles, listed_count

SPIN = "import time\nend = time.monotonic() + 300\nwhile time.monotonic() < end: pass\n"


def recorded(root: Path, **texts: str) -> KernelFiles:
    """Kernel files below a root, by their absolute names."""
    for name, text in texts.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return KernelFiles(root)


def test_this_machine_is_what_its_kernel_says(tmp_path: Path) -> None:
    """Every value that a file states is that file's, read here by other means."""
    found = read_host(tmp_path, sample_s=0.05)
    meminfo = dict(re.findall(r"^(\w+): +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE))
    assert found.memory_bytes == int(meminfo["MemTotal"]) * 1024
    assert 0 < found.memory_bytes_available <= found.memory_bytes
    assert found.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found.cpu_count == len(os.sched_getaffinity(0))
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    assert found.clock_source == (source.read_text().strip() if source.exists() else "")
    assert (found.open_files_soft, found.open_files_hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    assert found.disk_bytes_free <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert 0 <= found.foreign_cpu_share <= 1
    assert 0 <= found.steal_share_boot < 1
    assert found.clock_read_s > 0


def test_the_state_directory_need_not_exist_yet(tmp_path: Path) -> None:
    """The disk is that of the nearest folder above, and nothing is made."""
    wanted = tmp_path / "not" / "yet"
    assert read_host(wanted, sample_s=0.01).disk_bytes_free > 0
    assert not wanted.exists()


def test_a_machine_whose_files_are_closed_is_unknown_not_wrong(tmp_path: Path) -> None:
    """Without any kernel file everything that they say is None or empty, and nothing raises."""
    found = read_host(tmp_path, sample_s=0.01, files=KernelFiles(tmp_path / "none"))
    assert (found.governors, found.clock_source, found.container, found.virtualisation) == ((), "", "", "")
    assert (found.smt, found.numa_node_count, found.pressure_cpu_share, found.shm_bytes) == (None,) * 4
    assert found.memory_bytes == 0


def test_a_host_is_read_from_its_files(tmp_path: Path) -> None:
    """Governor, limits, hyper-threading, NUMA, huge pages, pressure, container and hypervisor."""
    cpu = min(os.sched_getaffinity(0))
    frequency = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
    files = recorded(
        tmp_path,
        **{
            f"{frequency}/scaling_governor": "powersave\n",
            f"{frequency}/scaling_driver": "intel_pstate\n",
            f"{frequency}/scaling_max_freq": "2000000\n",
            f"{frequency}/cpuinfo_max_freq": "3500000\n",
            "/sys/devices/system/cpu/intel_pstate/no_turbo": "0\n",
            "/sys/devices/system/cpu/online": "0-63,128\n",
            "/sys/devices/system/cpu/smt/active": "1\n",
            "/sys/devices/system/node/online": "0-1\n",
            "/proc/sys/kernel/numa_balancing": "1\n",
            "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
            "/proc/pressure/memory": "some avg10=12.34 avg60=1.00 total=9\nfull avg10=9.00 avg60=0 total=1\n",
            "/proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU\nflags\t\t: fpu hypervisor\n\nprocessor\t: 1\n",
            "/sys/class/dmi/id/sys_vendor": "QEMU\n",
            "/run/.containerenv": "",
            "/proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 900 kB\nSwapTotal: 500 kB\nSwapFree: 100 kB\n",
        },
    )
    found = read_host(tmp_path, sample_s=0.01, files=files)
    assert (found.governors, found.frequency_driver, found.turbo) == (("powersave",), "intel_pstate", True)
    assert (found.frequency_hz_max, found.frequency_hz_max_hardware) == (2.0e9, 3.5e9)
    assert (found.cpu_count_online, found.smt, found.numa_node_count, found.numa_balancing) == (65, True, 2, True)
    assert found.transparent_huge_pages == "always"
    assert found.pressure_memory_share == pytest.approx(0.1234)
    assert (found.cpu_model, found.virtualisation, found.container) == ("A CPU", "virtual machine (QEMU)", "podman")
    assert (found.memory_bytes_available, found.swap_bytes_used) == (900 * 1024, 400 * 1024)


def test_what_a_control_group_leaves_is_what_is_available(tmp_path: Path) -> None:
    """A container's limit, less what it holds already, bounds the memory that is there."""
    files = recorded(
        tmp_path,
        **{
            "/proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n",
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/memory.max": "400000000\n",
            "/sys/fs/cgroup/memory.current": "150000000\n",
            "/sys/fs/cgroup/cpu.max": "150000 100000\n",
        },
    )
    found = read_host(tmp_path, sample_s=0.01, files=files)
    assert (found.memory_bytes_available, found.memory_bytes_limit) == (250_000_000, 400_000_000)
    assert found.cpu_quota == 1.5


@pytest.mark.parametrize(
    ("texts", "allowed"),
    [
        ({}, Allowance()),
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, Allowance()),
        (  # the group above is the tighter one
            {
                "/proc/self/cgroup": "0::/a/b\n",
                "/sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
                "/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "/sys/fs/cgroup/a/b/memory.max": "max\n",
                "/sys/fs/cgroup/a/memory.max": "7000\n",
                "/sys/fs/cgroup/a/memory.current": "100\n",
            },
            Allowance(2.0, 7000, 100),
        ),
        (  # version 1, in a container that sees its own group as the root
            {
                "/proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            Allowance(0.5),
        ),
        (
            {
                "/proc/self/cgroup": "5:cpu:/x\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            Allowance(),
        ),
    ],
)
def test_the_tightest_control_group_counts(tmp_path: Path, texts: dict[str, str], allowed: Allowance) -> None:
    """Versions 1 and 2, no limit, groups above ours, and paths of the container's host."""
    assert read_allowance(recorded(tmp_path, **texts)) == allowed


def test_cpus_with_different_governors_show_all(tmp_path: Path) -> None:
    """One CPU left behind by an administrator's loop is seen."""
    texts = {
        f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor": name
        for cpu, name in enumerate(("performance", "performance", "schedutil"))
    }
    files = recorded(tmp_path, **texts, **{"/sys/devices/system/cpu/cpufreq/boost": "0"})
    found = read_frequency(files, (0, 1, 2))
    assert (found.governors, found.turbo) == (("performance", "schedutil"), False)


@pytest.mark.parametrize(("text", "count"), [("0-3,8", 5), ("0", 1), ("", None), ("none", None)])
def test_lists_of_the_kernel_are_counted(text: str, count: int | None) -> None:
    """As in cpu/online and node/online."""
    assert listed_count(text) == count


def test_a_busy_stranger_is_named_and_our_own_child_is_not(tmp_path: Path) -> None:
    """A process of ours is no other process; one that was given away to init is."""
    name = "a b)(\x1b"
    program = tmp_path / name
    program.symlink_to(sys.executable)
    start = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.argv[1], '-c', sys.argv[2]], stdout=subprocess.DEVNULL).pid)"
    )
    command = [sys.executable, "-c", start, str(program), SPIN]
    stranger = int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout)
    child = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        deadline_s = time.monotonic() + 60
        shares, found = None, {}
        while stranger not in found and time.monotonic() < deadline_s:  # on a busy machine it may wait for its turn
            shares, busy = watch(0.3)
            found = {each.pid: each.name for each in busy}
        assert found[stranger] == name
        assert child.pid not in found
        assert shares.foreign > 0
    finally:
        child.kill()
        child.wait(10)
        os.kill(stranger, 9)


def test_a_clock_reading_takes_time() -> None:
    """What it takes is measured, not assumed."""
    assert clock_read_s() > 0
    assert host_module.clock_synchronised() in {True, False, None}
