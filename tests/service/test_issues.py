"""Issues of the nightly: one per cause, whatever the nights say and whoever else writes there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.service import issues
from flows.service.issue_record import IssueRecord, Stage, record_in
from redline.errors import ExitCode, UsageError
from redline.github.environment import read_environment
from redline.model import Finding
from tests.checks.night_records import (
    BUILDS,
    THROUGHPUT,
    TPOT,
    accepting,
    day,
    missing,
    night,
    nights,
    owing,
    suspected,
)
from tests.reports.hostile import HOSTILE
from tests.service.issue_place import Place, both, confirmed, issue_place, many, one_more_night, write_content

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


@pytest.fixture(autouse=True)
def _content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_content(tmp_path / "content")
    monkeypatch.setenv("REDLINE_CONTENT", str(tmp_path / "content"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A repository without issues."""
    with issue_place(tmp_path) as made:
        yield made


def test_quiet_nights_open_nothing(place):
    """Nothing is written, not even a label."""
    answer = place.sync(both(13), 12)
    assert answer.exit_code is ExitCode.NO_WORSE
    assert answer.lines == ("nothing to change",)
    assert place.api.writes() == []


def test_a_regression_of_two_classes_is_one_issue(place):
    """Opened once with the label; the page names both, the summary of the job says so."""
    record = both(13)
    for name in record:
        confirmed(record, name)
    answer = place.sync(record, 12)
    (issue,) = place.issues
    assert issue["title"].startswith(f"Redline: {BUILDS[10]}: Output throughput in offline 9.5 % worse, and 1 more")
    assert {"`h100`", "`mi300x`"} <= set(re.findall(r"`\w+`", issue["body"]))
    assert [each["name"] for each in issue["labels"]] == ["nightly-finding"]
    assert "opened" in answer.lines[0]
    assert f"[issue {issue['number']}]({issue['html_url']})" in (place.folder / "job" / "summary.md").read_text()


def test_the_same_night_again_changes_nothing(place):
    """A job that is started again finds everything done."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    place.run_id -= 1
    before = len(place.api.writes())
    assert place.again(12).lines == ("nothing to change",)
    assert len(place.api.writes()) == before


def test_a_night_that_says_the_same_updates_the_body_and_says_nothing(place):
    """People are not written to about what they know."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    place.sync(record, one_more_night(record, THROUGHPUT))
    (issue,) = place.issues
    assert f"last in that of {day(13)}" in issue["body"]
    assert place.comments() == []


def test_a_night_that_adds_a_symptom_is_one_comment(place):
    """However often its job runs, and whatever the next nights repeat."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    number = one_more_night(record, THROUGHPUT)
    confirmed(record, "mi300x")
    confirmed(record, "mi300x", TPOT)
    place.sync(record, number)
    place.again(number)
    place.sync(record, one_more_night(record, THROUGHPUT))
    (comment,) = place.comments()
    assert comment.count("`mi300x`") == 2
    assert "`h100`" not in comment


def test_a_leg_that_was_merged_late_is_told_late(place):
    """Its night is older than the issue: the comment names that night."""
    record = both(14)
    record["h100"][-1] = suspected(record["h100"], THROUGHPUT, 10, Finding.REGRESSED)
    place.sync({"h100": record["h100"], "mi300x": nights(12, "mi300x")}, 13)
    record["mi300x"][12] = suspected(record["mi300x"][:13], THROUGHPUT, 10, Finding.REGRESSED)
    record["mi300x"][13] = missing(record["mi300x"][13], THROUGHPUT)
    place.sync(record, 13)
    (comment,) = place.comments()
    assert f"{day(12)}, `mi300x`" in comment


def test_what_is_mended_is_commented_and_closed_once(place):
    """The words name the night; the next nights and runs leave it alone."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    number = one_more_night(record)
    place.sync(record, number)
    (issue,) = place.issues
    assert (issue["state"], issue["state_reason"]) == ("closed", "completed")
    (comment,) = place.comments()
    assert f"the night of {day(13)}" in comment
    assert "It stands on none of them any more" in issue["body"]
    before = len(place.api.writes())
    place.again(number)
    place.sync(record, one_more_night(record))
    assert len(place.api.writes()) == before


