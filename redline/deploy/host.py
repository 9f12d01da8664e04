"""The deployer `process`: a wheel that was installed here, served by one process of this machine or by several."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from redline.deploy.command import server_command
from redline.deploy.deployer import Order
from redline.deploy.placing import assign, visible_environment
from redline.deploy.process import launch
from redline.deploy.replicas import HostDeployment, Started
from redline.errors import UsageError
from redline.model import BuildKind, Device, Recipe

PORT_SHOWN = 8000


class ProcessDeployer:
    """Servers as processes under a supervisor of their own, which ends them whatever becomes of Redline."""

    name = "process"

    @contextmanager
    def deploy(self, order: Order, on_progress: Callable[[str], None]) -> Iterator[HostDeployment]:
        """All replicas started at once, on devices and ports of their own.

        Raises: UsageError for an order that cannot be served this way, DeployError if one cannot be started.
        """
        python, version = _installed(order)
        with ExitStack() as stack:
            started = []
            for index, devices in enumerate(assign(order.devices, order.replica_count, order.tensor_parallel)):
                server = stack.enter_context(
                    launch(
                        python=python,
                        recipe=seeing(order.recipe, order.sut.pin.platform, devices),
                        platform=order.sut.pin.platform,
                        extra_args=order.sut.extra_args,
                        model=order.model,
                        state_dir=order.state_dir,
                        log_path=log_path(order, index),
                        distribution=order.sut.pin.distribution,
                        installed_version=version,
                        grace_s=order.grace_s,
                        on_progress=on_progress,
                    )
                )
                started.append(Started(server, devices))
            yield HostDeployment(started)

    def render(self, order: Order) -> str:
        """The command line of each replica, on ports from PORT_SHOWN on; real ones are chosen by the kernel."""
        lines = []
        for index, devices in enumerate(assign(order.devices, order.replica_count, order.tensor_parallel)):
            command = server_command(
                python=order.python or Path("python"),
                recipe=order.recipe,
                platform=order.sut.pin.platform,
                extra_args=order.sut.extra_args,
                model=order.model,
                port=PORT_SHOWN + index,
            )
            seen = [f"{name}={shlex.quote(value)}" for name, value in visible_environment(devices).items()]
            lines.append(" ".join([*seen, shlex.join(command)]))
        return "\n".join(lines) + "\n"

    def cleanup(self, state_dir: Path, *, older_than_s: float | None) -> tuple[str, ...]:
        """Nothing: a supervisor ends its processes when its caller is gone, so none can be left."""
        del state_dir, older_than_s
        return ()


def log_path(order: Order, index: int) -> Path:
    """Where a replica's output goes: the order's name, and the replica's number where there are several."""
    suffix = f"-replica-{index}" if order.replica_count > 1 else ""
    return order.log_dir / f"{order.name}{suffix}.log"


def seeing(recipe: Recipe, platform: str, devices: tuple[Device, ...]) -> Recipe:
    """The recipe with the one variable by which its server sees just these devices."""
    visible = visible_environment(devices)
    if not visible:
        return recipe
    environment = {**recipe.environment.get(platform, {}), **visible}
    return replace(recipe, environment={**recipe.environment, platform: environment})


def _installed(order: Order) -> tuple[Path, str]:
    pin = order.sut.pin
    if order.python is None or order.installed_version is None or pin.kind is BuildKind.IMAGE:
        raise UsageError(
            f"{pin.label} is no build that can be started as a process",
            expected="a wheel: vllm==X.Y.Z, commit:SHA, or the path of a .whl",
            found=f"a build of kind {pin.kind.value}",
            next_step="name a wheel, or serve the image as a container",
        )
    return order.python, order.installed_version
