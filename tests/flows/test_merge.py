from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from flows.merge import REFUSED_SHOWN_MAX, merge, said
from flows.query import answer as ask
from flows.report_file import write_report
from redline.errors import ExitCode, UsageError
from redline.store.nights import write_night
from redline.store.trials import list_trials
from tests.reports.situations import regressed
from tests.store.merge_examples import RUN, content_of, make_leg, make_night, make_record
from tests.store.trial_examples import dump

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


def test_what_was_taken_is_said_and_queried(tmp_path: Path) -> None:
    """The lines count what came and what was there; the database answers about both legs at once."""
    legs = tuple(make_leg(tmp_path / name, name) for name in ("cpu", "h200"))
    state = tmp_path / "state"
    answer = merge(state, legs)
    assert answer.exit_code is ExitCode.NO_WORSE
    rest = "1 night, 2 reports, 1 justification"
    assert answer.lines == (
        f"merged cpu (nightly, cpu, run {RUN}): took 2 pins, 2 trials, {rest}",
        f"merged h200 (nightly, h200, run {RUN}): took 2 trials, {rest}; 2 pins there already",
        "the database holds 4 trials, 4 of them new",
    )
    assert "(4 rows)" in list(ask(state, "SELECT trial_id FROM trials"))
    again = merge(state, legs)
    assert again.exit_code is ExitCode.NO_WORSE
    assert again.lines[-1] == "the database holds 4 trials, 0 of them new"


def test_a_rebuilt_database_is_the_same(tmp_path: Path) -> None:
    """`redline db rebuild` gives what the merges made, reasons included; `redline db tables` shows their table."""
    state = tmp_path / "state"
    for name in ("cpu", "h200"):
        merge(state, (make_leg(tmp_path / name, name),))
    before = dump(state / "redline.duckdb")
    list(ask(state, "rebuild"))
    assert dump(state / "redline.duckdb") == before
    assert len(before["justifications"]) == 2
    assert any(line.startswith("justifications ") for line in ask(state, "tables"))


def test_two_states_become_one(tmp_path: Path) -> None:
    """A whole state directory is merged like a leg; its database, builds and logs stay where they are."""
    state = make_leg(tmp_path / "gpu-host", "h200")
    (state / "leg.json").unlink()
    for name in ("builds", "logs"):
        (state / name).mkdir()
    (state / "redline.duckdb").write_bytes(b"whatever")
    answer = merge(tmp_path / "state", (state,))
    assert answer.exit_code is ExitCode.NO_WORSE
    assert answer.lines[1] == "  no leg.json: another state directory, or a leg that was cut short"
    assert "(2 rows)" in list(ask(tmp_path / "state", "SELECT trial_id FROM trials"))


def test_a_leg_that_died_is_taken_as_far_as_it_came(tmp_path: Path) -> None:
    """What it measured is kept, and its own words say why there is no more; a leg without anything is no error."""
    died = make_leg(tmp_path / "died", problem="it ended before it could report")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "leg.json").write_text(json.dumps(asdict(make_record("mi300x", "nothing was started", run_id=""))))
    answer = merge(tmp_path / "state", (died, empty))
    assert answer.exit_code is ExitCode.NO_WORSE
    assert answer.lines[1] == "  it has no report: it ended before it could report"
    assert answer.lines[2:4] == (
        "merged empty (nightly, mi300x, run never started): nothing in it",
        "  it has no report: nothing was started",
    )
    assert len(list_trials(tmp_path / "state" / "trials")) == 2


def test_a_leg_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Nothing of it is taken, it is named, the other leg is taken, and the exit code says that something is missing."""
    newer = make_leg(tmp_path / "newer", "h200")
    (newer / "leg.json").write_text(json.dumps(asdict(make_record("h200")) | {"schema": 2}))
    before = content_of(newer)
    answer = merge(tmp_path / "state", (newer, make_leg(tmp_path / "leg", trial_count=1)))
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert answer.lines[1] == "  refused: leg leg.json: it was packed by another version of Redline: schema 2"
    assert [path.name for path in list_trials(tmp_path / "state" / "trials")] == ["cpu-0"]
    assert content_of(newer) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1}', '{"schema": 1, "kind": "::error::"}', "1" * 2_000_000])
def test_a_record_that_lies_is_named_and_the_rest_taken(tmp_path: Path, text: str) -> None:
    """A leg is believed thing by thing: a damaged `leg.json` costs nothing that was measured."""
    leg = make_leg(tmp_path / "leg")
    (leg / "leg.json").write_text(text)
    answer = merge(tmp_path / "state", (leg,))
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert answer.lines[1].startswith("  refused: leg leg.json: ")
    assert len(list_trials(tmp_path / "state" / "trials")) == 2


def test_a_report_of_another_run_is_refused(tmp_path: Path) -> None:
    """A report's data is looked into: it must be readable, and of the run that its name says."""
    leg = make_leg(tmp_path / "leg", trial_count=1)
    write_report(leg / "reports" / f"{RUN}.data.json", regressed())
    (leg / "reports" / f"{RUN}-x.data.json").write_text("{}")
    answer = merge(tmp_path / "state", (leg,))
    refused = [line for line in answer.lines if line.startswith("  refused: report ")]
    assert len(refused) == 2
    assert not list((tmp_path / "state" / "reports").glob("*.data.json"))


