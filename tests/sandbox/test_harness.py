"""The program around an answer: what an answer finds there, and what comes out."""

from __future__ import annotations

import json

import pytest

from redline.sandbox.harness import MODULES, function_program, whole_program
from redline.sandbox.programs import Ending, run_python
from tests.sandbox.walls import require_walls


@pytest.fixture(autouse=True)
def _walls():
    """Leave a test out where no program may be run."""
    require_walls()


def written(source: str, stdin: str = "") -> str:
    """What an answer that is run whole writes; it ends well."""
    result = run_python(whole_program(source), stdin)
    assert result.ending is Ending.OK, result
    return result.stdout


def test_the_usual_imports_are_there():
    """Names of the usual modules and the modules too; Python's own functions are not hidden by theirs."""
    used = "print(Counter('aab')['a'], heapq.heappop([3]), gcd(4, 6), inf > 1, bisect_left([1, 2], 2), List[int])"
    assert written(used) == "2 3 2 True 1 typing.List[int]\n"
    assert written("import builtins\nprint(pow(2, 3, 5), compile is builtins.compile)") == "3 True\n"
    assert set(written("print(*sys.modules)").split()) >= set(MODULES)


def test_an_answer_is_run_as_a_program():
    """It is __main__, reads its input in any way, may begin with __future__, and its own exit is no failure."""
    source = """
from __future__ import annotations
import sys, dataclasses

@dataclasses.dataclass
class Pair:
    one: int

def main():
    first = input()
    rest = sys.stdin.read()
    print(first, rest.split(), Pair(1).one)
    exit(1)

if __name__ == "__main__":
    main()
    print("never")
"""
    assert written(source, "a\nb c\n") == "a ['b', 'c'] 1\n"
    deep = "def depth(n): return 0 if n == 0 else 1 + depth(n - 1)\nprint(depth(20_000), len(str(10 ** 20_000)))"
    assert written(deep) == "20000 20001\n"


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("x = 1\nprint(x / 0)", "ZeroDivisionError"),
        ("print('never closed", "SyntaxError"),
        ("print('\ud800')", "UnicodeEncodeError"),
        ("a = 1\0", "null bytes"),
        ("(" * 5000, "too many nested parentheses"),
    ],
)
def test_a_crash_says_what_it_was(source, last):
    """Whatever stands in an answer, it is the answer that fails, with its own last words."""
    result = run_python(whole_program(source))
    assert result.ending is Ending.FAILED
    assert last in result.stderr_tail


METHOD = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Kept:
    value: int

class Solution:
    def add(self, a: List[int], b: int) -> List[int]:
        print("debugging")
        return tuple(Kept(each + b).value for each in a)
"""


def test_a_function_is_called_with_json():
    """Of class Solution or of none; what it prints is not what it returns."""
    result = run_python(function_program(METHOD, "add"), "[1, 2]\n10")
    assert (result.ending, json.loads(result.stdout)) == (Ending.OK, [11, 12])
    assert "debugging" in result.stderr_tail
    plain = run_python(function_program("def say(text):\n    return {'said': text}", "say"), '"a\u2028b"\n')
    assert json.loads(plain.stdout) == {"said": "a\u2028b"}
    assert run_python(function_program("def one():\n    return 1", "one")).stdout == "1"


@pytest.mark.parametrize(
    "source", ["", "def other(x):\n    return x", "def f(x):\n    return {x}", "def f():\n    return 1"]
)
def test_a_function_that_cannot_be_called_fails(source):
    """Not there, of another shape, or with a result that is no JSON."""
    assert run_python(function_program(source, "f"), "1").ending is Ending.FAILED
