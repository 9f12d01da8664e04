"""Issues whose cause went and came back, whoever closed them, and those whose record was lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.service import issues
from redline.errors import ExitCode, GitHubError
from redline.github.environment import read_environment
from redline.github.waiting import Clock
from redline.model import NightFinding
from tests.checks.night_records import THROUGHPUT, night
from tests.service.issue_place import Place, both, confirmed, issue_place, one_more_night, write_content

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


TODAY_S = 1_763_769_600.0  # 2025-11-22


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A repository without issues, and the content of its service."""
    write_content(tmp_path / "content")
    monkeypatch.setenv("REDLINE_CONTENT", str(tmp_path / "content"))
    with issue_place(tmp_path) as made:
        yield made


def lost(record, kind: str = "target") -> None:
    """The last night of h100 misses a target, or cannot tell."""
    found = NightFinding(kind, "skill", "", "40 of 43 reached")
    record["h100"][-1] = replace(record["h100"][-1], findings=(found,))


def closed(place, reason: str) -> dict[str, Any]:
    """The one issue, which a person closes."""
    (issue,) = place.issues
    issue.update(state="closed", state_reason=reason, closed_by={"login": "ana"})
    return issue


@pytest.mark.parametrize(("reason", "state"), [("completed", "open"), ("not_planned", "closed")])
def test_what_comes_back_after_a_person_closed_it_is_told(place, reason, state):
    """Answers lost, closed by a person, three good nights, lost again: a comment, and open unless not planned."""
    record = both(13)
    lost(record, "answers unsettled")
    number = one_more_night(record)
    lost(record)
    place.sync(record, number)
    issue = closed(place, reason)
    for _ in range(3):
        place.sync(record, one_more_night(record))
    assert (issue["state"], place.comments()) == ("closed", []), "the end of it is only noted"
    one_more_night(record)
    lost(record, "answers unsettled")
    number = one_more_night(record)
    lost(record)
    place.sync(record, number)
    place.again(number)
    assert issue["state"] == state
    (comment,) = place.comments()
    assert "stands again" in comment


def test_a_reopening_that_was_cut_short_is_done_by_the_next_run(place, monkeypatch):
    """Told and written, and GitHub fails: opened the next time, without another comment; closed when it is gone."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    place.sync(record, one_more_night(record))
    (issue,) = place.issues
    number = one_more_night(record, THROUGHPUT)
    with monkeypatch.context() as cut:
        cut.setattr("flows.service.issues.reopen_issue", failing)
        assert "not done for" in "".join(place.sync(record, number).lines)
    assert issue["state"] == "closed"
    place.again(number)
    assert issue["state"] == "open"
    assert len([each for each in place.comments() if "stands again" in each]) == 1
    place.sync(record, one_more_night(record))
    assert issue["state"] == "closed"


def failing(*_: object) -> None:
    """What a lost connection does."""
    raise GitHubError("GitHub answers 502", found="502")


def test_a_lost_record_closes_nothing_about_what_is_still_missing(place):
    """Only h100's newest night is known: mi300x has not come, so its issue stays until it does."""
    record = both(13)
    record["mi300x"] = record["mi300x"][:-3]
    place.sync(record, 12)
    (absent,) = place.issues
    answer = place.sync({"h100": [night(13, "h100")]}, 13)
    assert absent["state"] == "open"
    assert any("its cause is not on record" in line for line in answer.lines)
    place.sync({"h100": [night(14, "h100")], "mi300x": [night(14, "mi300x")]}, 14)
    assert absent["state"] == "closed"


def test_a_night_of_the_future_makes_nobody_missing(place):
    """Started by hand with a date of next year: the others are not late until then."""
    record = both(13)
    record["h100"].append(replace(night(13, "h100"), date="2031-01-01"))
    place.sync(record, 12)
    place.again(None)
    assert place.issues == []


def test_an_empty_date_is_today(place):
    """The plan died before it could say: the night is today's, and nobody has measured it."""
    clock = Clock(epoch_s=lambda: TODAY_S, sleep=place.waits.append)
    variables = place.api.variables("schedule", {}, place.folder / "job", run_id=7)
    answer = issues.sync(read_environment(variables), place.state_dir, "", clock=clock)
    assert answer.exit_code is ExitCode.NO_WORSE
    assert {each["title"] for each in place.issues} == {
        f"Redline: {name}: no finished night on record" for name in ("h100", "mi300x")
    }
    assert all("2025-11-22" in each["body"] for each in place.issues)
