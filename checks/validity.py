"""Is a trial evidence of anything? Rules that look at how it was measured, never at what came out.

The same for both arms, and listed in the report whether kept or broken.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from checks.counter_validity import cache_reading, preemptions_reading
from checks.machine_validity import BREAKABLE_RULES, machine_validity
from checks.replicas import replica_validity
from redline.metrics import percentile, schedule_lag_s
from redline.model import (
    BuildKind,
    BuildPin,
    Calibration,
    CalibrationRung,
    Outcome,
    RandomTokens,
    Repeat,
    Replica,
    RunnerClass,
    Scenario,
    Server,
    Trial,
    ValidityReading,
)
from redline.units import NS_PER_S

UNKNOWN_VERSION = "unknown"
COUNTED_REPEATS, SCHEDULE_LAG = "counted repeats", "schedule lag p99"
ALL_ANSWERED, FULL_OUTPUTS = "every request answered", "outputs of full length"
MACHINE_RULES = BREAKABLE_RULES | {COUNTED_REPEATS, SCHEDULE_LAG}
"""Rules that the machine or the load client breaks, whatever the build: no build is blamed for one of them, and what
was measured is measured again."""

REAL_SERVER = "a real server answers"
CLIENT_STAMPS, CLIENT_CALIBRATED = "client stamps", "client calibrated"
CLIENT_RULES = (CLIENT_STAMPS, CLIENT_CALIBRATED)
"""Listed with every trial: how far its times can be trusted."""

NOT_CALIBRATED = "this machine's client is not calibrated (redline calibrate)"
BEYOND = "beyond the rates that this machine's client was calibrated for"
CLOCK_STEP_NS_SHOWN = 50_000
DETAIL_CHARS_SHOWN = 160


def trial_validity(  # noqa: PLR0913 - one keyword per fact of a trial; a bundle would only rename them
    scenario: Scenario,
    repeats: Sequence[Repeat],
    *,
    pin: BuildPin,
    reported_version: str,
    installed_version: str | None,
    calibration: Calibration | None = None,
    replicas: Sequence[Replica] = (),
    runner_class: RunnerClass | None = None,
    counters_readable: bool = True,
) -> tuple[ValidityReading, ...]:
    """Every rule with its reading and limit, kept or broken; the trial is valid if all are ok.

    Read over the repeats that count. `installed_version`: of the distribution in the server's environment;
    None where that is not ours to see, as in a cluster or of an endpoint. `calibration`: of the load client on this
    machine, if there is one. `replicas`: the servers that took turns. `pin`: what should have answered.
    `runner_class`: whose limits for the machine hold. `counters_readable`: False behind a router, where no single
    server can be asked for its counters: rules about them are then not read.
    """
    counted = [repeat for repeat in repeats if not repeat.drop_reason]
    readings = [
        _enough_repeats(scenario, repeats, counted),
        _all_answered(scenario, counted),
    ]
    if isinstance(scenario.workload, RandomTokens):
        readings.append(_full_outputs(scenario.workload, counted))
    if isinstance(scenario.arrivals, Server):
        readings.append(_on_schedule(scenario, counted))
    readings += [
        cache_reading(scenario, counted, own=pin.kind is not BuildKind.ENDPOINT, readable=counters_readable),
        _right_build(pin, reported_version, installed_version),
        preemptions_reading(counted, readable=counters_readable),
        _real_server(repeats),
        *replica_validity(counted, replicas),
        *(_machine(scenario, repeats, runner_class) if runner_class is not None else ()),
        _stamps(counted),
        _calibrated(counted, calibration),
    ]
    return tuple(readings)


def is_valid(readings: Sequence[ValidityReading]) -> bool:
    """True if there are readings and every rule is kept."""
    return bool(readings) and all(reading.ok for reading in readings)


def is_spoilt(trial: Trial) -> bool:
    """True if the machine or the client broke a rule, or left no repeat that counts: nothing is known of the build.

    Without such a repeat rules about requests are broken too, for there are none to look at.
    """
    return not trial.counted_repeats or any(
        not reading.ok and reading.rule in MACHINE_RULES for reading in trial.validity
    )


def drop_reason_for(
    repeat_index: int,
    foreign_cpu_share: float | None,
    steal_share: float,
    scenario: Scenario,
    runner_class: RunnerClass,
) -> str:
    """Why a repeat does not count, in words; empty if it does. Blind to its result.

    The first `discard_count` windows are warm-up. After them a window counts while foreign processes and
    steal together take less than the runner class allows. A foreign share of None (the server's processes are
    not ours to see) judges by steal alone; one that is not a finite number drops the window.
    """
    if scenario.measures_accuracy:
        return ""  # a busy machine makes answers late, not wrong
    if repeat_index < scenario.discard_count:
        return f"warm-up: window {repeat_index + 1} of {scenario.discard_count} after the start"
    foreign = 0.0 if foreign_cpu_share is None else foreign_cpu_share
    taken = foreign + steal_share
    if not math.isfinite(taken):
        return "foreign CPU could not be measured"
    if taken >= runner_class.foreign_cpu_share_max:
        return (
            f"foreign CPU: {foreign * 100:.1f} % by other processes and {steal_share * 100:.1f} % steal, "
            f"limit {runner_class.foreign_cpu_share_max * 100:.1f} %"
        )
    return ""


def _enough_repeats(scenario: Scenario, repeats: Sequence[Repeat], counted: Sequence[Repeat]) -> ValidityReading:
    return ValidityReading(
        COUNTED_REPEATS,
        f"{len(counted)} of {len(repeats)} measured",
        f"at least {scenario.repeat_count}",
        len(counted) >= scenario.repeat_count,
    )


def _all_answered(scenario: Scenario, counted: Sequence[Repeat]) -> ValidityReading:
    outcomes = Counter(record.outcome for repeat in counted for record in repeat.records)
    expected = scenario.request_count * len(counted)
    named = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome])
    failed = [record for repeat in counted for record in repeat.records if record.outcome is not Outcome.OK]
    said = next((" ".join(record.detail.split()) for record in failed if record.detail.strip()), "")
    return ValidityReading(
        ALL_ANSWERED,
        f"{named or 'none'} of {expected}" + (f"; the first failure: {said[:DETAIL_CHARS_SHOWN]}" if said else ""),
        "all ok",
        expected > 0 and outcomes[Outcome.OK] == expected == outcomes.total(),
    )


def _full_outputs(workload: RandomTokens, counted: Sequence[Repeat]) -> ValidityReading:
    """With `ignore_eos` every output has exactly the length asked for; anything else is other work."""
    off = sum(record.output_tokens != workload.output_tokens for repeat in counted for record in repeat.records)
    return ValidityReading(FULL_OUTPUTS, f"{off} of another length", f"all {workload.output_tokens} tokens", off == 0)


def _on_schedule(scenario: Scenario, counted: Sequence[Repeat]) -> ValidityReading:
    """The worst repeat's p99 of t_send - t_sched: a late client is invalid, not slow."""
    limit = scenario.limits.schedule_lag_s_p99_max
    lags = [percentile([schedule_lag_s(record) for record in repeat.records], 0.99) for repeat in counted]
    known = [lag for lag in lags if lag is not None]
    worst = max(known, default=math.inf)
    return ValidityReading(
        SCHEDULE_LAG,
        f"{worst * 1e3:.2f} ms" if known else "not measured",
        f"at most {limit * 1e3:.2f} ms",
        len(known) == len(counted) and worst <= limit,
    )


