"""Is this machine fit to measure? One finding for everything looked at: what it does to a measurement, how to mend it.

Redline never changes clocks, power or settings itself: an administrator does, outside CI, and this is what to run.
"""

from __future__ import annotations

from collections.abc import Iterable

from checks.device_fitness import device_findings
from redline.model import HostFinding, HostReading, MachineReading, RunnerClass, Severity

TAKEN_SHARE_MAX = 0.05  # of all CPUs, by others and by the hypervisor, where no class says otherwise
TAKEN_SHARE_UNFIT = 0.5
STEAL_BOOT_SHARE_MAX = 0.01
PRESSURE_SHARE_MAX = 0.1
MEMORY_BYTES_MIN = 2_000_000_000
SWAP_BYTES_MAX = 1_000_000_000
DISK_BYTES_MIN, DISK_BYTES_UNFIT = 20_000_000_000, 1_000_000_000
OPEN_FILES_MIN, OPEN_FILES_UNFIT = 8192, 1024
SHM = "/dev/shm"  # noqa: S108 - named, never opened
SHM_BYTES_MIN = 1 << 30
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")
CLOCK_READ_S_MAX = 1e-6
GB = 1e9


def findings(reading: MachineReading, runner_class: RunnerClass | None = None) -> tuple[HostFinding, ...]:
    """Everything that was looked at, worst first, in a fixed order among equals.

    `runner_class`: also what this class asks of its machines; accelerators are judged only where its platform uses
    them, and it serves on this machine.
    """
    host = reading.host
    found = [
        *_cpus(host),
        *_frequency(host),
        *_taken(host, runner_class),
        *_pressure(host),
        *_memory(host, runner_class),
        *_files(host, runner_class),
        *_clock(host),
        *_kernel(host),
        *_surroundings(host),
        *device_findings(reading, runner_class),
    ]
    order = (Severity.UNFIT, Severity.WARNING, Severity.NOTE, Severity.OK)
    return tuple(sorted(found, key=lambda each: order.index(each.severity)))


def is_fit(found: Iterable[HostFinding]) -> bool:
    """True if nothing keeps the machine from measuring: notes and warnings do not."""
    return all(each.severity is not Severity.UNFIT for each in found)


# --- processors -------------------------------------------------------------------------------------------------


def _cpus(host: HostReading) -> Iterable[HostFinding]:
    count = f"{host.cpu_count} of {host.cpu_count_online} x {host.cpu_model}"
    if host.cpu_quota is not None and host.cpu_quota < host.cpu_count:
        yield HostFinding(
            "CPUs",
            Severity.WARNING,
            f"{count}, held to {host.cpu_quota:g} CPUs' worth of time by the control group",
            "once a period's time is used up every thread stops until the next (100 ms by default): latencies jump",
            "give the container whole CPUs (--cpuset-cpus) instead of a share of time (--cpus)",
        )
    elif host.cpu_count < 2:
        yield HostFinding(
            "CPUs",
            Severity.WARNING,
            count,
            "server and load client share one CPU: the client sends and stamps late whenever the server works",
            "give the machine at least two CPUs",
        )
    else:
        yield HostFinding("CPUs", Severity.OK, count)
    if host.smt:
        yield HostFinding(
            "hyper-threading",
            Severity.NOTE,
            "on",
            "two CPUs are one core: what runs on one slows the other, the client's the server's too",
            "echo off > /sys/devices/system/cpu/smt/control, or in the firmware",
        )
    elif host.smt is not None:
        yield HostFinding("hyper-threading", Severity.OK, "off")


def _frequency(host: HostReading) -> Iterable[HostFinding]:
    if not host.governors:
        yield HostFinding("frequency", Severity.OK, "not visible from here: the host of this machine decides")
        return
    said = f"governor {', '.join(host.governors)}" + (f" ({host.frequency_driver})" if host.frequency_driver else "")
    if host.governors != ("performance",):
        own = host.frequency_driver.startswith(("intel_pstate", "amd-pstate", "amd_pstate"))
        yield HostFinding(
            "frequency",
            Severity.NOTE if own and len(host.governors) == 1 else Severity.WARNING,
            said,
            "CPUs slow down when idle and need time to speed up: latencies at low load are longer and vary",
            "cpupower frequency-set -g performance",
        )
    else:
        yield HostFinding("frequency", Severity.OK, said)
    high, possible = host.frequency_hz_max, host.frequency_hz_max_hardware
    if high is not None and possible is not None and high < 0.99 * possible:
        yield HostFinding(
            "frequency limit",
            Severity.NOTE,
            f"{high / 1e9:.2f} GHz of {possible / 1e9:.2f} GHz",
            "steadier and slower; results are comparable only while the limit stays",
            f"cpupower frequency-set -u {possible / 1e6:.0f}MHz, if it is not meant",
        )
    if host.turbo:
        yield HostFinding(
            "turbo",
            Severity.NOTE,
            "on",
            "clocks depend on temperature and on what other cores do; pairs measured in turns share most of it",
            "echo 0 > /sys/devices/system/cpu/cpufreq/boost, or 1 > /sys/devices/system/cpu/intel_pstate/no_turbo",
        )


