"""httpx as it comes, in a straightforward asyncio client."""

from __future__ import annotations

import httpx

from benchmarks.load.driver import Command, Place, Task, WallClock
from benchmarks.load.drivers.task_file import output_of, program
from benchmarks.load.report import ClientReport
from benchmarks.load.stamped import read_stamps


class StockHttpx:
    """`benchmarks/load/programs/httpx_client.py`."""

    name = "httpx"
    comparable = "Everything: the program stamps its schedule, sends and chunks itself, in user space."

    def prepare(self, place: Place) -> str:
        """Nothing to install: httpx is one of Redline's dependencies."""
        del place
        return httpx.__version__

    def command(self, task: Task) -> Command:
        """The program."""
        return program(task, "httpx_client", bodies=True)

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its stamps."""
        del clock
        return read_stamps(output_of(task))
