"""The deployer `container`: an image by digest, served by one container of docker or podman per replica.

The engine's client runs in the foreground under a supervisor: its output is the log, SIGTERM to it reaches the server.
A client that is killed leaves its container to the engine, so the supervisor removes the container by name when the
client is gone, however that came. What even that leaves (the supervisor was killed too) carries labels that say whose
it was, and `cleanup` ends it.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redline.deploy.affinity import pin
from redline.deploy.command import image_cache_dir, server_command
from redline.deploy.container_command import (
    NAME_LABEL,
    OWNER_LABEL,
    RUN_LABEL,
    ContainerSpec,
    Dialect,
    Engine,
    Mount,
    Options,
    run_options,
    shown,
    words,
)
from redline.deploy.container_engine import Container, confine, ensure_image, find_engine, ours, removal, remove
from redline.deploy.container_host import (
    MADE_DIRECTORIES,
    container_environment,
    device_group_ids,
    secret_names,
    server_mounts,
    shown_mounts,
)
from redline.deploy.container_start import ContainerStart
from redline.deploy.deployer import Order
from redline.deploy.diagnosis import oom_kill_count
from redline.deploy.host import PORT_SHOWN, log_path
from redline.deploy.owner import fate_of, owner_of, this_process
from redline.deploy.placing import assign
from redline.deploy.process import LocalServer
from redline.deploy.replicas import HostDeployment, Started
from redline.deploy.start import claim_port, open_log
from redline.deploy.supervisor import guarded
from redline.errors import ContainerError, UsageError
from redline.model import BuildKind, Device, Recipe

ENGINES: tuple[Dialect, ...] = ("docker", "podman")
GROUPS_UNKNOWN = """\
# This machine has no /dev/kfd. On the host add --group-add NUMBER for each group that owns a device file, unless podman
# runs rootless: stat -c %g /dev/kfd /dev/dri/renderD*
"""
KFD = Path("/dev/kfd")
PYTHON = Path("python3")
"""The interpreter within an image of vLLM, whatever its version."""


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One replica of an order: what stays the same when its start is repeated on another port."""

    order: Order
    engine: Engine
    image_id: str
    replica_index: int
    devices: tuple[Device, ...]
    port: int | None
    cpu_ids: tuple[int, ...]

    @property
    def label(self) -> str:
        """What people call it."""
        return self.order.sut.pin.label

    @property
    def recipe(self) -> Recipe:
        """How the model is served."""
        return self.order.recipe

    @property
    def platform(self) -> str:
        """`cpu`, `cuda` or `rocm`."""
        return self.order.sut.pin.platform

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        return log_path(self.order, self.replica_index)

    @property
    def grace_s(self) -> float:
        """The wait between SIGTERM and SIGKILL."""
        return self.order.grace_s

    def start(self) -> ContainerStart:
        """A container that was started and is not ready yet. Raises UsageError, PortTakenError or DeployError."""
        port = claim_port(self.port)
        name = f"{container_name(self.order, self.replica_index)}-{secrets.token_hex(4)}"
        cache_dir = _cache_dir(self.order)
        spec = container_spec(
            self.order,
            name=name,
            devices=self.devices,
            mounts=server_mounts(cache_dir, self.order.model, os.environ),
            labels={OWNER_LABEL: this_process().text},
            cpu_ids=self.cpu_ids,
        )
        command = words(run_options(self.engine, spec, server_words(self.order, port)))
        log_offset = open_log(self.log_path, command)
        oom_kills_before, started_ns = oom_kill_count(), time.perf_counter_ns()
        guard = guarded(
            command,
            environment=os.environ,  # the client's own; what the server sees is said in the command
            log_path=self.log_path,
            grace_s=self.grace_s,
            afterwards=(self.engine.program, *removal(self.engine, name)),
        )
        return ContainerStart(
            guard=guard,
            port=port,
            log_offset=log_offset,
            oom_kills_before=oom_kills_before,
            started_ns=started_ns,
            engine=self.engine,
            name=name,
            pin=self.order.sut.pin,
            image_id=self.image_id,
        )