def _taken(host: HostReading, runner_class: RunnerClass | None) -> Iterable[HostFinding]:
    limit = runner_class.foreign_cpu_share_max if runner_class is not None else TAKEN_SHARE_MAX
    taken = host.foreign_cpu_share + host.steal_share
    busy = ", ".join(f"{each.name} ({each.pid}) {each.cpu_share:.0%} of a CPU" for each in host.busy_processes)
    said = (
        f"{host.foreign_cpu_share:.1%} of all CPUs in {host.sample_s:g} s, load {host.load_1min:.2f}"
        + (f": {busy}" if busy else "")
    )  # fmt: skip
    if taken > limit:
        yield HostFinding(
            "other processes",
            Severity.UNFIT if taken > TAKEN_SHARE_UNFIT else Severity.WARNING,
            f"{said}; with {host.steal_share:.1%} stolen more than {limit:.0%}",
            "they take time from the server: repeats beyond the limit are dropped and measured again, within a bound",
            "end or move them, or wait; a runner runs one job at a time",
        )
    else:
        yield HostFinding("other processes", Severity.OK, said)
    healthy = runner_class.healthy if runner_class is not None else None
    steal_max = healthy.steal_share_max if healthy is not None else 0.0
    boot = f"{host.steal_share:.1%} now, {host.steal_share_boot:.2%} since boot"
    if steal_max and host.steal_share > steal_max:
        yield HostFinding(
            "steal",
            Severity.UNFIT,
            f"{boot}; class {runner_class.name if runner_class else ''} allows {steal_max:.1%}",
            "the hypervisor runs others on our CPUs: everything stalls, and looks slow from inside",
            "use dedicated CPUs or bare metal",
        )
    elif host.steal_share_boot > STEAL_BOOT_SHARE_MAX:
        yield HostFinding(
            "steal",
            Severity.NOTE,
            boot,
            "the hypervisor ran others on our CPUs: the machine's neighbours will be seen in results",
            "use dedicated CPUs or bare metal; compare only pairs measured in turns",
        )
    else:
        yield HostFinding("steal", Severity.OK, boot)


def _pressure(host: HostReading) -> Iterable[HostFinding]:
    known = {
        "CPU": host.pressure_cpu_share,
        "memory": host.pressure_memory_share,
        "disk": host.pressure_io_share,
    }
    said = ", ".join(f"{name} {share:.1%}" for name, share in known.items() if share is not None)
    high = [name for name, share in known.items() if share is not None and share > PRESSURE_SHARE_MAX]
    if not said:
        yield HostFinding("pressure", Severity.OK, "not visible from here (/proc/pressure)")
    elif high:
        yield HostFinding(
            "pressure",
            Severity.WARNING,
            f"tasks waited in the last 10 s: {said}",
            f"something on this machine waits for {' and '.join(high)}; the server would too",
            "find it with top, iotop or systemd-cgtop and end it, or wait",
        )
    else:
        yield HostFinding("pressure", Severity.OK, said)


# --- memory, disk, limits -----------------------------------------------------------------------------------------


def _memory(host: HostReading, runner_class: RunnerClass | None) -> Iterable[HostFinding]:
    needed = runner_class.memory_bytes_free_min if runner_class is not None else MEMORY_BYTES_MIN
    limit = "" if host.memory_bytes_limit is None else f", control group {host.memory_bytes_limit / GB:.1f} GB"
    said = f"{host.memory_bytes_available / GB:.1f} of {host.memory_bytes / GB:.1f} GB available{limit}"
    if host.memory_bytes_available < needed:
        yield HostFinding(
            "memory",
            Severity.UNFIT if runner_class is not None else Severity.WARNING,
            f"{said}; {needed / GB:.1f} GB are needed",
            "servers are killed, or do not start",
            "end other programs, raise the container's limit, or use a larger machine",
        )
    else:
        yield HostFinding("memory", Severity.OK, said)
    if host.swap_bytes_used > SWAP_BYTES_MAX:
        yield HostFinding(
            "swap",
            Severity.WARNING,
            f"{host.swap_bytes_used / GB:.1f} GB in use",
            "pages of the server may lie on the disk: single requests take milliseconds longer",
            "swapoff -a, once there is memory enough",
        )
    else:
        yield HostFinding("swap", Severity.OK, f"{host.swap_bytes_used / GB:.1f} GB in use")


