"""What a report is made of. Frozen values, filled by the flows; nothing here reads a clock or a file."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from redline.model import (
    Arm,
    Justification,
    ReplicaReading,
    RunnerFingerprint,
    Sample,
    SystemUnderTest,
    TargetReading,
    Trial,
    TrialStatus,
    ValidityReading,
    Verdict,
    require,
)
from reports.mlperf import MlperfSection
from reports.telemetry import MachineSection


class ReportKind(enum.StrEnum):
    """What was asked for: one measurement against a stored baseline, both arms now, or both for a release."""

    RUN = "run"
    GATE = "gate"
    SIGNOFF = "sign-off"
    NIGHTLY = "nightly"


@dataclass(frozen=True, slots=True)
class ScenarioSection:
    """One scenario of the report.

    Its rows come from the verdict's comparisons of this scenario. `samples` are the candidate's readings:
    a metric that has a sample but no comparison is shown with the candidate's values alone. `remarks`: what a
    reader of its latencies must know of how they were taken (the client's own error, a closed loop). `targets`: what
    the answers had to reach, of every trial. `mlperf`: what MLPerf's rules say of a window. `replicas`: what each of
    several servers did, per arm.
    """

    name: str
    description: str
    scenario_hash: str
    trial_counts: tuple[tuple[Arm, int], ...]
    samples: tuple[Sample, ...] = ()
    remarks: tuple[str, ...] = ()
    targets: tuple[TargetReading, ...] = ()
    mlperf: tuple[MlperfSection, ...] = ()
    replicas: tuple[tuple[Arm, tuple[ReplicaReading, ...]], ...] = ()
    machine: tuple[MachineSection, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialValidity:
    """Every validity rule of one trial with its reading, kept or broken."""

    arm: Arm
    scenario: str
    trial_id: str
    status: TrialStatus
    readings: tuple[ValidityReading, ...]
    detail: str = ""

    @property
    def broken(self) -> tuple[ValidityReading, ...]:
        """The rules that were broken, in order."""
        return tuple(reading for reading in self.readings if not reading.ok)


@dataclass(frozen=True, slots=True)
class DroppedRepeats:
    """How many windows of one arm in one scenario were dropped for one reason."""

    arm: Arm
    scenario: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class NextStep:
    """One thing the reader can do now: prose without a full stop, and the command that does it if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report says. `generated_at` and `started_at` are UTC labels; `duration_s` in seconds.

    `baseline` is None when nothing was accepted yet, `candidate` when the build was never resolved.
    `repeat_command` repeats exactly this; `data_location` is where the trials are kept; `error` is the text
    of the failure of a verdict `error`, empty otherwise. `run_id`: empty in what is not of one run.
    """

    kind: ReportKind
    verdict: Verdict
    scenarios: tuple[ScenarioSection, ...]
    validity: tuple[TrialValidity, ...]
    baseline: SystemUnderTest | None
    candidate: SystemUnderTest | None
    fingerprint: RunnerFingerprint
    runner_class: str
    policy: str
    repeat_command: str
    generated_at: str
    started_at: str
    duration_s: float
    data_location: str
    trial_ids: tuple[str, ...] = ()
    dropped: tuple[DroppedRepeats, ...] = ()
    next_steps: tuple[NextStep, ...] = ()
    error: str = ""
    run_id: str = ""

    def __post_init__(self) -> None:
        require(bool(self.repeat_command.strip()), "repeat_command must not be empty: a report can be repeated")
        require(math.isfinite(self.duration_s) and self.duration_s >= 0, "duration_s must be finite and not negative")


def trial_validity(trial: Trial) -> TrialValidity:
    """What the report lists of a trial's validity."""
    return TrialValidity(trial.arm, trial.scenario, trial.trial_id, trial.status, trial.validity, trial.detail)


def dropped_repeats(trials: Iterable[Trial]) -> tuple[DroppedRepeats, ...]:
    """The dropped windows of the trials, counted per arm, scenario and kind of reason, in order of appearance.

    The kind is what stands before the colon; each repeat keeps its whole reason in the store.
    """
    counts = Counter(
        (trial.arm, trial.scenario, repeat.drop_reason.split(":", 1)[0])
        for trial in trials
        for repeat in trial.repeats
        if repeat.drop_reason
    )
    return tuple(DroppedRepeats(arm, scenario, reason, count) for (arm, scenario, reason), count in counts.items())


@dataclass(frozen=True, slots=True)
class Change:
    """What is judged on GitHub: a pull request (`number` above 0) or a commit. `title` is an outsider's text."""

    repository: str
    number: int
    head_sha: str
    base_sha: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """One runner class of an answer: its report, or why there is none. `url`: of the job, for who wants its log."""

    runner_class: str
    report: ReportData | None
    problem: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        require(
            (self.report is None) == bool(self.problem), "a leg has a report, or a problem that says why it has none"
        )


@dataclass(frozen=True, slots=True)
class PublishedAnswer:
    """The answer of every runner class to one question: what summary, comment, check run and issue are rendered from.

    `url`: of the workflow run; `artifacts_url`: where whole reports and trials are kept. `outdated`: the commit was
    replaced by a newer one while it was measured. `justification`: why a regression is taken all the same. `chosen`:
    somebody chose the scenarios, so it is no answer for the whole; `left_out`: those that were not measured for it.
    """

    kind: ReportKind
    legs: tuple[Leg, ...]
    change: Change | None = None
    url: str = ""
    artifacts_url: str = ""
    outdated: bool = False
    justification: Justification | None = None
    chosen: bool = False
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.legs) > 0, "an answer needs a leg, be it one that died")
        require(self.chosen or not self.left_out, "only a choice leaves scenarios out")