class ServerContainer(LocalServer):
    """A server in a container. Made by `launch_container`, which also ends it."""

    def confine(self, cpu_ids: Sequence[int]) -> None:
        """Keep it on these CPUs from now on. Raises ContainerError if the engine cannot.

        A rootless engine often may not (cpuset is seldom delegated), but then its processes are this account's.
        """
        start = self._current
        assert isinstance(start, ContainerStart)  # its plan makes no other
        if start.engine.rootless:
            pin(start.pids(), cpu_ids)
        else:
            confine(start.engine, start.name, cpu_ids)


@contextmanager
def launch_container(
    order: Order,
    *,
    engine: Engine,
    on_progress: Callable[[str], None],
    replica_index: int = 0,
    devices: tuple[Device, ...] = (),
    port: int | None = None,
    cpu_ids: tuple[int, ...] = (),
) -> Iterator[ServerContainer]:
    """A server in a container that starts at once and is gone with the block, however the block or the caller ends.

    The image is pulled before, if it is not there. `devices`: the accelerators it sees, () for all of the host's;
    `port` None lets the kernel choose; `cpu_ids` () means all.

    Raises: UsageError for an order that cannot be served so; PortTakenError if `port` is in use; NoImageError if
    there is none for this machine; ContainerError if the engine refuses; DeployError if something survives the end.
    """
    pull_log = order.log_dir / f"{order.name}.pull.log"
    image = ensure_image(engine, _image(order), pull_log, on_progress)
    server = ServerContainer(
        ContainerPlan(order, engine, image.image_id, replica_index, devices, port, cpu_ids), on_progress
    )
    try:
        yield server
    finally:
        server.close()


class ContainerDeployment(HostDeployment):
    """One or more containers of this machine."""

    def __init__(self, servers: Sequence[ServerContainer], started: Sequence[Started]) -> None:
        super().__init__(started)
        self._servers = tuple(servers)

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """As HostDeployment, through the engine: the processes may be another account's. Raises ContainerError."""
        for server, share in zip(self._servers, self.cpu_shares(cpu_ids), strict=True):
            server.confine(share)


class ContainerDeployer:
    """Servers as containers of an engine of this host."""

    name = "container"

    @contextmanager
    def deploy(self, order: Order, on_progress: Callable[[str], None]) -> Iterator[ContainerDeployment]:
        """All replicas started at once, on devices and ports of their own; the image is pulled before.

        Raises: UsageError for an order that cannot be served this way, DeployError if one cannot be started.
        """
        _image(order)
        shares = assign(order.devices, order.replica_count, order.tensor_parallel)
        engine = find_engine(order.container.engine)
        with ExitStack() as stack:
            servers = [
                stack.enter_context(
                    launch_container(
                        order, engine=engine, on_progress=on_progress, replica_index=index, devices=devices
                    )
                )
                for index, devices in enumerate(shares)
            ]
            started = [Started(server, devices) for server, devices in zip(servers, shares, strict=True)]
            yield ContainerDeployment(servers, started)

    def render(self, order: Order) -> str:
        """The commands, one option a line: the pull, the directories, then each replica on ports from PORT_SHOWN on.

        What only a start knows is left out: the suffix of the name, the owner's label, the port that is free.
        """
        dialect = order.container.engine
        engine = Engine(dialect, dialect, rootless=dialect == "podman" and os.geteuid() != 0)
        texts = [shown(((engine.program, "pull", _image(order)),)), shown(_shown_directories(order))]
        if order.sut.pin.platform == "rocm" and not KFD.exists():
            texts.append(GROUPS_UNKNOWN)
        shares = assign(order.devices, order.replica_count, order.tensor_parallel)
        texts += [shown(_shown_options(order, engine, index, devices)) for index, devices in enumerate(shares)]
        return "\n".join(texts)

    def cleanup(self, state_dir: Path, *, older_than_s: float | None) -> tuple[str, ...]:
        """End containers whose Redline is gone, of every engine that this account can use; one line for each.

        `older_than_s`: also those that were made longer ago than this, whoever made them.
        """
        del state_dir  # containers are the engine's, wherever the state is
        ended: list[str] = []
        for name in ENGINES:
            try:
                engine = find_engine(name)
            except ContainerError:
                continue  # an engine that is missing, stopped or closed to this account runs nothing that it started
            for container in ours(engine):
                why = _why_to_end(container, older_than_s)
                if why:
                    remove(engine, container.container_id)
                    ended.append(f"{engine.dialect} container {container.name}: {why}")
        return tuple(dict.fromkeys(ended))  # a docker that is podman lists the same ones


