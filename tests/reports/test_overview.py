"""The page over all runner classes: its golden pages, its limits, and that outside strings stay text."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from redline.model import CauseKind, Finding
from reports.overview import CHARTS_MAX, markdown
from reports.overview_data import ClassNight, NightChanges, Overview
from reports.overview_words import headline, standing_and_gone, steps, tally
from reports.trend import decimal, mermaid, safe_label, span, sparkline
from tests.reports.hostile import HOSTILE
from tests.reports.markup import LINKED, prose, structure
from tests.reports.overview_situations import (
    NIGHT,
    SITUATIONS,
    build_cause,
    filled,
    missing_cause,
    points,
    quiet_trend,
    regressed,
    regressed_trend,
)

GOLDEN = Path(__file__).parent.parent / "golden"
NUMBER = r"-?\d+(?:\.\d+)?"
CHART = re.compile(
    rf"""%%\{{init:[^\n]*\}}%%
xychart-beta
    title "[A-Za-z0-9 .,:/()+-]+"
    x-axis "[A-Za-z0-9 .,:/()+-]+" 1 --> \d+
    y-axis "[A-Za-z0-9 .,:/()+-]+" {NUMBER} --> {NUMBER}
    line \[{NUMBER}(?:, {NUMBER})+\]
    line \[{NUMBER}(?:, {NUMBER})+\]"""
)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_page_is_the_golden_one(situation: str, request: pytest.FixtureRequest) -> None:
    """Every situation has its reviewed page; `--update-goldens` or UPDATE_GOLDENS=1 rewrites it."""
    page = markdown(SITUATIONS[situation]())
    path = GOLDEN / f"overview-{situation}.md"
    if request.config.getoption("--update-goldens", default=False) or os.environ.get("UPDATE_GOLDENS") == "1":
        path.write_text(page, encoding="utf-8")
    assert page == path.read_text(encoding="utf-8")


def test_the_worst_class_decides_and_nothing_missing_passes():
    """A regression comes before a missing night, a missing night before everything that was measured."""
    overview = regressed()
    assert overview.finding is Finding.REGRESSED
    assert headline(overview).startswith(f"Redline nightly of {NIGHT}: regressed ❌ on h100-1: ")
    assert tally(overview) == "3 runner classes: 1 regressed ❌, 1 error 💥, 1 no worse ✅"
    without = replace(overview, classes=tuple(each for each in overview.classes if each.runner_class != "h100-1"))
    assert without.finding is Finding.ERROR


def test_causes_come_newest_first_and_gone_ones_last():
    """What began last stands first, whatever order they were found in."""
    standing, gone = standing_and_gone(regressed())
    assert [cause.since for cause in standing] == [NIGHT, "2026-11-20"]
    assert [cause.kind for cause in gone] == [CauseKind.ENVIRONMENT]
    page = markdown(regressed())
    assert page.index("mi300x-1 measured nothing") < page.index("is slower than") < page.index("What changed since")


def test_what_to_do_is_said_once_per_kind():
    """Two builds that are slower make one step, with the command that accepts the newer one's first symptom."""
    older = replace(build_cause(), cause_id="0", symptoms=(replace(build_cause().symptoms[0], since="2026-10-01"),))
    said = steps(replace(regressed(), causes=(older, build_cause(), missing_cause())))
    assert len(said) == 2
    assert any(
        each.command.startswith("redline nights accept offline-short output_tokens_per_s --runner h100-1 --reason ")
        for each in said
    )


def test_a_symptom_becomes_no_part_of_a_command_that_is_proposed():
    """What is no plain name is proposed to nobody's shell."""
    bad = build_cause()
    finding = replace(bad.symptoms[0].finding, scenario="x; rm -rf $HOME")
    (step,) = steps(replace(regressed(), causes=(replace(bad, symptoms=(replace(bad.symptoms[0], finding=finding),)),)))
    assert step.command == ""
    assert step.text.endswith("is slower than vllm 0.33.1.dev40")


