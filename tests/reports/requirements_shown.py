"""What a build has to reach, as a report shows it: accuracy targets, and MLPerf's rules beside published results."""

from __future__ import annotations

from redline.model import Arm, TargetReading, ValidityReading
from reports.mlperf import MlperfSection, PublishedRow

REFERENCE = "MLPerf's submission checker, v6.0"


def target(arm: Arm, figure: str, value: float, reference: float, high: float | None = None) -> TargetReading:
    """A figure of llama2-70b-accuracy that must reach 99.9 % of its reference, or 90 % where it is bounded above."""
    low = reference * (0.999 if high is None else 0.9)
    return TargetReading("llama2-70b-accuracy", arm, figure, value, reference, low, high, REFERENCE)


def mlperf_section() -> MlperfSection:
    """A short Server run that keeps its rules, beside what was published for this hardware."""
    row = PublishedRow(
        "v4.0",
        "open",
        "RedHat-Supermicro",
        "AS-4125GS-TNRT",
        "llama2-70b",
        "vLLM 0.3.1 fp16 2xTP4",
        2195.24,
        "tokens/s",
        2310.5 / 2195.24,
        "RedHat-Supermicro in the results repository inference_results_v4.0",
    )
    return MlperfSection(
        benchmark="llama2-70b-99.9",
        round="v4.0",
        scenario="Server",
        valid=True,
        value=2310.5,
        unit="tokens/s",
        readings=(
            ValidityReading("no request failed", "0 of 500 failed", "none (LoadGen cannot see it)", ok=True),
            ValidityReading("TTFT p99", "1.41 s", "at most 2.00 s", ok=True),
            ValidityReading("early stopping, TTFT", "500 queries", "at least 459 with 0 over the limit", ok=True),
        ),
        shorter=("500 requests of 24576", "lasted 66.7 s; MLPerf demands 600 s"),
        deviations=("one replica of the published two",),
        published=(row,),
        whose="window 2 of trial 20261121T041700-7f3a-server",
    )
