"""Every metric against a slow, obvious calculation by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.metrics import CATALOGUE, Better, percentile
from redline.model import Outcome, Repeat, RequestRecord

MS = 1_000_000


def record(
    index: int, sched_ms: int, chunks_ms: tuple[int, ...], outcome: Outcome = Outcome.OK, score: float | None = None
) -> RequestRecord:
    """A record with one token a chunk."""
    return RequestRecord(
        index=index,
        outcome=outcome,
        sched_ns=sched_ms * MS,
        send_ns=sched_ms * MS,
        done_ns=(chunks_ms[-1] if chunks_ms else sched_ms) * MS,
        chunk_ns=tuple(at * MS for at in chunks_ms),
        chunk_tokens=(1,) * len(chunks_ms),
        prompt_tokens=4,
        output_tokens=len(chunks_ms),
        output_text="",
        finish_reason="length",
        score=score,
    )


def repeat(*records: RequestRecord) -> Repeat:
    """A repeat of these records."""
    return Repeat(0, "2026-11-21T00:00:00", 10**9, records, {}, 0.0, 0.0, 0.1)


TWO = repeat(record(0, 0, (100, 110, 120)), record(1, 50, (250, 280, 310)))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("output_tokens_per_s", 6 / 0.31),
        ("requests_per_s", 2 / 0.31),
        ("ttft_s_median", 0.15),
        ("ttft_s_p99", 0.2),
        ("tpot_s_median", 0.02),
        ("tpot_s_p99", 0.03),
        ("itl_s_p99", 0.03),
        ("e2e_s_median", 0.19),
    ],
)
def test_each_metric_of_a_worked_example(metric: str, value: float) -> None:
    """Two requests, worked out by hand."""
    assert CATALOGUE[metric].formula(TWO) == pytest.approx(value)


def test_what_cannot_be_computed_is_none() -> None:
    """A window without one completed request defines no speed at all, never 0."""
    failed = repeat(record(0, 0, (), Outcome.TIMEOUT))
    assert all(metric.formula(failed) is None for metric in CATALOGUE.values())


def test_a_failed_request_is_a_wrong_answer() -> None:
    """Accuracy counts every item; an answer that did not come is not right."""
    scored = repeat(record(0, 0, (1,), score=1.0), record(1, 0, (), Outcome.TIMEOUT, score=0.0))
    assert CATALOGUE["exact_match"].formula(scored) == 0.5


def test_an_answer_that_is_partly_right_is_no_exact_match() -> None:
    """The mean of scores counts parts; the share of exact answers is then undefined, not a mean under its name."""
    parts = repeat(record(0, 0, (1,), score=1.0), record(1, 0, (1,), score=0.25), record(2, 0, (), Outcome.TIMEOUT))
    assert CATALOGUE["item_score"].formula(parts) == pytest.approx(1.25 / 3)
    assert CATALOGUE["exact_match"].formula(parts) is None
    exact = repeat(record(0, 0, (1,), score=1.0), record(1, 0, (), Outcome.TIMEOUT))
    assert CATALOGUE["item_score"].formula(exact) == CATALOGUE["exact_match"].formula(exact) == 0.5


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_percentile_is_loadgens(values: list[float], share: float) -> None:
    """The percentile is an observed value: sorted[int(n p)], the last one at most."""
    found = percentile(values, share)
    assert found == sorted(values)[min(int(len(values) * share), len(values) - 1)]


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda metric: metric.metric_id)
def test_worse_is_always_up(metric: object) -> None:
    """The direction registry is right for every metric: slower, fewer and less right are all above 0."""
    from redline.metrics import Metric

    assert isinstance(metric, Metric)
    worse = metric.oriented_log(2.0) - metric.oriented_log(1.0)
    better_is_up = metric.unit in {"tok/s", "req/s", "1"}
    assert (metric.better is Better.HIGHER) is better_is_up
    assert worse == pytest.approx(-math.log(2) if better_is_up else math.log(2))
    with pytest.raises(ValueError, match="positive"):
        metric.oriented_log(0.0)
    with pytest.raises(ValueError, match="positive"):
        metric.oriented_log(math.nan)
