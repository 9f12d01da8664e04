"""One night a date: what is measured again neither counts nor doubles a step."""

from __future__ import annotations

import math
from dataclasses import replace

from checks.causes import causes_of, finished
from checks.night_findings import improvement_of, settled_half, still_owed
from checks.night_series import measured_again, series_of, suspicion_of, whole
from redline.model import Finding, Night
from tests.checks.night_records import HASH, THROUGHPUT, accepting, day, halves, night, nights, suspected
from tests.checks.policies import GPU


def at(number: int, value: float, run: str = "") -> Night:
    """A night at a throughput, half a per cent of noise around it; `run`: the hour of another attempt."""
    made = night(number)
    value *= 1 + 0.004 * math.sin(number * 7.3)
    readings = tuple(replace(each, value=value) if each.metric == THROUGHPUT[1] else each for each in made.readings)
    return replace(made, readings=readings, run_id=made.run_id.replace("T02", run or "T02"))


def confirmed(record: list[Night], last: Night) -> list[Night]:
    """The record with one more night, which confirms a regression that began with night 10."""
    size = math.log(100 / 90)
    return [*record, suspected([*record, last], THROUGHPUT, 10, Finding.REGRESSED, size=size)]


def written(record: list[Night], *again: Night) -> list[Night]:
    """What lies on the disk, oldest first."""
    pairs = [half for each in again for half in (replace(each, findings=(), changes=()), _settled(each))]
    return sorted([*halves(record), *pairs], key=lambda each: each.run_id)


def _settled(each: Night) -> Night:
    return settled_half(each, each.findings, each.changes)


def test_a_second_attempt_of_a_night_does_not_hide_the_next_regression():
    """Both attempts confirm one step; a second real one is suspected as if there had been one attempt."""
    before = [at(number, 100) for number in range(10)]
    first = confirmed(before, at(10, 90))
    second = confirmed(before, at(10, 90, "T06"))[-1]
    found = []
    for again in ((), (second,)):
        record = whole(written([*first, at(11, 90), at(12, 90), at(13, 81)], *again))
        series = series_of(record, THROUGHPUT, HASH)
        assert len([each for each in series.changes if each.size > 0]) == 1
        assert still_owed(series, GPU, None) is not None
        assert improvement_of(series, GPU) is None
        suspicion = suspicion_of(series, GPU, None)
        assert suspicion is not None
        found.append(suspicion)
    assert found[0] == found[1]


def test_measuring_until_it_is_quiet_gains_nothing():
    """The first finished night of a date is the night: the regression stands, and the second one is named."""
    record = nights(12)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.REGRESSED)
    quiet = replace(night(11), run_id=night(11).run_id.replace("T02", "T09"))
    recorded = written(record, quiet)
    assert whole(recorded) == tuple(record)
    assert measured_again(recorded) == (quiet,)
    assert [cause.standing for cause in causes_of({"h100": finished(recorded)}, ["h100"], day(11))] == [True]


def test_a_night_that_was_cut_short_counts_only_until_one_is_finished():
    """Started again after it died: the finished attempt is the night, whichever came first; acceptances stay."""
    accepted = accepting(nights(11), THROUGHPUT, 11)
    for hour in ("T01", "T09"):
        cut = replace(night(11), run_id=night(11).run_id.replace("T02", hour))
        recorded = sorted([*halves(nights(12)), cut, accepted], key=lambda each: each.run_id)
        assert cut not in whole(recorded)
        assert whole(recorded) == tuple(sorted([*nights(12), accepted], key=lambda each: each.run_id))
        alone = sorted([*halves(nights(11)), cut], key=lambda each: each.run_id)
        assert whole(alone)[-1] == cut


def test_two_machines_of_a_class_have_a_night_each():
    """Another series is another history: neither takes the other's place."""
    other = replace(night(11), series_id="other", run_id=night(11).run_id.replace("T02", "T09"))
    assert len(whole(written(nights(12), other))) == 13
