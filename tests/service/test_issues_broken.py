"""Issues of the nightly when GitHub fails, refuses, or the job is cut: nothing doubled, nothing lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flows.service import issues
from redline.errors import ExitCode, GitHubError
from redline.model import Night
from tests.checks.night_records import THROUGHPUT, TPOT, missing, suspected
from tests.fakes.github_api import Fault
from tests.service.issue_place import Place, both, confirmed, issue_place, many, one_more_night, write_content

UNREAD = ("server", "ttft_s_median")


@pytest.fixture(autouse=True)
def _content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_content(tmp_path / "content")
    monkeypatch.setenv("REDLINE_CONTENT", str(tmp_path / "content"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A repository without issues."""
    with issue_place(tmp_path) as made:
        yield made


def eventful(place: Place) -> tuple[dict[str, list[Night]], int]:
    """Three issues, then a night that brings the first back, adds to the second, ends the third and begins a fourth."""
    record = both(11)
    for number in (11, 12, 13, 14):
        one_more_night(record)
        if number != 13:
            record["h100"][-1] = suspected(record["h100"], TPOT, 11, None)
        if number == 14:
            confirmed(record)
            record["h100"][-1] = missing(record["h100"][-1], UNREAD)
        if number > 11:
            place.sync(record, number)
    assert [each["state"] for each in place.issues] == ["closed", "open", "open"]
    number = one_more_night(record, THROUGHPUT)
    record["h100"][-1] = suspected(record["h100"], TPOT, 11, None)
    confirmed(record, "mi300x")
    record["mi300x"][-1] = missing(record["mi300x"][-1], UNREAD)
    return record, number


def cut_after(place: Place, done: Sequence[str], *, answer_lost: bool) -> None:
    """Let writes of these methods pass and lose all others; with `answer_lost` the last of them is not answered."""
    ours = r"(?!/).*"
    passing = done[:-1] if answer_lost else done
    for method in ("POST", "PATCH"):
        place.api.faults.append(Fault(method, ours, times=passing.count(method)))
    if answer_lost:
        place.api.faults.append(Fault(done[-1], ours, drop="after"))
    place.api.faults += [Fault(method, ours, drop="before", times=999) for method in ("POST", "PATCH")]


@pytest.mark.slow
@pytest.mark.parametrize("answer_lost", [False, True])
def test_a_run_that_is_cut_anywhere_and_runs_again_ends_the_same(tmp_path, answer_lost):
    """After each of its writes in turn, everything else is lost: the next run of the job does the rest, once."""
    with issue_place(tmp_path / "whole") as whole:
        record, number = eventful(whole)
        before = len(whole.api.writes())
        assert whole.sync(record, number).exit_code is ExitCode.NO_WORSE
        methods = [each.method for each in whole.api.writes()[before:]]
        expected = whole.told()
    assert [state for _, state, *_ in expected] == ["open", "open", "closed", "open"]
    assert len(methods) >= 9
    for count in range(int(answer_lost), len(methods)):
        with issue_place(tmp_path / f"cut-{count}") as place:
            eventful(place)
            cut_after(place, methods[:count], answer_lost=answer_lost)
            assert place.sync(record, number).exit_code is ExitCode.INFRASTRUCTURE
            place.api.faults.clear()
            assert place.again(number).exit_code is ExitCode.NO_WORSE
            assert place.told() == expected
            told = len(place.api.writes())
            place.run_id -= 1
            place.again(number)
            assert len(place.api.writes()) == told


def test_what_is_lost_on_the_way_is_done_once(place):
    """A comment and an issue whose answers never come, and a change that the server breaks over: nothing is doubled."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    number = one_more_night(record, THROUGHPUT)
    confirmed(record, "mi300x")
    record["mi300x"][-1] = missing(record["mi300x"][-1], TPOT)
    place.api.faults += [
        Fault("POST", r"issues/\d+/comments", drop="after"),
        Fault("PATCH", r"issues/\d+", 502),
        Fault("POST", "issues", 500, after=True),
    ]
    assert place.sync(record, number).exit_code is ExitCode.NO_WORSE
    assert [each["state"] for each in place.issues] == ["open", "open"]
    assert [len(place.comments(index)) for index in range(2)] == [1, 0]


def test_issues_that_cannot_be_listed_are_not_opened_anew(place):
    """Without knowing what is there nothing is written."""
    record = both(13)
    confirmed(record)
    place.api.faults.append(Fault("GET", "issues", drop="before", times=99))
    with pytest.raises(GitHubError):
        place.sync(record, 12)
    assert place.api.writes() == []


def test_a_rate_limit_is_waited_for(place):
    """It is no failure: the job goes on when GitHub lets it."""
    record = both(13)
    confirmed(record)
    place.api.faults.append(Fault.secondary("POST", "issues", 7))
    assert place.sync(record, 12).exit_code is ExitCode.NO_WORSE
    assert place.waits == [7.0]
    assert len(place.issues) == 1


def test_one_issue_that_fails_does_not_stop_the_others(place):
    """A conversation that is locked: it is named, the rest is done, and the exit code says so."""
    record = both(13)
    confirmed(record)
    place.sync(record, 12)
    number = one_more_night(record, THROUGHPUT)
    confirmed(record, "mi300x")
    record["mi300x"][-1] = missing(record["mi300x"][-1], TPOT)
    place.api.faults.append(Fault("POST", r"issues/1/comments", 403, "Unable to create comment", times=99))
    answer = place.sync(record, number)
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert any(line.startswith("not done for") for line in answer.lines)
    assert len(place.issues) == 2


def test_a_token_that_may_not_write_is_not_tried_for_long(place):
    """Three refusals in a row are enough; the next run does the rest."""
    place.api.faults.append(Fault("POST", "issues", 403, "Resource not accessible by integration", times=99))
    answer = place.sync(many(23), 12)
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert place.api.count("POST", "issues") == issues.FAILURES_MAX
    assert "run this again" in answer.lines[-1]


def test_a_damaged_history_is_named_and_ends_nothing(place):
    """Of that class nothing is said, and an issue about it stays as it is; the others are done."""
    record = both(13)
    confirmed(record)
    record["h100"][-1] = missing(record["h100"][-1], TPOT)
    place.sync(record, 12)
    (place.state_dir / "nights" / "h100" / "torn.json").write_text("{")
    before = [dict(each) for each in place.issues]
    answer = place.again(12)
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert "its nights cannot be read" in answer.lines[0]
    assert [dict(each) for each in place.issues] == before