def test_an_accepted_level_closes_its_issue_with_the_reason(place):
    """`redline nights accept` is enough: nobody has to close anything."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    record["h100"].append(accepting(record["h100"], THROUGHPUT, 12))
    place.sync(record, 12)
    assert place.issues[0]["state"] == "closed"
    assert "accepted by ana: a fair price for the new scheduler" in place.comments()[0]


def test_a_class_that_did_not_run_keeps_the_issue_open(place):
    """Its own issue says that it is missing; the regression stands."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    record["mi300x"].append(night(13, "mi300x"))
    place.sync(record, 13)
    regression, absent = place.issues
    assert (regression["state"], absent["state"]) == ("open", "open")
    assert absent["title"] == f"Redline: h100: no finished night from {day(13)} on"
    record["h100"].append(night(14, "h100"))
    record["mi300x"].append(night(14, "mi300x"))
    record["h100"][-1] = owing(record["h100"], THROUGHPUT)
    place.sync(record, 14)
    assert (regression["state"], absent["state"]) == ("open", "closed")


def test_the_same_cause_again_opens_the_same_issue(place):
    """Unsettled, settled, unsettled: one issue with its story."""
    record = both(13)
    record["h100"][-1] = suspected(record["h100"], THROUGHPUT, 12, None)
    place.sync(record, 12)
    assert place.issues == [], "no issue on the first night of a suspicion"
    for still_open, state in ((True, "open"), (False, "closed"), (True, "closed"), (True, "open")):
        number = one_more_night(record)
        if still_open:
            record["h100"][-1] = suspected(record["h100"], THROUGHPUT, 12, None)
        place.sync(record, number)
        place.again(number)
        assert [each["state"] for each in place.issues] == [state]
    assert [re.match(r"<!-- redline:(\w+):", each)[1] for each in place.comments()] == ["closed", "again"]  # type: ignore[index]


@pytest.mark.parametrize(("reason", "who"), [("completed", "ana"), ("not_planned", "github-actions[bot]")])
def test_what_a_person_has_closed_stays_closed(place, reason, who):
    """The next nights are silent; a new symptom is commented once, and still does not open it."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    (issue,) = place.issues
    issue.update(state="closed", state_reason=reason, closed_by={"login": who})
    before = len(place.api.writes())
    place.sync(record, one_more_night(record, THROUGHPUT))
    assert len(place.api.writes()) == before
    number = one_more_night(record, THROUGHPUT)
    confirmed(record, "mi300x")
    place.sync(record, number)
    place.again(number)
    assert issue["state"] == "closed"
    (comment,) = place.comments()
    assert "`mi300x`" in comment


def test_what_a_person_opens_again_is_left_open(place):
    """Somebody does not believe that it is gone: nobody closes it a second time."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    place.sync(record, one_more_night(record))
    (issue,) = place.issues
    issue.update(state="open", state_reason="reopened", closed_by=None)
    place.sync(record, one_more_night(record))
    assert issue["state"] == "open"
    assert len(place.comments()) == 1


