"""Escaping: strings from outside cannot break a page, inject Markdown or HTML into it, or notify people.

Outside strings are model names, branch names, server texts, log lines, paths and model answers. Three forms:
`text` for prose, `code` for names and values, `fence` for several lines. All return `Safe`; whatever a
report's template prints that is not `Safe` goes through `text`, so a forgotten filter is no hole there.

Where GitHub links plain text (mentions, #123, GH-123, addresses, e-mail) a zero-width space, written visibly
as `&#8203;`, parts it: a backslash or an entity for the character itself would not, since GitHub looks for these in
the finished page. Not parted: bare commit hashes, which can only link to commits of the repository itself, notify
nobody and are useful. Nor is code, in which GitHub looks for none: a command must stay what it is when it is copied.
What remains: whoever answers a page by e-mail and quotes it sends plain text, in which code protects nothing.

Source: CommonMark 0.31.2; GitHub Flavored Markdown 0.29 (extended autolinks); the zero-width space and the e-mail:
dependabot-core, pull request 3157, renovate, pull request 1083.
"""

from __future__ import annotations

import re
import unicodedata

TEXT_CHARS_MAX = 400
CODE_CHARS_MAX = 200
FENCE_CHARS_MAX = 4_000
FENCE_LINES_MAX = 60
EMPTY = "(empty)"

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_LINE_END = re.compile(r"\r\n|\r|\n")
# CSI and terminated OSC sequences, and the two-character rest. An unterminated OSC is not taken for one:
# it could hide the remainder of the line.
_ANSI = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\r\n]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_PART = "&#8203;"
_SPECIAL = re.compile(
    r"""
    [\\`*\[\]~|&$@]                                  # always active, or linked by GitHub
    | <(?=[A-Za-z/!?]|$)                             # a tag, a comment; `p < 0.05` stays readable
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])           # inside a word `_` is harmless, and metric ids are full of it
    | \#                                             # headings; with a digit an issue
    | ://                                            # an address
    | (?<=www)\.                                     # an address without a scheme
    | (?<=gh)-(?=\d)                                 # GH-123
    | :(?=[A-Za-z_+-][A-Za-z0-9_+-]*:)               # :emoji:
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ENTITY = {"<": "&lt;", "&": "&amp;", "|": "&#124;", "$": "&#36;"}
_PARTED = {"@": "@" + _PART, "://": ":" + _PART + "//", ".": _PART + ".", "-": "-" + _PART, ":": ":" + _PART}
_LEADING_MARK = re.compile(r"[-+=:](?=[-+=:\s]|$)|>")
_LEADING_NUMBER = re.compile(r"\d{1,9}[.)](?=\s|$)")


class Safe(str):
    """Markdown that was made or escaped here and may be printed as it is."""

    __slots__ = ()


def clean(value: str) -> str:
    """The string without terminal sequences; other control, invisible and direction-changing characters as U+FFFD.

    Every line end becomes a line feed; tabs stay. Lone surrogates are replaced too: they cannot be written as UTF-8.
    """
    plain = _LINE_END.sub("\n", _ANSI.sub("", value))
    return "".join(
        _REPLACEMENT if character not in "\n\t" and unicodedata.category(character) in _HIDDEN_CATEGORIES else character
        for character in plain
    )


def one_line(value: str, limit: int = TEXT_CHARS_MAX) -> str:
    """The cleaned string on one line, white space collapsed, cut with a mark; `(empty)` for nothing."""
    return cut(" ".join(clean(value).split()), limit) or EMPTY


def cut(value: str, limit: int) -> str:
    """At most `limit` characters, and then a mark that says how many there were."""
    return value if len(value) <= limit else f"{value[:limit].rstrip()}… (cut, {len(value):,} characters in all)"


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if character == "#":
        return "\\#" + (_PART if found.string[found.end() : found.end() + 1].isdigit() else "")
    return _ENTITY.get(character) or _PARTED.get(character) or "\\" + character


def text(value: str, limit: int = TEXT_CHARS_MAX) -> Safe:
    """One line of prose that reads as the string did and is nothing but text, wherever it is put."""
    if isinstance(value, Safe):
        return value
    plain = one_line(value, limit)
    escaped = _SPECIAL.sub(_escape, plain)
    marker = _LEADING_NUMBER.match(escaped)
    if marker:
        return Safe(f"{marker.group()[:-1]}\\{escaped[marker.end() - 1 :]}")
    return Safe("\\" + escaped if _LEADING_MARK.match(escaped) else escaped)


def code(value: str, limit: int = CODE_CHARS_MAX) -> Safe:
    """An inline code span with fences that are long enough; line ends as `⏎`, spaces kept. Nothing in it is linked.

    Pipes are escaped by `reports.markdown.table`, the only place where they mean something.
    """
    if isinstance(value, Safe):
        return value
    plain = cut(clean(value).replace("\n", "⏎").replace("\t", " "), limit) or EMPTY
    ticks = "`" * (_longest_run(plain) + 1)
    ends = plain[0] + plain[-1]
    # CommonMark takes one space off each end, if both have one.
    pad = " " if "`" in ends or (ends == "  " and plain.strip()) else ""
    return Safe(f"{ticks}{pad}{plain}{pad}{ticks}")


def fence(value: str, language: str = "", limit: int = FENCE_CHARS_MAX) -> Safe:
    """A fenced block of at most `limit` characters and `FENCE_LINES_MAX` lines; `language` is ours, never outside's."""
    lines = clean(value).strip("\n").split("\n")
    body = "\n".join(lines[:FENCE_LINES_MAX])
    if len(lines) > FENCE_LINES_MAX:
        body += f"\n… (cut, {len(lines):,} lines in all)"
    body = cut(body, limit) if body.strip() else EMPTY
    ticks = "`" * max(3, _longest_run(body) + 1)
    return Safe(f"{ticks}{language}\n{body}\n{ticks}")


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall(r"`+", value)), default=0)
