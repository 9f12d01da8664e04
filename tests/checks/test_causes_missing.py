"""Causes of what was lost or not measured: answers, targets, readings and whole nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from checks.causes import causes_of
from redline.model import Cause, CauseKind, Night, NightFinding
from tests.checks.night_records import BUILDS, TPOT, day, missing, night, nights

FELL = "Accuracy in skill fell from 95.4 % to 90.1 % (19 items lost, 0 gained of 360, p = 0.0001 for worse)"


def causes(record: Mapping[str, Sequence[Night]] | Sequence[Night], number: int, *expected: str) -> tuple[Cause, ...]:
    """The causes on the day `number`; a plain record is that of h100."""
    of_class = record if isinstance(record, Mapping) else {"h100": record}
    return causes_of(of_class, expected, day(number))


def lost(last: Night, text: str = FELL, kind: str = "accuracy") -> Night:
    """The night, whose answers are worse."""
    return replace(last, findings=(*last.findings, NightFinding(kind, "skill", "exact_match", text)))


def test_lost_answers_are_of_the_build_that_the_night_before_did_not_have():
    """Two classes that lose theirs with one build are one cause; it stands while it is said, and keeps its build."""
    record = {name: [*nights(12, name), lost(night(12, name)), lost(night(13, name))] for name in ("h100", "b200")}
    (cause,) = causes(record, 13)
    assert (cause.kind, cause.build_good, cause.build_bad) == (CauseKind.ANSWERS, BUILDS[11], BUILDS[12])
    assert {(each.since, each.last) for each in cause.symptoms} == {(day(12), day(13))}
    for name, each in record.items():
        each.append(night(14, name))
    assert not causes(record, 14)[0].standing


def test_lost_answers_without_a_night_before_are_of_class_and_scenario():
    """No build can be named: the first night, the same build as before, or a night before that could not tell."""
    same = [replace(each, sut_label="vllm 0.33.0") for each in nights(12)]
    unread = [*nights(11), missing(night(11), ("skill", "exact_match"))]
    for before in ([], same, unread):
        tonight = lost(night(12, sut_label=before[-1].sut_label if before is same else BUILDS[12]))
        found = [each for each in causes([*before, tonight], 12) if each.kind is CauseKind.ANSWERS]
        assert [(each.build_bad, each.title) for each in found] == [("", "h100: answers lost in skill")]


@pytest.mark.parametrize(("kind", "standing"), [("answers unsettled", True), ("missing", True), ("improvement", False)])
def test_answers_that_were_not_compared_are_not_regained(kind, standing):
    """What is undecided or was not measured ends nothing, and begins nothing."""
    record = [*nights(12), lost(night(12)), lost(night(13), kind=kind)]
    assert causes(record, 13)[0].standing is standing
    found = causes([*nights(12), lost(night(12), kind=kind)], 12)
    assert [each for each in found if each.kind is CauseKind.ANSWERS] == []


def test_a_missed_target_is_lost_answers_too():
    """MLPerf's rule is against the reference: it needs no other build to be broken."""
    (cause,) = causes([*nights(12), lost(night(12), "skill reaches 40, 43 are needed", "target")], 12)
    assert cause.kind is CauseKind.ANSWERS


def test_a_class_without_a_night_is_one_cause_until_it_has_one():
    """One ID while it lasts; a new one after it was gone."""
    record = nights(10)
    (first,) = causes(record, 11, "h100")
    (second,) = causes(record, 12, "h100")
    assert (first.kind, first.cause_id) == (CauseKind.MISSING, second.cause_id)
    assert (second.symptoms[0].since, second.symptoms[0].last) == (day(10), day(12))
    assert second.title == f"h100: no finished night from {day(10)} on"
    record.append(night(13))
    (ended,) = causes(record, 13, "h100")
    assert (ended.cause_id, ended.standing) == (first.cause_id, False)
    assert ended.symptoms[0].ended == f"measured again on {day(13)}"
    again, _ = causes(record, 15, "h100")
    assert again.standing
    assert again.cause_id != first.cause_id


def test_a_reading_that_is_missing_goes_on_with_the_night_that_was():
    """Absent, then back without one metric, then whole: one cause with two symptoms, ended by the whole night."""
    record = [*nights(10), missing(night(12), TPOT)]
    (cause,) = causes(record, 12, "h100")
    assert [(each.finding.metric, bool(each.ended)) for each in cause.symptoms] == [(TPOT[1], False), ("", True)]
    assert cause.title == "h100: no reading of TPOT median in server"
    record.append(night(13))
    assert not causes(record, 13, "h100")[0].standing


def test_a_class_that_never_ran_is_missing_under_one_id():
    """Whatever the date; and nobody waits for a class that is not expected."""
    found = [causes({}, number, "h100") for number in (3, 4)]
    assert found[0][0].cause_id == found[1][0].cause_id
    assert found[1][0].title == "h100: no finished night on record"
    assert causes(nights(10), 12) == ()
    assert not causes([*nights(10), missing(night(10), TPOT)], 12)[0].standing