def test_what_is_not_ours_is_not_touched(place):
    """A stranger's issue with our marker and label, one without a marker, and one whose label was taken off."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    (ours,) = place.issues
    stranger = place.api.state.open_issue("mine", ours["body"], "mallory", labels=["nightly-finding"])
    plain = place.api.state.open_issue("plain", "text", "github-actions[bot]", labels=["nightly-finding"])
    ours["labels"] = []
    before = [dict(each) for each in (ours, stranger, plain)]
    answer = place.sync(record, one_more_night(record, THROUGHPUT))
    assert [dict(each) for each in (ours, stranger, plain)] == before
    assert len(place.issues) == 3
    assert "took its label off" in answer.lines[0]
    place.sync(record, one_more_night(record))
    assert [dict(each) for each in (ours, stranger, plain)] == before


def test_a_flood_is_bounded_and_said_in_one_line(place):
    """At most 20 new issues a night, also when the job runs twice; the next night opens the rest."""
    answer = place.sync(many(23), 12)
    assert len(place.issues) == issues.NEW_ISSUES_MAX
    assert answer.lines[-1] == "3 more causes stand and have no issue: at most 20 are opened a night"
    place.again(12)
    assert len(place.issues) == issues.NEW_ISSUES_MAX
    place.again(13)
    assert len([each for each in place.issues if "skill" in each["title"]]) == 23


def test_what_came_late_closes_the_issue_that_missed_it(place):
    """The merged results change since when something is missing: the old issue does not stay behind."""
    record = both(14)
    place.sync({"h100": record["h100"][:12], "mi300x": record["mi300x"]}, 13)
    assert [each["title"] for each in place.issues] == [f"Redline: h100: no finished night from {day(12)} on"]
    place.sync({"h100": record["h100"][:13], "mi300x": record["mi300x"]}, 13)
    assert [each["state"] for each in place.issues] == ["closed", "open"]
    assert "came late" in place.comments()[0]
    place.sync(record, 13)
    assert [each["state"] for each in place.issues] == ["closed", "closed"]


def test_a_cause_that_the_record_has_lost_is_named_not_closed(place):
    """A state directory that was emptied is no fix."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    answer = place.sync(both(13), 12)
    assert "its cause is not on record" in answer.lines[0]
    assert place.issues[0]["state"] == "open"


def test_a_class_that_never_ran_has_its_issue_until_it_runs(place):
    """One issue, whatever the date; its first night closes it."""
    record = {"h100": nights(13)}
    place.sync(record, 12)
    place.sync({"h100": nights(14)}, 13)
    (issue,) = place.issues
    assert (issue["title"], place.comments()) == ("Redline: mi300x: no finished night on record", [])
    place.sync({"h100": nights(15), "mi300x": [night(14, "mi300x")]}, 14)
    assert issue["state"] == "closed"


def test_an_older_date_does_not_turn_time_back(place):
    """The job of an older night, run again, leaves what newer nights have opened as it is."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    place.again(11)
    assert place.issues[0]["state"] == "open"
    assert place.again(None).exit_code is ExitCode.NO_WORSE


def test_no_night_at_all_is_said(place):
    """The very first run, without a date: nothing to open, and no token is needed to say so."""
    answer = place.again(None)
    assert "no night is on record" in answer.lines[0]
    assert place.api.asked == []
    with pytest.raises(UsageError, match="names no night"):
        issues.sync(read_environment(place.api.variables("x", {}, place.folder)), place.state_dir, "2026-11-1")


def test_hostile_labels_change_nothing_but_their_own_text(place):
    """A build's version with markers, records, commands and mentions: one issue, and the next run finds it."""
    record = both(13)
    forged = IssueRecord("2026-11-13", "missing", frozenset(), Stage.CLOSED).line
    record["h100"] = [replace(each, sut_label=f"{forged} ::error::x ##[group]{HOSTILE}") for each in record["h100"]]
    confirmed(record)
    answer = place.sync(record, 12)
    (issue,) = place.issues
    found = record_in(issue["body"])
    assert found is not None
    assert (found.kind, found.stage) == ("build", Stage.OPEN)
    assert not [line for line in answer.lines if line.startswith("::") or "##[" in line]
    place.run_id -= 1
    assert place.again(12).lines == ("nothing to change",)


def test_a_body_that_somebody_edited_is_written_anew_without_another_comment(place):
    """The record is gone with the edit: nobody is told again what they were told."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    (issue,) = place.issues
    issue["body"] = issue["body"].split("\n")[0] + "\r\nedited\r\n"
    place.again(12)
    assert "What the nights said" in issue["body"]
    assert record_in(issue["body"]) is not None
    assert place.comments() == []
