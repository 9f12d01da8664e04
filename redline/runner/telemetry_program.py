"""The process that samples the machine: `begin` and `end` in on standard input, samples out, in JSON lines.

Run as `python -m redline.runner.telemetry_program SETTINGS`; ends when its standard input does, so that it never
outlives its caller. The CPU and the accelerators are sampled by a thread each: a driver that hangs stops neither the
CPU's samples nor the answers.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from redline.machine_readings import CPU, READ_FAILED
from redline.runner.telemetry_cpu import CpuSampler
from redline.runner.telemetry_devices import DeviceSampler, Family
from redline.units import NS_PER_S, nanoseconds

OPEN_S_MAX = 20.0
PROBLEMS_MAX = 20
PROBLEM_CHARS_MAX = 300


class Source(Protocol):
    """Something that is sampled by a thread of its own."""

    def restart(self) -> None:
        """A window begins."""

    def samples(self, family: Family) -> Iterable[tuple[str, Mapping[str, float]]]:
        """(source, values by name), each as it is read. Raises nothing that is not a defect of Redline."""


class Problems:
    """What could not be read and why, each told once to the caller, in one line."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._told_count = 0

    def tell(self, problem: str) -> None:
        """Remember a problem, unless it is known or there are too many."""
        said = " ".join(problem.split())[:PROBLEM_CHARS_MAX]
        if said not in self._said and len(self._said) < PROBLEMS_MAX:
            self._said.append(said)

    def untold(self) -> list[str]:
        """Those since the last call."""
        new, self._told_count = self._said[self._told_count :], len(self._said)
        return new


class Windows:
    """The window that is open, shared by the threads that sample and the one that answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = 0
        self._family: Family | None = None
        self._instants: list[tuple[int, str, Mapping[str, float]]] = []

    def begin(self, own_pids: Iterable[int]) -> None:
        """Open a window; one that was open is forgotten."""
        with self._changed:
            self._number += 1
            self._family = Family(own_pids)
            self._instants = []
            self._changed.notify_all()

    def end(self) -> list[tuple[int, str, Mapping[str, float]]]:
        """(instant on CLOCK_MONOTONIC in ns, source, values by name) of the window, which is closed."""
        with self._changed:
            self._family = None
            self._changed.notify_all()
            return self._instants

    def next_after(self, number: int) -> tuple[int, Family]:
        """(number, our processes) of a window after the number-th, once one is open."""
        with self._changed:
            while self._family is None or self._number <= number:
                self._changed.wait()
            return self._number, self._family

    def add(self, number: int, at_ns: int, source: str, values: Mapping[str, float]) -> None:
        """Keep a sample if its window is still open; what is no finite number is left out."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        with self._changed:
            if finite and number == self._number and self._family is not None:
                self._instants.append((at_ns, source, finite))

    def is_open_at(self, number: int, at_ns: int) -> bool:
        """True once the instant has come, False as soon as the window is over."""
        with self._changed:
            while number == self._number and self._family is not None:
                wait_ns = at_ns - time.monotonic_ns()
                if wait_ns <= 0:
                    return True
                self._changed.wait(wait_ns / NS_PER_S)
            return False


def keep_sampling(windows: Windows, period_ns: int, source: Source) -> None:
    """Sample window after window, at once and then every period; instants that were missed are not made up for."""
    number = 0
    while True:
        number, family = windows.next_after(number)
        source.restart()
        due_ns = time.monotonic_ns()
        while windows.is_open_at(number, due_ns):
            for name, values in source.samples(family):
                windows.add(number, time.monotonic_ns(), name, values)
            due_ns += period_ns * max(1, -(-(time.monotonic_ns() - due_ns) // period_ns))


class CpuSource:
    """The CPU as a source; what it fails at is told, and once a window among its values."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._sampler = CpuSampler()
        self._tell = tell
        self._failed = False

    def restart(self) -> None:
        """A window begins: shares are of the time from here on."""
        self._sampler.restart()
        self._failed = False

    def samples(self, _family: Family) -> Iterable[tuple[str, Mapping[str, float]]]:
        """One sample, none where /proc cannot be read."""
        try:
            return [(CPU, self._sampler.sample())]
        except (OSError, ValueError, IndexError) as error:
            self._tell(f"the CPU could not be read: {error}")
            told, self._failed = self._failed, True
            return [] if told else [(CPU, {READ_FAILED: 1.0})]


class Program:
    """The samplers of one process, what they could not do, and its answers."""

    def __init__(self, period_s: float, uuids: Sequence[str]) -> None:
        self._period_ns = nanoseconds(period_s)
        self._uuids = tuple(uuids)
        self._windows = Windows()
        self._problems = Problems()
        self._begun_ns, self._begun_cpu_s = time.monotonic_ns(), time.process_time()

    def start(self) -> dict[str, Any]:
        """Start the threads and wait, within bounds, for the accelerators' libraries; the answer to the caller."""
        threading.excepthook = lambda died: self._problems.tell(f"a sampling thread ended: {died.exc_value!r}")
        opened = threading.Event()
        threading.Thread(target=self._sample_cpu, daemon=True).start()
        if self._uuids:
            threading.Thread(target=self._sample_devices, args=(opened,), daemon=True).start()
            if not opened.wait(OPEN_S_MAX):
                self._problems.tell(f"the accelerators' library did not answer within {OPEN_S_MAX:.0f} s")
        return {"ready": True, "problems": self._problems.untold()}

    def answer(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to `{"begin": [pids]}` or `{"end": true}`. Raises KeyError for anything else."""
        if "begin" in command:
            self._begun_ns, self._begun_cpu_s = time.monotonic_ns(), time.process_time()
            self._windows.begin(command["begin"])
            return {"begun": True}
        instants, _ = self._windows.end(), command["end"]
        span_s = (time.monotonic_ns() - self._begun_ns) / NS_PER_S
        cpu_share = (time.process_time() - self._begun_cpu_s) / max(span_s, 1e-9)
        return {"instants": instants, "cpu_share": cpu_share, "problems": self._problems.untold()}

    def _sample_cpu(self) -> None:
        keep_sampling(self._windows, self._period_ns, CpuSource(self._problems.tell))

    def _sample_devices(self, opened: threading.Event) -> None:
        # Here, and not at the top: without accelerators their libraries are never loaded.
        from redline.runner.accelerators import open_readers  # noqa: PLC0415

        found = open_readers()
        of_readers = [problem for reader in found.readers for problem in reader.problems]
        for problem in (*found.problems, *of_readers, *(() if found.readers else found.absent)):
            self._problems.tell(problem)
        sampler = DeviceSampler(found.readers, self._uuids, self._problems.tell)
        opened.set()
        keep_sampling(self._windows, self._period_ns, sampler)


def main(arguments: Sequence[str]) -> None:
    """Answer until standard input ends."""
    settings = json.loads(arguments[0])
    # Vendors' libraries print to standard output; the answers must not be mixed with that.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if settings["cpu_ids"]:
        os.sched_setaffinity(0, set(settings["cpu_ids"]))
    program = Program(settings["period_s"], settings["uuids"])

    def say(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content, separators=(",", ":")) + "\n")
        answers.flush()

    say(program.start())
    for line in sys.stdin:
        say(program.answer(json.loads(line)))
    os._exit(0)  # a thread that hangs in a driver would keep an ordinary exit waiting


if __name__ == "__main__":
    main(sys.argv[1:])
