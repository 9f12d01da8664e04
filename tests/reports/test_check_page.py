"""How an answer ends as a check run, and what it annotates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redline.model import Conclusion, Finding
from reports.check_page import remarks
from reports.data import Leg, ReportKind
from reports.pages import check_page, conclusion, step_annotations
from tests.reports import situations
from tests.reports.answers import ANSWERS, CHANGE, JUSTIFICATION, RUN_IDS, answer, dead, justified, leg


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ("no-worse", Conclusion.SUCCESS),
        ("improved", Conclusion.SUCCESS),
        ("regressed", Conclusion.FAILURE),
        ("inconclusive", Conclusion.ACTION_REQUIRED),
        ("invalid", Conclusion.ACTION_REQUIRED),
        ("no-baseline", Conclusion.ACTION_REQUIRED),
        ("error", Conclusion.FAILURE),
        ("two-one-dead", Conclusion.FAILURE),
        ("two-mixed", Conclusion.FAILURE),
        ("justified", Conclusion.NEUTRAL),
        ("justified-one-dead", Conclusion.FAILURE),
        ("chosen", Conclusion.NEUTRAL),
        ("chosen-regressed", Conclusion.FAILURE),
    ],
)
def test_a_required_check_passes_only_on_what_was_shown(situation: str, expected: Conclusion) -> None:
    """`success` and `neutral` let a pull request pass: never for a leg that died or could not tell."""
    assert conclusion(ANSWERS[situation]()) is expected


def test_a_justification_counts_only_for_what_its_author_saw() -> None:
    """Another commit, another pull request or a run that it does not name is not accepted; nor is what is undecided."""
    regressed = leg(situations.regressed())
    accepted = justified(regressed)
    assert conclusion(accepted) is Conclusion.NEUTRAL
    for other in (
        replace(accepted, change=replace(CHANGE, head_sha="c" * 40)),
        replace(accepted, change=replace(CHANGE, number=4712)),
        replace(accepted, change=None),
        justified(leg(situations.regressed(), index=1)),
    ):
        assert conclusion(other) is Conclusion.FAILURE
        assert "accepted by" not in check_page(other).summary
    assert conclusion(justified(regressed, leg(situations.inconclusive(), "h100-1"))) is Conclusion.ACTION_REQUIRED
    chosen = replace(accepted, chosen=True)
    assert conclusion(chosen) is Conclusion.FAILURE, "a choice of scenarios cannot be accepted"
    any_run = replace(accepted, justification=replace(JUSTIFICATION, run_ids=()))
    assert conclusion(any_run) is Conclusion.NEUTRAL
    both = replace(accepted, legs=(regressed, leg(situations.regressed(), "h100-1", 1)))
    assert conclusion(both) is Conclusion.FAILURE
    named = replace(both, justification=replace(JUSTIFICATION, run_ids=RUN_IDS))
    assert conclusion(named) is Conclusion.NEUTRAL


def test_a_justification_of_something_else_is_no_pass_or_failure() -> None:
    """Where nothing is regressed it changes nothing."""
    assert conclusion(justified(leg(situations.no_worse()))) is Conclusion.SUCCESS
    assert conclusion(justified(leg(situations.invalid()))) is Conclusion.ACTION_REQUIRED


def test_annotations_stand_at_the_scenario_the_worst_first() -> None:
    """A metric is annotated where it is defined, a leg without rows where its machine is."""
    found = remarks(answer(leg(situations.improved()), leg(situations.regressed(), "h100-1"), dead()))
    assert [(each.level, each.path) for each in found] == [
        ("failure", "runners/mi300x-1.toml"),
        ("failure", "scenarios/offline-short.toml"),
        ("notice", "scenarios/offline-short.toml"),
    ]
    assert all(each.line == 1 for each in found)
    assert "17 % worse" in found[1].message
    assert "h100-1" in found[1].title


def test_an_accepted_regression_warns() -> None:
    """It is neither a failure nor gone."""
    (found,) = remarks(justified(leg(situations.regressed())))
    assert (found.level, found.title) == ("warning", "Slower: output throughput in offline-short on cpu")


def test_a_name_that_is_no_file_is_no_path() -> None:
    """A scenario or runner class of an outsider leads nowhere but to the service's own file."""
    report = situations.regressed()
    for name in ("../../etc/passwd", "a/b", "", "a\nb", ".hidden", "x" * 200):
        slow = tuple(replace(each, scenario=name) for each in report.verdict.comparisons)
        made = replace(report, verdict=replace(report.verdict, comparisons=slow))
        found = remarks(answer(leg(made), Leg(name or " ", None, "it died")))
        assert [each.path for each in found] == ["service.toml", "service.toml"]