def test_a_page_that_is_too_long_is_cut_at_a_section_and_keeps_the_answer():
    """Whole sections go, the page says so, and it stays within the limit, in bytes."""
    trends = tuple(
        quiet_trend(f"class-{number // 40}", f"scenario-{number}", "ttft_s_p99", 0.1) for number in range(400)
    )
    whole = replace(regressed(), trends=trends)
    full = markdown(whole)
    assert full.count("```mermaid") == CHARTS_MAX
    cut = markdown(whole, bytes_max=20_000)
    assert len(cut.encode()) <= 20_000 < len(full.encode())
    assert cut.startswith(f"# Redline nightly of {NIGHT}")
    assert "This page was cut" in cut and "`index.html`" in cut
    assert cut.count("```") % 2 == 0
    with pytest.raises(ValueError, match="too small"):
        markdown(whole, bytes_max=300)


def test_the_largest_page_is_within_githubs_limit():
    """A thousand series, hundreds of causes, strings that grow when they are escaped: never above 1 MiB."""
    cause = replace(build_cause(), title="$" * 2_000, symptoms=build_cause().symptoms * 50)
    change = NightChanges("h", NIGHT, "@" * 900, "|" * 900, packages=("&" * 900,) * 900, machine=("<b" * 400,) * 900)
    trends = tuple(replace(regressed_trend(), scenario="|" * 300 + str(number)) for number in range(1_000))
    classes = tuple(ClassNight(f"c{number}", Finding.ERROR, "$" * 5_000) for number in range(100))
    page = markdown(
        Overview(NIGHT, classes, causes=(cause,) * 300, changes=(change,) * 100, trends=trends, notes=("$" * 900,) * 50)
    )
    assert len(page.encode()) <= 1024 * 1024
    assert page.startswith("# Redline nightly")


def test_outside_strings_change_nothing_but_text():
    """Hostile names make a page of the same parts, link nobody, and the charts stay charts."""
    page, harmless = markdown(filled(lambda _: HOSTILE)), markdown(filled(lambda field: f"harmless {field}"))
    assert [each for each in structure(page) if each[0] != "text"] == [
        each for each in structure(harmless) if each[0] != "text"
    ]
    assert not any(LINKED.search(run) for run in prose(page))
    (chart,) = re.findall(r"```mermaid\n(.*?)\n```", page, flags=re.DOTALL)
    assert CHART.fullmatch(chart)


# --- pictures in text -------------------------------------------------------------------------------------------------


def test_a_chart_is_what_mermaids_grammar_reads():
    """One point per reading and per level, decimals without exponents, labels without marks of the grammar."""
    chart = mermaid(regressed_trend())
    assert CHART.fullmatch(chart)
    first, second = (line.count(",") + 1 for line in chart.splitlines() if line.startswith("    line"))
    assert first == second == len(regressed_trend().points) == 30
    assert "1 --> 30" in chart
    assert '"ms"' in mermaid(quiet_trend("cpu", "s", "ttft_s_p99", 0.04))
    assert mermaid(quiet_trend("cpu", "s", "ttft_s_p99", 0.04, count=1)) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(4530.0, "4530"), (0.0, "0"), (1e-9, "0.000000001"), (2.5e7, "25000000"), (123456.7, "123456.7"), (0.5, "0.5")],
)
def test_numbers_have_no_exponent(value: float, shown: str):
    """Mermaid's grammar reads no 1e-09."""
    assert decimal(value) == shown


def test_labels_keep_only_harmless_characters():
    """Quotes, backticks, line ends, percent signs and what people hide become blanks."""
    assert safe_label('a"b`c\n%%{init}%%;d\u202e[e]') == "a b c init d e"
    assert safe_label("\n") == "(no name)"
    assert len(safe_label("x" * 500)) == 80


def test_a_quiet_series_looks_quiet():
    """One per cent of noise does not fill the height; a step of a third does; one reading is a picture too."""
    quiet = sparkline([point.value for point in points(12, 100.0)])
    assert len(quiet) == 12
    assert set(quiet) <= set("▃▄▅▆")
    assert sparkline([100.0] * 5 + [65.0] * 5)[4:6] == "█▁"
    assert sparkline([3.0]) in "▄▅"
    assert sparkline([]) == ""
    assert len(sparkline([1.0] * 400)) == 30
    low, high = span([100.0])
    assert low == pytest.approx(95) and high == pytest.approx(105)
