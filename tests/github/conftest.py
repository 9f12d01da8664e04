"""A local GitHub, a client of it, and a clock that notes waits instead of waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from redline.github.client import GitHub
from redline.github.waiting import Clock
from tests.fakes.github_api import TOKEN, GitHubApi


@pytest.fixture(scope="module")
def server() -> Iterator[GitHubApi]:
    """The server of a module's tests."""
    with GitHubApi() as running:
        yield running


@pytest.fixture
def api(server: GitHubApi) -> GitHubApi:
    """The server, with nothing in it."""
    server.forget()
    return server


@pytest.fixture
def waits() -> list[float]:
    """Every wait that was asked for, in seconds."""
    return []


@pytest.fixture
def clock(waits: list[float]) -> Clock:
    """Time that goes on by itself, and by every wait at once."""
    return Clock(
        epoch_s=lambda: time.time() + sum(waits),
        monotonic_s=lambda: time.monotonic() + sum(waits),
        sleep=waits.append,
    )


@pytest.fixture
def github(api: GitHubApi, clock: Clock) -> Iterator[GitHub]:
    """A client with a workflow's token."""
    with GitHub(api.url, TOKEN, api.state.repository, clock=clock) as client:
        yield client
