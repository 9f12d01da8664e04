"""Reports: one golden page per situation, and that no outside string changes what a page is made of."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.model import Arm, Finding, Repeat, Trial, TrialStatus, Verdict
from reports.data import DroppedRepeats, NextStep, ReportKind, dropped_repeats, trial_validity
from reports.markdown import display_width
from reports.report import COMMENT_CHARS_MAX, LIMIT_MIN, notes_of, render
from reports.summary import signoff_line
from tests.reports import situations
from tests.reports.hostile import filled, hostile
from tests.reports.markup import LINKED, prose, structure
from tests.reports.situations import SITUATIONS
from tests.reports.test_markdown import STRINGS

PAGES = {**SITUATIONS, "hostile": hostile}
GOLDEN = Path(__file__).parent.parent / "golden"


def fields() -> list[str]:
    """The names of all outside strings that `filled` asks for."""
    found: set[str] = set()

    def note(field: str) -> str:
        found.add(field)
        return field

    filled(note)
    return sorted(found)


@pytest.mark.parametrize("situation", PAGES)
def test_page_is_the_golden_one(situation: str, request: pytest.FixtureRequest) -> None:
    """Every situation has its reviewed page; `--update-goldens` or UPDATE_GOLDENS=1 rewrites it."""
    page = render(PAGES[situation]())
    path = GOLDEN / f"report-{situation}.md"
    if request.config.getoption("--update-goldens", default=False) or os.environ.get("UPDATE_GOLDENS") == "1":
        path.write_text(page, encoding="utf-8")
    assert page == path.read_text(encoding="utf-8")


def inserted(value: str, chosen: str | None) -> str:
    """The page with a string in one field, or in all for None; the other fields hold their names."""
    return render(filled(lambda field: value if chosen in (None, field) else field))


@cache
def harmless(chosen: str | None) -> tuple[tuple[str, str, str, str], ...]:
    """What the page is made of with a harmless string there."""
    return structure(inserted("harmless", chosen))


@given(STRINGS, st.one_of(st.none(), st.sampled_from(fields())))
@settings(max_examples=150, deadline=None)
def test_no_outside_string_changes_the_structure(value: str, chosen: str | None) -> None:
    """Any string in any field, or in all: no new column, heading, link, tag or mention."""
    shown = inserted(value, chosen)
    assert structure(shown) == harmless(chosen)
    assert not [run for run in prose(shown) if LINKED.search(run)]


def test_first_two_lines_hold_the_answer() -> None:
    """Verdict and reason are the first line, what was measured and the counts the second."""
    first, _, second, *_ = render(situations.regressed()).splitlines()
    assert first.startswith("# Redline gate: **regressed** ❌: output throughput of offline-short is 17.0 % worse")
    assert "4 primary metrics: 1 regressed, 3 no worse." in second


@pytest.mark.parametrize(
    ("situation", "answer"),
    [
        ("no-worse", "**yes** ✅, no worse within a margin of 10.0 %, with at least 99 % of the accuracy kept: "),
        ("improved", "**yes** 🚀, improved, and nothing worse within a margin of 10.0 %, with at least 99 % of "),
        ("regressed", "**no** ❌, regressed: output throughput of offline-short is 17.0 % worse"),
        ("inconclusive", "**not shown** ❔, inconclusive, which is no yes: TTFT median"),
        ("invalid", "**no answer** 🚫, invalid: the load generator was late"),
        ("error", "**no answer** 💥, error: the server ended"),
    ],
)
def test_a_sign_off_answers_its_question_in_the_first_line(situation: str, answer: str) -> None:
    """May it be released? Yes within stated margins, no, or not shown: only a pass reads as a yes."""
    data = replace(SITUATIONS[situation](), kind=ReportKind.SIGNOFF)
    first = render(data).splitlines()[0]
    assert first.startswith(f"# Redline sign-off: may it be released? {answer}")
    words = signoff_line(data.verdict)
    assert words.split(",")[0] == f"sign-off: may it be released? {answer.split('**')[1]}"


def test_every_table_is_aligned() -> None:
    """The lines of a table are equally long in raw form in every situation with harmless values."""
    for situation in SITUATIONS.values():
        for block in render(situation()).split("\n\n"):
            if block.startswith("| "):
                assert len({display_width(line) for line in block.splitlines()}) == 1, block


def test_a_pass_says_what_it_could_not_see() -> None:
    """The smallest resolvable margin stands above the tables of a pass."""
    page = render(situations.no_worse())
    assert page.index("Smallest margin that this measurement could resolve: 3.1 %") < page.index("## Scenario")
    assert "not a smaller one" in page


def test_each_warning_is_one_numbered_note() -> None:
    """A warning that several rows share is printed once, and every row points at its number."""
    data = situations.no_worse()
    rows = tuple(replace(row, warnings=("same",)) for row in data.verdict.comparisons)
    verdict = replace(data.verdict, comparisons=rows, warnings=("same", "other"))
    page = render(replace(data, verdict=verdict))
    assert notes_of(verdict)[0] == "same"
    assert page.count("same\n") == 1
    assert page.count("no worse ✅ (1") == len(rows)


def test_broken_rules_stand_above_the_tables_and_are_bounded() -> None:
    """Twenty broken rules are shown at the top, the rest is counted."""
    data = situations.invalid()
    broken = data.validity[1]
    page = render(replace(data, validity=(broken,) * 15))
    assert page.index("## Broken validity rules") < page.index("## Scenario")
    assert "and 10 more, in the validity readings below." in page


def test_limit_cuts_details_first_and_says_so() -> None:
    """A page too long for a comment loses its validity readings first, and names what is left out."""
    data = situations.regressed()
    long = replace(data, validity=data.validity * 60)
    assert len(render(long)) > COMMENT_CHARS_MAX
    page = render(long, limit_chars=COMMENT_CHARS_MAX)
    assert len(page.encode()) <= COMMENT_CHARS_MAX
    assert "Shortened to fit 65,536 bytes. Left out: the validity readings." in page
    assert "## Scenario offline-short" in page
    assert "## Repeat this" in page


def test_limit_is_kept_by_the_longest_hostile_page() -> None:
    """Even if every field is as long and as escaped as can be, the smallest limit holds and the verdict stays."""
    data = filled(lambda field: f"{field} " + "@" * 10_000)
    many = replace(
        data, next_steps=data.next_steps * 50, verdict=replace(data.verdict, accuracy=data.verdict.accuracy * 9)
    )
    page = render(many, limit_chars=LIMIT_MIN)
    assert len(page.encode()) <= LIMIT_MIN
    assert page.startswith("# Redline gate: **regressed** ❌")


def test_a_page_that_fits_is_not_shortened() -> None:
    """A generous limit changes nothing."""
    data = situations.no_worse()
    assert render(data, limit_chars=COMMENT_CHARS_MAX) == render(data)


def test_too_small_a_limit_is_refused() -> None:
    """A limit that could not hold the headline is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least"):
        render(situations.no_worse(), limit_chars=100)


