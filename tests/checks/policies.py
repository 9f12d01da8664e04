"""The shipped policies, for tests."""

from __future__ import annotations

from pathlib import Path

from checks.policy import Policy
from redline.content import load

FOLDER = Path(__file__).resolve().parents[2] / "checks" / "policies"
CPU = load(FOLDER / "cpu.toml", Policy)
GPU = load(FOLDER / "gpu.toml", Policy)
STAND_INS = load(FOLDER / "stand-ins.toml", Policy)

# One latency-like and one throughput-like primary in two scenarios: what the CPU scenarios are judged by.
THREE = (("offline", "output_tokens_per_s"), ("server", "tpot_s_median"), ("server", "ttft_s_median"))
SIX = tuple((name, metric) for name in "ab" for metric in ("output_tokens_per_s", "tpot_s_median", "e2e_s_median"))
