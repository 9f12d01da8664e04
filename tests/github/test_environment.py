"""What GitHub's runner tells a job, and what a job tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redline.errors import UsageError
from redline.github.environment import SUMMARY_BYTES_MAX, Environment, read_environment, write_outputs, write_summary

TOKEN = "ghs_" + "s3cret" * 6
HOSTILE = 'x\nreport=/etc/passwd\nEOF\nname<<EOF\n::set-output name=verdict::no worse\n%0A"$(id)`id`\r\n\u2028'


def variables(folder: Path, event: object = None) -> dict[str, str]:
    """A job's variables, as the runner sets them."""
    (folder / "event.json").write_text(json.dumps({} if event is None else event))
    return {
        "GITHUB_EVENT_NAME": "issue_comment",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_REPOSITORY": "team/vllm",
        "GITHUB_RUN_ID": "77",
        "GITHUB_ACTOR": "octocat",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_TOKEN": TOKEN,
    }


def outputs_as_the_runner_reads_them(path: Path) -> dict[str, str]:
    """name -> value, by the documented form: `name<<word`, lines, `word`; or `name=value`."""
    found, lines = {}, iter(path.read_bytes().decode().split("\n"))
    for line in lines:
        if "<<" in line:
            name, word = line.split("<<", 1)
            value: list[str] = []
            for part in lines:
                if part == word:
                    break
                value.append(part)
            found[name] = "\n".join(value)
        elif "=" in line:
            name, found_value = line.split("=", 1)
            found[name] = found_value
    return found


def test_a_job_is_read_from_its_variables(tmp_path: Path):
    """The payload, the repository, where the run's page is."""
    found = read_environment(variables(tmp_path, {"action": "created"}))
    assert found.event == {"action": "created"}
    assert found.run_url == "https://github.com/team/vllm/actions/runs/77"
    assert found.token == TOKEN


def test_the_token_is_in_no_text_of_the_job(tmp_path: Path):
    """Neither `repr` nor `str` shows it: a traceback or a log line cannot."""
    found = read_environment(variables(tmp_path))
    assert TOKEN not in repr(found) + str(found) + f"{found!r}"


def test_redlines_own_token_comes_first_and_none_is_an_error_that_says_how(tmp_path: Path):
    """A token of an app may be given beside the job's own."""
    given = variables(tmp_path)
    assert read_environment(given | {"REDLINE_GITHUB_TOKEN": "app"}).token == "app"
    with pytest.raises(UsageError, match="no token"):
        _ = read_environment(given | {"GITHUB_TOKEN": " "}).token


@pytest.mark.parametrize("name", ["GITHUB_REPOSITORY", "GITHUB_EVENT_NAME"])
def test_outside_of_a_job_it_is_a_usage_error(name: str, tmp_path: Path):
    """It names the variable that is missing."""
    given = variables(tmp_path)
    del given[name]
    with pytest.raises(UsageError) as error:
        read_environment(given)
    assert name in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_a_payload_that_is_no_object_is_a_usage_error(content: str, tmp_path: Path):
    """Never a stack trace."""
    given = variables(tmp_path)
    (tmp_path / "event.json").write_text(content)
    with pytest.raises(UsageError, match="payload cannot be read"):
        read_environment(given)


def test_no_value_can_set_another_output(tmp_path: Path):
    """Line ends, the documented word EOF, old commands: the runner reads back exactly what was given."""
    environment = read_environment(variables(tmp_path))
    write_outputs(environment, {"verdict": "regressed", "reason": HOSTILE})
    write_outputs(environment, {"report": "r.md"})
    assert outputs_as_the_runner_reads_them(tmp_path / "output") == {
        "verdict": "regressed",
        "reason": HOSTILE,
        "report": "r.md",
    }


def test_a_summary_is_appended_and_one_that_github_would_reject_is_refused(tmp_path: Path):
    """GitHub drops a summary that is too long whole: it must be cut before it is written."""
    environment = read_environment(variables(tmp_path))
    write_summary(environment, "one\n")
    write_summary(environment, "two\n")
    with pytest.raises(ValueError, match="1,048,576"):
        write_summary(environment, "ä" * SUMMARY_BYTES_MAX)
    assert (tmp_path / "summary").read_text() == "one\ntwo\n"


def test_without_files_for_them_nothing_is_written():
    """A command that is tried outside of a runner still works."""
    environment = Environment("push", {}, "a/b", "", "", 0, 1, "", None, None)
    write_outputs(environment, {"a": "b"})
    write_summary(environment, "x")
    assert environment.run_url == ""
