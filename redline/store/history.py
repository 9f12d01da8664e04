"""What past trials say about noise: two questions to the database, answered in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from redline.store.database import WAIT_S, query

# A series is what may be compared: one runner class with one fingerprint, one scenario with one hash.
_NOISE = """
WITH counted AS (
    SELECT trial_id, metric, count(*) AS repeat_count, var_samp(value) / nullif(avg(value), 0) ** 2 AS cv_squared
    FROM repeat_readings
    JOIN (SELECT trial_id, "index" AS repeat FROM repeats WHERE drop_reason = '') USING (trial_id, repeat)
    WHERE isfinite(value)
    GROUP BY ALL
)
SELECT runner_class, fingerprint_id, scenario, scenario_hash, metric, sut_id, systems.label AS sut_label,
    count(*) AS trial_count,
    avg(value) AS mean,
    stddev_samp(value) / nullif(abs(avg(value)), 0) AS cv_between,
    CAST(coalesce(sum(repeat_count - 1) FILTER (cv_squared IS NOT NULL), 0) AS BIGINT) AS df_within,
    sqrt(sum((repeat_count - 1) * cv_squared) / nullif(df_within, 0)) AS cv_within
FROM readings
JOIN trials USING (trial_id)
JOIN systems USING (sut_id)
LEFT JOIN counted USING (trial_id, metric)
WHERE status = 'valid'
GROUP BY ALL
ORDER BY runner_class, scenario, metric, sut_label, sut_id, fingerprint_id, scenario_hash
"""

# Of two valid trials in one place (a round that was resumed) the later stands.
_PAIR_VARIANCES = """
WITH placed AS (
    SELECT run_id, runner_class, fingerprint_id, scenario, scenario_hash, metric, pair_index, arm, sut_id,
        ln(value) AS log_value, started_at
    FROM readings
    JOIN trials USING (trial_id)
    WHERE status = 'valid' AND value > 0 AND arm IN ('baseline', 'candidate') AND runner_class = ?
    QUALIFY row_number() OVER (
        PARTITION BY run_id, runner_class, scenario, scenario_hash, metric, pair_index, arm, fingerprint_id
        ORDER BY started_at DESC, trial_id DESC
    ) = 1
)
SELECT run_id, runner_class, fingerprint_id, scenario, scenario_hash, metric,
    baseline.sut_id AS baseline_sut_id, candidate.sut_id AS candidate_sut_id,
    count(*) AS pair_count,
    var_samp(candidate.log_value - baseline.log_value) AS variance
FROM (SELECT * FROM placed WHERE arm = 'baseline') AS baseline
JOIN (SELECT * FROM placed WHERE arm = 'candidate') AS candidate
    USING (run_id, runner_class, fingerprint_id, scenario, scenario_hash, metric, pair_index)
GROUP BY ALL
HAVING count(*) >= 2
ORDER BY min(baseline.started_at), run_id, scenario, metric, scenario_hash, fingerprint_id, baseline_sut_id,
    candidate_sut_id
"""


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """How much one metric of one system varies between valid trials of one series, and within them.

    `cv_between`: standard deviation of the trials' readings over their mean (ddof 1), None for one trial;
    it holds the repeats' share too. `cv_within`: of counted repeats about their own trial's mean, pooled by
    degrees of freedom `df_within`; None where no trial has two.
    """

    runner_class: str
    fingerprint_id: str
    scenario: str
    scenario_hash: str
    metric: str
    sut_id: str
    sut_label: str
    trial_count: int
    mean: float
    cv_between: float | None
    df_within: int
    cv_within: float | None


@dataclass(frozen=True, slots=True)
class PairVariance:
    """Variance of the paired log differences of one metric in one past round (a run with two arms).

    D_i = ln(candidate_i) - ln(baseline_i) over `pair_count` pairs of valid trials; the orientation of the
    metric does not change a variance. `pair_count - 1` degrees of freedom, ddof 1. Source: docs/method.md.
    """

    run_id: str
    runner_class: str
    fingerprint_id: str
    scenario: str
    scenario_hash: str
    metric: str
    baseline_sut_id: str
    candidate_sut_id: str
    pair_count: int
    variance: float


@dataclass(frozen=True, slots=True)
class OwnRounds:
    """The past rounds that may speak for one machine and the scenarios as they are now, and how many may not.

    `variances`: per (scenario, metric), oldest round first. `other_machine_count`, `other_version_count`: rounds of
    a scenario left out because another machine measured them, or because the scenario has changed (or is gone).
    """

    variances: Mapping[tuple[str, str], tuple[PairVariance, ...]]
    other_machine_count: int
    other_version_count: int


def noise(database_path: Path, *, wait_s: float = WAIT_S) -> tuple[NoiseRow, ...]:
    """The noise of every (series, metric, system) with a valid trial, sorted. Raises as `query`."""
    _, rows = query(database_path, _NOISE, wait_s=wait_s)
    return tuple(NoiseRow(*row) for row in rows)


def pair_variances(database_path: Path, runner_class: str, *, wait_s: float = WAIT_S) -> tuple[PairVariance, ...]:
    """The pair variances of a runner class, one per past round, scenario and metric, oldest round first.

    Rounds with fewer than two whole pairs say nothing and are left out. Raises as `query`.
    """
    _, rows = query(database_path, _PAIR_VARIANCES, (runner_class,), wait_s=wait_s)
    return tuple(PairVariance(*row) for row in rows)


def own_rounds(rows: Iterable[PairVariance], fingerprint_id: str, scenario_hashes: Mapping[str, str]) -> OwnRounds:
    """The rounds of one machine with the current scenarios (`scenario_hashes` by name), the others counted only.

    A round counts once per scenario, however many metrics it has.
    """
    variances: dict[tuple[str, str], list[PairVariance]] = {}
    other_machine: set[tuple[str, str]] = set()
    other_version: set[tuple[str, str]] = set()
    for row in rows:
        if row.fingerprint_id != fingerprint_id:
            other_machine.add((row.run_id, row.scenario))
        elif row.scenario_hash != scenario_hashes.get(row.scenario):
            other_version.add((row.run_id, row.scenario))
        else:
            variances.setdefault((row.scenario, row.metric), []).append(row)
    return OwnRounds({key: tuple(found) for key, found in variances.items()}, len(other_machine), len(other_version))
