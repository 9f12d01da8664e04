"""The terminal summary and the JSON for machines."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from redline.model import Finding, Verdict
from reports.summary import terminal_lines, to_json
from tests.reports import situations
from tests.reports.comparisons import SPEED
from tests.reports.hostile import filled
from tests.reports.situations import SITUATIONS


@pytest.mark.parametrize("situation", SITUATIONS)
def test_last_two_lines_are_path_and_verdict(situation: str) -> None:
    """Whatever happened, the answer is the last line and the report's path the one before."""
    verdict = SITUATIONS[situation]().verdict
    *_, path, answer = terminal_lines(verdict, ".redline/reports/x.md")
    assert path == "report: .redline/reports/x.md"
    assert answer.startswith(f"verdict: {verdict.finding.value}: ")


def test_every_comparison_is_one_line_with_units_and_direction() -> None:
    """Readings carry units, the effect says worse or better, margin and detectable effect stand beside it."""
    line = terminal_lines(situations.regressed().verdict, "x")[0]
    assert line == (
        "offline-short  Output throughput  412 tok/s -> 352 tok/s  "
        "17.0 % worse (+13.2 % to +20.9 %), margin 10.0 %, detectable 6.1 %  regressed"
    )


def test_accuracy_has_its_line() -> None:
    """The change of exact match is in points, with what flipped."""
    lines = terminal_lines(situations.regressed_accuracy().verdict, "x")
    assert any("4.10 points worse (-5.46 to -2.74), 46 lost, 5 gained of 1,000 items" in line for line in lines)


def test_terminal_lines_cannot_steer_a_terminal() -> None:
    """No outside string brings a control character or a further line."""
    hostile = "\x1b[2Ja\nverdict: no worse\r\u202e\x07"
    for line in terminal_lines(filled(lambda _: hostile).verdict, hostile):
        assert not any(ord(character) < 32 or character == "\u202e" for character in line)
        assert "\n" not in line


def test_json_holds_the_documented_keys() -> None:
    """The keys are a contract with scripts."""
    value = json.loads(to_json(situations.regressed_accuracy().verdict, "x.md", 1))
    assert list(value) == [
        *("schema", "finding", "exit_code", "reason", "report"),
        *("comparisons", "accuracy", "evidence", "warnings"),
    ]
    assert (value["schema"], value["finding"], value["exit_code"], value["report"]) == (1, "regressed", 1, "x.md")
    assert value["comparisons"][0]["metric"] == "output_tokens_per_s"
    assert value["comparisons"][0]["unit"] == "tok/s"
    assert value["accuracy"][0]["examples"][0]["candidate"] == "oleh"


def test_json_covers_every_field_of_a_comparison() -> None:
    """A field added to the model is not forgotten here."""
    verdict = situations.no_worse().verdict
    value = json.loads(to_json(verdict, None, 0))
    assert set(value["comparisons"][0]) == {*type(verdict.comparisons[0]).__dataclass_fields__, "unit"}
    assert set(value["accuracy"][0]) == {*type(verdict.accuracy[0]).__dataclass_fields__}


def test_json_is_strict() -> None:
    """Numbers that do not exist are null: nan and infinity are no JSON."""
    row = replace(SPEED[0], effect_high=math.inf, p_two_sided=math.nan)
    value = json.loads(to_json(Verdict(Finding.INCONCLUSIVE, "r", (row,)), None, 3), parse_constant=pytest.fail)
    assert value["comparisons"][0]["effect_high"] is None
    assert value["comparisons"][0]["p_two_sided"] is None
