"""Escaping, checked against a CommonMark parser."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reports.markdown import Safe, clean, code, cut, display_width, fence, one_line, table, text
from tests.reports.hostile import HOSTILE
from tests.reports.markup import LINKED, flat, prose, structure

FRAGMENTS = (
    *("|", "\\", "`", "``", "```", "\n", "\r\n", "\t", "    ", " ", "<", ">", "&", "#", "# ", "*", "**", "_", "__"),
    *("~", "~~", "$", "$$", "[", "]", "(", ")", "!", ":", "-", "--", "---", "- ", "+", "+ ", "=", "===", "1. ", "1) "),
    *(
        "@",
        "@octocat",
        "#123",
        "GH-1",
        "https://",
        "http://a.b",
        "www.",
        "ftp://x",
        "a@b.co",
        "o/r#1",
        "[^1]",
        "[x]: /u",
    ),
    *("<script>", "</details>", "<!--", "-->", "<?", "<!D", "<a@b.co>", "<http://x>", "![", "](u)", "&lt;", "&#64;"),
    *("\x1b[31m", "\x1b]8;;x\x07", "\x00", "\x0b", "\x0c", "\x85", "\u2028", "\u202e", "\u200b", "\ud800", "\xa0", "é"),
    *("a", "0", "word", ":tada:", "|---|", "\n|---|\n", ":-:", "\\|", "(empty)", "日本"),
)
STRINGS = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=12).map("".join), st.text(min_size=1, max_size=60)
)
ZERO_WIDTH_SPACE = "\u200b"


@given(STRINGS)
@example(HOSTILE)
@settings(max_examples=400, deadline=None)
def test_text_is_one_run_of_text_that_reads_as_the_string(value: str) -> None:
    """Prose parses to a single run of text, equal to the cleaned string, wherever a line may put it."""
    for page in ("{}", "- {}", "# {}", "see {}: `x`"):
        harmless = structure(page.format("harmless"))
        shown = page.format(text(value))
        assert structure(shown) == harmless
        assert not LINKED.search("\n".join(prose(shown)))
    assert "".join(prose(text(value))).replace(ZERO_WIDTH_SPACE, "") == one_line(value)


@given(STRINGS)
@example("`")
@example(" a ")
@example("``` x")
@settings(max_examples=400, deadline=None)
def test_code_is_one_code_span_that_reads_as_the_string(value: str) -> None:
    """Code parses to a single span with the cleaned string in it."""
    tokens = [token for token in flat(f"see {code(value)} here") if token.type == "code_inline"]
    assert structure(f"see {code(value)} here") == structure("see `harmless` here")
    assert tokens[0].content == (clean(value).replace("\n", "⏎").replace("\t", " ") or "(empty)")


@given(STRINGS)
@settings(max_examples=300, deadline=None)
def test_a_fence_is_one_block(value: str) -> None:
    """A fenced block contains the whole string and ends where it should."""
    assert structure(f"a\n\n{fence(value)}\n\nb") == structure("a\n\n```\nharmless\n```\n\nb")


@given(STRINGS, STRINGS)
@example("\\", "|")
@example("a\\", "\\|")
@settings(max_examples=300, deadline=None)
def test_a_table_keeps_its_columns(first: str, second: str) -> None:
    """No cell adds a column or a row, be it prose or code."""

    def page(one: str, two: str) -> str:
        return table(("a", one, "b"), [(code(two), one, "1"), ("2", code(one), two)])

    assert structure(page(first, second)) == structure(page("harmless", "harmless"))


def test_a_pipe_in_code_reads_as_it_was_in_a_table() -> None:
    """Inside a table too code shows exactly the string, backslashes before a pipe included."""
    for value in ("a|b", "a\\|b", "a\\\\|b", "|", "\\"):
        shown = [token.content for token in flat(table(("x",), [(code(value),)])) if token.type == "code_inline"]
        assert shown == [value]


def test_common_values_stay_readable_in_raw_form() -> None:
    """Metric ids, signs, versions, comparisons and paths are not cluttered with backslashes."""
    for value in ("ttft_s_p99 +3.1 % (-0.2 to 6.4)", "0.32.0", "p < 0.05", "a -> b", "1,000 items; see docs/x-y.md"):
        assert text(value) == value


def test_escaped_text_is_not_escaped_again() -> None:
    """What was made safe stays as it is, so filters may be applied twice."""
    assert text(text("a|b")) == text("a|b")
    assert code(code("a`b")) == code("a`b")


def test_terminal_sequences_go_and_hidden_characters_show() -> None:
    """ANSI colours vanish; characters that hide or turn text become U+FFFD; an unterminated OSC hides nothing."""
    assert clean("\x1b[1;31mred\x1b[0m\r\nnext") == "red\nnext"
    assert clean("a\u202eb\u2066c\x07\ud800") == "a\ufffdb\ufffdc\ufffd\ufffd"
    assert clean("\x1b]0;title\x07shown \x1b]hidden?") == "shown \ufffd]hidden?"
    assert clean("a\ud800").encode()


def test_long_strings_are_cut_with_a_mark() -> None:
    """A cut says so, and how long the string was."""
    assert cut("abcdef", 3) == "abc… (cut, 6 characters in all)"
    assert text("x" * 5_000).endswith("… (cut, 5,000 characters in all)")
    assert "(cut, 100 lines in all)" in fence("\n".join("line" for _ in range(100)))


def test_nothing_is_shown_as_empty() -> None:
    """A string of nothing is visible as such."""
    assert text("") == text(" \n") == "(empty)"
    assert code("") == "`(empty)`"
    assert fence("\n") == "```\n(empty)\n```"


def test_table_columns_are_aligned_in_raw_form() -> None:
    """Every line of a table is as wide as the others on a terminal, wide characters counted as two."""
    page = table(("name", "value"), [("ttft", "1 ms"), ("日本", "22 ms ✅")], right=(1,))
    assert len({display_width(line) for line in page.splitlines()}) == 1
    assert page.splitlines()[1] == "| ---- | -------: |"


def test_a_row_of_another_length_is_refused() -> None:
    """A row with too few cells is a mistake of ours, not a narrower table."""
    with pytest.raises(ValueError, match="2 cells"):
        table(("a", "b"), [("1",)])


def test_safe_is_a_string() -> None:
    """Safe text is printed and compared like any other."""
    assert Safe("a") == "a"
