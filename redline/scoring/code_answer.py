"""Answers that are programs: the program in an answer, the tests it has to pass, and when an output is right.

Nothing is run here.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass
from decimal import Decimal

from redline.errors import ContentError

# Each opening mark ends the block before it, so neither pattern reads any part of the text twice.
_PYTHON_BLOCK = re.compile(r"```(?:python3?|py)(?![\w+-])(.*?)```", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(r"```(.*?)```", re.DOTALL)


class Failure(enum.StrEnum):
    """Why a program that was run is not right; the names stand in the figures."""

    WRONG = "wrong"
    CRASHED = "crashed"
    TIME = "timed_out"
    OUTPUT = "too_much_output"


@dataclass(frozen=True, slots=True)
class CodeTest:
    """One test: the text on standard input and the output it must lead to.

    Of a function: one JSON value a line, which are its arguments, and the JSON value that it must return.
    """

    given: str
    expected: str


@dataclass(frozen=True, slots=True)
class CodeTask:
    """What a program must do. `function`: what is called, of class Solution if there is one; empty: it is run whole."""

    task_id: str
    tests: tuple[CodeTest, ...]
    function: str = ""


def code_of(text: str) -> str | None:
    """The last block that is marked as Python, else the last block of any kind, stripped; None without one.

    A block that was opened and never closed is an answer that was cut off: its code is not taken. Nor is a
    block that holds nothing.
    Source: parse_code of MLPerf's gpt-oss-120b eval_accuracy.py, which knows ```python but not ```python3.
    """
    for pattern in (_PYTHON_BLOCK, _BLOCK):
        if blocks := pattern.findall(text):
            return blocks[-1].strip() or None
    return None


def task_of(reference: str) -> CodeTask | None:
    """The tests in a reference `code:{"id": ..., "tests": [...]}`; None for `code:<id>`, which has none.

    Raises ContentError if the reference begins so and is not whole.
    """
    text = reference.strip().removeprefix("code:")
    if not text.startswith("{"):
        return None
    try:
        raw = json.loads(text)
        tests = tuple(CodeTest(_text(each["input"]), _text(each["output"])) for each in raw["tests"])
        task = CodeTask(_text(raw["id"]), tests, _text(raw.get("function", "")))
        if not tests:
            raise ValueError("no tests")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContentError(
            "the tests of a program cannot be read from its reference",
            expected='code:{"id": ..., "tests": [{"input": ..., "output": ...}]}, with "function" for a function',
            found=f"{text[:80]!r} ({type(error).__name__}: {str(error)[:80]})",
            next_step="prepare the data set again: it writes the tests into the references",
        ) from error
    return task


def same_output(output: str, expected: str) -> bool:
    """True if both say the same, line by line, spaces around a line and empty lines around the whole left out.

    A line also says the same if it is numbers only, in both, of the same value: `2.50 1` and `2.5 1.0`.
    Source: grade_stdio of LiveCodeBench's testing_util.py, which has no tolerance either.
    """
    given, wanted = _lines(output), _lines(expected)
    return len(given) == len(wanted) and all(map(_same_line, given, wanted))


def same_value(output: str, expected: str) -> bool:
    """True if both are JSON of the same value; numbers by their value, a tuple is a list.

    Source: grade_call_based of LiveCodeBench's testing_util.py, which compares a tuple within a list as another thing.
    """
    try:
        # Decimal: json's own integers end at 4300 digits.
        return bool(json.loads(output, parse_int=Decimal) == json.loads(expected, parse_int=Decimal))
    except (ValueError, RecursionError, ArithmeticError):
        return False


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r:.40}")
    return value


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(given: str, wanted: str) -> bool:
    if given == wanted:
        return True
    try:
        return [Decimal(word) for word in given.split()] == [Decimal(word) for word in wanted.split()]
    except ArithmeticError:  # a word that is no number, or a NaN that compares with nothing
        return False
