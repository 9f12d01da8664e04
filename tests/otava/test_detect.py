"""Series with a known truth through the real Otava, and what of its answers would be reported night by night."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from redline.errors import InfrastructureError
from redline.otava.detect import PROGRAM, ChangePoint, change_points, flagged_nights, new_worsenings

SEED = 20261121
STEP_NIGHT = 30


def up(index: int) -> ChangePoint:
    """A worsening change point."""
    return ChangePoint(index, 1.0, 1.1)


def noisy(series_count: int, nights: int = 45, cv: float = 0.01) -> np.ndarray:
    """Independent normal noise around 1."""
    return np.exp(cv * np.random.default_rng(SEED).standard_normal((series_count, nights)))


# --- without Otava ------------------------------------------------------------------------------------------


def test_a_change_point_is_reported_once():
    """It is new on the night it appears; it may stay, move a little every night, vanish and come back."""
    nights = [[], [up(10)], [up(10)], [up(13)], [up(16)], [], [up(15)]]
    assert new_worsenings(nights, 3) == [False, True, False, False, False, False, False]


def test_a_change_point_farther_away_is_new():
    """One night beyond the distance is another change point; with distance 0 every move is."""
    nights = [[up(10)], [up(10), up(14)], [up(11)]]
    assert new_worsenings(nights, 3) == [True, True, False]
    assert new_worsenings(nights, 4) == [True, False, False]
    assert new_worsenings(nights, 0) == [True, True, True]


def test_what_got_better_is_no_page():
    """An improvement is never reported, and does not hide a worsening at the same place."""
    down = ChangePoint(10, 1.1, 1.0)
    assert new_worsenings([[down], [up(10)]], 5) == [False, True]


@pytest.mark.parametrize(
    ("series", "problem"),
    [([[1.0, float("inf")]], "infinite"), ([[]], "needs a night"), ([[1.0], [1.0, 2.0]], "equally long")],
)
def test_series_that_cannot_be_analysed_are_refused(series, problem):
    """Infinite readings, series without nights and series of different lengths never reach Otava."""
    with pytest.raises(ValueError, match=problem):
        flagged_nights(series, python=Path("/nowhere"))


def test_an_interpreter_without_otava_is_an_infrastructure_error():
    """What the interpreter said is in the error; so is one that is not there at all."""
    with pytest.raises(InfrastructureError) as caught:
        change_points([[1.0, 2.0]], python=Path(sys.executable))
    assert "otava" in caught.value.found
    with pytest.raises(InfrastructureError, match="did not analyse"):
        change_points([[1.0, 2.0]], python=Path("/nowhere/bin/python"))


# --- with Otava ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_planted_step_is_found(otava: Path):
    """A step of 20 % is found on its night in every series, with its direction and the two means."""
    series = noisy(20)
    series[:, STEP_NIGHT:] *= np.where(np.arange(20) < 10, 1.2, 1 / 1.2)[:, None]
    for number, points in enumerate(change_points(series.tolist(), python=otava)):
        step = min(points, key=lambda point: abs(point.index - STEP_NIGHT))
        assert step.index == STEP_NIGHT
        assert step.worse == (number < 10)
        assert step.mean_before == pytest.approx(1.0, abs=0.02)
        assert step.mean_after == pytest.approx(1.2 if number < 10 else 1 / 1.2, abs=0.02)


@pytest.mark.slow
def test_missing_nights_are_filled_by_otava(otava: Path):
    """Nights without a reading neither fail nor hide the step, and a series without any has no change point."""
    series = noisy(1)
    series[:, STEP_NIGHT:] *= 1.2
    series[0, [0, 7, 20, 33]] = np.nan
    found = change_points([*series.tolist(), [float("nan")] * 10], python=otava)
    assert STEP_NIGHT in [point.index for point in found[0]]
    assert found[1] == ()


@pytest.mark.slow
def test_a_step_is_paged_on_its_first_nights_and_once(otava: Path):
    """Night by night: each series is flagged within three nights of its 10 % step, and not again for it."""
    series = noisy(20)
    series[:, STEP_NIGHT:] *= 1.1
    flags = flagged_nights(series.tolist(), python=otava)
    assert flags.shape == series.shape
    assert flags[:, STEP_NIGHT : STEP_NIGHT + 3].any(axis=1).all()
    assert flags[:, STEP_NIGHT:].sum() <= 22
    assert flags[:, :STEP_NIGHT].mean() < 0.02


@pytest.mark.slow
def test_no_night_is_judged_by_what_came_later(otava: Path):
    """The flags of the first nights are those of a series that ended there; no series, no flags."""
    series = noisy(5, cv=0.02)
    series[:, STEP_NIGHT:] *= 1.05
    flags = flagged_nights(series.tolist(), python=otava)
    assert (flagged_nights(series[:, :35].tolist(), python=otava) == flags[:, :35]).all()
    assert flagged_nights([], python=otava).shape == (0, 0)


@pytest.mark.slow
def test_otava_runs_as_it_is_shipped(otava: Path):
    """The version of the lock, with the defaults that docs/method.md states."""
    question = json.dumps({"series": [], "nightly": False})
    done = subprocess.run(
        [str(otava), "-I", str(PROGRAM)], input=question, capture_output=True, text=True, timeout=60, check=True
    )
    answer = json.loads(done.stdout)
    assert answer["version"] == "0.8.0"
    options = {"window_len": 50, "max_pvalue": 0.001, "min_magnitude": 0.0, "orig_edivisive": False}
    assert answer == {"version": "0.8.0", "options": options, "found": []}
