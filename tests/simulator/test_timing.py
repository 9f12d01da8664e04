"""When chunks are due: exact figures out of the log, so that no test depends on how busy the machine is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from redline.errors import DeployError
from redline.simulator.process import LoggedRequest, RunningSimulator
from tests.simulator.asking import body, counters, streamed, wait_until

MS = 1_000_000


def ask_together(running: RunningSimulator, requests: Sequence[dict[str, Any]]) -> dict[str, LoggedRequest]:
    """Send the requests at once; the log by name ("0", "1", ...)."""

    def ask(name: int) -> bool:
        with httpx.Client(base_url=running.base_url, timeout=60, trust_env=False) as client:
            return streamed(client, json=requests[name], headers={"x-request-id": str(name)}).done

    with ThreadPoolExecutor(len(requests)) as threads:
        assert all(threads.map(ask, range(len(requests))))
    return {entry.request_id: entry for entry in running.log(reset=True)}


def are_together(entries: Iterable[LoggedRequest]) -> bool:
    """True if for ten steps or more every one of them ran."""
    return max(entry.due_ns[0] for entry in entries) < min(entry.due_ns[-10] for entry in entries)


def gaps(entry: LoggedRequest) -> list[int]:
    """Nanoseconds between the due times."""
    return [later - earlier for earlier, later in itertools.pairwise(entry.due_ns)]


def test_the_prompt_delays_the_first_chunk(client, running, change):
    """ttft_s_per_prompt_token is added for each token of the prompt."""
    change("timing", ttft_s=0.004, ttft_s_per_prompt_token=0.001)
    streamed(client, json=body(prompt=[1] * 10))
    [entry] = running.log()
    assert entry.due_ns[0] - entry.received_ns == 14 * MS


def test_running_requests_slow_each_other(running, change):
    """itl_s_per_running is added to a gap for each request that runs."""
    log: dict[str, LoggedRequest] = {}
    for ttft_s in (0.05, 1.0, 10.0):  # so late that on any machine the last comes before the first is answered
        change("timing", ttft_s=ttft_s, itl_s=0.001, itl_s_per_running=0.002)
        log = ask_together(running, [body(max_tokens=50)] * 3)
        if are_together(log.values()):
            break
    assert {gap for entry in log.values() for gap in gaps(entry)} <= {3 * MS, 5 * MS, 7 * MS}
    assert max(gap for entry in log.values() for gap in gaps(entry)) == 7 * MS


def test_places_are_limited(client, running, change):
    """With one place the requests run one after the other, and the wait counts as queue time."""
    change("timing", running_max=1)
    before = counters(client)
    log = ask_together(running, [body()] * 3)
    after = counters(client)
    in_turn = sorted(log.values(), key=lambda entry: entry.due_ns[0])
    assert all(later.due_ns[0] - 5 * MS >= earlier.end_ns for earlier, later in itertools.pairwise(in_turn))
    queued = after["vllm:request_queue_time_seconds_sum"] - before["vllm:request_queue_time_seconds_sum"]
    waits = [entry.due_ns[0] - 5 * MS - entry.received_ns for entry in in_turn]
    assert queued == pytest.approx(sum(waits) / 1e9, abs=1e-6)


def test_those_who_wait_are_counted(client, running, change):
    """The gauges say how many run and how many wait; who leaves the queue is not served."""
    change("timing", running_max=1, ttft_s=30)
    with httpx.Client(base_url=running.base_url, timeout=60, trust_env=False) as other:
        with client.stream("POST", "/v1/completions", json=body()):
            with other.stream("POST", "/v1/completions", json=body()):
                state = running.state()
                assert (state.running, state.waiting) == (1, 1)
                assert counters(other)["vllm:num_requests_waiting"] == 1
            wait_until(lambda: running.state().waiting == 0)
            assert running.state().running == 1
        wait_until(lambda: running.state().running == 0)
    assert {entry.end for entry in running.log()} == {"aborted"}


def test_in_lockstep_all_step_together(running, change):
    """Chunks of all requests are due at the same instants, one step apart, and a step has the batch's length."""
    ttft_s, log = 0.0, {}
    for ttft_s in (0.02, 1.0, 10.0):
        change("timing", lockstep=True, ttft_s=ttft_s, itl_s=0.002, itl_s_per_running=0.001)
        log = ask_together(running, [body(max_tokens=100)] * 4)
        if are_together(log.values()):
            break
    entries = list(log.values())
    shared = set(entries[0].due_ns)
    for entry in entries[1:]:
        shared &= set(entry.due_ns)
    assert len(shared) > 10
    assert all(entry.due_ns[0] - entry.received_ns >= ttft_s * 1_000 * MS for entry in entries)
    assert {gap for entry in entries for gap in gaps(entry)} <= {(2 + batch) * MS for batch in range(1, 5)}
    assert 6 * MS in gaps(entries[0])


def test_lockstep_changes_only_at_rest(client, running, change):
    """While requests run the two ways cannot be exchanged, and the refusal says so."""
    change("timing", ttft_s=30)
    with client.stream("POST", "/v1/completions", json=body()), pytest.raises(DeployError, match="while requests run"):
        change("timing", lockstep=True)


@pytest.mark.parametrize("lockstep", [False, True])
def test_jitter_is_drawn_within_its_share(client, running, change, lockstep):
    """Every wait is within its share of the mean, and they differ."""
    change("timing", jitter_share=0.5, lockstep=lockstep, seed=7)
    streamed(client, json=body(max_tokens=40))
    [entry] = running.log()
    waits = gaps(entry)
    assert all(1 * MS <= wait <= 3 * MS for wait in waits)
    assert len(set(waits)) > 30


def test_many_tokens_in_one_chunk_take_one_gap(client, running, change):
    """Chunks, not tokens, are one gap apart."""
    change("timing", tokens_per_chunk=4)
    streamed(client, json=body(max_tokens=10))
    [entry] = running.log()
    assert gaps(entry) == [2 * MS] * 2


def test_a_whole_answer_is_due_with_its_last_token(client, running):
    """What is not streamed is due when its last token would be, and has one entry in the log."""
    client.post("/v1/completions", json=body(stream=False, stream_options=None))
    [entry] = running.log()
    assert [due_ns - entry.received_ns for due_ns in entry.due_ns] == [5 * MS + 7 * 2 * MS]
