"""`redline replay` on files: what it prints, writes and ends with."""

from __future__ import annotations

import argparse
import csv
import json

import pytest

from checks.replay import Choice
from flows.replay import FINDINGS_NAME, PAGE_NAME, JudgeAs, ReplayRequest, replay
from redline.cli import replaying
from redline.errors import ContentError, ExitCode, UsageError
from redline.interchange.history import HistoryRow, write_history
from tests.checks.made_up_recordings import day, nights, pairs, releases

STEP = 30
HOSTILE = "s|<b>@all\x1b[31m\n#1"


def history(path, rows):
    """A history file of made-up rows."""
    write_history(
        path,
        [
            HistoryRow(
                row.build,
                row.date,
                row.runner,
                row.scenario,
                row.metric,
                row.reading,
                row.deployment,
                row.repeat,
                definition=row.definition,
            )
            for row in rows
        ],
    )
    return path


def replayed(tmp_path, rows, **named):
    """The answer for these rows."""
    file = history(tmp_path / "history.csv", rows)
    return replay(ReplayRequest(file, tmp_path / "state", tmp_path / "out", policy="gpu", **named))


def command(tmp_path, *words):
    """What the command line ends with."""
    top = argparse.ArgumentParser()
    replaying.add_commands(top.add_subparsers())
    arguments = top.parse_args(["replay", *words, "--state-dir", str(tmp_path / "state")])
    return arguments.action(arguments)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_confirmed_regression_ends_with_1_and_is_written_down(tmp_path, capsys, suffix):
    """On the terminal, in the page and in the CSV, under the state's reports."""
    rows = [*releases(40, STEP, worse=0.06), *pairs(STEP, "old", "new", worse=0.06)]
    file = history(tmp_path / f"history{suffix}", rows)
    assert command(tmp_path, str(file), "--policy", "gpu") == ExitCode.REGRESSED
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith("replay: 1 regression confirmed, 0 suspicions")
    assert any(day(STEP) in line and "confirmed: new against old" in line for line in printed)
    reports = tmp_path / "state" / "reports"
    assert "**1 regression confirmed" in (reports / PAGE_NAME).read_text()
    found = list(csv.DictReader((reports / FINDINGS_NAME).open(newline="")))
    confirmed = next(row for row in found if row["said"] == "regressed")
    assert (confirmed["first_bad"], confirmed["build"], confirmed["gate_finding"]) == (day(STEP), "new", "regressed")


def test_a_suspicion_that_nothing_settles_ends_with_3(tmp_path):
    """The line says which gate would have been run."""
    answer = replayed(tmp_path, releases(40, STEP, worse=0.06))
    assert answer.exit_code is ExitCode.INCONCLUSIVE
    assert any("a gate would have been run, and none is recorded: new against old" in line for line in answer.lines)


def test_a_quiet_past_ends_with_0(tmp_path):
    """One build, no steps."""
    answer = replayed(tmp_path, nights(20, seed=1, build="b"))
    assert answer.exit_code is ExitCode.NO_WORSE
    assert "  nothing on any night" in answer.lines


def test_too_few_nights_are_no_pass(tmp_path):
    """As a nightly without enough nights: nothing to compare with."""
    answer = replayed(tmp_path, nights(8))
    assert answer.exit_code is ExitCode.NO_BASELINE
    assert answer.lines[-1] == "replay: nothing was judged: no series has enough nights"
    assert replayed(tmp_path, nights(9)).exit_code is ExitCode.NO_WORSE


def test_missing_nights_and_legs_are_said(tmp_path):
    """Beside what the readings say."""
    rows = [row for index, row in enumerate(nights(20, seed=1, build="b")) if index not in (6, 7)]
    rows += [row for index, row in enumerate(nights(20, seed=2, build="b", scenario="t")) if index not in (6, 7, 9)]
    lines = replayed(tmp_path, rows).lines
    assert any(line.strip().startswith(day(6)) and f"2 nights due until {day(7)}" in line for line in lines)
    assert any(line.strip().startswith(day(9)) and "the scenario has no reading on 1 night" in line for line in lines)


