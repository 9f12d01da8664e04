"""One culprit that runner classes know with different precision is one cause; what may be two stays two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from checks.causes import causes_of
from redline.model import Cause, CauseKind, Finding, Night
from tests.checks.night_records import BUILDS, THROUGHPUT, TPOT, day, night, nights, suspected


def regressed(runner_class: str, missed: Sequence[int], first_bad: int = 10, key: tuple[str, str] = THROUGHPUT):
    """Nights up to the 12th without some, the last of which confirms a regression from its `first_bad` on."""
    record = [each for each in nights(13, runner_class) if each.date not in map(day, missed)]
    index = next(number for number, each in enumerate(record) if each.date >= day(first_bad))
    record[-1] = suspected(record, key, index, Finding.REGRESSED)
    return record


def builds(record: Mapping[str, Sequence[Night]], number: int = 12) -> list[Cause]:
    """The causes that are builds."""
    return [each for each in causes_of(record, [], day(number)) if each.kind is CauseKind.BUILD]


def test_a_class_that_missed_a_night_has_no_issue_of_its_own():
    """(109, 111] lies around (109, 110]: one cause, with the narrowest builds in its title and for its bisection."""
    (cause,) = builds({"mi300x": regressed("mi300x", [10]), "h100": regressed("h100", [])})
    assert (cause.build_good, cause.build_bad) == (BUILDS[9], BUILDS[10])
    assert cause.title.startswith(f"{BUILDS[10]}: ")
    assert {(each.runner_class, each.finding.build_bad) for each in cause.symptoms} == {
        ("h100", BUILDS[10]),
        ("mi300x", BUILDS[11]),
    }


def test_the_issue_that_came_first_goes_on():
    """Known widely on one class, then narrowly on another: its cause keeps its id."""
    wide = regressed("mi300x", [10])
    (before,) = builds({"mi300x": wide})
    late = nights(14, "h100")
    late[-1] = suspected(late, THROUGHPUT, 10, Finding.REGRESSED)
    (after,) = builds({"mi300x": wide, "h100": late}, 13)
    assert after.cause_id == before.cause_id
    assert after.build_bad == BUILDS[10]


def test_a_range_around_two_causes_belongs_to_neither():
    """Either may be the culprit, or both: three causes."""
    first, second = regressed("h100", []), regressed("b200", [], first_bad=11)
    found = builds({"h100": first, "b200": second, "mi300x": regressed("mi300x", [10, 11])})
    assert sorted(each.build_bad for each in found) == sorted([BUILDS[10], BUILDS[11], BUILDS[12]])


@pytest.mark.parametrize("other", ["0.34.0rc1.dev{0}+g{1}", "0.33.{0}"])
def test_builds_that_have_no_certain_order_are_not_joined(other):
    """Another line of development, releases: a wrong culprit costs more than two issues."""
    record = regressed("mi300x", [10])
    labels = {
        label: "vllm " + other.format(100 + number, f"{number:02d}aaaaa{number:02d}")
        for number, label in enumerate(BUILDS)
    }
    moved = [
        night(
            int(each.date[-2:]) - 1,
            "mi300x",
            sut_label=labels[each.sut_label],
            findings=tuple(
                type(said)(
                    said.kind,
                    said.scenario,
                    said.metric,
                    said.text,
                    labels[said.build_good],
                    labels[said.build_bad],
                    said.first_run_id,
                )
                for said in each.findings
            ),
            changes=each.changes,
        )
        for each in record
    ]
    assert len(builds({"h100": regressed("h100", []), "mi300x": moved})) == 2


def test_another_scenario_is_another_cause():
    """What got worse elsewhere in a wider range says nothing of this one."""
    assert len(builds({"h100": regressed("h100", []), "mi300x": regressed("mi300x", [10], key=TPOT)})) == 2


def test_a_step_that_nobody_explained_is_taken_into_the_level_not_mended():
    """The night after does not suspect it: it ends, and says how."""
    record = nights(13)
    record[-1] = suspected(record, THROUGHPUT, 10, Finding.NO_WORSE, size=0.03, high=0.05)
    assert [each.kind for each in record[-1].findings] == ["unexplained"]
    record.append(night(13))
    (cause,) = causes_of({"h100": record}, ["h100"], day(13))
    assert (cause.kind, cause.standing) == (CauseKind.UNSETTLED, False)
    assert [each.ended for each in cause.symptoms] == ["taken into the level, unexplained"]