def _files(host: HostReading, runner_class: RunnerClass | None) -> Iterable[HostFinding]:
    disk = f"{host.disk_bytes_free / GB:.0f} GB free for {host.state_dir}"
    if host.disk_bytes_free < DISK_BYTES_MIN:
        yield HostFinding(
            "disk",
            Severity.UNFIT if host.disk_bytes_free < DISK_BYTES_UNFIT else Severity.WARNING,
            disk,
            "builds, their caches and every trial are kept there: a full disk ends a run",
            "clear space there, or choose another place: --state-dir",
        )
    else:
        yield HostFinding("disk", Severity.OK, disk)
    said = f"{host.open_files_soft} soft, {host.open_files_hard} hard"
    if host.open_files_hard < OPEN_FILES_MIN:
        yield HostFinding(
            "open files",
            Severity.UNFIT if host.open_files_hard < OPEN_FILES_UNFIT else Severity.WARNING,
            said,
            "every open request is a descriptor of client and of server: beyond the limit requests fail",
            "ulimit -Hn 65536 before the runner starts: LimitNOFILE= of its unit, --ulimit nofile= of its container",
        )
    else:
        yield HostFinding("open files", Severity.OK, said)
    shares = runner_class is not None and runner_class.accelerator_count > 1
    if host.shm_bytes is None:
        yield HostFinding("shared memory", Severity.OK, f"no {SHM}")
    elif host.shm_bytes < SHM_BYTES_MIN:
        yield HostFinding(
            "shared memory",
            Severity.WARNING if shares else Severity.NOTE,
            f"{SHM} holds {host.shm_bytes / GB:.2f} GB",
            "the workers of one server (tensor parallelism) exchange through it: they do not start, or go a slower way",
            "--shm-size=16g or --ipc=host of the container, size= of the mount",
        )
    else:
        yield HostFinding("shared memory", Severity.OK, f"{SHM} holds {host.shm_bytes / GB:.1f} GB")


# --- kernel -------------------------------------------------------------------------------------------------------


def _clock(host: HostReading) -> Iterable[HostFinding]:
    said = f"{host.clock_source or 'unknown'}, {host.clock_read_s * 1e9:.0f} ns a reading"
    if host.clock_source in SLOW_CLOCKS or host.clock_read_s > CLOCK_READ_S_MAX:
        better = next((name for name in ("tsc", "kvm-clock") if name in host.clock_sources), "")
        yield HostFinding(
            "clock source",
            Severity.WARNING,
            said,
            "client and server read the clock for every token: it takes their time, and stamps are late by as much",
            f"echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"
            if better and better != host.clock_source
            else "boot with clocksource=tsc tsc=reliable if dmesg says that the TSC was found unstable",
        )
    else:
        yield HostFinding("clock source", Severity.OK, said)
    if host.clock_synchronised is False:
        yield HostFinding(
            "wall clock",
            Severity.NOTE,
            "not synchronised, as far as the kernel knows",
            "dates of runs are off, and kernel stamps, which rest on it, may jump when somebody sets it",
            "systemctl enable --now chronyd (or systemd-timesyncd); in a virtual machine the host may do it unseen",
        )
    elif host.clock_synchronised:
        yield HostFinding("wall clock", Severity.OK, "synchronised")


def _kernel(host: HostReading) -> Iterable[HostFinding]:
    nodes = host.numa_node_count or 1
    if host.numa_balancing and nodes > 1:
        yield HostFinding(
            "NUMA balancing",
            Severity.WARNING,
            f"on, {nodes} nodes",
            "the kernel unmaps pages to see who uses them and moves them: stalls, also of transfers to accelerators",
            "sysctl kernel.numa_balancing=0 (AMD asks for it on Instinct hosts)",
        )
    else:
        state = "unknown" if host.numa_balancing is None else ("on" if host.numa_balancing else "off")
        yield HostFinding("NUMA balancing", Severity.OK, f"{state}, {nodes} node{'s' if nodes > 1 else ''}")
    if host.transparent_huge_pages == "always":
        yield HostFinding(
            "huge pages",
            Severity.NOTE,
            "transparent huge pages always",
            "memory is joined in the background: faster on average, with rare stalls",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    elif host.transparent_huge_pages:
        yield HostFinding("huge pages", Severity.OK, host.transparent_huge_pages)


def _surroundings(host: HostReading) -> Iterable[HostFinding]:
    said = f"kernel {host.kernel}" + (f", {host.container} container" if host.container else "")
    if host.virtualisation:
        yield HostFinding(
            "surroundings",
            Severity.NOTE,
            f"{said}, {host.virtualisation}",
            "neighbours and the hypervisor are not to be seen from here; their work appears as noise and steal",
            "bare metal or dedicated CPUs for absolute numbers; pairs measured in turns need neither",
        )
    else:
        yield HostFinding("surroundings", Severity.OK, said)
