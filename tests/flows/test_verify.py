"""`redline method verify`: the same figures by any number of processes, files, exit codes, and no silent gap."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from checks.error_table import Figure, Measured, Section
from flows import verify
from flows.verify import Otava, Verified, VerifyOptions, document_of
from redline.builds.lock_text import lock_here, parse_lock
from redline.cli import method
from redline.errors import ExitCode, InfrastructureError, StoreError, UsageError
from redline.otava.detect import LOCK
from reports.method_data import from_json
from tests.checks.policies import CPU, GPU

QUICK_SECTIONS = ("accuracy", "stored")


def options(tmp_path, **changes):
    """A tiny table of two quick sections."""
    return VerifyOptions(
        **{
            "state_dir": tmp_path,
            "suites": 20,
            "sections": QUICK_SECTIONS,
            "process_count": 1,
            "quiet": True,
            **changes,
        }
    )


def command(*words):
    """The exit code of `redline method verify` with these words."""
    top = argparse.ArgumentParser()
    method.add_commands(top.add_subparsers())
    arguments = top.parse_args(["method", "verify", *words])
    return arguments.action(arguments)


def rows_of(section, otava=None):
    """The rows of a section by key."""
    return {row.key: row for row in verify._rows(CPU, GPU, otava or Otava(None)) if row.section is section}


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(tmp_path):
    """One process in this one, and two of their own, give the same table; another seed another one."""
    alone = verify.verify(options(tmp_path))
    spread = verify.verify(options(tmp_path, process_count=2))
    other = verify.verify(options(tmp_path, seed=1))
    assert spread.document == alone.document
    assert [row.figures for row in other.document.rows] != [row.figures for row in alone.document.rows]
    assert multiprocessing.active_children() == []


def test_a_row_does_not_depend_on_the_others(tmp_path):
    """A section measured alone has the figures that it has in a larger table."""
    both = verify.verify(options(tmp_path)).document
    alone = verify.verify(options(tmp_path, sections=("stored",))).document
    assert alone.rows == both.of("stored")


def test_three_files_are_written(tmp_path):
    """Markdown, JSON and SVG in the state directory, or where they are asked for."""
    found = verify.verify(options(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "method/error-table.md",
        "method/error-table.json",
        "method/error-table.svg",
    ]
    assert from_json(found.paths[1].read_text()) == found.document
    assert found.paths[0].read_text() == found.markdown
    assert verify.verify(options(tmp_path, output=tmp_path / "other")).paths[0] == tmp_path / "other" / "error-table.md"


def test_a_directory_that_cannot_be_written_is_said(tmp_path):
    """A file in the place of the directory: the message names it and what to do."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="could not be written"):
        verify.verify(options(tmp_path, output=tmp_path / "taken"))


@pytest.mark.parametrize("changes", [{"suites": 0}, {"process_count": 0}])
def test_numbers_without_sense_are_refused(tmp_path, changes):
    """No suites, no processes: wrong usage, before anything is measured."""
    with pytest.raises(UsageError, match="at least 1"):
        verify.verify(options(tmp_path, **changes))


@pytest.mark.slow
def test_processes_end_when_the_caller_leaves(tmp_path):
    """Interrupted after the first row, no process is left at work."""
    keys = list(rows_of(Section.GATE))
    task = partial(verify._measure, seed=1, suites=2000)
    with closing(verify._spread(task, [*rows_of(Section.STORED), *keys], (CPU, GPU, Otava(None)), 2)) as rows:
        next(rows)
        children = multiprocessing.active_children()
        assert len(children) == 2
    assert multiprocessing.active_children() == []


def test_otava_that_is_left_out_says_why():
    """Its rows stand in the table with the reason, one in every group of nights."""
    rows = rows_of(Section.NIGHTS, Otava(None, "--without-otava"))
    verify._prepare(CPU, GPU, Otava(None, "--without-otava"))
    otava = [key for key in rows if key.endswith(verify.OTAVA)]
    assert len(otava) == len({row.group for row in rows.values()})
    found = verify._measure(otava[0], seed=1, suites=20)
    assert (found.figures, found.problem) == ({}, "--without-otava")


