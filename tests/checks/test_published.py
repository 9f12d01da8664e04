"""Published results: the file holds what was published, in its own units, and only like is put beside like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from checks.mlperf_demands import SAMPLES_DEMANDED, family
from checks.published import PublishedResult, PublishedResults, board, standing
from redline import content
from redline.errors import ContentError

PUBLISHED = content.convert(
    content.read_json(Path(__file__).parents[2] / "mlperf" / "published.json"), PublishedResults, "published.json"
)
ROWS = PUBLISHED.results


def of(round_name: str, benchmark: str, accelerator: str, scenario: str) -> PublishedResult:
    """The one published row of these."""
    (found,) = [
        each
        for each in ROWS
        if (each.round, each.benchmark, each.accelerator, each.scenario)
        == (round_name, benchmark, accelerator, scenario)
    ]
    return found


def test_the_file_holds_every_round():
    """23 results of four rounds, each naming its submitter, division and repository."""
    assert Counter(each.round for each in ROWS) == {"v4.0": 3, "v4.1": 2, "v5.1": 4, "v6.0": 14}
    for each in ROWS:
        assert each.source == f"{each.submitter} in the results repository inference_results_{each.round}"
        assert family(each.benchmark) in SAMPLES_DEMANDED
    assert {each.division for each in ROWS if each.round == "v4.0"} == {"open"}


def test_units_are_those_of_the_logs():
    """Language models and Whisper in tokens/s, GPT-J of v4.0 in samples/s, Qwen3-VL in samples/s and queries/s."""
    units = {(family(each.benchmark), each.scenario): each.unit for each in ROWS}
    assert units == {
        ("gptj", "Offline"): "samples/s",
        ("llama2-70b", "Offline"): "tokens/s",
        ("llama2-70b", "Server"): "tokens/s",
        ("llama3.1-8b", "Offline"): "tokens/s",
        ("llama3.1-8b", "Server"): "tokens/s",
        ("whisper", "Offline"): "tokens/s",
        ("gpt-oss-120b", "Offline"): "tokens/s",
        ("gpt-oss-120b", "Server"): "tokens/s",
        ("qwen3-vl-235b-a22b", "Offline"): "samples/s",
        ("qwen3-vl-235b-a22b", "Server"): "queries/s",
    }


def test_tokens_a_sample_are_plausible():
    """Where both are known, tokens/s over samples/s is an answer's length: a swapped unit would stand out."""
    lengths = {"llama2-70b": (250, 330), "whisper": (70, 80), "gpt-oss-120b": (1278.2 * 0.9, 1278.2 * 1.1)}
    seen: Counter[str] = Counter()
    for each in ROWS:
        if each.samples_per_s is not None:
            low, high = lengths[family(each.benchmark)]
            assert low <= each.value / each.samples_per_s <= high, each
            seen[family(each.benchmark)] += 1
    assert seen == {"llama2-70b": 6, "whisper": 2, "gpt-oss-120b": 6}


@pytest.mark.parametrize(
    ("round_name", "benchmark", "accelerator", "scenario", "value"),
    [
        ("v4.0", "gptj-99/99.9", "H100-SXM-80GB", "Offline", 138.338),
        ("v4.0", "llama2-70b", "H100-PCIe-80GB", "Server", 2195.24),
        ("v4.1", "llama2-70b-99.9", "L40S", "Offline", 1717.77),
        ("v5.1", "llama3.1-8b", "H100-SXM-80GB", "Server", 5103.99),
        ("v6.0", "whisper", "H200-SXM-141GB", "Offline", 36395.7),
        ("v6.0", "gpt-oss-120b", "B200-SXM-180GB", "Offline", 93070.7),
        ("v6.0", "qwen3-vl-235b-a22b", "B200-SXM-180GB", "Server", 67.864),
        ("v6.0", "llama2-70b-99", "MI350X 288GB", "Server", 76393.09),
    ],
)
def test_published_figures(round_name, benchmark, accelerator, scenario, value):
    """Figures of every round, typed again by hand."""
    assert of(round_name, benchmark, accelerator, scenario).value == value


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("H100-SXM-80GB", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("H100", "H100"),
        ("H100-PCIe-80GB", "H100 PCIE"),
        ("NVIDIA H100 PCIe", "H100 PCIE"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("H200-SXM-141GB", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", "L40"),
        ("L40S-PCIe-48GB", "L40S"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "GB200"),
        ("MI350X 288GB", "MI350X"),
        ("AMD Instinct MI350X", "MI350X"),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Instinct MI300A", "MI300A"),
        ("some  new-thing", "SOME NEW THING"),
        ("", ""),
    ],
)
def test_names_of_accelerators(written, expected):
    """Drivers, submitters and runner classes write the same board differently, and other boards alike."""
    assert board(written) == expected


QUESTION: dict[str, Any] = {
    "benchmark": "gpt-oss-120b",
    "scenario": "Server",
    "accelerator": "NVIDIA H200",
    "accelerator_count": 8,
    "value": 12051.595,
    "unit": "tokens/s",
}


def test_a_run_stands_beside_its_like():
    """Half of what eight H200 did."""
    (found,) = standing(ROWS, **QUESTION)
    assert found.published.system == "8xH200-LLM-D-Openshift"
    assert found.ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    "other",
    [
        {"accelerator": "NVIDIA H200 NVL"},
        {"accelerator": "NVIDIA H100 80GB HBM3"},
        {"accelerator": ""},
        {"accelerator_count": 4},
        {"unit": "samples/s"},
        {"unit": "queries/s"},
        {"scenario": "Interactive"},
        {"benchmark": "llama2-70b-99"},
        {"value": None},
        {"value": 0.0},
    ],
)
def test_what_differs_is_not_compared(other):
    """Other hardware, number, unit, scenario or benchmark, or no value: nothing stands beside it."""
    assert standing(ROWS, **(QUESTION | other)) == ()


def test_the_accuracy_target_may_differ():
    """A run under the stricter target stands beside a result of the looser one, whose name is shown."""
    (found,) = standing(ROWS, "llama2-70b-99.9", "Offline", "AMD Instinct MI350X", 8, 80478.1, "tokens/s")
    assert found.published.benchmark == "llama2-70b-99"
    assert found.ratio == 1.0


def test_a_wrong_file_is_refused():
    """A misspelt key or an unknown unit names the file."""
    raw = content.read_json(Path(__file__).parents[2] / "mlperf" / "published.json")
    raw["results"][0]["unit"] = "tok/s"
    with pytest.raises(ContentError, match=r"here\.json: key 'results\.0\.unit' is wrong"):
        content.convert(raw, PublishedResults, "here.json")
