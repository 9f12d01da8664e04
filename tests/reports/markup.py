"""What a page is made of, according to a real parser: an oracle that shares no code with the escaping."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

# What GitHub links in the text of a finished page, outside code.
LINKED = re.compile(
    r"""
    @[A-Za-z0-9]                       # a mention, an e-mail address
    | \#[0-9]                          # an issue
    | gh-[0-9]
    | (?:https?|ftp)://
    | www\.
    """,
    re.VERBOSE | re.IGNORECASE,
)


def flat(page: str) -> Iterator[Token]:
    """Every token of a page in order, inline ones included."""
    for token in _PARSER.parse(page):
        if token.type == "inline":
            yield from token.children or []
        else:
            yield token


def structure(page: str) -> tuple[tuple[str, str, str, str], ...]:
    """(type, tag, attributes, raw HTML or a fence's language) of everything but text, runs of text as one entry."""
    found: list[tuple[str, str, str, str]] = []
    for token in flat(page):
        if token.type in ("text", "softbreak"):
            entry = ("text", "", "", "")
            if (token.content or token.type == "softbreak") and (not found or found[-1] != entry):
                found.append(entry)
        else:
            raw = token.content if token.type.startswith("html") else token.info
            found.append((token.type, token.tag, str(token.attrs), raw))
    return tuple(found)


def prose(page: str) -> tuple[str, ...]:
    """The runs of text outside code, as a reader sees them."""
    runs = [""]
    for token in flat(page):
        if token.type == "text":
            runs[-1] += token.content
        else:
            runs.append("")
    return tuple(run for run in runs if run)