def test_comparisons_without_a_section_are_shown() -> None:
    """No comparison is lost because its scenario has no section."""
    data = situations.regressed()
    assert "## Scenario offline-short" in render(replace(data, scenarios=()))


def test_undefined_numbers_are_said_not_printed_as_nan() -> None:
    """An unbounded interval and an undefined p read as such."""
    data = situations.no_worse()
    row = replace(data.verdict.comparisons[0], effect_high=math.inf, p_two_sided=math.nan, effect_detectable=math.inf)
    page = render(replace(data, verdict=Verdict(Finding.INCONCLUSIVE, "too noisy", (row,))))
    assert "to unbounded)" in page
    assert "nan" not in page
    assert "inf " not in page


def test_an_error_before_the_build_is_known_has_a_page() -> None:
    """A failure while resolving the build still yields a page that says so."""
    page = render(replace(situations.error(), candidate=None, baseline=None))
    assert "The build under test was never resolved" in page


def test_targets_and_mlperf_stand_with_their_scenario() -> None:
    """Arm by arm what was read and what is needed, and under MLPerf's rules that nobody verified them."""
    first, *_ = (page := render(situations.signoff_targets())).splitlines()
    assert first.startswith(
        "# Redline sign-off: may it be released? **no** ❌, regressed: rouge2 in llama2-70b-accuracy"
    )
    rows = [line.split("|") for line in page.splitlines() if "submission checker" in line]
    answers = [(cells[1].strip(), cells[2].strip(), cells[6].strip()) for cells in rows]
    assert answers == [
        ("baseline", "rouge2", "reached"),
        ("candidate", "rouge1", "reached"),
        ("candidate", "rouge2", "NOT REACHED"),
        ("candidate", "tokens_per_sample", "reached"),
    ]
    assert "at least 265.005, at most 323.895" in page
    assert page.index("**VALID**") > page.index("## Scenario server-short")
    assert "MLPerf-style, not verified by MLCommons" in page
    assert "105.3 % |" in page
    assert "This run is shorter than MLPerf demands: the ratio is a hint at most." in page


