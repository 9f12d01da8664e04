"""A/A rounds in the store: runs whose two arms are the same system, with their readings and windows.

Whatever such a round flags is a false alarm, and whatever it shows is noise. Rows carry their series (runner
class, fingerprint, scenario, scenario hash): rows of different series are never to be pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redline.model import Arm
from redline.store.database import WAIT_S, query

# A run on one machine whose baselines and candidates are all of one system, and which has both.
_SAME_SYSTEM = """
SELECT run_id, runner_class, fingerprint_id
FROM trials
WHERE arm IN ('baseline', 'candidate') AND runner_class = coalesce(?, runner_class)
GROUP BY ALL
HAVING count(DISTINCT sut_id) = 1 AND count(DISTINCT arm) = 2
"""

# Of two valid trials in one place (a pair that was measured again) the later stands, as in redline.store.history.
_VALID = f"""
same_system AS ({_SAME_SYSTEM}),
placed AS (
    SELECT trials.*
    FROM trials
    JOIN same_system USING (run_id, runner_class, fingerprint_id)
    WHERE status = 'valid' AND arm IN ('baseline', 'candidate')
    QUALIFY row_number() OVER (
        PARTITION BY run_id, runner_class, fingerprint_id, scenario, scenario_hash, pair_index, arm
        ORDER BY started_at DESC, trial_id DESC
    ) = 1
)
"""  # noqa: S608 - both parts are this module's own text

_ROUNDS = f"""
WITH same_system AS ({_SAME_SYSTEM})
SELECT run_id, runner_class, fingerprint_id, scenario, scenario_hash, sut_id, systems.label AS sut_label,
    min(started_at) AS started_at,
    count(*) AS trial_count,
    count(*) FILTER (status = 'valid') AS valid_count
FROM trials
JOIN same_system USING (run_id, runner_class, fingerprint_id)
JOIN systems USING (sut_id)
WHERE arm IN ('baseline', 'candidate')
GROUP BY ALL
ORDER BY started_at, run_id, runner_class, fingerprint_id, scenario, scenario_hash
"""  # noqa: S608

_READINGS = f"""
WITH {_VALID}
SELECT run_id, runner_class, fingerprint_id, scenario, scenario_hash, pair_index, arm, trial_id, start_s,
    metric, value
FROM placed
JOIN readings USING (trial_id)
ORDER BY run_id, scenario, scenario_hash, metric, pair_index, arm
"""  # noqa: S608

_WINDOWS = f"""
WITH {_VALID}
SELECT trial_id, metric, repeat, value, duration_ns / 1e9 AS duration_s
FROM repeat_readings
JOIN (SELECT trial_id, "index" AS repeat, duration_ns FROM repeats WHERE drop_reason = '') USING (trial_id, repeat)
JOIN (SELECT trial_id FROM placed) USING (trial_id)
WHERE isfinite(value) AND value > 0
ORDER BY trial_id, metric, repeat
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class AARoundRow:
    """One scenario of one recorded A/A round, whatever became of its trials.

    `started_at`: of this scenario's first trial, ISO 8601; `trial_count`: of both arms, `valid_count` of them valid.
    """

    run_id: str
    runner_class: str
    fingerprint_id: str
    scenario: str
    scenario_hash: str
    sut_id: str
    sut_label: str
    started_at: str
    trial_count: int
    valid_count: int


@dataclass(frozen=True, slots=True)
class AAReading:
    """One metric of one valid trial of an A/A round, in the metric's base unit."""

    run_id: str
    runner_class: str
    fingerprint_id: str
    scenario: str
    scenario_hash: str
    pair_index: int
    arm: Arm
    trial_id: str
    start_s: float
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class AAWindow:
    """One metric in one counted window (`repeat`) of a valid trial of an A/A round; `value` is above 0."""

    trial_id: str
    metric: str
    repeat: int
    value: float
    duration_s: float


def aa_rounds(
    database_path: Path, runner_class: str | None = None, *, wait_s: float = WAIT_S
) -> tuple[AARoundRow, ...]:
    """The recorded A/A rounds of a runner class (None: of all), a row per scenario, oldest first. Raises as `query`."""
    _, rows = query(database_path, _ROUNDS, (runner_class,), wait_s=wait_s)
    return tuple(AARoundRow(*row) for row in rows)


def aa_readings(
    database_path: Path, runner_class: str | None = None, *, wait_s: float = WAIT_S
) -> tuple[AAReading, ...]:
    """The readings of the valid trials of A/A rounds, a row per trial and metric. Raises as `query`."""
    _, rows = query(database_path, _READINGS, (runner_class,), wait_s=wait_s)
    return tuple(AAReading(*(*row[:6], Arm(row[6]), *row[7:])) for row in rows)


def aa_windows(database_path: Path, runner_class: str | None = None, *, wait_s: float = WAIT_S) -> tuple[AAWindow, ...]:
    """What the counted windows of those trials read, a row per window and metric. Raises as `query`."""
    _, rows = query(database_path, _WINDOWS, (runner_class,), wait_s=wait_s)
    return tuple(AAWindow(*row) for row in rows)
