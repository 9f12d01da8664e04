"""One client of the comparison: how it is installed, started, and read. The seam between the suite and the tools."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.load.report import ClientReport
from benchmarks.load.workload import Cell, Floats

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).resolve().parent / "programs"
TOKENIZER = CHECKOUT / "models" / "speed-llama"
START_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are: `work` holds environments and compiled programs; `vllm_python` replaces the one we install."""

    work: Path
    vllm_python: Path | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One cell as a driver is given it; `due_s` has shape (request_count,); files go into `directory`."""

    cell: Cell
    due_s: Floats
    port: int
    directory: Path
    place: Place
    client_cpu: int

    @property
    def base_url(self) -> str:
        """Where the stand-in listens; an address, so that nobody measures name resolution."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, with which variables beside the common ones."""

    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment: ours without what would change the client, plus `variables`."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        }
        quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}
        return {**environment, **quiet, **self.variables}


@dataclass(frozen=True, slots=True)
class WallClock:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds, for tools that stamp with the wall clock."""

    offset_ns: int

    @classmethod
    def read(cls) -> WallClock:
        """The present offset, from the closest of a few readings."""
        readings = []
        for _ in range(5):
            before_ns, wall_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            readings.append((after_ns - before_ns, wall_ns - (before_ns + after_ns) // 2))
        return cls(min(readings)[1])


class Driver(Protocol):
    """A client. Every method may raise `DriverError`, whose text becomes the reason in the client's rows."""

    name: str
    comparable: str
    """One sentence on which quantities may be compared and why; it stands under the table."""

    def prepare(self, place: Place) -> str:
        """The client's version, after installing or compiling what is missing."""

    def command(self, task: Task) -> Command:
        """What to run for one cell, after writing the files it needs."""

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """What the tool says it measured."""


class DriverError(Exception):
    """A client cannot be installed, started or read; nothing is wrong with the suite."""
