"""Redline's own load engine."""

from __future__ import annotations

from benchmarks.load.driver import Command, Place, Task, WallClock
from benchmarks.load.drivers.task_file import output_of, program
from benchmarks.load.report import ClientReport
from benchmarks.load.stamped import read_stamps
from redline import __version__


class RedlineEngine:
    """One worker process, pinned, driven through `redline.load.worker`."""

    name = "redline"
    comparable = "Everything: schedule, sends and chunk stamps (the kernel's, where it gives them) are absolute."

    def prepare(self, place: Place) -> str:
        """Nothing to install: it is this checkout."""
        del place
        return __version__

    def command(self, task: Task) -> Command:
        """The engine in a program of its own, as a trial has it."""
        return program(task, "redline_client", bodies=False)

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its records."""
        del clock
        return read_stamps(output_of(task))
