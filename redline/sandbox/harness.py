"""The program around an answer: what LiveCodeBench gives every program, and what calls a function of it."""

from __future__ import annotations

RECURSION_MAX = 50_000
INTEGER_DIGITS_MAX = 50_000
# Every name of these, then the modules themselves; later ones win: `pow` is Python's own, not that of math.
# Source of both and of the two limits: LiveCodeBench, testing_util.py and compute_code_generation_metrics.py.
MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)

_GIVEN = "\n".join(
    [
        *(f"from {module} import *" for module in MODULES),
        *(f"import {module}" for module in MODULES if module not in {"builtins", "typing"}),
        f"sys.setrecursionlimit({RECURSION_MAX})",
        f"sys.set_int_max_str_digits({INTEGER_DIGITS_MAX})",
        "",
    ]
)

# The answer is compiled apart, so that its own `from __future__` comes first and its lines keep their numbers.
_WHOLE = """
try:
    exec(compile({source}, "answer.py", "exec"))
except SystemExit:
    pass
"""

# What the answer prints goes to standard error: on standard output stands what the function returned.
_FUNCTION = """
def _call(source, name):
    import json, sys, types
    arguments = [json.loads(line) for line in sys.stdin.read().split("\\n") if line.strip()]
    dumps, out, sys.stdout = json.dumps, sys.stdout, sys.stderr
    module = sys.modules["answer"] = types.ModuleType("answer")
    module.__dict__.update({{key: value for key, value in globals().items() if not key.startswith("_")}})
    exec(compile(source, "answer.py", "exec"), module.__dict__)
    solution = getattr(module, "Solution", None)
    owner = solution() if isinstance(solution, type) else module
    out.write(dumps(getattr(owner, name)(*arguments)))

_call({source}, {name})
"""


def whole_program(source: str) -> str:
    """A program that runs this one with the imports of LiveCodeBench; an exit of its own is no failure."""
    return _GIVEN + _WHOLE.format(source=ascii(source))


def function_program(source: str, name: str) -> str:
    """A program that calls one function of this source and writes what it returns as JSON.

    Arguments: standard input, one JSON value a line. The function is class Solution's if there is one.
    """
    return _GIVEN + _FUNCTION.format(source=ascii(source), name=ascii(name))
