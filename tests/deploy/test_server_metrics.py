"""A server's own counters over real HTTP: what was not read is never a figure, and silence is no death."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from redline.deploy.server_metrics import difference, parse_counters, read_counters
from redline.errors import ServerDiedError
from tests.fakes.local_server import LocalHandler, LocalServer

TEXT = """# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0"} 5.0
vllm:prompt_tokens_total{engine="1"} 7.0
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{le="+Inf"} 3.0
vllm:e2e_request_latency_seconds_count 3.0
vllm:e2e_request_latency_seconds_sum 1.5
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 9.0
"""
COUNTERS = {
    "vllm:prompt_tokens_total": 12.0,
    "vllm:e2e_request_latency_seconds_count": 3.0,
    "vllm:e2e_request_latency_seconds_sum": 1.5,
}


@contextmanager
def answering(status: int, text: str) -> Iterator[str]:
    """The address of a server that answers every question so."""

    class Handler(LocalHandler):
        def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
            self.reply(status, text.encode())

    with LocalServer(Handler) as server:
        yield server.url


def test_counters_are_added_up_over_labels() -> None:
    """vLLM's own, sums and counts of histograms too; buckets and what is not vLLM's are left out."""
    assert parse_counters(TEXT) == COUNTERS


def test_what_is_said_is_read() -> None:
    """Over HTTP; a server that has no such page, or says something else on it, offers none."""
    with answering(200, TEXT) as url:
        assert read_counters(url) == COUNTERS
    for status, text in ((404, "no such page"), (200, "{not: prometheus"), (200, "")):
        with answering(status, text) as url:
            assert read_counters(url) == {}


def test_a_silent_server_is_not_called_dead() -> None:
    """It took the question and says nothing in time: nothing is known, neither that it died nor that it has none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert read_counters(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_s=0.1) is None


def test_nobody_there_is_a_death() -> None:
    """The address refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # ours, and nobody listens
        with pytest.raises(ServerDiedError, match="stopped answering /metrics"):
            read_counters(f"http://127.0.0.1:{held.getsockname()[1]}")


def test_growth_is_of_two_readings() -> None:
    """One reading alone would pass everything since the start for one window's."""
    assert difference({"a": 1.0, "b": 2.0}, {"a": 4.0, "b": 2.0, "c": 5.0}) == {"a": 3.0, "c": 5.0}
    assert difference({}, {"a": 4.0}) == {}
    assert difference({"a": 4.0}, {}) == {}
    assert difference(None, {"a": 4.0}) == difference({"a": 4.0}, None) == {}
