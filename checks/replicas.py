"""Several servers behind one load: is it spread evenly, does each of them answer, does one lag behind?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from redline.metrics import percentile
from redline.model import Outcome, Repeat, Replica, ReplicaReading, RequestRecord, ValidityReading
from redline.units import NS_PER_S

EVEN_SPREAD = "load spread evenly"
ALL_ANSWER = "every replica answers"
NONE_LAGS = "no replica lags"
STAYED_UP = "the server stayed up"
LAG_RATIO = 1.25
"""A replica whose median latency is this many times that of the others together is named. Listed only: it may be
the build's doing, which is what is measured."""


def replica_readings(counted: Sequence[Repeat], replicas: Sequence[Replica]) -> tuple[ReplicaReading, ...]:
    """One per replica, in their order."""
    records = [record for repeat in counted for record in repeat.records]
    return tuple(
        _reading(replica, [record for record in records if record.replica == index])
        for index, replica in enumerate(replicas)
    )


def _reading(replica: Replica, records: Sequence[RequestRecord]) -> ReplicaReading:
    answered = [record for record in records if record.outcome is Outcome.OK]
    ttft_s = [(record.chunk_ns[0] - record.sched_ns) / NS_PER_S for record in answered if record.chunk_ns]
    e2e_s = [(record.done_ns - record.sched_ns) / NS_PER_S for record in answered]
    return ReplicaReading(
        replica=replica,
        sent_count=len(records),
        ok_count=len(answered),
        output_tokens=sum(record.output_tokens for record in answered),
        ttft_s_p50=percentile(ttft_s, 0.5),
        ttft_s_p99=percentile(ttft_s, 0.99),
        e2e_s_p50=percentile(e2e_s, 0.5),
        e2e_s_p99=percentile(e2e_s, 0.99),
    )


def replica_validity(counted: Sequence[Repeat], replicas: Sequence[Replica]) -> tuple[ValidityReading, ...]:
    """The rules of a deployment of several replicas; () for one server."""
    if len(replicas) < 2:
        return ()
    readings = replica_readings(counted, replicas)
    return (_even(counted, replicas), _all_answer(readings), _none_lags(readings))


def stayed_up(problem: str) -> ValidityReading:
    """The broken rule of a trial whose server died in it; `problem` names the server."""
    return ValidityReading(STAYED_UP, problem, "until the trial ends", ok=False)


def _even(counted: Sequence[Repeat], replicas: Sequence[Replica]) -> ValidityReading:
    """Within each window no replica got more than one request more than another: that is what taking turns gives."""
    counts = [Counter(record.replica for record in repeat.records) for repeat in counted]
    spreads = [
        max(count[index] for index in range(len(replicas))) - min(count[index] for index in range(len(replicas)))
        for count in counts
    ]
    known = all(set(count) <= set(range(len(replicas))) for count in counts)
    total = sum(counts, Counter())
    said = ", ".join(f"{replica.name} {total[index]}" for index, replica in enumerate(replicas))
    return ValidityReading(
        EVEN_SPREAD,
        f"requests: {said}; at most {max(spreads, default=0)} apart in a window",
        "at most 1 apart in each window",
        bool(counted) and known and max(spreads, default=0) <= 1,
    )


def _all_answer(readings: Sequence[ReplicaReading]) -> ValidityReading:
    failing = [each for each in readings if each.ok_count < each.sent_count or each.sent_count == 0]
    said = ", ".join(f"{each.replica.name} answered {each.ok_count} of {each.sent_count}" for each in failing)
    return ValidityReading(ALL_ANSWER, said or f"all {len(readings)}", "every request of each", not failing)


def _none_lags(readings: Sequence[ReplicaReading]) -> ValidityReading:
    """Median latency of each against the median of the other replicas' medians. Listed, never broken."""
    lagging = []
    ratios = []
    for index, each in enumerate(readings):
        others = [
            other.e2e_s_p50 for place, other in enumerate(readings) if place != index and other.e2e_s_p50 is not None
        ]
        middle = percentile(others, 0.5)
        if each.e2e_s_p50 is None or not middle:
            continue
        ratio = each.e2e_s_p50 / middle
        ratios.append(ratio)
        if ratio > LAG_RATIO:
            lagging.append(f"{each.replica.name} takes {ratio:.2f} times as long as the others")
    spread = f"the slowest takes {max(ratios):.2f} times as long as the others" if ratios else "nothing to compare"
    limit = f"median latency at most {LAG_RATIO:g} times the others' (listed only)"
    return ValidityReading(NONE_LAGS, "; ".join(lagging) or spread, limit, ok=True)
