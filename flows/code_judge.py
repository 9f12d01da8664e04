"""Answers that are programs, run on their tests: only in the sandbox, only where somebody asked for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from flows.workload import Work
from redline.errors import SandboxError, UsageError
from redline.model import Item, digest
from redline.runner.fingerprint import usable_cpu_ids
from redline.sandbox.harness import function_program, whole_program
from redline.sandbox.programs import Ending, ProgramLimits, ProgramResult, run_python, sandbox
from redline.scoring.code_answer import CodeTask, CodeTest, Failure, same_output, same_value, task_of
from redline.scoring.final_answer import not_run, program_of, ran
from redline.scoring.items import ItemResult

NO_TESTS = "the program was not run: the data set has no tests of it"
OUT_OF_TIME = "the program was not run to its end: the time for all programs was over"
SAID_CHARACTERS_MAX = 160
AT_ONCE_MAX = 16


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """What judging may take: each test (`test`), all tests of one answer and all answers, in seconds of the clock.

    Source of 6 s a test: LiveCodeBench's runner. The other two are Redline's own bounds: LiveCodeBench has 7 s a test
    and none.
    """

    test: ProgramLimits = field(default_factory=lambda: ProgramLimits(time_s=6.0, processes=4))
    item_s_max: float = 300.0
    total_s_max: float = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of one program, and in words why it is not right; empty if it is."""

    result: ItemResult
    reason: str = ""


def require_runnable(works: Mapping[str, Work]) -> None:
    """See that there is something to run and a place to run it in, before anything is started.

    Raises UsageError if no scenario has programs with tests, SandboxError if no sandbox works on this machine.
    """
    if not any(work.scorer and has_tests(work.items) for work in works.values()):
        raise UsageError(
            "--run-code has nothing to run",
            expected="a scenario for accuracy whose data set has programs with their tests",
            found=f"none in {', '.join(works)}",
            next_step="lay code_tests.jsonl beside the data set's file and prepare it again, or leave --run-code out",
        )
    sandbox()


def identity_of(identity: str, work: Work, *, is_run: bool) -> str:
    """A scenario's identity, 16 hex digits: another one where programs are run, which changes what the scores mean."""
    return digest([identity, "programs are run"]) if is_run and work.scorer and has_tests(work.items) else identity


def has_tests(items: Iterable[Item]) -> bool:
    """True if an item has a program's tests."""
    return any(item.reference.startswith("code:{") for item in items)


def remarks_of(figures: Mapping[str, float]) -> tuple[str, ...]:
    """What a reader of these figures must know of the programs among the answers; empty if there are none."""
    said = []
    if unrun := round(figures.get("not_run", 0)):
        said.append(f"Programs that were not run, and are in no percentage: {unrun} (`--run-code` runs them).")
    failed = [
        f"{round(figures[name])} {failure.replace('_', ' ')}"
        for failure in Failure
        if figures.get(name := f"code_{failure}")
    ]
    if failed:
        said.append(f"Programs that were run and failed: {', '.join(failed)}.")
    return tuple(said)


def judged(answers: Sequence[tuple[str, str]], limits: JudgeLimits | None = None) -> list[Judged]:
    """What becomes of each (answer, reference) whose answer holds a program, in their order.

    A program that could not be run to its end for a reason that is not its own is `not_run`, and never wrong. Raises
    SandboxError if this machine has no sandbox: then nothing was run; ContentError for a reference that is not whole.
    """
    limits = limits or JudgeLimits()
    work = [(program_of(answer) or "", task_of(reference)) for answer, reference in answers]
    sandbox()
    judge = _Judge(limits, time.monotonic() + limits.total_s_max)
    at_once = min(AT_ONCE_MAX, max(1, len(usable_cpu_ids()) // 2))
    with ThreadPoolExecutor(at_once, thread_name_prefix="code-judge") as threads:
        try:
            return list(threads.map(lambda each: judge.judged(*each), work))
        finally:
            judge.stop.set()  # whoever interrupts waits for one test, not for all of them


class _Judge:
    """Judges programs until its time is over, or it is told to stop."""

    def __init__(self, limits: JudgeLimits, deadline_s: float) -> None:
        self._limits = limits
        self._deadline_s = deadline_s
        self.stop = threading.Event()

    def judged(self, source: str, task: CodeTask | None) -> Judged:
        """One program on its tests, in their order, up to the first that fails."""
        if task is None:
            return Judged(not_run(NO_TESTS), NO_TESTS)
        program = function_program(source, task.function) if task.function else whole_program(source)
        begin_s = time.monotonic()
        for number, test in enumerate(task.tests, start=1):
            now_s = time.monotonic()
            if self.stop.is_set() or now_s >= self._deadline_s:
                return Judged(not_run(OUT_OF_TIME), OUT_OF_TIME)
            left_s = self._limits.item_s_max - (now_s - begin_s)
            if left_s <= 0:
                return _failed(Failure.TIME, f"its tests took over {self._limits.item_s_max:g} s together", "")
            try:
                result = run_python(program, test.given, self._limited(left_s))
            except (SandboxError, OSError) as error:
                why = f"the program was not run: {_plain(getattr(error, 'found', '') or str(error))}"
                return Judged(not_run(why), why)
            if failure := _failure(result, test, is_call=bool(task.function)):
                return _failed(failure, f"in test {number} of {len(task.tests)}", _said(failure, result, test))
        return Judged(ran())

    def _limited(self, left_s: float) -> ProgramLimits:
        return replace(self._limits.test, time_s=min(self._limits.test.time_s, left_s))


_BY_ENDING = {Ending.TIME: Failure.TIME, Ending.OUTPUT: Failure.OUTPUT, Ending.FAILED: Failure.CRASHED}
_WORDS = {
    Failure.WRONG: "gave a wrong output",
    Failure.CRASHED: "crashed",
    Failure.TIME: "ran out of time",
    Failure.OUTPUT: "wrote too much",
}


def _failure(result: ProgramResult, test: CodeTest, *, is_call: bool) -> Failure | None:
    if result.ending is not Ending.OK:
        return _BY_ENDING[result.ending]
    same = same_value if is_call else same_output
    return None if same(result.stdout, test.expected) else Failure.WRONG


def _failed(failure: Failure, where: str, said: str) -> Judged:
    return Judged(ran(failure), f"the program {_WORDS[failure]}: {where}" + (f": {said}" if said else ""))


def _said(failure: Failure, result: ProgramResult, test: CodeTest) -> str:
    """What a reader needs beside the test's number, short, and harmless wherever it is printed."""
    if failure is Failure.WRONG:
        return f"{_plain(result.stdout[:99])!r} instead of {_plain(test.expected[:99])!r}"
    if failure is Failure.CRASHED:
        last = (result.stderr_tail.strip().splitlines() or [f"exit status {result.exit_status}"])[-1]
        return _plain(last)
    return ""


def _plain(text: str) -> str:
    """One printable line of at most 160 characters, whatever a stranger's program wrote."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= SAID_CHARACTERS_MAX else f"{line[:SAID_CHARACTERS_MAX]}..."
