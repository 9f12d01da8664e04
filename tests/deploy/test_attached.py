"""An attached deployment between two windows: what is a death, and what is only silence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from redline.deploy.attached import EndpointDeployer
from redline.deploy.deployer import Order
from redline.errors import ReplicaDiedError, ServerDiedError, UsageError
from redline.model import BuildKind
from tests.deploy.conftest import stand_in_recipe
from tests.deploy.test_endpoint_evidence import Page, page, pages, speaking
from tests.deploy.test_replicas import order_of

SILENT = Page(b"", 503)


def started(seconds: float) -> Page:
    """A /metrics page that states this start of the process."""
    return page(f"process_start_time_seconds {seconds}\n")


def attached_order(folder: Path, *urls: str) -> Order:
    """An order of servers at these addresses."""
    order = order_of(folder, None, stand_in_recipe(folder, "ok"), len(urls))
    pin = replace(order.sut.pin, kind=BuildKind.ENDPOINT, wheel_sha256=None, lock="", url=",".join(urls))
    return replace(order, sut=replace(order.sut, pin=pin))


@contextmanager
def hanging_up(port: int) -> Iterator[None]:
    """Somebody who listens there and ends every connection without a word."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_silence_does_not_make_a_restart_forgotten(tmp_path: Path):
    """A page that was not to be had in between says nothing; the start of before it still counts."""
    answers = pages(metrics=started(1000.0))
    with speaking(answers) as url, EndpointDeployer().deploy(attached_order(tmp_path, url), print) as deployment:
        deployment.wait_ready()
        answers["metrics"] = SILENT
        deployment.check_alive()
        deployment.check_alive()
        answers["metrics"] = started(2000.0)
        with pytest.raises(ServerDiedError, match="restarted") as caught:
            deployment.check_alive()
        assert "00:16:40" in caught.value.found, "the start of before the silence"


def test_each_server_keeps_its_own_start(tmp_path: Path):
    """One that is silent loses nothing, one that states a start only later is held to it from then on."""
    first, second = pages(metrics=started(1000.0)), pages(metrics=SILENT)
    with ExitStack() as stack:
        urls = [stack.enter_context(speaking(each)) for each in (first, second)]
        deployment = stack.enter_context(EndpointDeployer().deploy(attached_order(tmp_path, *urls), print))
        endpoint = deployment.wait_ready()
        first["metrics"], second["metrics"] = SILENT, started(500.0)
        deployment.check_alive()
        first["metrics"], second["metrics"] = started(1000.5), SILENT
        deployment.check_alive()
        second["metrics"] = started(700.0)
        with pytest.raises(ReplicaDiedError) as caught:
            deployment.check_alive()
    assert endpoint.replicas[1].name in caught.value.found
    assert endpoint.replicas[0].name not in caught.value.found


def test_a_restart_is_not_taken_for_the_new_start(tmp_path: Path):
    """Who asks again after a restart is told again."""
    answers = pages(metrics=started(1000.0))
    with speaking(answers) as url, EndpointDeployer().deploy(attached_order(tmp_path, url), print) as deployment:
        deployment.wait_ready()
        answers["metrics"] = started(2000.0)
        for _ in range(2):
            with pytest.raises(ServerDiedError):
                deployment.check_alive()


def test_a_server_that_is_gone_is_a_death(tmp_path: Path):
    """A refused connection is told, of several with the name of the one; whoever hides /metrics is no exception."""
    with ExitStack() as stack:
        url = stack.enter_context(speaking(pages(metrics=SILENT)))
        other = ExitStack()
        gone = other.enter_context(speaking(pages()))
        both = stack.enter_context(EndpointDeployer().deploy(attached_order(tmp_path, url, gone), print))
        single = stack.enter_context(EndpointDeployer().deploy(attached_order(tmp_path, gone), print))
        endpoint = both.wait_ready()
        single.wait_ready()
        both.check_alive()
        other.close()
        with pytest.raises(ReplicaDiedError) as caught:
            both.check_alive()
        assert caught.value.problem.startswith(f"{endpoint.replicas[1].name} ended")
        with pytest.raises(ServerDiedError) as alone:
            single.check_alive()
        assert type(alone.value) is ServerDiedError


def test_a_server_that_says_nothing_is_no_death(tmp_path: Path):
    """Something listens and ends every connection without a word: nothing is claimed."""
    with ExitStack() as stack:
        other = ExitStack()
        url = other.enter_context(speaking(pages()))
        deployment = stack.enter_context(EndpointDeployer().deploy(attached_order(tmp_path, url), print))
        deployment.wait_ready()
        other.close()
        stack.enter_context(hanging_up(int(url.rpartition(":")[2])))
        deployment.check_alive()


def test_only_endpoints(tmp_path: Path):
    """A wheel is nothing to attach to, and what is attached to is never ours to end."""
    order = order_of(tmp_path, None, stand_in_recipe(tmp_path, "ok"), 1)
    with pytest.raises(UsageError, match="is no endpoint"), EndpointDeployer().deploy(order, print):
        pass
    assert EndpointDeployer().cleanup(tmp_path, older_than_s=0.0) == ()