def _machine(scenario: Scenario, repeats: Sequence[Repeat], runner_class: RunnerClass) -> tuple[ValidityReading, ...]:
    """The rules of the machine; listed only where answers are scored: it makes them late, not wrong."""
    readings = machine_validity(repeats, runner_class)
    if not scenario.measures_accuracy:
        return readings
    return tuple(
        replace(reading, limit=f"{reading.limit} (listed only: speed is not judged)", ok=True)
        if reading.rule in BREAKABLE_RULES and not reading.ok
        else reading
        for reading in readings
    )


def _right_build(pin: BuildPin, reported: str, installed: str | None) -> ValidityReading:
    """The build that answered is the pinned one: by what it says, by what is installed, by its commit if it says one.

    Of an image whose version nobody states, the deployer has proved the digest; the version is then listed.
    """
    said = f"server says {reported or 'nothing'}, installed {installed or 'unknown (not our environment)'}"
    stated = re.search(r"[+.]g([0-9a-f]{7,40})", reported)
    right_commit = not pin.commit or stated is None or pin.commit.startswith(stated[1])
    if pin.kind is BuildKind.IMAGE and pin.version == UNKNOWN_VERSION:
        limit, ok = "the pinned digest, which was verified", bool(reported)
    else:
        versions = [reported, *([installed] if installed is not None else [])]
        limit, ok = pin.version, all(_same_version(pin.version, each) for each in versions)
    if pin.commit:
        limit += f", commit {pin.commit[:12]}"
    return ValidityReading("the pinned build answers", said, limit, ok and right_commit)


def _same_version(pin: str, found: str) -> bool:
    """Equal, or equal but for a local part (`+cpu`) that only one of them has. Source: PEP 440, local versions."""
    if not found:
        return False
    (pin_public, _, pin_local), (found_public, _, found_local) = pin.partition("+"), found.partition("+")
    return pin_public == found_public and (pin_local == found_local or not pin_local or not found_local)


