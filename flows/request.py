"""What a command asks for, what a flow works with, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass

from flows.plan import Options, Plan, Wanted
from flows.progress import Narrator
from redline.errors import ExitCode
from redline.model import SystemUnderTest, Trial, Verdict
from reports.data import NextStep, ScenarioSection


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One build or endpoint to measure against the accepted baselines."""

    wanted: Wanted
    options: Options


@dataclass(frozen=True, slots=True)
class GateRequest:
    """Two systems to compare in interleaved pairs."""

    baseline: Wanted
    candidate: Wanted
    options: Options


@dataclass(frozen=True, slots=True)
class NightlyRequest:
    """Tonight's build, judged by the nights before it; `date` is the night's name, YYYY-MM-DD."""

    wanted: Wanted
    date: str
    options: Options


@dataclass(frozen=True, slots=True)
class Judged:
    """What a flow hands back: the verdict and everything the report shows beside it."""

    verdict: Verdict
    trials: tuple[Trial, ...] = ()
    sections: tuple[ScenarioSection, ...] = ()
    baseline: SystemUnderTest | None = None
    candidate: SystemUnderTest | None = None
    next_steps: tuple[NextStep, ...] = ()
    error: str = ""
    exit_code: ExitCode | None = None


@dataclass(slots=True)
class Seen:
    """What a flow has so far: an error report shows it, nothing measured is lost with the error."""

    baseline: SystemUnderTest | None = None
    candidate: SystemUnderTest | None = None
    trials: tuple[Trial, ...] = ()

    def add(self, trial: Trial) -> None:
        """Note a trial as soon as it is written."""
        self.trials = (*self.trials, trial)


@dataclass(frozen=True, slots=True)
class Session:
    """What a flow needs to work: the plan, whom to tell, and where it notes what it has."""

    narrator: Narrator
    plan: Plan
    options: Options
    seen: Seen


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user gets to see: lines for standard output and the exit code."""

    lines: tuple[str, ...]
    exit_code: ExitCode