def test_at_most_fifty_annotations_and_the_last_counts_the_rest() -> None:
    """GitHub takes 50; the worst are kept, and the last one says how many more there are."""
    legs = [leg(situations.regressed(), f"h100-{index}") for index in range(60)]
    found = check_page(answer(*legs)).annotations
    assert len(found) == 50
    assert found[-1].title == "11 more"
    assert "11 more stand in the report" in found[-1].message


def test_at_most_ten_commands_of_each_level() -> None:
    """The runner drops what is beyond ten of a level, so the tenth says how many are not shown."""
    regressed = [leg(situations.regressed(), f"h100-{index}") for index in range(12)]
    better = [leg(situations.improved(), f"cpu-{index}") for index in range(10)]
    lines = step_annotations(answer(*regressed, *better))
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == 10
    assert errors[-1].startswith("::error title=3 more::3 more stand in the report")
    assert len([line for line in lines if line.startswith("::notice ")]) == 10
    assert len(lines) == 20


def test_a_command_is_escaped_as_the_runner_reads_it() -> None:
    """Colons and commas of the title, per cent signs of both."""
    (line,) = step_annotations(ANSWERS["regressed"]())
    assert line == (
        "::error title=Slower%3A output throughput in offline-short on cpu::output throughput in offline-short is "
        "17 %25 worse (13 to 21 %25), beyond the 10 %25 margin. Runner class cpu."
    )


def test_a_pass_annotates_nothing() -> None:
    """Nothing to look at, nothing to mark."""
    assert step_annotations(ANSWERS["no-worse"]()) == ()
    assert check_page(ANSWERS["no-worse"]()).annotations == ()


def test_both_fields_keep_their_limit() -> None:
    """Summary and text hold 65,535 each, however many legs there are."""
    report = situations.regressed()
    long = replace(report, validity=report.validity * 40)
    page = check_page(answer(*(leg(long, f"h100-{index}") for index in range(12))))
    assert len(page.summary.encode()) <= 65_535
    assert len(page.text.encode()) <= 65_535
    assert "Shortened to fit" in page.text
    assert "Shortened to fit" not in page.summary
    assert len(page.title) <= 255


def test_what_decides_without_a_row_is_annotated_too() -> None:
    """A missed accuracy target of a sign-off has no row of its own: the runner class carries the verdict's reason."""
    (found,) = check_page(ANSWERS["signoff-no"]()).annotations
    assert found.level == "failure"
    assert found.message.startswith("rouge2 in llama2-70b-accuracy is 21.7")


def test_a_nightly_and_a_run_have_pages_too() -> None:
    """The verdict's own reason is told where its metrics have no margin of a gate's kind."""
    night = answer(leg(situations.no_worse(), kind=ReportKind.NIGHTLY), kind=ReportKind.NIGHTLY)
    page = check_page(night)
    assert page.title == "No worse: every primary metric and the accuracy are no worse than the baseline"
    bare = replace(situations.no_worse(), verdict=replace(situations.no_worse().verdict, comparisons=(), accuracy=()))
    assert check_page(answer(leg(bare))).title == page.title
    assert page.conclusion is Conclusion.SUCCESS
    assert check_page(answer(leg(situations.no_baseline()))).summary.count(Finding.NO_BASELINE.value) == 1