def test_a_figure_that_is_not_known_is_no_zero() -> None:
    """A scorer that did not report it has not reached it."""
    data = situations.signoff_targets()
    section = data.scenarios[0]
    unknown = replace(section, targets=(replace(section.targets[0], value=None, arm=Arm.SINGLE),))
    page = render(replace(data, scenarios=(unknown,)))
    (row,) = (line for line in page.splitlines() if "submission checker" in line)
    assert [cell.strip() for cell in row.split("|")[1:7]] == [
        "this build",
        "rouge2",
        "not reported",
        "22.0352",
        "at least 22.0132",
        "NOT REACHED",
    ]


def test_a_command_is_printed_exactly() -> None:
    """The command to repeat is in a fence, character by character."""
    command = "redline gate --baseline 0.32.0 --candidate 'a  b' --candidate-args \"--x '{\\\"y\\\": 1}'\""
    assert f"```sh\n{command}\n```" in render(replace(situations.no_worse(), repeat_command=command))


def test_repeat_command_is_required() -> None:
    """A report that cannot be repeated is refused."""
    with pytest.raises(ValueError, match="repeat_command"):
        replace(situations.no_worse(), repeat_command=" ")


def test_next_steps_carry_their_command() -> None:
    """A step with a command shows it as code."""
    data = replace(situations.no_worse(), next_steps=(NextStep("Accept it", "redline baseline accept latest"),))
    assert "- Accept it: `redline baseline accept latest`" in render(data)


def test_trials_become_validity_and_dropped_repeats() -> None:
    """What the report lists of a trial is taken from the trial itself; dropped windows are counted per reason."""
    repeats = tuple(
        Repeat(index, "", 1, (), {}, 0.0, 0.0, 0.0, reason)
        for index, reason in enumerate(("warm-up", "", "busy", "busy"))
    )
    trial = Trial(
        "t1",
        "r1",
        Arm.BASELINE,
        0,
        situations.BASELINE,
        "s",
        "h",
        "cpu",
        situations.FINGERPRINT,
        "",
        TrialStatus.VALID,
        "0.32.0",
        1.0,
        repeats,
        situations.RULES,
        "fine",
    )
    assert dropped_repeats([trial]) == (
        DroppedRepeats(Arm.BASELINE, "s", "warm-up", 1),
        DroppedRepeats(Arm.BASELINE, "s", "busy", 2),
    )
    assert trial_validity(trial).readings == situations.RULES
    assert trial_validity(trial).detail == "fine"