def test_otava_that_does_not_run_says_why(tmp_path):
    """An interpreter that is not there: a row without figures and with a reason, not an end of everything."""
    verify._prepare(CPU, GPU, Otava(tmp_path / "python"))
    found = verify._measure(f"nights: 3 % worse: {verify.OTAVA}", seed=1, suites=20)
    assert found.figures == {}
    assert found.problem.startswith("Otava did not analyse the series: FileNotFoundError")
    assert "\n" not in found.problem


@pytest.mark.slow
def test_otava_is_installed_once_as_it_is_locked(vllm_state_dir):
    """The second call says nothing and finds the same interpreter, which holds what the lock says and nothing else."""
    first = verify.otava_environment(vllm_state_dir, on_line=lambda line: None)
    lines: list[str] = []
    second = verify.otava_environment(vllm_state_dir, on_line=lines.append)
    assert (second.cached, second.python, second.versions, lines) == (True, first.python, first.versions, [])
    locked = parse_lock(lock_here(LOCK.read_text()))
    assert dict(first.versions) == {name: package.version for name, package in locked.items()}


def test_a_state_directory_that_cannot_be_made_names_otava(tmp_path):
    """A file where the directory should be: an infrastructure error with the path, not a traceback."""
    (tmp_path / "state").write_text("")
    with pytest.raises(InfrastructureError, match="Otava cannot be kept here"):
        verify.otava_environment(tmp_path / "state", on_line=lambda line: None)


@pytest.mark.slow
def test_otava_without_a_network_says_why(tmp_path, monkeypatch):
    """No index answers: Otava's rows are not measured, with the reason, and the others are."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    document = verify.verify(options(tmp_path, sections=("nights",), suites=1)).document
    problems = {row.name: row.problem for row in document.rows}
    assert problems.pop(verify.OTAVA).startswith("Otava could not be installed: ")
    assert set(problems.values()) == {""}


def test_a_broken_promise_is_named_and_ends_with_4(tmp_path, capsys):
    """A full table with a figure beyond its limit: the promise in words, exit code 4."""
    row = rows_of(Section.STORED)["stored: stored, equal builds, 1 trial"]
    broken = document_of([Measured(row, row.count, {Figure.REGRESSED: 0.02})], options(tmp_path))
    assert method.answer(Verified(broken, (Path("x"),)), as_json=False) == ExitCode.INVALID
    said = capsys.readouterr().out
    assert "broken: stored: stored, equal builds, 1 trial: regressed at most 0.01, found 0.02 (standard error" in said
    kept = document_of([Measured(row, row.count, {Figure.REGRESSED: 0.002})], options(tmp_path))
    assert method.answer(Verified(kept, ()), as_json=False) == ExitCode.NO_WORSE


def test_the_command(tmp_path, capsys):
    """Sections by name, JSON alone on standard output, progress only when it is not quiet."""
    words = ["--only", *QUICK_SECTIONS, "--suites", "20", "--processes", "1", "--state-dir", str(tmp_path)]
    assert command(*words, "--json") == ExitCode.NO_WORSE
    said = capsys.readouterr()
    assert {row["section"] for row in json.loads(said.out)["rows"]} == set(QUICK_SECTIONS)
    assert "11 of 11" in said.err
    assert command(*words, "--quiet") == ExitCode.NO_WORSE
    said = capsys.readouterr()
    assert said.err == ""
    assert "| stored, equal builds, 1 trial |" in said.out
    assert "promises, none broken" in said.out


def test_the_command_knows_every_section():
    """What can be asked for with --only are the sections of the table."""
    assert tuple(section.value for section in Section) == method.SECTIONS


@pytest.mark.parametrize("words", [("--quick", "--suites", "5"), ("--only", "weather")])
def test_wrong_words_are_refused(words, capsys):
    """Two sizes at once, or a section that there is not."""
    with pytest.raises(SystemExit):
        command(*words)
    assert "error" in capsys.readouterr().err


def test_a_long_reason_is_cut():
    """The reason stands in a cell of a table: one line, not too long."""
    found = verify._in_a_line(InfrastructureError("Otava could not be installed", found="first\n" + "x" * 500))
    assert len(found) == verify.PROBLEM_CHARACTERS_MAX
    assert found.startswith("Otava could not be installed: xxx")