def test_a_thousand_hostile_names_fit_a_screen(tmp_path: Path) -> None:
    """Names are shown on one line each, defused, and not all of them."""
    leg = make_leg(tmp_path / "leg", trial_count=1)
    for number in range(100):
        (leg / "trials" / f"\n::error::##[command]{number}").mkdir()
    answer = merge(tmp_path / "state", (leg,))
    assert len(answer.lines) == REFUSED_SHOWN_MAX + 3
    assert not any("\n" in line or "##[" in line or line.startswith("::") for line in answer.lines)
    assert answer.lines[-2] == f"  refused: {100 - REFUSED_SHOWN_MAX} more"


def test_a_name_that_is_not_unicode_is_shown(tmp_path: Path) -> None:
    """A file system allows names that no terminal can print: they are shown as what can be."""
    assert said(b"\xff\xfe".decode(errors="surrogateescape")).encode()


def test_folders_that_cannot_be_merged_are_refused_before_anything_is_taken(tmp_path: Path) -> None:
    """A folder that is not there, a file, and the state directory itself."""
    leg = make_leg(tmp_path / "leg")
    (tmp_path / "file").touch()
    state = tmp_path / "state"
    for wrong, words in ((tmp_path / "no", "no folder"), (tmp_path / "file", "no folder"), (state, "itself")):
        state.mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=words):
            merge(state, (leg, wrong))
        assert content_of(state) == {}


def test_a_class_that_there_is_none_of_is_refused(tmp_path: Path) -> None:
    """A slip would otherwise take nothing, and say so in a line that nobody reads."""
    leg = make_leg(tmp_path / "leg", "cpu")
    with pytest.raises(UsageError, match=r"runners/cpuu\.toml"):
        merge(tmp_path / "state", (leg,), "cpuu")
    assert not (tmp_path / "state").exists()
    answer = merge(tmp_path / "state", (leg,), "cpu")
    assert answer.exit_code is ExitCode.NO_WORSE
    assert "left 2 reports for other runner classes" in answer.lines[0]
    assert (
        merge(tmp_path / "other", (leg,), "h200-8")
        .lines[0]
        .endswith("left 2 trials, 1 night, 2 reports for other runner classes")
    )


def test_a_database_of_another_version_does_not_keep_legs_out(tmp_path: Path) -> None:
    """The files are taken, the line says how to make the database again, and the exit code says that it was not."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "redline.duckdb").write_bytes(b"no database")
    leg = make_leg(tmp_path / "leg")
    answer = merge(state, (leg,))
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert "redline db rebuild" in answer.lines[-1]
    assert len(list_trials(state / "trials")) == 2
    (state / "redline.duckdb").unlink()
    shutil.rmtree(leg)
    list(ask(state, "rebuild"))
    assert "(2 rows)" in list(ask(state, "SELECT trial_id FROM trials"))


def test_a_night_that_was_measured_again_is_named(tmp_path: Path) -> None:
    """Both are kept, and whoever merges reads which one counts."""
    first, again = make_night(), make_night(run_id="20261121T091500-cd34", value=90.0)
    for folder, night in (("first", first), ("again", again)):
        write_night(tmp_path / folder / "nights", night)
        settled = replace(night, run_id=f"{night.run_id}-settled", readings=(), trial_ids=())
        write_night(tmp_path / folder / "nights", settled)
    state = tmp_path / "state"
    words = f"the night of 2026-11-21 of cpu was measured again by {again.run_id}: the first one counts"
    assert not any(words in line for line in merge(state, (tmp_path / "first",)).lines)
    assert f"  {words}" in merge(state, (tmp_path / "again",)).lines
    assert not any(words in line for line in merge(state, (tmp_path / "again",)).lines), "it was there already"
    assert len(list((state / "nights" / "cpu").iterdir())) == 4