def test_json_holds_what_the_lines_say(tmp_path):
    """One object, without numbers that JSON does not have."""
    rows = [*releases(40, STEP, worse=0.06), *pairs(STEP, "old", "new", worse=0.06), *nights(3, scenario="short")]
    answer = replayed(tmp_path, rows, as_json=True)
    value = json.loads(answer.lines[0])
    assert (value["judged_as"], value["exit_code"], value["policy"]) == ("nightly", 1, "gpu")
    assert "regressed" in [found["said"] for found in value["findings"]]
    short = next(found for found in value["series"] if found["scenario"] == "short")
    assert short["seen_50"] is None
    assert value["unsettled"] == []


def test_gates_of_a_recording(tmp_path):
    """Where each stopped, and its metrics."""
    rows = [*pairs(0, "old", "new", worse=0.06), *pairs(1, "new", "newer", seed=4)]
    answer = replayed(tmp_path, rows, judge_as=JudgeAs.GATE)
    assert answer.exit_code is ExitCode.REGRESSED
    assert answer.lines[-1].startswith("replay: 2 gates, ")
    assert any("stopped after" in line and "of 8 recorded pairs: s TPOT median" in line for line in answer.lines)
    found = list(csv.DictReader((tmp_path / "out" / FINDINGS_NAME).open(newline="")))
    assert [row["gate_finding"] for row in found] == ["regressed", "no worse"]
    assert [row["candidate_build"] for row in found] == ["new", "newer"]


def test_an_undecided_gate_ends_with_3(tmp_path):
    """It says how far the gate would have gone."""
    answer = replayed(tmp_path, pairs(0, "old", "new", 3, cv=0.1), judge_as=JudgeAs.GATE)
    assert answer.exit_code is ExitCode.INCONCLUSIVE
    assert any("undecided after all 3 recorded pairs; the gate would go on to 8" in line for line in answer.lines)


def test_names_that_the_file_does_not_have_are_refused(tmp_path):
    """With the nearest that it has; so is a release that was never measured."""
    for named in ({"choice": Choice(runners=("rr",))}, {"release": "b99"}):
        with pytest.raises(UsageError, match="has none"):
            replayed(tmp_path, nights(10), **named)


def test_what_cannot_be_judged_is_refused(tmp_path):
    """Nothing left, nothing to pair, the nightly's options for a gate."""
    rows = nights(10)
    with pytest.raises(ContentError, match="nothing to judge"):
        replayed(tmp_path, rows, choice=Choice(since=day(40)))
    with pytest.raises(UsageError, match="without the first repeats"):
        replayed(tmp_path, rows, choice=Choice(drop_first_repeat=True))
    with pytest.raises(UsageError, match="no night holds what a gate compares"):
        replayed(tmp_path, rows, judge_as=JudgeAs.GATE)
    with pytest.raises(UsageError, match="are the nightly's"):
        replayed(tmp_path, rows, judge_as=JudgeAs.GATE, every_days=1)
    many = [row for number in range(7) for row in pairs(0, "old", "new", scenario=f"s{number}")]
    with pytest.raises(UsageError, match="at most 6 primary metrics"):
        replayed(tmp_path, many, judge_as=JudgeAs.GATE)


def test_options_are_checked_before_the_file(tmp_path):
    """A cadence of no days and a date that is none."""
    for words in (("--every-days", "0"), ("--since", "yesterday")):
        with pytest.raises(UsageError, match=words[0]):
            command(tmp_path, "absent.csv", *words)
    with pytest.raises(ContentError, match="cannot be read"):
        command(tmp_path, str(tmp_path / "absent.csv"))


def test_hostile_names_steer_neither_terminal_nor_page(tmp_path):
    """Names are outside strings: no escape sequence, no cell of their own, no markup."""
    answer = replayed(tmp_path, releases(40, STEP, worse=0.06, scenario=HOSTILE))
    assert all("\x1b" not in line and "\n" not in line for line in answer.lines)
    page = (tmp_path / "out" / PAGE_NAME).read_text()
    assert "<b>" not in page
    assert "\x1b" not in page
    rows = [line for line in page.splitlines() if line.startswith("| 2026")]
    assert rows
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}


def test_series_of_mixed_definitions_are_named(tmp_path):
    """A tool that changes its definition makes a step too."""
    rows = [*nights(12, build="b")[:6], *nights(12, build="b", definition="from sending")[6:]]
    assert any(
        "mixes definitions (as the catalogue has it; from sending)" in line for line in replayed(tmp_path, rows).lines
    )
