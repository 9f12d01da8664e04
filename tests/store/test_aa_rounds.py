"""A/A rounds are found by what was measured, and their rows agree with the trials they were read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.metrics import CATALOGUE, reading_of
from redline.model import Arm, RunnerFingerprint, SystemUnderTest, TrialStatus
from redline.store.aa_rounds import aa_readings, aa_rounds, aa_windows
from redline.store.database import ingest
from redline.store.trials import write_trial
from tests.store.trial_examples import make_pin, make_trial


def write_pair(trials: Path, name: str, pair: int = 0, **changes: object) -> None:
    """Both arms of one pair of a run."""
    for number, arm in enumerate((Arm.BASELINE, Arm.CANDIDATE)):
        trial = make_trial(
            f"{name}-{pair}-{arm}", seed=10 * pair + number, run_id=name, arm=arm, pair_index=pair, **changes
        )
        write_trial(trials, trial)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """One A/A round of two pairs and an invalid one, a real gate, a run alone, and an A/A round of another machine."""
    trials = tmp_path / "trials"
    for pair in range(2):
        write_pair(trials, "aa", pair)
    write_pair(trials, "aa", 2, status=TrialStatus.INVALID)
    write_trial(trials, make_trial("gate-a", run_id="gate", arm=Arm.BASELINE))
    other = SystemUnderTest(make_pin("0.33.0"))
    write_trial(trials, make_trial("gate-b", run_id="gate", arm=Arm.CANDIDATE, sut=other))
    write_trial(trials, make_trial("alone", run_id="alone"))
    write_trial(trials, make_trial("half", run_id="half", arm=Arm.BASELINE))
    write_pair(
        trials,
        "elsewhere",
        runner_class="gpu",
        fingerprint=RunnerFingerprint({"cpu": "other"}),
        started_at="2026-11-20T10:00:00Z",
    )
    ingest(trials, tmp_path / "redline.duckdb")
    return tmp_path / "redline.duckdb"


def test_only_equal_arms_make_a_round(database: Path) -> None:
    """A gate of two builds, a run alone and half a round are no A/A rounds; the oldest round comes first."""
    found = aa_rounds(database)
    assert [(row.run_id, row.runner_class) for row in found] == [("elsewhere", "gpu"), ("aa", "cpu")]
    assert [(row.trial_count, row.valid_count) for row in found] == [(2, 2), (6, 4)]
    assert found[0].fingerprint_id != found[1].fingerprint_id
    assert [row.run_id for row in aa_rounds(database, "cpu")] == ["aa"]
    assert aa_rounds(database, "tpu") == ()


def test_readings_are_those_of_the_valid_trials(database: Path) -> None:
    """Every reading of every valid trial, once, as `redline.metrics` reads it; nothing of the others."""
    rows = {(row.trial_id, row.metric): row for row in aa_readings(database, "cpu")}
    assert {trial_id for trial_id, _ in rows} == {
        f"aa-{pair}-{arm}" for pair in (0, 1) for arm in ("baseline", "candidate")
    }
    for pair in (0, 1):
        for number, arm in enumerate((Arm.BASELINE, Arm.CANDIDATE)):
            expected = reading_of(make_trial(seed=10 * pair + number), "tpot_s_median")
            row = rows[f"aa-{pair}-{arm}", "tpot_s_median"]
            assert expected is not None
            assert row.value == pytest.approx(expected.value, rel=1e-12)
            assert (row.arm, row.pair_index, row.start_s, row.run_id) == (arm, pair, 24.5, "aa")


def test_windows_are_the_counted_ones(database: Path) -> None:
    """Each counted window of a valid trial, its value and seconds; the warm-up and other runs are left out."""
    rows = [row for row in aa_windows(database, "cpu") if row.metric == "tpot_s_median"]
    assert {row.repeat for row in rows} == {1, 2, 3}
    assert len(rows) == 4 * 3
    trial = make_trial(seed=1)
    of_candidate = {row.repeat: row for row in rows if row.trial_id == "aa-0-candidate"}
    for repeat in trial.counted_repeats:
        assert of_candidate[repeat.index].value == pytest.approx(CATALOGUE["tpot_s_median"].formula(repeat), rel=1e-12)
        assert of_candidate[repeat.index].duration_s == 2.0


def test_a_pair_measured_again_counts_once(tmp_path: Path) -> None:
    """Of two valid trials in one place the later stands, in readings and windows alike."""
    trials = tmp_path / "trials"
    write_pair(trials, "aa")
    again = make_trial("again", seed=7, run_id="aa", arm=Arm.CANDIDATE, started_at="2026-11-22T10:00:00Z")
    write_trial(trials, again)
    ingest(trials, tmp_path / "redline.duckdb")
    for rows in (aa_readings(tmp_path / "redline.duckdb"), aa_windows(tmp_path / "redline.duckdb")):
        assert {row.trial_id for row in rows} == {"aa-0-baseline", "again"}
