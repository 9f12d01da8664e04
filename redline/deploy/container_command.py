"""The command line that runs one vLLM server in a container, for docker and podman. Pure: nothing is looked up here.

Why it is what it is:

- `--network host`: no address translation and no forwarding process stands in the path whose latency is measured
  (docker forwards connections from 127.0.0.1 through a process of its own). The server still binds 127.0.0.1 only.
- `--entrypoint python3` with vLLM's module: images of different versions have different entry points, and their
  working directories hold sources that would shadow what is installed; an empty one shadows nothing.
- Paths are the same inside and outside, so that environment, arguments and logs mean the same files.
- `--security-opt label=disable`: SELinux would deny accelerators and shared caches, or relabel a whole model cache.
- `SYS_NICE` lets vLLM bind memory to NUMA nodes as a process may; the profile of system calls is lifted where the
  vendor or vLLM asks for it (ROCm, CPU), `SYS_PTRACE` is added for ROCm only. Never `--privileged`.
- Values that may be secret are passed by name: `ps` and logs show `--env HF_TOKEN`, and no token.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from redline.deploy.placing import VISIBLE_VARIABLES
from redline.errors import UsageError
from redline.model import ContainerSettings, Device

Dialect: TypeAlias = Literal["docker", "podman"]
Injection: TypeAlias = Literal["gpus", "cdi", "rocm"]
Options: TypeAlias = tuple[tuple[str, ...], ...]
"""Words of a command line, grouped as one would write them on lines: an option with its value."""

VENDORS: Mapping[str, Literal["nvidia", "amd"]] = {"cuda": "nvidia", "rocm": "amd"}
OWNER_LABEL, RUN_LABEL, NAME_LABEL = "redline.owner", "redline.run", "redline.name"


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host at the same path in the container."""

    path: Path
    read_only: bool

    @property
    def text(self) -> str:
        """The value of `--mount`: comma-separated, quoted where a path holds a comma. A missing path is an error."""
        fields = ["type=bind", f"source={self.path}", f"target={self.path}"]
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields + ["readonly"] * self.read_only)
        return line.getvalue()


@dataclass(frozen=True, slots=True)
class Engine:
    """Which engine a command line is for. `program`: as it is called; `rootless`: it runs as an ordinary account."""

    program: str
    dialect: Dialect
    rootless: bool = False
    version: str = ""

    @property
    def label(self) -> str:
        """`docker 28.2.2`."""
        return f"{self.dialect} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container. `environment` is passed by value, `secrets` by name; `group_ids` own the AMD device files."""

    name: str
    image: str
    platform: str
    settings: ContainerSettings
    working_dir: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    group_ids: tuple[int, ...] = ()
    cpu_ids: tuple[int, ...] = ()


def run_options(engine: Engine, spec: ContainerSpec, server: Sequence[str]) -> Options:
    """The whole command line, in groups; `server` is what runs in the container, its program first.

    Raises: UsageError for accelerators that cannot be given to a container in the way that is asked for.
    """
    return (
        (engine.program, "run"),
        ("--rm",),
        ("--init",),
        ("--name", spec.name),
        *(("--label", f"{key}={value}") for key, value in sorted(spec.labels.items())),
        ("--pull", "never"),  # it was pulled before, so that the start does not hold a download
        ("--log-driver", "none"),  # the client's own output is the log
        ("--network", "host"),
        *_memory_options(engine, spec),
        *_right_options(spec),
        *device_options(engine, spec),
        *(("--mount", mount.text) for mount in spec.mounts),
        ("--workdir", str(spec.working_dir)),
        *(("--env", f"{key}={value}") for key, value in _environment(engine, spec).items()),
        *(("--env", name) for name in spec.secrets),
        *((("--http-proxy=false",),) if engine.dialect == "podman" else ()),  # it would pass the caller's proxies
        ("--entrypoint", server[0]),
        (spec.image,),
        *_grouped(server[1:]),
    )


def words(options: Options) -> tuple[str, ...]:
    """The command line as a program is started with it."""
    return tuple(word for group in options for word in group)


def shown(options: Options) -> str:
    """The command line for people and shells: quoted, one option a line."""
    return " \\\n  ".join(shlex.join(group) for group in options) + "\n"


