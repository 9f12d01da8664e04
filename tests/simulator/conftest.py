"""A stand-in for the tests of one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from redline.simulator.process import RunningSimulator, simulator
from redline.simulator.settings import Settings, parse_settings
from tests.simulator.asking import QUICK


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSimulator]:
    """One stand-in for a whole module."""
    with simulator(parse_settings(QUICK)) as running:
        yield running


@pytest.fixture
def running(shared: RunningSimulator) -> Iterator[RunningSimulator]:
    """The same with its settings as they were and an empty log."""
    shared.change(parse_settings(QUICK))
    shared.log(reset=True)
    yield shared
    shared.change(parse_settings(QUICK))


@pytest.fixture
def client(running: RunningSimulator) -> Iterator[httpx.Client]:
    """A client of the stand-in."""
    with httpx.Client(base_url=running.base_url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def change(running: RunningSimulator) -> Callable[..., Settings]:
    """Changes one section of the settings: `change("timing", itl_s=0.01)`."""

    def changed(section: str, **values: Any) -> Settings:
        settings = parse_settings({section: values}, running.settings())
        running.change(settings)
        return settings

    return changed
