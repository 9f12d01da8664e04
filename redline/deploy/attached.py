"""The deployer `endpoint`: servers that somebody else started, asked who they are and never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redline.access import api_key
from redline.deploy.deployer import Order
from redline.deploy.endpoint import attach_all, process_starts, require_not_restarted
from redline.errors import UsageError
from redline.model import BuildKind, Endpoint


class AttachedDeployment:
    """Replicas behind addresses that were given."""

    def __init__(self, order: Order, urls: tuple[str, ...]) -> None:
        self._order = order
        self._urls = urls
        self._endpoint: Endpoint | None = None
        self._starts: tuple[float | None, ...] = ()

    def wait_ready(self) -> Endpoint:
        """The endpoint, every address of which answered a request now, with what could be proved of it.

        Raises DeployError if one does not answer, or if they are not alike.
        """
        recipe, key = self._order.recipe, api_key()
        self._endpoint = attach_all(
            self._urls, served_model_name=recipe.served_model_name, serves=recipe.serves, api_key=key
        )
        self._starts = process_starts(self._endpoint, key)
        return self._endpoint

    def check_alive(self) -> None:
        """Nothing while all answer and none was started anew, where they say so. Raises ServerDiedError, naming it."""
        if self._endpoint is not None:
            self._starts = require_not_restarted(self._endpoint, self._starts, api_key())

    def pids(self) -> tuple[int, ...]:
        """None that are ours."""
        return ()

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """Nothing: they are somebody else's."""
        del cpu_ids


class EndpointDeployer:
    """Attaches to what already runs."""

    name = "endpoint"

    @contextmanager
    def deploy(self, order: Order, on_progress: Callable[[str], None]) -> Iterator[AttachedDeployment]:
        """The servers at the pin's addresses. Raises UsageError if it is no endpoint's pin."""
        pin = order.sut.pin
        if pin.kind is not BuildKind.ENDPOINT or pin.url is None:
            raise UsageError(
                f"{pin.label} is no endpoint",
                expected="addresses of running servers",
                found=f"a build of kind {pin.kind.value}",
                next_step="name it with --endpoint http://HOST:PORT",
            )
        on_progress(f"attaching to {pin.url}")
        yield AttachedDeployment(order, tuple(pin.url.split(",")))

    def render(self, order: Order) -> str:
        """The addresses: nothing is started."""
        return f"# nothing is started; requests go to {order.sut.pin.url}\n"

    def cleanup(self, state_dir: Path, *, older_than_s: float | None) -> tuple[str, ...]:
        """Nothing: what somebody else started is never ended."""
        del state_dir, older_than_s
        return ()
