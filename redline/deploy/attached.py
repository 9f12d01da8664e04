"""The deployer `endpoint`: servers that somebody else started, asked who they are and never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from redline.access import api_key
from redline.deploy.deployer import Order
from redline.deploy.endpoint import attach_all, open_client, process_starts, require_not_restarted
from redline.deploy.endpoint_answer import ask
from redline.errors import ReplicaDiedError, ServerDiedError, UsageError
from redline.model import BuildKind, Endpoint

REFUSAL_S_MAX = 2.0
"""A refusal comes with the next packet; who is silent for longer is not asked further."""


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
        """Nothing while somebody listens at every address and none was started anew, as far as they say so.

        Silence proves nothing: a server may be too busy to answer, or a gateway may hide it. The last start that it
        stated is kept meanwhile. Raises ServerDiedError, of several servers ReplicaDiedError, naming those that died.
        """
        if self._endpoint is None:
            return
        now = require_not_restarted(self._endpoint, self._starts, api_key())
        self._starts = tuple(
            before if since is None else since for before, since in zip(self._starts, now, strict=True)
        )
        _require_listeners(self._endpoint, now)

    def pids(self) -> tuple[int, ...]:
        """None that are ours."""
        return ()

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """Nothing: they are somebody else's."""
        del cpu_ids


def _require_listeners(endpoint: Endpoint, starts: Sequence[float | None]) -> None:
    """Raise ServerDiedError or ReplicaDiedError for servers that refuse a connection: nobody is there any more.

    `starts`: what each stated just now; one that stated anything is there and is not asked again.
    """
    silent = [index for index, start_s in enumerate(starts) if start_s is None]
    gone = [endpoint.replicas[index].name for index in silent if _refuses(endpoint.base_urls[index])]
    if gone:
        kind = ReplicaDiedError if len(starts) > 1 else ServerDiedError
        raise kind(
            f"{', '.join(gone)} ended while it was measured",
            expected="a server that listens until the last window",
            found="the connection is refused: nobody listens there any more",
            next_step="see in its log why; then start it and measure again",
        )


def _refuses(base_url: str) -> bool:
    """True if the machine answers that nobody listens; False for every answer, and for silence. Sends no key."""
    try:
        with open_client(base_url) as client:
            ask(client, "/health", timeout_s=REFUSAL_S_MAX)
    except httpx.HTTPError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ConnectionRefusedError):
            cause = cause.__cause__ or cause.__context__
        return cause is not None
    return False


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
