"""An answer's pages: golden ones per situation, whole at any limit, and proof against what outsiders write."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.model import CheckPage, Finding
from reports.data import Leg, PublishedAnswer, ReportKind
from reports.pages import check_page, comment_page, joint, step_annotations, summary_page
from reports.report import COMMENT_CHARS_MAX, LIMIT_MIN
from tests.reports import situations
from tests.reports.answers import ANSWERS, MARKER, answer, answer_filled, dead, justified, leg
from tests.reports.markup import LINKED, flat, prose, structure
from tests.reports.test_markdown import STRINGS

GOLDEN = Path(__file__).parent.parent / "golden" / "pages"
VERDICTS = ("no-worse", "improved", "regressed", "inconclusive", "invalid", "no-baseline", "error")
GOLDENS = [
    (situation, place)
    for situation in ANSWERS
    for place in ("summary", "comment", "check")
    # With the same parts a summary is the comment without its marker: kept once per verdict.
    if place != "summary" or situation in VERDICTS
]


def as_markdown(page: CheckPage) -> str:
    """A check run on one page: what GitHub shows in several places."""
    lines = [f"conclusion: {page.conclusion.value}", f"title: {page.title}", "", "--- summary ---", "", page.summary]
    lines += ["--- text ---", "", page.text, "--- annotations ---", ""]
    lines += [" | ".join(f"{key}: {value}" for key, value in asdict(each).items()) for each in page.annotations]
    return "\n".join(lines) + "\n"


def shown(situation: str, place: str) -> str:
    """One situation in one place."""
    found = ANSWERS[situation]()
    match place:
        case "summary":
            return summary_page(found)
        case "comment":
            return comment_page(found, MARKER)
        case _:
            return as_markdown(check_page(found))


@pytest.mark.parametrize(("situation", "place"), GOLDENS)
def test_page_is_the_golden_one(situation: str, place: str, request: pytest.FixtureRequest) -> None:
    """Every verdict has its reviewed page in every place; `--update-goldens` or UPDATE_GOLDENS=1 rewrites it."""
    page = shown(situation, place)
    path = GOLDEN / f"{situation}.{place}.md"
    if request.config.getoption("--update-goldens", default=False) or os.environ.get("UPDATE_GOLDENS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    assert page == path.read_text(encoding="utf-8")


def test_every_golden_page_is_looked_at() -> None:
    """No page is left over from a situation that is gone, and every finding has one."""
    assert {path.name for path in GOLDEN.glob("*.md")} == {f"{situation}.{place}.md" for situation, place in GOLDENS}
    assert {joint(ANSWERS[situation]())[0] for situation in VERDICTS} == set(Finding)


# --- the first lines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "first"),
    [
        (
            "regressed",
            "## ❌ Slower: output throughput in offline-short is 17 % worse (13 to 21 %), beyond the 10 % mar",
        ),
        ("regressed-accuracy", "## ❌ Worse answers: accuracy in accuracy-tiny fell from 95.4 % to 91.3 %, 46 items"),
        (
            "improved",
            "## 🚀 Faster: output throughput in offline-short is 8 % better (5.5 to 10 %), and nothing is wor",
        ),
        (
            "inconclusive",
            "## ❔ Cannot tell: TTFT median in server-short is somewhere between 3.1 % better and 20 % wo",
        ),
        ("two-one-dead", "## 💥 No answer: the job of mi300x-1 left none: the job ended without an artifact"),
        ("two-mixed", "## ❌ Slower: on h100-1, output throughput in offline-short is 17 % worse"),
        ("justified", "## ☑️ Regressed, accepted by @&#8203;octocat on 2026-11-22: the old path returned stale"),
        ("chosen", "## ☑️ Chosen scenarios only. No worse: 4 metrics and the answers"),
        ("chosen-regressed", "## ❌ Chosen scenarios only. Slower: output throughput in offline-short is 17 % worse"),
        ("signoff-yes", "## ✅ May it be released? Yes. No worse: 4 metrics and the answers of 1 scenario are within"),
        ("signoff-no", "## ❌ May it be released? No. Worse: rouge2 in llama2-70b-accuracy is 21.7, at least 22.013"),
    ],
)
def test_the_first_line_is_the_verdict_in_plain_words(situation: str, first: str) -> None:
    """Who reads one line knows the answer."""
    assert summary_page(ANSWERS[situation]()).startswith(first)


def test_a_pass_says_which_loss_it_would_have_seen() -> None:
    """A pass of metrics with several margins names the span of them."""
    report = situations.no_worse()
    first, *rest = report.verdict.comparisons
    mixed = replace(report, verdict=replace(report.verdict, comparisons=(replace(first, margin=0.03), *rest)))
    assert joint(answer(leg(report)))[1].endswith("a loss of 10 % or more would have been seen")
    assert joint(answer(leg(mixed)))[1].endswith(
        "a loss of a metric's margin (3 % to 10 %) or more would have been seen"
    )


def test_a_regression_that_is_not_beyond_the_margin_does_not_claim_to_be() -> None:
    """Worse beyond chance, with an interval that begins below the margin: the margin is told, nothing more."""
    report = situations.regressed()
    first, *rest = report.verdict.comparisons
    small = replace(first, effect=0.08, effect_low=0.02, effect_high=0.14)
    made = replace(report, verdict=replace(report.verdict, comparisons=(small, *rest)))
    assert joint(answer(leg(made)))[1] == (
        "output throughput in offline-short is 8 % worse (2 to 14 %), the margin is 10 %"
    )


def test_what_to_do_next_follows_the_verdict_at_once() -> None:
    """A regression says both ways out; an answer about an old commit only how to get a newer one."""
    regressed = summary_page(ANSWERS["regressed"]()).split("\n\n")
    assert regressed[1] == "**Next:**"
    assert "`/redline accept-regression <reason>`" in regressed[2]
    outdated = summary_page(ANSWERS["outdated"]()).split("\n\n")
    assert outdated[1].startswith("**Outdated:** this is about commit `4f3a4f3a4f3a`")
    assert outdated[2] == "**Next:** Measure the newest commit: comment `/redline run`."


def test_a_broken_measurement_shows_why_without_unfolding() -> None:
    """The broken rules of an invalid answer, the text of an error, and the words of a leg that died stand open."""
    for situation, words in (("invalid", "48.2 ms"), ("error", "unrecognized arguments"), ("two-one-dead", "artifact")):
        page = summary_page(ANSWERS[situation]())
        assert words in page.partition("<details>")[0].partition("\n")[2], situation


# --- several legs ---------------------------------------------------------------------------------------------

LEGS = {
    Finding.NO_WORSE: leg(situations.no_worse()),
    Finding.IMPROVED: leg(situations.improved(), "cpu-2"),
    Finding.NO_BASELINE: leg(situations.no_baseline(), "cpu-3"),
    Finding.INCONCLUSIVE: leg(situations.inconclusive(), "cpu-4"),
    Finding.INVALID: leg(situations.invalid(), "cpu-5"),
    Finding.ERROR: dead(),
    Finding.REGRESSED: leg(situations.regressed(), "cpu-6"),
}


@given(st.lists(st.sampled_from(tuple(LEGS)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_the_worst_leg_decides(findings: list[Finding]) -> None:
    """A regression before everything; then what was not measured; a pass only if every leg passes."""
    found, reason = joint(answer(*(LEGS[finding] for finding in findings)))
    worst = max(findings, key=list(LEGS).index)
    assert found is worst
    assert reason
    assert "\n" not in reason
    if not set(findings) <= {Finding.NO_WORSE, Finding.IMPROVED}:
        assert found not in (Finding.NO_WORSE, Finding.IMPROVED)


def test_one_leg_needs_no_table_of_legs() -> None:
    """The runner class is a column only where there are several, and then each has its line and its log."""
    assert "| runner class" not in summary_page(ANSWERS["no-worse"]())
    page = summary_page(ANSWERS["two-one-dead"]())
    (line,) = (line for line in page.splitlines() if line.startswith("| `mi300x-1`"))
    assert "no answer 💥" in line
    assert "[log](https://github.com/vllm-project/vllm/actions/runs/11873/job/39)" in line


def test_what_regressed_stands_first_in_the_rows() -> None:
    """Whatever the order of the legs."""
    rows = [line for line in summary_page(ANSWERS["two-mixed"]()).splitlines() if line.startswith("| `")]
    of_metrics = [line for line in rows if "Output throughput" in line or "TPOT" in line]
    assert "`h100-1`" in of_metrics[0]
    assert "regressed ❌" in of_metrics[0]


def test_many_legs_share_the_page_and_the_worst_comes_first() -> None:
    """A comment of nine legs shows as many whole reports as fit, the regressed one among them, and says so."""
    legs = [leg(situations.no_worse(), f"h100-{index}") for index in range(8)]
    page = comment_page(answer(*legs, leg(situations.regressed(), "mi300x-8", 1)), MARKER)
    assert len(page.encode()) <= COMMENT_CHARS_MAX
    assert page.index("### `mi300x-8`: regressed ❌") < page.index("### `h100-0`: no worse ✅")
    assert 1 <= page.count("<summary>The whole report</summary>") < 9
    assert "[with the run's artifacts](https://github.com/vllm-project/vllm/actions/runs/11873#artifacts)" in page


# --- limits ---------------------------------------------------------------------------------------------------


def whole(page: str) -> bool:
    """True if nothing is left open: folds close, tables end in whole rows, what is written behind is a paragraph."""
    lines, tokens = page.split("\n"), list(flat(page + "\n\nsentinel\n"))
    raw = "".join(token.content for token in tokens if token.type == "html_block")
    tables = [token.map for token in tokens if token.type == "table_open" and token.map is not None]
    return (
        raw.count("<details>") == raw.count("</details>")
        and [token.type for token in tokens[-3:]] == ["paragraph_open", "text", "paragraph_close"]
        and all(line.endswith(" |") for start, end in tables for line in lines[start:end])
    )


def long_answer(filler: str, count: int) -> PublishedAnswer:
    """Legs whose every outside string is long, and whose lists are."""
    found = answer_filled(lambda name: f"{name} " + filler * 700)
    (first, second) = found.legs
    report = first.report
    assert report is not None
    verdict = replace(report.verdict, accuracy=report.verdict.accuracy * 9, comparisons=report.verdict.comparisons * 9)
    grown = replace(report, verdict=verdict, next_steps=report.next_steps * 30, validity=report.validity * 9)
    return replace(found, legs=(replace(first, report=grown), second) * count)


@given(
    st.integers(LIMIT_MIN, 80_000),
    st.sampled_from(("@", "日", "`x", "#1", "|", "a_b ")),
    st.integers(1, 2),
    st.booleans(),
)
@settings(max_examples=6, deadline=None)
def test_every_limit_holds_and_the_page_ends_whole(limit: int, filler: str, count: int, outdated: bool) -> None:
    """However long the strings: the first line is there, nothing is cut in its middle, and what is missing is told."""
    found = replace(long_answer(filler, count), outdated=outdated)
    page = comment_page(found, MARKER, limit)
    assert len(page.encode()) <= limit
    assert page.startswith(f"{MARKER}\n## 💥 No answer: ")
    assert "**Next:**" in page
    assert "Shortened to fit" in page
    assert whole(page)


@given(st.integers(LIMIT_MIN, 60_000), st.sampled_from(tuple(ANSWERS)))
@settings(max_examples=25, deadline=None)
def test_every_situation_is_whole_at_every_limit(limit: int, situation: str) -> None:
    """Ordinary answers too, and a page that was shortened says where the rest is."""
    found = ANSWERS[situation]()
    page, unbounded = summary_page(found, limit), summary_page(found)
    assert len(page.encode()) <= limit
    assert whole(page)
    assert page.splitlines()[0] == unbounded.splitlines()[0]
    assert page == unbounded or "Shortened to fit" in page


def test_a_whole_report_is_shortened_section_by_section() -> None:
    """A report that does not fit loses its details first, is still folded, and names what it lost."""
    report = situations.regressed()
    page = comment_page(answer(leg(replace(report, validity=report.validity * 60))), MARKER)
    assert len(page.encode()) <= COMMENT_CHARS_MAX
    assert "Left out: the validity readings." in page
    assert "## Scenario offline-short" in page


def test_too_small_a_limit_and_a_marker_that_is_none_are_refused() -> None:
    """Both are mistakes of the caller."""
    found = ANSWERS["no-worse"]()
    with pytest.raises(ValueError, match="at least 10000 bytes"):
        summary_page(found, LIMIT_MIN - 1)
    for marker in ("redline", "<!-- a --> b <!-- c -->", "<!-- a\nb -->", f"<!-- {'x' * 500} -->"):
        with pytest.raises(ValueError, match="HTML comment"):
            comment_page(found, marker)


# --- outsiders ------------------------------------------------------------------------------------------------


def fields() -> list[str]:
    """The names of all outside strings of an answer."""
    found: set[str] = set()

    def note(field: str) -> str:
        found.add(field)
        return field

    answer_filled(note)
    return sorted(found)


def inserted(value: str, chosen: str | None) -> str:
    """The comment with a string in one field, or in all for None."""
    return comment_page(answer_filled(lambda field: value if chosen in (None, field) else field), MARKER)


@cache
def harmless(chosen: str | None) -> tuple[tuple[str, str, str, str], ...]:
    """What the page is made of with a harmless string there."""
    return structure(inserted("harmless", chosen))


@given(STRINGS, st.one_of(st.none(), st.sampled_from(fields())))
@settings(max_examples=40, deadline=None)
def test_no_outside_string_changes_the_structure(value: str, chosen: str | None) -> None:
    """Any string in any field, or in all: no new column, heading, link, tag or mention."""
    page = inserted(value, chosen)
    assert structure(page) == harmless(chosen)
    # The number of the pull request is ours; a link's text is the same as without the string.
    assert not [run for run in prose(page) if LINKED.search(run.replace("pull request #4711", ""))]


def test_only_addresses_of_this_run_are_linked() -> None:
    """A leg that names another place, another scheme or Markdown of its own is not linked."""
    evil = (
        "https://evil.example/log",
        "https://github.com/vllm-project/vllm/actions/runs/118735",
        "javascript:alert(1)",
        "https://github.com/vllm-project/vllm/actions/runs/11873/x) [y](https://evil.example",
    )
    for address in evil:
        legs = (leg(situations.no_worse()), Leg("mi300x-1", None, "it died", address))
        page = summary_page(answer(*legs))
        hrefs = [str(token.attrs["href"]) for token in flat(page) if token.type == "link_open"]
        assert address not in hrefs
        assert not [href for href in hrefs if "evil" in href]


def test_an_answer_without_addresses_has_no_links() -> None:
    """Outside GitHub there is nothing to link to."""
    legs = (leg(situations.no_worse()), replace(dead(), url="https://evil.example"))
    page = summary_page(PublishedAnswer(ReportKind.GATE, legs))
    assert "](" not in page
    assert "Gate on 2 runner classes." in page


def test_hostile_text_starts_no_workflow_command() -> None:
    """Each annotation is one line whose properties and message hold no character that the runner reads."""
    attack = "x%0A::error::a\n::add-mask::b\r\n##[error]c,d:e"
    for line in step_annotations(answer_filled(lambda _: attack)):
        command, _, message = line.removeprefix("::error title=").partition("::")
        assert line.startswith("::error title=")
        assert not set(command) & set(",:\r\n")
        assert not set(message) & set("\r\n")
        assert "%250A" in line


def test_a_justification_keeps_the_numbers() -> None:
    """An accepted regression is not a clean page: effect, interval and finding are still there."""
    page = summary_page(justified(leg(situations.regressed())))
    assert "17.0 % worse (+13.2 % to +20.9 %)" in page.partition("<details>")[0]
    assert "regressed ❌" in page
    assert "accept-regression" not in page