def _why_to_end(container: Container, older_than_s: float | None) -> str:
    owner = owner_of(container.labels.get(OWNER_LABEL))
    if owner is not None and fate_of(owner) == "gone":
        return f"{owner.label} is gone"
    age_s = time.time() - container.created_s
    if older_than_s is not None and container.created_s > 0 and age_s > older_than_s:
        return f"made {age_s:.0f} s ago"
    return ""


# --- from an order to a container -----------------------------------------------------------------------------


def container_name(order: Order, replica_index: int) -> str:
    """The beginning of a container's name: letters, digits, dots and dashes, as engines want it."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", order.name).strip("-.") or "server"
    return f"redline-{slug[:80]}-{replica_index}"


def server_words(order: Order, port: int) -> tuple[str, ...]:
    """What runs in the container: the same arguments as those of a process. Raises UsageError as `server_command`."""
    return server_command(
        python=PYTHON,
        recipe=order.recipe,
        platform=order.sut.pin.platform,
        extra_args=order.sut.extra_args,
        model=order.model,
        port=port,
    )


def container_spec(
    order: Order,
    *,
    name: str,
    devices: tuple[Device, ...],
    mounts: tuple[Mount, ...],
    labels: Mapping[str, str],
    cpu_ids: tuple[int, ...] = (),
) -> ContainerSpec:
    """One container of an order, as it is on this host."""
    pin, cache_dir = order.sut.pin, _cache_dir(order)
    return ContainerSpec(
        name=name,
        image=_image(order),
        platform=pin.platform,
        settings=order.container,
        working_dir=cache_dir / "empty",
        labels={RUN_LABEL: order.run_id, NAME_LABEL: order.name, **labels},
        mounts=mounts,
        environment=container_environment(
            recipe=order.recipe, platform=pin.platform, model=order.model, cache_dir=cache_dir, caller=os.environ
        ),
        secrets=secret_names(order.model, os.environ),
        devices=devices,
        group_ids=device_group_ids() if pin.platform == "rocm" else (),
        cpu_ids=cpu_ids,
    )


def _shown_directories(order: Order) -> Options:
    """What makes the directories that a server writes to: an engine makes none for a mount, or as another account."""
    cache_dir = _cache_dir(order)
    mounts = shown_mounts(cache_dir, order.model, os.environ)
    others = (mount.path for mount in mounts if not mount.read_only and mount.path != cache_dir)
    paths = dict.fromkeys((*(cache_dir / name for name in MADE_DIRECTORIES), *others))
    return (("mkdir", "-p"), *((str(path),) for path in paths))


def _shown_options(order: Order, engine: Engine, index: int, devices: tuple[Device, ...]) -> Options:
    spec = container_spec(
        order,
        name=container_name(order, index),
        devices=devices,
        mounts=shown_mounts(_cache_dir(order), order.model, os.environ),
        labels={},
    )
    return run_options(engine, spec, server_words(order, PORT_SHOWN + index))


def _cache_dir(order: Order) -> Path:
    return image_cache_dir(order.state_dir, _image(order))


def _image(order: Order) -> str:
    pin = order.sut.pin
    if pin.kind is not BuildKind.IMAGE or pin.url is None:
        raise UsageError(
            f"{pin.label} is no image",
            expected="an image by digest: image:vllm/vllm-openai@sha256:...",
            found=f"a build of kind {pin.kind.value}",
            next_step="name an image, or serve the wheel as a process",
        )
    return pin.url
