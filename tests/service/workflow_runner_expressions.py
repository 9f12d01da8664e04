"""GitHub's `${{ }}` expressions, as far as this repository's workflows use them. Whatever is not known is an error.

Source: docs.github.com, "Evaluate expressions in workflows and actions" (read November 2026).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<text>(?:[^']|'')*)'|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<sign>&&|\|\||==|!=|[!().,\[\]]))"
)
_WORDS = {"true": True, "false": False, "null": None}
STATUS_FUNCTIONS = frozenset({"always", "success", "failure", "cancelled"})


class ExpressionError(Exception):
    """An expression that this evaluator does not know, or that names what is not there."""


class Strict(dict[str, Any]):
    """A context in which a name that is not there is a mistake of whoever wrote the workflow, never an empty text."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an expression sees. `status`: `success`, `failure`, `cancelled` or, of the jobs before a job, `skipped`."""

    contexts: Mapping[str, Any]
    status: str = "success"


def evaluate(text: str, around: Surroundings) -> Any:
    """The value of one expression, without its braces. Raises ExpressionError."""
    parser = _Parser(_tokens(text), around, text)
    value = parser.either()
    if parser.rest:
        raise ExpressionError(f"{text!r}: {parser.rest[0][1]!r} was not expected")
    return value


def fill(text: str, around: Surroundings) -> Any:
    """A text with its expressions filled in; the value itself, of any type, if it is one expression and no more."""
    pieces = _pieces(text)
    if len(pieces) == 1 and pieces[0][0]:
        return evaluate(pieces[0][1], around)
    return "".join(as_text(evaluate(piece, around)) if inside else piece for inside, piece in pieces)


def holds(condition: str | bool | None, around: Surroundings) -> bool:
    """Does an `if:` let it run? Without a function that asks how things stand, nothing may have failed."""
    if condition is None:
        return around.status == "success"
    text = str(condition).lower() if isinstance(condition, bool) else condition.strip()
    text = text.removeprefix("${{").removesuffix("}}").strip()
    asks = any(re.search(rf"\b{name}\s*\(", _without_texts(text)) for name in STATUS_FUNCTIONS)
    return truth(evaluate(text, around)) and (asks or around.status == "success")


def expressions_in(text: str) -> tuple[str, ...]:
    """Every expression of a text, without its braces."""
    return tuple(piece.strip() for inside, piece in _pieces(text) if inside)


def truth(value: Any) -> bool:
    """False, 0, '' and null are false; whatever else is true, empty lists included."""
    return value not in (None, "", 0, False)


def as_text(value: Any) -> str:
    """How a value stands in a text."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case dict():
            return "Object"
        case list():
            return "Array"
        case _:
            return str(value)


def _without_texts(text: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", text)


def _pieces(text: str) -> list[tuple[bool, str]]:
    """(is an expression, text) in turns; braces inside an expression's own strings do not end it."""
    pieces: list[tuple[bool, str]] = []
    rest = text
    while (start := rest.find("${{")) >= 0:
        found = re.match(r"(?:[^'}]|'(?:[^']|'')*'|\}(?!\}))*", rest[start + 3 :])
        end = start + 3 + (found.end() if found else 0)
        if not rest.startswith("}}", end):
            raise ExpressionError(f"{text!r}: an expression is not closed")
        pieces += [(False, rest[:start])] if start else []
        pieces.append((True, rest[start + 3 : end]))
        rest = rest[end + 2 :]
    return pieces + ([(False, rest)] if rest else [])


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ExpressionError(f"{text!r}: {text[at:].strip()[:20]!r} is not known here")
        found.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    return found


class _Parser:
    """Recursive descent, which evaluates as it goes: every function used here is without side effects."""

    def __init__(self, tokens: list[tuple[str, str]], around: Surroundings, text: str) -> None:
        self.rest = tokens
        self.around = around
        self.text = text

    def _take(self, *signs: str) -> str | None:
        if self.rest and self.rest[0][0] == "sign" and self.rest[0][1] in signs:
            return self.rest.pop(0)[1]
        return None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise ExpressionError(f"{self.text!r}: {sign!r} is missing")

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value if truth(value) else other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = other if truth(value) else value
        return value

    def _compared(self) -> Any:
        value = self._negated()
        while sign := self._take("==", "!="):
            value = _equal(value, self._negated()) == (sign == "==")
        return value

    def _negated(self) -> Any:
        return not truth(self._negated()) if self._take("!") else self._reached()

    def _reached(self) -> Any:
        value, named = self._first()
        while sign := self._take(".", "["):
            if sign == ".":
                kind, key = self.rest.pop(0) if self.rest else ("", "")
                if kind != "name":
                    raise ExpressionError(f"{self.text!r}: a name is missing after a dot")
            else:
                key = as_text(self.either())
                self._expect("]")
            named = f"{named}.{key}"
            value = _part(value, key, named)
        return value

    def _first(self) -> tuple[Any, str]:
        if self._take("("):
            value = self.either()
            self._expect(")")
            return value, "(...)"
        if not self.rest:
            raise ExpressionError(f"{self.text!r}: it ends too early")
        kind, word = self.rest.pop(0)
        if kind == "text":
            return word.replace("''", "'"), "text"
        if kind == "number":
            return float(word), "number"
        if kind != "name":
            raise ExpressionError(f"{self.text!r}: {word!r} was not expected")
        if self._take("("):
            return self._called(word), word
        if word in _WORDS:
            return _WORDS[word], word
        if word not in self.around.contexts:
            raise ExpressionError(f"{self.text!r}: there is no context {word!r} here")
        return self.around.contexts[word], word

    def _called(self, name: str) -> Any:
        arguments = []
        while not self._take(")"):
            arguments.append(self.either())
            if not self._take(","):
                self._expect(")")
                break
        if name in STATUS_FUNCTIONS and not arguments:
            return name in {"always", self.around.status}
        if name not in _FUNCTIONS:
            raise ExpressionError(f"{self.text!r}: the function {name!r} is not known here")
        return _FUNCTIONS[name](*arguments)


def _part(value: Any, key: str, named: str) -> Any:
    if isinstance(value, Mapping):
        for known, part in value.items():
            if known.lower() == key.lower():
                return part
        if isinstance(value, Strict):
            raise ExpressionError(f"{named}: there is no such thing, only {', '.join(sorted(value)) or 'nothing'}")
        return None
    if isinstance(value, list) and key.isdigit():
        return value[int(key)] if int(key) < len(value) else None
    return None


def _number(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value) if value.strip() else 0.0
        except ValueError:
            return math.nan
    return math.nan if isinstance(value, dict | list) else float(value or 0)


def _equal(left: Any, right: Any) -> bool:
    """Loose, as GitHub compares: texts without regard to case, different types as numbers, objects by identity."""
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    if isinstance(left, dict | list) or isinstance(right, dict | list):
        return left is right
    return _number(left) == _number(right)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(as_text(text))
    except ValueError as error:
        raise ExpressionError(f"fromJSON of {as_text(text)[:80]!r}: {error}") from error


def _format(template: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda found: as_text(values[int(found.group(1))]), template)


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, list):
        return any(_equal(each, what) for each in where)
    return as_text(what).lower() in as_text(where).lower()


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "fromJSON": _from_json,
    "toJSON": lambda value: json.dumps(value, indent=2),
    "format": _format,
    "contains": _contains,
    "join": lambda values, between=",": as_text(between).join(map(as_text, values)),
    "startsWith": lambda text, start: as_text(text).lower().startswith(as_text(start).lower()),
}