def _memory_options(engine: Engine, spec: ContainerSpec) -> Options:
    settings = spec.settings
    shared = ("--shm-size", f"{settings.shm_bytes}b") if settings.shm_bytes else ("--ipc", "host")
    limits = [("--ulimit", f"nofile={settings.open_files_max}:{settings.open_files_max}")]
    if spec.platform in VENDORS:  # pinned memory of NCCL, RCCL and RDMA
        limits.append(("--ulimit", "memlock=-1:-1"))
    if engine.rootless:  # may not raise a limit: the caller's own
        limits = [("--ulimit", "host")]
    cpus = [("--cpuset-cpus", ",".join(map(str, spec.cpu_ids)))] if spec.cpu_ids else []
    return (shared, *limits, *cpus)


def _right_options(spec: ContainerSpec) -> Options:
    capabilities = ["SYS_NICE"] + ["SYS_PTRACE"] * (spec.platform == "rocm")
    security = ["label=disable"] + ["seccomp=unconfined"] * (spec.platform in ("cpu", "rocm"))
    user = [("--user", spec.settings.user)] if spec.settings.user else []
    return (
        *(("--cap-add", name) for name in capabilities),
        *(("--security-opt", name) for name in security),
        *user,
    )


def injection_of(engine: Engine, spec: ContainerSpec) -> Injection | None:
    """How accelerators get into the container; None on a CPU. Raises UsageError for a way that does not exist."""
    vendor = VENDORS.get(spec.platform)
    if vendor is None:
        return None
    others = sorted({device.vendor for device in spec.devices} - {vendor})
    if others:
        raise UsageError(
            f"a build for {spec.platform} cannot use these accelerators",
            expected=f"accelerators of {vendor}",
            found=", ".join(f"{device.model} ({device.vendor})" for device in spec.devices),
            next_step="choose the image for this host, or a runner class of another platform",
        )
    default: Injection = "rocm" if vendor == "amd" else "gpus" if engine.dialect == "docker" else "cdi"
    asked = spec.settings.devices or default
    possible = {"amd": ("rocm", "cdi"), "nvidia": ("gpus", "cdi") if engine.dialect == "docker" else ("cdi",)}[vendor]
    if asked not in possible:
        # podman before 5.0 takes --gpus, does nothing with it, and says nothing.
        raise UsageError(
            f"{engine.dialect} cannot give {vendor} accelerators to a container by {asked}",
            expected=f"container.devices = {' or '.join(possible)}",
            found=asked,
            next_step="correct [container] in the runner class, or leave `devices` out",
        )
    return asked


def device_options(engine: Engine, spec: ContainerSpec) -> Options:
    """The options that let accelerators in: those of `spec.devices` by UUID, all of the host's where it names none."""
    uuids = [device.uuid for device in spec.devices]
    match injection_of(engine, spec):
        case None:
            return ()
        case "gpus":
            # The inner quotes are for the engine, which reads this value as comma-separated itself.
            return (("--gpus", f'"device={",".join(uuids)}"' if uuids else "all"),)
        case "cdi" if spec.platform == "cuda":
            return tuple(("--device", f"nvidia.com/gpu={uuid}") for uuid in uuids or ["all"])
        case "cdi":
            # AMD's own names are indices in an order of its own; ROCR_VISIBLE_DEVICES chooses by UUID instead.
            return (("--device", "amd.com/gpu=all"), *_group_options(engine, spec))
        case "rocm":
            return (("--device", "/dev/kfd"), ("--device", "/dev/dri"), *_group_options(engine, spec))


def _group_options(engine: Engine, spec: ContainerSpec) -> Options:
    if engine.dialect == "podman" and engine.rootless:
        return (("--group-add", "keep-groups"),)  # the account's own groups; podman takes no others beside it
    return tuple(("--group-add", str(number)) for number in sorted(set(spec.group_ids)))


def _environment(engine: Engine, spec: ContainerSpec) -> dict[str, str]:
    """The variables, and the one by which the server sees just its accelerators where the engine injects all."""
    environment = dict(spec.environment)
    injection = injection_of(engine, spec)
    if spec.platform == "rocm" and spec.devices:
        environment[VISIBLE_VARIABLES["amd"]] = ",".join(device.uuid for device in spec.devices)
    if spec.platform == "cuda" and injection == "cdi":
        # Where NVIDIA's runtime is the default one, an image that asks for "all" would get all besides.
        environment["NVIDIA_VISIBLE_DEVICES"] = "void"
    return environment


def _grouped(arguments: Sequence[str]) -> Options:
    """A server's arguments, each option with its values."""
    groups: list[tuple[str, ...]] = []
    for argument in arguments:
        if not groups or argument.startswith("--"):
            groups.append((argument,))
        else:
            groups[-1] = (*groups[-1], argument)
    return tuple(groups)
