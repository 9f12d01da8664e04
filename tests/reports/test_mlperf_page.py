"""MLPerf's part of a report: what it must say always, what it says when, and that outside strings stay text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from redline.model import ValidityReading
from reports.mlperf import NOT_VERIFIED, OWN_USE, MlperfSection, PublishedRow, answer, mlperf_part
from tests.reports.hostile import HOSTILE
from tests.reports.markup import LINKED, prose, structure

READINGS = (
    ValidityReading("TTFT p99", "371 ms", "at most 2.00 s", ok=True),
    ValidityReading("early stopping, TTFT", "400 queries", "at least 459 with 0 over the limit", ok=False),
)
ROW = PublishedRow(
    "v4.0",
    "open",
    "RedHat-Supermicro",
    "AS-4125GS-TNRT",
    "llama2-70b",
    "vLLM 0.3.1",
    2195.24,
    "tokens/s",
    0.9999,
    "RedHat-Supermicro in the results repository inference_results_v4.0",
)
FULL = MlperfSection(
    benchmark="llama2-70b-99.9",
    round="v4.0",
    scenario="Server",
    valid=True,
    value=2195.0,
    unit="tokens/s",
    readings=READINGS[:1],
)
SHORT = replace(
    FULL,
    valid=False,
    readings=READINGS,
    shorter=("lasted 31.2 s; MLPerf demands 600 s",),
    deviations=("sampled with temperature 1",),
    published=(ROW,),
    whose="candidate",
)


def filled(fill: Callable[[str], str]) -> MlperfSection:
    """A section whose every outside string is `fill(its name)`."""
    return replace(
        SHORT,
        benchmark=fill("benchmark"),
        round=fill("round"),
        scenario=fill("scenario"),
        unit=fill("unit"),
        whose=fill("whose"),
        readings=(ValidityReading(fill("rule"), fill("reading"), fill("limit"), ok=True),),
        shorter=(fill("shorter"),),
        deviations=(fill("deviation"),),
        published=(
            PublishedRow(
                fill("round"),
                fill("division"),
                fill("submitter"),
                fill("system"),
                fill("benchmark"),
                fill("software"),
                1.0,
                fill("unit"),
                1.0,
                fill("source"),
            ),
        ),
    )


@pytest.mark.parametrize("section", [FULL, SHORT, replace(FULL, value=None, readings=())])
def test_it_is_never_called_verified(section):
    """Whatever is known of a run, the answer says who has not verified it, and the score is called unverified."""
    assert f"{NOT_VERIFIED}." in answer(section)
    assert NOT_VERIFIED in mlperf_part(section)
    assert "(unverified)" in answer(section)


def test_a_run_of_full_size():
    """VALID, its result with the unit, benchmark and round; nothing about being short."""
    page = mlperf_part(FULL)
    assert page.startswith(
        "**VALID** for the settings of this run: 2195 tokens/s (unverified), `llama2-70b-99.9` Server, rules of v4.0."
    )
    assert "| TTFT p99       | 371 ms  | at most 2.00 s | kept   |" in page
    assert "horter" not in page
    assert "Closed division" not in page
    assert page.endswith("No published result is at hand for this benchmark, scenario, unit and hardware.")


def test_an_invalid_short_run():
    """INVALID, which rule was broken, in which way it is shorter, its deviations, and a caution at the ratio."""
    page = mlperf_part(SHORT)
    assert page.startswith("candidate: **INVALID** for the settings of this run, shorter than MLPerf demands: 2195")
    assert "**broken**" in page
    assert "- lasted 31.2 s; MLPerf demands 600 s" in page
    assert "- sampled with temperature 1" in page
    assert "100.0 % |" in page
    assert "Source: RedHat-Supermicro in the results repository inference_results_v4.0." in page
    assert "This run is INVALID: the ratio is a hint at most." in page
    assert page.endswith(OWN_USE)


def test_a_short_valid_run_is_a_hint_too():
    """A ratio of a run that MLPerf would not take says so; one of full size needs no such words."""
    assert "shorter than MLPerf demands: the ratio is a hint" in mlperf_part(replace(SHORT, valid=True))
    assert "hint" not in mlperf_part(replace(FULL, published=(ROW,)))


def test_no_value_is_no_zero():
    """An undefined result is said to be none."""
    assert "no result (unverified)" in answer(replace(FULL, value=None, valid=False))


def test_a_source_is_named_once():
    """Two rows of one repository share their source."""
    page = mlperf_part(replace(FULL, published=(ROW, replace(ROW, system="other"))))
    assert page.count("inference_results_v4.0") == 1


def test_outside_strings_stay_text():
    """Names and reasons from outside cannot make markup: the page parses as it does with harmless ones."""
    page = mlperf_part(filled(lambda _: HOSTILE))
    assert structure(page) == structure(mlperf_part(filled(lambda name: name)))
    assert not LINKED.search("\n".join(prose(page)))
