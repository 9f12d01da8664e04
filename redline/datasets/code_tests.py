"""`code_tests.jsonl`: the tests of programming questions, which a user may lay beside a set that has some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from redline.datasets.fields import TEXT_CHARS_MAX, Row, shown
from redline.datasets.rows import rows_of
from redline.errors import ContentError

FILE_NAME = "code_tests.jsonl"
TESTS_MAX = 1000
TOTAL_CHARS_MAX = 200_000_000
"""Of the tests of all items together: every measurement holds them in memory."""


def tests_beside(path: Path) -> Path | None:
    """The file of tests in the same folder, None if there is none."""
    beside = path.parent / FILE_NAME
    return beside if beside.is_file() else None


def read_tests(path: Path) -> dict[str, str]:
    """Compact JSON {"id", "tests"} by question, with "function" where one is called.

    Each row: {"id": ..., "tests": [{"input": text, "output": text}]}, and "function" with JSON values in place of text.
    Raises ContentError, which names the row, for a question twice, without tests, or with tests nobody could pass.
    """
    found: dict[str, str] = {}
    for row in rows_of(path):
        question = row.key("id", "")
        if not question or question in found or question.startswith("{") or any(map(str.isspace, question)):
            raise row.wrong("'id' is no question's, or stands here twice", "an id without spaces, once", question)
        found[question] = _checked(row, question)
    return found


def with_tests(references: Iterable[str], tests: Mapping[str, str]) -> list[str]:
    """The references, with its tests in place of each question's id; those of other kinds as they are.

    Raises ContentError if a question has no tests, or all tests together are too many to be held in memory.
    """
    found = [_with_tests(reference, tests) for reference in references]
    total = sum(len(each) for each in found)
    if total > TOTAL_CHARS_MAX:
        raise ContentError(
            f"{FILE_NAME} is too large",
            expected=f"at most {TOTAL_CHARS_MAX} characters of tests, each time a question is asked",
            found=f"{total} characters",
            next_step="leave out the largest tests; compare only results of the same tests",
        )
    return found


def _with_tests(reference: str, tests: Mapping[str, str]) -> str:
    kind, _, question = reference.partition(":")
    if kind != "code":
        return reference
    if question not in tests:
        raise ContentError(
            f"{FILE_NAME} has no tests of question {shown(question)}",
            expected="tests of every question whose answer is a program",
            found=f"tests of {len(tests)} other questions",
            next_step=f"give the whole {FILE_NAME}, or none: programs are then not run",
        )
    return f"code:{tests[question]}"


def _checked(row: Row, question: str) -> str:
    tests = row.values.get("tests")
    if not isinstance(tests, list) or not 1 <= len(tests) <= TESTS_MAX:
        raise row.wrong("'tests' is no list of tests", f"1 to {TESTS_MAX} tests", tests)
    function = row.text("function", empty=False) if row.has("function") else ""
    if function and not function.isidentifier():
        raise row.wrong("'function' is no name", "the name of a function", function)
    kept = [_test(row, each, is_call=bool(function)) for each in tests]
    task = {"id": question, "tests": kept} | ({"function": function} if function else {})
    text = json.dumps(task, ensure_ascii=False, separators=(",", ":"))
    if len(text) > TEXT_CHARS_MAX:
        raise row.wrong("the tests are too large", f"at most {TEXT_CHARS_MAX} characters", f"{len(text)} characters")
    return text


def _test(row: Row, test: object, *, is_call: bool) -> dict[str, str]:
    if not isinstance(test, dict):
        raise row.wrong("a test is no object", 'an object with "input" and "output"', test)
    of_test = Row(row.file_name, row.number, test)
    texts = {name: of_test.text(name) for name in ("input", "output")}
    if is_call:
        for value in (*(line for line in texts["input"].split("\n") if line.strip()), texts["output"]):
            try:
                json.loads(value)
            except (ValueError, RecursionError) as error:
                expected = "JSON values: one argument a line, and what is returned"
                raise row.wrong("a test of a function is not JSON", expected, value) from error
    return texts
