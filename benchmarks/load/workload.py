"""What every client is asked to do: the workloads, the schedule and the prompts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODEL = "tiny"
RATES_PER_S = (50, 100, 200, 500, 1000, 2000, 3000, 4000)
QUICK_RATES_PER_S = (100, 500, 1000)
PROMPT_CHARACTERS = 120
PROMPT_TOKENS = 20
SEED = 7

Nanoseconds = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Workload:
    """How the stand-in answers: the first chunk after `ttft_s`, `chunk_count` chunks of one token `itl_s` apart."""

    name: str
    ttft_s: float
    itl_s: float
    chunk_count: int

    @property
    def answer_s(self) -> float:
        """From the request to the last chunk."""
        return self.ttft_s + (self.chunk_count - 1) * self.itl_s


WORKLOADS = {
    "W1": Workload("W1", ttft_s=0.05, itl_s=0.01, chunk_count=32),
    "W2": Workload("W2", ttft_s=0.05, itl_s=0.01, chunk_count=4),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: a client, a workload, a rate (requests/s), and busy loops beside the client on its core."""

    client: str
    workload: Workload
    rate_per_s: float
    hog_count: int
    load_s: float
    seed: int = SEED

    @property
    def request_count(self) -> int:
        """As many as fall due within `load_s`."""
        return max(2, round(self.rate_per_s * self.load_s))

    @property
    def label(self) -> str:
        """A name for files and progress lines."""
        return f"{self.workload.name}-{self.rate_per_s:g}-{'hogs' if self.hog_count else 'idle'}-{self.client}"


def schedule_s(rate_per_s: float, count: int, seed: int) -> Floats:
    """Due times in seconds after the start, ascending, shape (count,): Poisson, stretched to end at count / rate.

    The asked rate is then exact, whatever the draw. It is vLLM's own schedule for this seed, because
    `vllm bench serve` cannot be given one: everybody else replays it.
    Source: vLLM 0.32.0, vllm/benchmarks/serve.py, get_request (burstiness 1).
    """
    gaps_s = np.random.RandomState(seed).gamma(1.0, 1.0 / rate_per_s, count)
    due_s = np.cumsum(gaps_s)
    return np.asarray(due_s * (count / rate_per_s / due_s[-1]), dtype=np.float64)


def prompt(index: int) -> str:
    """A text of `PROMPT_CHARACTERS` that the stand-in recognises its request by, whatever headers a tool sends."""
    return (f"rid={index} " + "abcdefg " * (PROMPT_CHARACTERS // 8 + 1))[:PROMPT_CHARACTERS]
