"""Series as the overview shows them: what is the last good night, what the level, and what belongs together."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flows.service.changes import last_good
from flows.service.trends import NIGHTS_READ_MAX, POINTS_MAX, bad_run_ids, trends_of
from redline.model import LevelKind, NightChange, NightFinding, NightReading
from tests.service.overview_history import BAD, GOOD, HASH, KEY, LAST, days, night, quiet, regressed


def test_a_regression_speaks_against_every_night_back_to_its_first():
    """Confirmed on the third night, the last good one is the night before the first; its neighbours are not blamed."""
    nights = regressed()
    assert bad_run_ids(nights) == {each.run_id for each in nights[-3:]}
    good = last_good(nights, nights[-1])
    assert good is not None and good.date == "2026-11-19"
    (trend,) = trends_of("h100-1", nights, LAST)
    assert trend.good is not None and trend.good.date == "2026-11-19"
    assert trend.change == pytest.approx(1 - 90.0 / 100.5)
    assert [kind for kind, _ in trend.found] == ["regressed"]


def test_what_is_still_owed_keeps_the_last_good_night_where_it_was():
    """A week after, the builds are still compared with the one before the regression."""
    owed = NightFinding("owed", *KEY, "still worse than accepted")
    nights = [*regressed(), *(night(day, 90.0, BAD, findings=(owed,)) for day in days(7, "2026-11-29"))]
    good = last_good(nights, nights[-1])
    assert good is not None and good.date == "2026-11-19"


def test_improvements_gaps_and_acceptances_are_nothing_against_a_night():
    """The night before tonight is good although a neighbour of it is missing, and an acceptance is no night."""
    said = tuple(NightFinding(kind, *KEY, kind) for kind in ("missing", "improvement"))
    accepted = night("2026-11-21", None, run_id="20261121T090000-accepted", trial_ids=())
    nights = [*quiet(5, "2026-11-20"), night("2026-11-21", 100.0, findings=said), accepted, night(LAST, 100.0)]
    good = last_good(nights, nights[-1])
    assert good is not None and good.run_id == "20261121T020000-0000"


def test_there_is_no_good_night_before_the_first():
    """One night alone has nothing to be compared with, and is a trend of one point."""
    nights = [night(LAST, 100.0)]
    assert last_good(nights, nights[0]) is None
    (trend,) = trends_of("h100-1", nights, LAST)
    assert (trend.good, trend.change, len(trend.points)) == (None, None, 1)
    assert trend.points[0].level == pytest.approx(100.0)


def test_the_level_steps_where_the_record_says():
    """A regression of a tenth lowers the level of a throughput by a tenth from its first night on, in tok/s."""
    (trend,) = trends_of("h100-1", regressed(), LAST)
    assert [point.level for point in trend.points[-4:]] == pytest.approx([100, 90, 90, 90], rel=0.006)
    assert [bool(point.changes) for point in trend.points[-4:]] == [False, True, False, False]
    assert trend.points[-3].changes == ("regression +10.0 %",)


def test_a_latency_that_rises_has_a_level_that_rises():
    """Lower is better is turned round, and marks that move no level move none."""
    reading = ("server-short", "ttft_s_p99")
    nights = [
        night(day, None, readings=(NightReading(reading[0], HASH, reading[1], 0.2 if number < 15 else 0.25),))
        for number, day in enumerate(days(20))
    ]
    change = NightChange(
        reading[0], HASH, reading[1], LevelKind.ENVIRONMENT, nights[15].run_id, math.log(1.25), math.log(1.25)
    )
    mark = replace(change, kind=LevelKind.LOOKED_INTO, first_run_id=nights[3].run_id)
    nights[-1] = replace(nights[-1], changes=(change, mark))
    (trend,) = trends_of("h100-1", nights, LAST)
    assert trend.points[0].level == pytest.approx(0.2) and trend.points[-1].level == pytest.approx(0.25)
    assert trend.points[15].changes == ("environment +25.0 %",)


def test_another_machine_begins_anew_and_keeps_what_was_before_it_apart():
    """Readings of the old series are shown as earlier ones, and the last good reading is not taken from them."""
    nights = [*quiet(10, "2026-11-19", 200.0, series_id="old"), *quiet(3)]
    (trend,) = trends_of("h100-1", nights, LAST)
    assert len(trend.points) == 3 and len(trend.earlier) == 10
    assert trend.good is not None and trend.good.value < 150
    nights = [*quiet(10, "2026-11-19", 200.0, series_id="old"), night(LAST, 100.0)]
    (trend,) = trends_of("h100-1", nights, LAST)
    assert trend.good is None and trend.change is None


def test_two_machines_side_by_side_are_two_series():
    """Neither is the past of the other."""
    first = quiet(6)
    second = [replace(each, run_id=f"{each.run_id}b", series_id="t") for each in quiet(6, value=50.0)]
    nights = sorted([*first, *second], key=lambda each: each.run_id)
    trends = trends_of("h100-1", nights, LAST)
    assert sorted(round(trend.points[0].value) for trend in trends) == [50, 100]
    assert all(not trend.earlier for trend in trends)


def test_a_series_without_a_reading_tonight_is_shown_and_an_old_one_is_not():
    """What was read within the last seven nights is missed; what nobody measures any more is forgotten."""
    other = (NightReading("server-short", HASH, "ttft_s_p99", 0.2),)
    nights = quiet(12)
    nights[8] = replace(nights[8], readings=(*nights[8].readings, *other))
    trends = trends_of("h100-1", nights, LAST)
    assert [(trend.scenario, trend.tonight is None) for trend in trends] == [
        ("offline-short", False),
        ("server-short", True),
    ]
    nights[8], nights[2] = nights[2], nights[8]
    nights = [replace(each, readings=(*each.readings[:1],)) for each in nights[:2]] + quiet(10)
    assert [trend.scenario for trend in trends_of("h100-1", nights, LAST)] == ["offline-short"]


def test_years_of_nights_make_a_bounded_page():
    """Of 400 nights the last 60 are points, and the page says that there are more."""
    (trend,) = trends_of("h100-1", quiet(400), LAST)
    assert len(trend.points) == POINTS_MAX and trend.earlier == ()
    assert trend.omitted == NIGHTS_READ_MAX - POINTS_MAX
    assert trend.points[-1].date == LAST


def test_a_metric_that_is_no_longer_known_is_left_out():
    """An old record with a metric of another version does not stop the page."""
    nights = [
        replace(each, readings=(*each.readings, NightReading("offline-short", HASH, "gone_metric", 1.0)))
        for each in quiet(3)
    ]
    assert [trend.metric for trend in trends_of("h100-1", nights, LAST)] == [KEY[1]]


def test_gaps_and_classes_with_other_last_dates():
    """A class whose last night is a week old has no reading tonight, and its trend ends there."""
    nights = [*quiet(3, "2026-11-01"), *quiet(3, "2026-11-15")]
    (trend,) = trends_of("h100-1", nights, LAST)
    assert trend.tonight is None and trend.change is None
    assert trend.points[-1].date == "2026-11-15"
    assert trend.good is not None and trend.good.date == "2026-11-15"
    assert GOOD.label == trend.points[-1].build
