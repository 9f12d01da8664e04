"""A recorded past: how rows become nights, what is missing, and how noisy it is."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.replay import pooled_reading
from checks.replay_gaps import Gap, cadence_days, missing_legs, missing_nights
from checks.replay_noise import SEEN_NIGHTS, night_noise, step_seen_log
from checks.step_detection import find_step
from redline.model import LevelChange, LevelKind
from tests.checks.made_up_recordings import METRIC, Row, day, nights, recorded
from tests.checks.policies import CPU, GPU

# --- rows to nights -----------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=9))
def test_a_reading_is_the_median_of_its_repeats(values):
    """And of one or two repeats their mean, which is the same."""
    assert pooled_reading(values) == pytest.approx(statistics.median(values))
    assert min(values) <= pooled_reading(values) <= max(values)


def test_the_mean_of_the_largest_numbers_does_not_overflow():
    """Half of each, not half of the sum."""
    assert pooled_reading([1.7e308, 1.7e308]) == 1.7e308


def test_a_night_is_the_mean_of_the_logs_of_its_deployments():
    """Repeats first, by their median; then deployments, each counted once however many repeats it has."""
    rows = [Row("b", day(0), reading=value, deployment="1", repeat=index) for index, value in enumerate((1, 2, 9))]
    rows.append(Row("b", day(0), reading=8.0, deployment="2"))
    (series,) = recorded(rows).series
    assert series.nights[0].taken.readings == (2.0, 8.0)
    assert series.nights[0].taken.log == pytest.approx(math.log(4.0))


def test_more_tokens_a_second_is_better():
    """Logs are oriented: + is worse."""
    (series,) = recorded([Row("b", day(0), metric="output_tokens_per_s", reading=100.0)]).series
    assert series.nights[0].taken.log == pytest.approx(-math.log(100.0))


def test_the_first_repeat_is_dropped_only_when_asked():
    """Repeat 0, whatever its place in the file."""
    rows = [Row("b", day(0), reading=value, repeat=repeat) for repeat, value in ((1, 2.0), (0, 5.0), (2, 4.0))]
    assert recorded(rows).series[0].nights[0].taken.readings == (4.0,)
    without = recorded(rows, drop_first_repeat=True)
    assert without.series[0].nights[0].taken.readings == (3.0,)
    assert without.dropped_count == 1


def test_deployments_are_in_order_of_time_whatever_their_zone():
    """01:00 in Berlin is before 00:30 in UTC, and the night is the day as it is written."""
    rows = [
        Row("b", f"{day(1)}T00:30+00:00", reading=2.0, deployment="later"),
        Row("b", f"{day(1)}T01:00+01:00", reading=1.0, deployment="earlier"),
    ]
    (series,) = recorded(rows).series
    assert [(night.date, night.taken.readings) for night in series.nights] == [(day(1), (1.0, 2.0))]


def test_the_nightly_takes_the_newest_build_of_a_night():
    """Newest is whichever its runner measured first at the latest instant, not whichever ran last that night."""
    rows = [
        Row("old", f"{day(0)}T02:00"),
        Row("new", f"{day(1)}T02:00"),
        Row("old", f"{day(1)}T03:00"),  # measured again, as the baseline of a gate
    ]
    past = recorded(rows)
    assert past.builds == {"r": ("old", "new")}
    assert [night.taken.build for night in past.series[0].nights] == ["old", "new"]
    assert [each.build for each in past.series[0].nights[1].builds] == ["old", "new"]


def test_what_is_not_judged_is_named():
    """Shares and metrics that the policy does not know always; descriptive ones for the nightly."""
    rows = [
        Row("b", day(0), metric="exact_match", reading=0.0),
        Row("b", day(0), metric="e2e_s_p99"),
        Row("b", day(0)),
    ]
    past = recorded(rows, CPU)
    assert [series.metric for series in past.series] == ["e2e_s_p99", METRIC]
    assert list(past.left_out) == ["exact_match"]
    nightly = recorded(rows, CPU, primaries_only=True)
    assert [series.metric for series in nightly.series] == [METRIC]
    assert "descriptive" in nightly.left_out["e2e_s_p99"]


def test_rows_are_chosen_by_name_and_day():
    """All filters hold together."""
    rows = [
        Row("b", day(night), runner=runner, scenario=scenario)
        for night in (0, 1)
        for runner in "rq"
        for scenario in "st"
    ]
    (series,) = recorded(rows, runners=("q",), scenarios=("t",), metrics=(METRIC,), since=day(1)).series
    assert series.key == ("q", "t", METRIC)
    assert [night.date for night in series.nights] == [day(1)]


# --- what is missing ----------------------------------------------------------------------------------------


def test_a_cadence_is_learned_and_a_night_that_did_not_run_is_found():
    """One entry for a stretch of nights."""
    dates = [day(index) for index in range(20) if index not in (5, 6, 12)]
    assert cadence_days(dates) == 1
    assert missing_nights("r", dates, 1) == (Gap("r", day(5), day(6), 2), Gap("r", day(12), day(12), 1))


def test_nights_that_rest_over_the_weekend_miss_nothing():
    """A weekday on which nothing ever ran is not due."""
    working = [day(index) for index in range(28) if index % 7 < 5]
    assert cadence_days(working) == 1
    assert missing_nights("r", working, 1) == ()
    without_a_wednesday = [each for each in working if each != day(9)]
    assert missing_nights("r", without_a_wednesday, 1) == (Gap("r", day(9), day(9), 1),)


def test_weekly_nights_have_a_cadence_of_seven_days():
    """And a week that is left out is one night."""
    dates = [day(7 * index) for index in range(10) if index != 4]
    assert cadence_days(dates) == 7
    assert missing_nights("r", dates, 7) == (Gap("r", day(28), day(28), 1),)


def test_no_cadence_is_made_up():
    """Too few nights, or nights at any distance."""
    assert cadence_days([day(index) for index in range(4)]) is None
    assert cadence_days([day(index) for index in (0, 9, 10, 25, 27, 44, 45, 70)]) is None


def test_a_leg_that_is_absent_while_others_run_is_found():
    """The scenario where all of it is missing, the metric where others are there; never before its first night."""
    other = "ttft_s_median"
    rows = [Row("b", day(night), scenario="always") for night in range(8)]
    rows += [Row("b", day(night), scenario="chat") for night in range(2, 8) if night not in (4, 5)]
    rows += [Row("b", day(night), scenario="chat", metric=other) for night in range(2, 8) if night not in (4, 5, 7)]
    assert missing_legs(recorded(rows), "r") == (
        Gap("r", day(4), day(5), 2, "chat"),
        Gap("r", day(7), day(7), 1, "chat", other),
    )


# --- how noisy ----------------------------------------------------------------------------------------------


def test_noise_is_that_of_a_night_without_its_level_changes():
    """A step on record is no noise, an odd night hardly any."""
    logs = [night.taken.log for night in recorded(nights(200, step_at=100, worse=0.2)).series[0].nights]
    change = LevelChange(LevelKind.UNEXPLAINED, 100, math.log1p(0.2))
    assert night_noise(logs, [change]) == pytest.approx(0.01, rel=0.15)
    assert math.isnan(night_noise(logs[:2], []))


@pytest.mark.parametrize("before", [8, 20, 60])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_step_that_would_be_seen_is_seen_that_often(before, share):
    """In 200 made-up series, suspected within three nights: a little more often, as earlier nights may say it too."""
    size = step_seen_log(1.0, before, GPU.nightly, share)
    generator = np.random.default_rng(4)
    seen = 0
    for _ in range(200):
        values = generator.standard_normal(before + SEEN_NIGHTS)
        values[before:] += size
        seen += any(
            find_step(values[: before + 1 + night].tolist(), GPU.nightly) is not None for night in range(SEEN_NIGHTS)
        )
    assert share - 0.05 <= seen / 200 <= share + 0.2


def test_nothing_is_seen_before_the_policy_looks():
    """Seven nights are too few for the shipped policies."""
    assert step_seen_log(0.01, GPU.nightly.nights_min - 1, GPU.nightly, 0.5) == math.inf
