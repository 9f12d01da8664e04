"""Telemetry in a process of its own: started once per deployment, asked for the samples of every window.

It never stops a measurement. A sampler that does not come up, ends or does not answer is said in the samples
themselves, as `failed` of the source `sampler`, and in words in `problems`; the next window gets a new one.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from redline.machine_readings import CPU, READ_FAILED, SAMPLER
from redline.model import TelemetrySample

PERIOD_S = 0.5
START_S_MAX = 30.0
ANSWER_S_MAX = 10.0
STOP_S_MAX = 5.0
STARTS_MAX = 4
STDERR_CHARS_SHOWN = 300
CPU_SHARE_MAX = 0.05
"""Of one CPU. A sampler that takes more is no bystander any more, and that is told."""


class _SamplerGoneError(Exception):
    """The process is not there, or does not answer, or not as it should; says how."""


class TelemetrySampler:
    """A sampler of this machine's CPU and of the accelerators with these UUIDs; get one from `telemetry_sampler`.

    `problems`: in one line each, everything that could not be read so far, also of the sampler itself.
    """

    def __init__(
        self,
        uuids: Sequence[str] = (),
        cpu_ids: Sequence[int] = (),
        period_s: float = PERIOD_S,
        answer_s_max: float = ANSWER_S_MAX,
    ) -> None:
        self.problems: list[str] = []
        self._uuids = tuple(uuids)
        self._period_s = period_s
        self._answer_s_max = answer_s_max
        settings = {"period_s": period_s, "cpu_ids": list(cpu_ids), "uuids": list(uuids)}
        self._command = [sys.executable, "-m", "redline.runner.telemetry_program", json.dumps(settings)]
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._start_count = 0
        self._begun = False

    @property
    def pids(self) -> tuple[int, ...]:
        """The sampler's own process, to be counted as ours; () while there is none."""
        return () if self._process is None else (self._process.pid,)

    def start(self) -> None:
        """Start the process and wait until it can sample. Never raises: without it, `end` says so."""
        self.stop()
        self._start_count += 1
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
            )
            self._tell(self._answer(START_S_MAX)["problems"])
        except (OSError, _SamplerGoneError, KeyError) as error:
            self._lose(error)

    def begin(self, own_pids: Iterable[int]) -> None:
        """A window begins; a device's processes that are none of these, nor started by them, count as foreign.

        Quick where the sampler lives; one that is gone is started anew, a few times.
        """
        if (self._process is None or self._process.poll() is not None) and self._start_count < STARTS_MAX:
            self.start()
        self._begun = False
        try:
            self._ask({"begin": sorted(set(own_pids))})
            self._begun = True
        except (OSError, _SamplerGoneError) as error:
            self._lose(error)

    def end(self, start_monotonic_ns: int, duration_ns: int) -> tuple[TelemetrySample, ...]:
        """The samples of a window that began at that instant of CLOCK_MONOTONIC, ascending in time, all finite.

        Never raises: what could not be read is said by `read_failed` of its source, a sampler that is gone by
        `failed` of `sampler`.
        """
        own = {"period_s": self._period_s}
        try:
            if not self._begun:
                raise _SamplerGoneError("it was not there when the window began")
            answer = self._ask({"end": True})
            self._tell(answer["problems"])
            found = list(_in_window(answer["instants"], start_monotonic_ns, duration_ns))
            own["cpu_share"] = float(answer["cpu_share"])
            if own["cpu_share"] > CPU_SHARE_MAX:
                self._tell([f"the telemetry sampler took more than {CPU_SHARE_MAX * 100:g} % of one CPU in a window"])
            seen = {source for _, source, _ in answer["instants"]}
            found += [TelemetrySample(0, uuid, READ_FAILED, 1.0) for uuid in self._uuids if uuid not in seen]
        except (OSError, _SamplerGoneError, KeyError, TypeError, ValueError) as error:
            self._lose(error)
            found = []
            own["failed"] = 1.0
        self._begun = False
        found += [TelemetrySample(0, SAMPLER, name, value) for name, value in own.items()]
        return tuple(sorted(found, key=lambda sample: (sample.at_ns, sample.source, sample.name)))

    def stop(self) -> None:
        """End the process, if there is one. Never raises, and waits for it only within a bound."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # it is gone already, which is all that closing asks for
                    stream.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):  # stuck in a driver: the kernel ends it when that returns
                process.wait(STOP_S_MAX)
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise _SamplerGoneError("there is none")
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer(self._answer_s_max)

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """The next line of the process. Raises _SamplerGoneError if there is none in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, deadline_s = self._process.stdout.fileno(), time.monotonic() + timeout_s
        pieces = [b""]
        while not pieces[-1].endswith(b"\n"):
            if not select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
                raise _SamplerGoneError(f"no answer within {timeout_s:.0f} s")
            piece = os.read(descriptor, 1 << 20)
            if not piece:
                raise _SamplerGoneError(f"it ended{self._last_words()}")
            pieces.append(piece)
        try:
            answer: dict[str, Any] = json.loads(b"".join(pieces))
        except ValueError as error:
            raise _SamplerGoneError(f"it said no JSON: {error}") from error
        return answer

    def _last_words(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        said = " ".join(self._stderr.read().decode(errors="replace").split())
        return f": {said[-STDERR_CHARS_SHOWN:]}" if said else ""

    def _lose(self, error: Exception) -> None:
        """Say why the sampler is lost, and end what is left of it: it is out of step with its caller."""
        self._tell([f"the telemetry sampler is lost: {error}"])
        if self._process is not None:
            self._process.kill()
        self.stop()

    def _tell(self, problems: Iterable[str]) -> None:
        self.problems += [problem for problem in problems if problem not in self.problems]


def _in_window(
    instants: Iterable[tuple[int, str, Mapping[str, float]]], start_monotonic_ns: int, duration_ns: int
) -> Iterator[TelemetrySample]:
    """The samples that lie in the window. A failure to read before it counts as one at its start.

    The CPU's shares are of the time since its sample before: one that began before the window is left out.
    """
    before_ns: dict[str, int] = {}
    for monotonic_ns, source, values in instants:
        at_ns = monotonic_ns - start_monotonic_ns
        is_whole = source != CPU or before_ns.get(source, -1) >= 0
        before_ns[source] = at_ns
        for name, value in values.items():
            if name == READ_FAILED and at_ns <= duration_ns:
                yield TelemetrySample(max(0, at_ns), source, name, 1.0)
            elif 0 <= at_ns <= duration_ns and math.isfinite(value) and (is_whole or not name.endswith("_share")):
                yield TelemetrySample(at_ns, source, name, float(value))


@contextmanager
def telemetry_sampler(
    uuids: Sequence[str] = (),
    cpu_ids: Sequence[int] = (),
    period_s: float = PERIOD_S,
    answer_s_max: float = ANSWER_S_MAX,
) -> Iterator[TelemetrySampler]:
    """A sampler kept to `cpu_ids` (all CPUs if empty), ended on the way out."""
    sampler = TelemetrySampler(uuids, cpu_ids, period_s, answer_s_max)
    try:
        sampler.start()
        yield sampler
    finally:
        sampler.stop()
