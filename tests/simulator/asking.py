"""Quick settings for tests, requests to the stand-in, and what its answers held."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

SETTLE_S_MAX = 60.0
QUICK = {"timing": {"ttft_s": 0.005, "itl_s": 0.002}}


@dataclass(frozen=True)
class Streamed:
    """A streamed answer: its status and what its events held, comments left out."""

    status: int
    events: list[dict[str, Any]]
    done: bool

    @property
    def token_events(self) -> list[dict[str, Any]]:
        """Events with a choice."""
        return [event for event in self.events if event.get("choices")]


def body(**changes: Any) -> dict[str, Any]:
    """The body of a streamed completion of 8 tokens, with changes."""
    return {
        "model": "tiny",
        "prompt": [5, 6, 7],
        "max_tokens": 8,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    } | changes


def streamed(client: httpx.Client, path: str = "/v1/completions", **request: Any) -> Streamed:
    """Ask for a stream and read it to its end. Raises httpx.HTTPError if it breaks."""
    with client.stream("POST", path, **request) as response:
        text = response.read().decode()
    data = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    events = [json.loads(line) for line in data if line != "[DONE]"]
    return Streamed(response.status_code, events, bool(data) and data[-1] == "[DONE]")


def counters(client: httpx.Client) -> dict[str, float]:
    """Every sample of /metrics without its fixed labels."""
    samples = {}
    for line in client.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name.replace('engine="0",model_name="tiny"', "").replace("{}", "").replace("{,", "{")] = float(
                value
            )
    return samples


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fails after a minute."""
    deadline_s = time.monotonic() + SETTLE_S_MAX
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
