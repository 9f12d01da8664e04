"""From the store's A/A rows to what `checks.health` takes: rounds of whole valid pairs, series by series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.false_alarms import AARound
from checks.gate import Key, PairedReadings
from checks.metric_health import WindowReading
from checks.prior import VariancePrior, fit_prior
from redline.model import Arm
from redline.store.aa_rounds import AAReading, AARoundRow, AAWindow, aa_readings, aa_rounds, aa_windows
from redline.store.history import PairVariance, pair_variances

ACCURACY = "exact_match"


@dataclass(frozen=True, slots=True)
class Series:
    """What may be pooled: one runner class on one machine, each scenario in one version."""

    runner_class: str
    fingerprint_id: str
    scenario_hashes: Mapping[str, str]

    def holds(self, row: AARoundRow | AAReading | PairVariance) -> bool:
        """True if the row is of this series."""
        return (row.runner_class, row.fingerprint_id) == (
            self.runner_class,
            self.fingerprint_id,
        ) and self.scenario_hashes.get(row.scenario) == row.scenario_hash


@dataclass(frozen=True, slots=True)
class Recorded:
    """Everything about A/A rounds in a store; `variances` are of every gate, oldest first."""

    rounds: tuple[AARoundRow, ...]
    readings: tuple[AAReading, ...]
    windows: tuple[AAWindow, ...]
    variances: tuple[PairVariance, ...]


@dataclass(frozen=True, slots=True)
class SeriesData:
    """One series as it is judged. `empty_count`: rounds without one whole valid pair, which are not in `rounds`."""

    rounds: tuple[AARound, ...]
    windows: Mapping[Key, tuple[WindowReading, ...]]
    priors: Mapping[Key, VariancePrior]
    empty_count: int


def read(database_path: Path, runner_class: str | None) -> Recorded:
    """The A/A rounds of a runner class, or of all. Raises as `redline.store.database.query`."""
    rounds = aa_rounds(database_path, runner_class)
    classes = dict.fromkeys(row.runner_class for row in rounds)
    return Recorded(
        rounds=rounds,
        readings=aa_readings(database_path, runner_class),
        windows=aa_windows(database_path, runner_class),
        variances=tuple(row for name in classes for row in pair_variances(database_path, name)),
    )


def every_series(recorded: Recorded) -> tuple[Series, ...]:
    """Every series of speed rounds, oldest first. Rounds of some of a series' scenarios join the larger one."""
    scored = {(row.scenario, row.scenario_hash) for row in recorded.readings if row.metric == ACCURACY}
    suites: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in recorded.rounds:
        if (row.scenario, row.scenario_hash) not in scored:
            place = (row.runner_class, row.fingerprint_id, row.run_id)
            suites.setdefault(place, {})[row.scenario] = row.scenario_hash
    found: list[Series] = []
    distinct = [Series(runner, machine, hashes) for (runner, machine, _), hashes in suites.items()]
    for series in sorted(distinct, key=lambda each: -len(each.scenario_hashes)):
        if not any(_part_of(series, larger) for larger in found):
            found.append(series)
    return tuple(sorted(found, key=distinct.index))


def _part_of(series: Series, larger: Series) -> bool:
    same_place = (series.runner_class, series.fingerprint_id) == (larger.runner_class, larger.fingerprint_id)
    return same_place and series.scenario_hashes.items() <= larger.scenario_hashes.items()


def data_of(series: Series, keys: Sequence[Key], recorded: Recorded) -> SeriesData:
    """The rounds of a series, oldest first. A pair counts if both arms have every reading of the round's scenarios."""
    rows = [row for row in recorded.rounds if series.holds(row)]
    values: dict[str, dict[tuple[Key, int, Arm], AAReading]] = {}
    for reading in recorded.readings:
        key = (reading.scenario, reading.metric)
        if key in keys and series.holds(reading):
            values.setdefault(reading.run_id, {})[key, reading.pair_index, reading.arm] = reading
    windows: dict[str, list[AAWindow]] = {}
    for window in recorded.windows:
        windows.setdefault(window.trial_id, []).append(window)
    rounds: list[AARound] = []
    shown: dict[Key, list[WindowReading]] = {key: [] for key in keys}
    run_ids = dict.fromkeys(row.run_id for row in rows)
    for run_id in run_ids:
        of_run = [row for row in rows if row.run_id == run_id]
        own_keys = [key for key in keys if key[0] in {row.scenario for row in of_run}]
        found = values.get(run_id, {})
        indices = _whole_pairs(own_keys, found)
        if not indices:
            continue
        day, system = min(row.started_at for row in of_run)[:10], of_run[0].sut_id
        pairs = tuple(_paired(key, indices, found) for key in own_keys)
        rounds.append(AARound(run_id, day, system, pairs, _priors_before(run_id, keys, series, recorded)))
        for key in own_keys:
            for index in indices:
                for arm in (Arm.BASELINE, Arm.CANDIDATE):
                    reading = found[key, index, arm]
                    shown[key] += _windows_of(reading, windows.get(reading.trial_id, ()), day, system)
    return SeriesData(
        rounds=tuple(rounds),
        windows={key: tuple(each) for key, each in shown.items()},
        priors=_priors_before(None, keys, series, recorded),
        empty_count=len(run_ids) - len(rounds),
    )


def _whole_pairs(keys: Sequence[Key], found: Mapping[tuple[Key, int, Arm], AAReading]) -> list[int]:
    arms = (Arm.BASELINE, Arm.CANDIDATE)
    return [
        index
        for index in sorted({index for _, index, _ in found})
        if all((key, index, arm) in found for key in keys for arm in arms)
    ]


def _paired(key: Key, indices: Sequence[int], found: Mapping[tuple[Key, int, Arm], AAReading]) -> PairedReadings:
    baseline, candidate = (
        tuple(found[key, index, arm].value for index in indices) for arm in (Arm.BASELINE, Arm.CANDIDATE)
    )
    return PairedReadings(key[0], key[1], baseline, candidate)


def _windows_of(reading: AAReading, windows: Iterable[AAWindow], day: str, system: str) -> list[WindowReading]:
    return [
        WindowReading(
            system=system,
            day=day,
            pair=f"{reading.run_id}/{reading.pair_index}",
            deployment=reading.trial_id,
            value=window.value,
            start_s=reading.start_s,
            duration_s=window.duration_s,
        )
        for window in windows
        if window.metric == reading.metric
    ]


def _priors_before(
    run_id: str | None, keys: Sequence[Key], series: Series, recorded: Recorded
) -> dict[Key, VariancePrior]:
    """The priors that a gate had before this run, from every earlier gate of the series; None: of the next gate."""
    history: dict[Key, list[tuple[float, float]]] = {key: [] for key in keys}
    for row in recorded.variances:
        if row.run_id == run_id and series.holds(row):
            break
        if series.holds(row) and (row.scenario, row.metric) in history:
            history[row.scenario, row.metric].append((row.variance, row.pair_count - 1.0))
    return {key: fit_prior(rounds) for key, rounds in history.items()}
