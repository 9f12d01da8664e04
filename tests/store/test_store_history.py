"""Noise and pair variances from past trials, held against a slow and obvious oracle."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest

from redline.metrics import CATALOGUE, reading_of
from redline.model import Arm, RunnerFingerprint, TrialStatus
from redline.store.database import ingest
from redline.store.history import noise, pair_variances
from redline.store.trials import write_trial
from tests.store.trial_examples import make_pin, make_trial


def test_noise_is_that_of_the_readings(tmp_path: Path) -> None:
    """Between-trial and within-trial variation are those of the valid trials' readings and counted repeats."""
    trials = [make_trial(f"t{number}", seed=number) for number in range(5)]
    for trial in [*trials, make_trial("bad", seed=99, status=TrialStatus.INVALID)]:
        write_trial(tmp_path / "trials", trial)
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    rows = {row.metric: row for row in noise(tmp_path / "redline.db")}
    for metric in ("tpot_s_median", "output_tokens_per_s", "itl_s_p99"):
        values = [found.value for trial in trials if (found := reading_of(trial, metric)) is not None]
        within = []
        for trial in trials:
            of_repeats = [CATALOGUE[metric].formula(repeat) or 0.0 for repeat in trial.counted_repeats]
            within.append((statistics.stdev(of_repeats) / statistics.fmean(of_repeats)) ** 2)
        assert rows[metric].trial_count == 5
        assert rows[metric].cv_between == pytest.approx(statistics.stdev(values) / statistics.fmean(values), rel=1e-9)
        assert rows[metric].cv_within == pytest.approx(math.sqrt(statistics.fmean(within)), rel=1e-9)
        assert rows[metric].df_within == 5 * 2


def test_one_trial_has_no_noise_between(tmp_path: Path) -> None:
    """From one trial nothing is known about variation between trials, and none is made up."""
    write_trial(tmp_path / "trials", make_trial(repeat_count=2))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    for row in noise(tmp_path / "redline.db"):
        assert (row.trial_count, row.cv_between, row.df_within, row.cv_within) == (1, None, 0, None)


def test_series_are_never_mixed(tmp_path: Path) -> None:
    """Another build, another machine and another scenario content each open a row of their own."""
    changes: list[dict[str, object]] = [
        {},
        {"pin": make_pin("0.31.0")},
        {"fingerprint": RunnerFingerprint({"cpu": "other"})},
        {"scenario_hash": "fedcba9876543210"},
        {"runner_class": "gpu"},
    ]
    for number, change in enumerate(changes):
        write_trial(tmp_path / "trials", make_trial(f"t{number}", **change))  # type: ignore[arg-type]
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert len([row for row in noise(tmp_path / "redline.db") if row.metric == "tpot_s_median"]) == len(changes)


def test_pair_variances(tmp_path: Path) -> None:
    """A round's variance is that of the log differences of its whole pairs of valid trials, one row per metric."""
    differences = []
    for pair in range(4):
        arms = {
            arm: make_trial(
                f"r1-{pair}-{arm}",
                seed=10 * pair + number,
                arm=arm,
                pair_index=pair,
                status=TrialStatus.INVALID if pair == 3 and arm is Arm.CANDIDATE else TrialStatus.VALID,
            )
            for number, arm in enumerate((Arm.BASELINE, Arm.CANDIDATE))
        }
        for trial in arms.values():
            write_trial(tmp_path / "trials", trial)
        readings = {arm: reading_of(trial, "tpot_s_median") for arm, trial in arms.items()}
        baseline, candidate = readings[Arm.BASELINE], readings[Arm.CANDIDATE]
        assert baseline is not None
        assert candidate is not None
        if pair < 3:
            differences.append(math.log(candidate.value) - math.log(baseline.value))
    write_trial(tmp_path / "trials", make_trial("lone", run_id="run-2", arm=Arm.BASELINE))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    found = {row.metric: row for row in pair_variances(tmp_path / "redline.db", "cpu")}
    assert found["tpot_s_median"].pair_count == 3
    assert found["tpot_s_median"].variance == pytest.approx(statistics.variance(differences), rel=1e-9)
    assert {row.run_id for row in found.values()} == {"run-1"}
    assert pair_variances(tmp_path / "redline.db", "gpu") == ()


def test_a_pair_measured_again_counts_once(tmp_path: Path) -> None:
    """Of two valid trials in one place of a round the later stands."""
    for pair in range(2):
        for number, arm in enumerate((Arm.BASELINE, Arm.CANDIDATE)):
            write_trial(tmp_path / "trials", make_trial(f"{pair}{arm}", seed=pair + number, arm=arm, pair_index=pair))
    later = make_trial("again", seed=7, arm=Arm.CANDIDATE, pair_index=1, started_at="2026-11-22T10:00:00Z")
    write_trial(tmp_path / "trials", later)
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert {row.pair_count for row in pair_variances(tmp_path / "redline.db", "cpu")} == {2}
