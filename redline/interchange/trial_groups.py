"""Valid trials of one system in one scenario on one machine: what a row of somebody else's table is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redline.errors import UsageError
from redline.model import SystemUnderTest, Trial, TrialStatus


@dataclass(frozen=True, slots=True)
class TrialGroup:
    """Trials whose readings are of one thing; at least one."""

    sut: SystemUnderTest
    scenario: str
    scenario_hash: str
    runner_class: str
    trials: tuple[Trial, ...]


def groups_of(trials: Iterable[Trial]) -> tuple[TrialGroup, ...]:
    """The valid trials by system, scenario and its hash, runner class and fingerprint, in order of appearance.

    Raises UsageError if there is none: what is not valid is evidence of nothing and is not handed on.
    """
    given = tuple(trials)
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in given:
        if trial.status is TrialStatus.VALID:
            key = (
                trial.sut.sut_id,
                trial.scenario,
                trial.scenario_hash,
                trial.runner_class,
                trial.fingerprint.fingerprint_id,
            )
            groups.setdefault(key, []).append(trial)
    if not groups:
        raise UsageError(
            "there is no valid trial to export",
            expected="at least one valid trial",
            found=f"{len(given)} trials, none of them valid" if given else "no trial",
            next_step="export raw requests with the parquet or vllm-bench format instead",
        )
    return tuple(
        TrialGroup(ours[0].sut, ours[0].scenario, ours[0].scenario_hash, ours[0].runner_class, tuple(ours))
        for ours in groups.values()
    )
