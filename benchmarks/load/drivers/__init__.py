"""The clients of the comparison, by name, in the order of the table."""

from __future__ import annotations

from benchmarks.load.driver import Driver
from benchmarks.load.drivers.aiperf import AiPerf
from benchmarks.load.drivers.c_epoll import CEpoll
from benchmarks.load.drivers.guidellm import GuideLlm
from benchmarks.load.drivers.inference_perf import InferencePerf
from benchmarks.load.drivers.redline_engine import RedlineEngine
from benchmarks.load.drivers.stock_httpx import StockHttpx
from benchmarks.load.drivers.vllm_bench import VllmBench

DRIVERS: dict[str, Driver] = {
    driver.name: driver
    for driver in (RedlineEngine(), CEpoll(), StockHttpx(), VllmBench(), InferencePerf(), AiPerf(), GuideLlm())
}
