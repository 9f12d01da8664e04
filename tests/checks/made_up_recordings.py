"""Recorded pasts with a known truth, for the tests of the replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from checks.replay import Choice, Recording, recording
from tests.checks.policies import GPU

FIRST_NIGHT = date(2026, 1, 5)  # a Monday
METRIC = "tpot_s_median"


@dataclass(frozen=True, slots=True)
class Row:
    """A recorded reading."""

    build: str
    date: str
    runner: str = "r"
    scenario: str = "s"
    metric: str = METRIC
    reading: float = 0.01
    deployment: str = "1"
    repeat: int = 0
    definition: str = ""


def day(index: int) -> str:
    """The date of a night by its number."""
    return (FIRST_NIGHT + timedelta(days=index)).isoformat()


def nights(count, *, step_at=None, worse=0.05, cv=0.01, seed=3, build=None, **named):
    """One reading a night, `worse` from night `step_at` on; every night a build of its own unless one is given."""
    logs = np.random.default_rng(seed).normal(0.0, cv, count)
    if step_at is not None:
        logs[step_at:] += np.log1p(worse)
    return [
        Row(build or f"b{index}", f"{day(index)}T02:00", reading=0.01 * float(np.exp(logs[index])), **named)
        for index in range(count)
    ]


def releases(count, step_at, *, worse=0.05, **named):
    """Nights of the build "old" before the step and of "new" from it on."""
    rows = nights(count, step_at=step_at, worse=worse, **named)
    return [replace(row, build="old" if index < step_at else "new") for index, row in enumerate(rows)]


def pairs(night, baseline, candidate, count=8, *, worse=0.0, level=0.0, cv=0.01, seed=9, **named):
    """Deployments of two builds on one night after the nightly's: both `level` worse, the candidate `worse` too."""
    readings = np.exp(np.random.default_rng(seed).normal(np.log1p(level), cv, (2, count))) * 0.01
    return [
        Row(
            build,
            f"{day(night)}T03:{2 * index + arm:02d}",
            reading=float(readings[arm, index]) * (1 + arm * worse),
            deployment=f"pair-{index}-{arm}",
            **named,
        )
        for index in range(count)
        for arm, build in enumerate((baseline, candidate))
    ]


def recorded(rows, policy=GPU, *, primaries_only=False, **choice) -> Recording:
    """The series of these rows."""
    return recording(rows, Choice(**choice), policy, primaries_only=primaries_only)