def _real_server(repeats: Sequence[Repeat]) -> ValidityReading:
    """An answer of `redline simulate`, in whatever repeat, makes the trial no measurement."""
    simulated = any(repeat.client.simulated for repeat in repeats)
    return ValidityReading(
        REAL_SERVER, "answers of `redline simulate`" if simulated else "no stand-in", "no stand-in", not simulated
    )


def _stamps(counted: Sequence[Repeat]) -> ValidityReading:
    """Listed, never broken: whose stamps, and how many of them are upper bounds."""
    sources = sorted({repeat.client.stamps.value for repeat in counted})
    chunks = sum(repeat.client.chunk_count for repeat in counted)
    coalesced = sum(repeat.client.coalesced_count for repeat in counted)
    counts = sorted({repeat.client.token_counts.value for repeat in counted})
    resent = sum(repeat.client.resent_count for repeat in counted)
    parts = [f"{'/'.join(sources) or 'no'} stamps", f"tokens per chunk by {'/'.join(counts) or 'nothing'}"]
    parts.append(f"{coalesced / chunks * 100 if chunks else 0:.1f} % of chunks shared a read")
    parts += [f"{resent} requests resent"] if resent else []
    parts += ["over TLS"] if any(repeat.client.tls for repeat in counted) else []
    steps_ns = max((abs(repeat.client.clock_step_ns) for repeat in counted), default=0)
    parts += [f"the wall clock was set by {steps_ns / 1e6:.1f} ms"] if steps_ns > CLOCK_STEP_NS_SHOWN else []
    return ValidityReading(CLIENT_STAMPS, ", ".join(parts), "listed only", ok=True)


def _calibrated(counted: Sequence[Repeat], calibration: Calibration | None) -> ValidityReading:
    """Listed, never broken: within the rates that the client was calibrated for, and its own error there.

    A client that cannot keep up breaks the schedule lag rule; this says what is known beyond that.
    """
    rate, chunk_rate = busiest(counted)
    load = f"{rate:.0f} requests and {chunk_rate:.0f} chunks a second"
    if calibration is None:
        return ValidityReading(CLIENT_CALIBRATED, f"{load}; {NOT_CALIBRATED}", "listed only", ok=True)
    held = ", ".join(f"{each.rate_per_s:.0f} x {each.chunks_per_request}" for each in _busiest_held(calibration))
    rung = calibration.rung_for(rate, chunk_rate)
    said = own_error(rung) if rung is not None else BEYOND
    return ValidityReading(CLIENT_CALIBRATED, f"{load}; {said}", f"held: {held} chunks a second (listed only)", ok=True)


def _busiest_held(calibration: Calibration) -> list[CalibrationRung]:
    """The rungs held that no other held rung outdoes in both requests and chunks."""
    held = [rung for rung in calibration.rungs if rung.held]
    return [
        rung
        for rung in held
        if not any(
            other is not rung and other.rate_per_s >= rung.rate_per_s and other.chunks_per_s >= rung.chunks_per_s
            for other in held
        )
    ]


def busiest(repeats: Sequence[Repeat]) -> tuple[float, float]:
    """(requests sent, chunks received) in their busiest seconds, the most of any window.

    A window shorter than a second counts as what it would make of one.
    """
    sent = max((_busiest_second([record.send_ns for record in repeat.records]) for repeat in repeats), default=0.0)
    chunks = [[stamp for record in repeat.records for stamp in record.chunk_ns] for repeat in repeats]
    return sent, max((_busiest_second(each) for each in chunks), default=0.0)


def _busiest_second(instants_ns: Sequence[int]) -> float:
    """The most of these instants in any one second; per second of their span if that is shorter."""
    ordered = np.sort(np.asarray(instants_ns, dtype=np.int64))
    if len(ordered) < 2:
        return float(len(ordered))
    span_ns = int(ordered[-1] - ordered[0])
    if span_ns < NS_PER_S:
        return len(ordered) * NS_PER_S / max(span_ns, NS_PER_S // 10)
    ends = np.searchsorted(ordered, ordered + NS_PER_S, side="left")
    return float(np.max(ends - np.arange(len(ordered))))


def own_error(rung: CalibrationRung) -> str:
    """The client's own errors at a rung, in words: what of TTFT and ITL is the client's doing."""
    return (
        f"the client's own error (p99) TTFT {rung.ttft_error_s_p99 * 1e3:.2f} ms, "
        f"chunk stamps {rung.chunk_error_s_p99 * 1e3:.3f} ms, "
        f"measured at {rung.rate_per_s:.0f} requests a second over loopback, without TLS"
    )
