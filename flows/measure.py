"""One round: a fresh deployment of each arm, and every scenario of one recipe measured on them.

Where two servers fit, both arms are up together and take turns window by window, the order alternating;
where only one fits, the arms follow each other, the order alternating from pair to pair.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from checks.replicas import stayed_up
from checks.validity import drop_reason_for, trial_validity
from flows.bench import ArmSetup, Bench, Round, client_cpus, deployed
from flows.durations import expected_scenario_s
from flows.official import drive_officially
from flows.progress import Narrator
from flows.scored import scored
from flows.workload import Work, work_of
from redline.deploy.server_metrics import difference, read_counters
from redline.errors import (
    DeployError,
    InfrastructureError,
    OutOfMemoryError,
    PodLostError,
    ReplicaDiedError,
    ServerDiedError,
)
from redline.load.client import LoadPlan
from redline.load.worker import LoadWorker, Window, load_worker
from redline.model import Repeat, Scenario, Trial, TrialStatus, in_flight_max, is_closed_loop
from redline.runner.fingerprint import sampler_cpus, usable_cpu_ids
from redline.runner.telemetry import cpu_shares, read_cpu_times
from redline.runner.telemetry_process import TelemetrySampler, telemetry_sampler
from redline.store.trials import write_trial

T = TypeVar("T")
COUNTERS_UNSAID = "the server did not say its counters in time"
"""Why a window is dropped that nobody can tell of whether the cache served it: a stall, no fault of the build."""

DEATHS = (ServerDiedError, OutOfMemoryError)
"""What is known to have ended a server; an API server that does not answer is none of them."""

POD_LOST = "a pod was taken away before the trial ended"
"""Why no window counts of a trial whose pod was lost: the machine's fault, for which no arm is blamed."""


def turn(arms: Sequence[T], index: int) -> tuple[T, ...]:
    """The arms in the order of the index-th turn: as given, then reversed, then as given.

    Applied to the pairs and, within a pair, to its windows: over two pairs each arm leads equally often.
    """
    return tuple(arms) if index % 2 == 0 else tuple(reversed(arms))


def measure_round(round_: Round, narrator: Narrator) -> tuple[Trial, ...]:
    """Measure one round and write its trials; what was measured is kept whatever happens.

    Raises:
        DeployError: a server did not come up or died; its arm is named.
        LoadError: the load engine failed.
    """
    order = turn(round_.arms, round_.pair_index)
    groups = (order,) if round_.runner_class.arms_resident_max >= len(order) else tuple((arm,) for arm in order)
    trials: list[Trial] = []
    for group in groups:
        with measuring(round_, group, narrator) as measure:
            for scenario in round_.scenarios:
                trials += measure(scenario)
    return tuple(trials)


@contextmanager
def measuring(
    round_: Round, group: Sequence[ArmSetup], narrator: Narrator
) -> Iterator[Callable[[Scenario], list[Trial]]]:
    """Fresh servers of a group of arms, and what measures a scenario on them: one written trial per arm."""
    with (
        deployed(round_, group, narrator) as benches,
        load_worker(client_cpus(benches)) as worker,
        _sampler(round_, benches) as sampler,
    ):
        try:
            yield lambda scenario: _measure_scenario(
                _prepared(round_, scenario), scenario, benches, Instruments(worker, sampler), narrator
            )
        finally:
            for problem in sampler.problems if sampler is not None else ():
                narrator.detail(f"telemetry: {problem}")


@dataclass(frozen=True, slots=True)
class Instruments:
    """What measures: the load client, and what watches the machine meanwhile if it is this one that serves."""

    worker: LoadWorker
    sampler: TelemetrySampler | None

    @property
    def pids(self) -> tuple[int, ...]:
        """Their processes, which are ours."""
        return (self.worker.pid, *(self.sampler.pids if self.sampler is not None else ()))


def _sampler(round_: Round, benches: Sequence[Bench]) -> AbstractContextManager[TelemetrySampler | None]:
    """A sampler of this machine and of the accelerators in use; None where the servers are elsewhere.

    It is kept off the servers' CPUs and, where there are three, off the client's.
    """
    if not all(bench.is_local for bench in benches):
        return nullcontext()
    return telemetry_sampler([device.uuid for device in round_.devices], sampler_cpus(usable_cpu_ids()))


def _prepared(round_: Round, scenario: Scenario) -> Round:
    """The round with this scenario's work: a rate search makes its scenarios as it goes."""
    if scenario.name in round_.works:
        return round_
    work = work_of(round_.workspace, scenario)
    identity = work.identity(round_.recipe)
    return replace(
        round_,
        works={**round_.works, scenario.name: work},
        scenario_hashes={**round_.scenario_hashes, scenario.name: identity},
    )


def _measure_scenario(
    round_: Round, scenario: Scenario, benches: Sequence[Bench], instruments: Instruments, narrator: Narrator
) -> list[Trial]:
    """One trial of this scenario on each bench. An interruption writes what there is as partial trials."""
    for bench in benches:
        bench.trial_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        bench.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        bench.repeats = []
        bench.figures = {}
        bench.death = None
        bench.retries_left = round_.runner_class.retry_count_max
    expected_s = expected_scenario_s(round_.recipe, scenario) * len(benches)
    try:
        with narrator.doing(f"measuring {scenario.name}, round {round_.pair_index + 1}", expected_s):
            for window in range(scenario.discard_count + scenario.repeat_count):
                for bench in turn(benches, window):
                    _measure_window(round_, scenario, window, bench, benches, instruments, narrator)
    except BaseException as error:
        if isinstance(error, InfrastructureError | ReplicaDiedError):
            _find_the_dead(benches)
        for bench in benches:
            if isinstance(bench.death, PodLostError):
                bench.repeats = without_counted(bench.repeats)
            if bench.repeats or bench.death is not None:
                _keep(round_, _cut_short(_trial(round_, scenario, bench), bench, error))
        died = next((bench.death for bench in benches if bench.death is not None), None)
        if died is not None and died is not error:
            raise died from error  # why it failed, rather than how that was noticed
        raise
    trials = [_trial(round_, scenario, bench) for bench in benches]
    for trial in trials:
        _keep(round_, trial)
    return trials


def _find_the_dead(benches: Sequence[Bench]) -> None:
    """Which servers died, whatever was noticed first: a window that could not begin, an answer that did not come."""
    for bench in benches:
        try:
            bench.deployment.check_alive()
        except DEATHS as death:
            bench.death = death if isinstance(death, PodLostError) else bench.death or death
        except DeployError:
            continue  # nobody could tell, which is not a death: the error already raised says more


def without_counted(repeats: Sequence[Repeat]) -> list[Repeat]:
    """The windows of a trial whose pod was lost: none of them counts, which `checks.validity.is_spoilt` sees."""
    return [replace(each, drop_reason=each.drop_reason or POD_LOST) for each in repeats]


def _cut_short(trial: Trial, bench: Bench, error: BaseException) -> Trial:
    """Partial, or invalid where this arm's own server died: then its validity says which and why."""
    if bench.death is None:
        return replace(trial, status=TrialStatus.PARTIAL, detail=f"interrupted: {type(error).__name__}")
    died = stayed_up(bench.death.problem)
    return replace(trial, status=TrialStatus.INVALID, detail=died.reading, validity=(*trial.validity, died))


def _keep(round_: Round, trial: Trial) -> None:
    write_trial(round_.workspace.trials_dir, trial)
    round_.on_trial(trial)


def _measure_window(
    round_: Round,
    scenario: Scenario,
    window: int,
    bench: Bench,
    benches: Sequence[Bench],
    instruments: Instruments,
    narrator: Narrator,
) -> None:
    """One window on one bench; one that a rule drops is measured again while retries are left."""
    while True:
        repeat = _one_repeat(
            round_, scenario, window, bench, instruments, idle=[other for other in benches if other is not bench]
        )
        bench.repeats.append(repeat)
        if window < scenario.discard_count or not repeat.drop_reason or bench.retries_left == 0:
            return
        bench.retries_left -= 1
        narrator.detail(f"{repeat.drop_reason}: measuring again ({bench.retries_left} retries left)")


def _one_repeat(
    round_: Round, scenario: Scenario, window: int, bench: Bench, instruments: Instruments, idle: Sequence[Bench]
) -> Repeat:
    work = round_.works[scenario.name]
    salt = f"{bench.trial_id}-{len(bench.repeats)}"  # vLLM refuses slashes
    plan = LoadPlan(
        base_urls=bench.endpoint.base_urls,
        model=bench.endpoint.model,
        requests=work.requests(window, salt),
        in_flight_max=in_flight_max(scenario.arrivals),
        window_s_max=scenario.limits.window_s_max,
        closed_loop=is_closed_loop(scenario.arrivals),
        with_api_key=bench.api_key is not None,
        continuous_usage=not bench.is_ours,  # not every server that answers returns token ids
    )
    sampler = instruments.sampler
    servers_pids = [pid for each in (bench, *idle) for pid in each.deployment.pids()]
    counters_before = _counters(bench)
    if sampler is not None:
        sampler.begin([instruments.worker.pid, *servers_pids])
    own_pids = [*instruments.pids, *servers_pids]
    times_before = read_cpu_times(own_pids)
    measured, own_cpu_s = _driven(round_, work, bench, plan, instruments.worker)
    shares = cpu_shares(times_before, read_cpu_times(own_pids), own_cpu_s=own_cpu_s)
    telemetry = sampler.end(measured.start_monotonic_ns, measured.duration_ns) if sampler is not None else ()
    foreign = shares.foreign if bench.is_local else None
    records = measured.records
    if work.scorer:
        records, bench.figures = scored(work.scorer, plan.requests, records, run_code=round_.run_code)
    repeat = Repeat(
        index=len(bench.repeats),
        started_at=measured.started_at,
        duration_ns=measured.duration_ns,
        records=records,
        server_counters={},
        foreign_cpu_share=foreign,
        steal_share=shares.steal,
        client=measured.client,
        drop_reason=drop_reason_for(window, foreign, shares.steal, scenario, round_.runner_class),
        telemetry=telemetry,
    )
    try:
        bench.deployment.check_alive()
        counters_after = _counters(bench)
    except DEATHS as death:
        bench.death = death
        reason = POD_LOST if isinstance(death, PodLostError) else "the server died in or after this window"
        bench.repeats.append(replace(repeat, drop_reason=reason))
        raise
    except DeployError:
        bench.repeats.append(repeat)  # it was measured whole; what became of its server is not known
        raise
    return with_counters(repeat, counters_before, counters_after)


def with_counters(repeat: Repeat, before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> Repeat:
    """The repeat with what its server's counters grew by; dropped if either reading was not answered in time."""
    if before is None or after is None:
        return replace(repeat, server_counters={}, drop_reason=repeat.drop_reason or COUNTERS_UNSAID)
    return replace(repeat, server_counters=difference(before, after))


def _driven(round_: Round, work: Work, bench: Bench, plan: LoadPlan, worker: LoadWorker) -> tuple[Window, float]:
    """(the window as it was driven, CPU seconds of ours that no process that is still there has)."""
    match round_.driver:
        case "native":
            return worker.run(plan), 0.0
        case "loadgen":
            log_dir = round_.log_dir / "loadgen" / bench.trial_id / f"{len(bench.repeats):02d}"
            return drive_officially(work, plan, log_dir, worker.cpu_ids)


def _counters(bench: Bench) -> dict[str, float] | None:
    """The servers' own counters, added up over replicas; empty if one offers none: a part would pass for all.

    None if one of them said nothing in time. Nobody is asked behind a router: each answer would be that of another
    pod, and differences would mean nothing.
    """
    if bench.is_routed:
        return {}
    total: dict[str, float] = {}
    for index, base_url in enumerate(bench.endpoint.base_urls):
        try:
            counters = read_counters(base_url, bench.api_key)
        except ServerDiedError as error:
            if not bench.endpoint.replica_urls:
                raise
            raise ReplicaDiedError(
                f"replica {index} of {len(bench.endpoint.base_urls)} ({base_url}): {error.problem}",
                expected=error.expected,
                found=error.found,
                next_step=error.next_step,
            ) from error
        if not counters:
            return counters
        for name, value in counters.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _trial(round_: Round, scenario: Scenario, bench: Bench) -> Trial:
    repeats = tuple(bench.repeats)
    validity = trial_validity(
        scenario,
        repeats,
        pin=bench.sut.pin,
        reported_version=bench.endpoint.reported_version,
        installed_version=bench.endpoint.installed_version,
        calibration=round_.calibration,
        replicas=bench.endpoint.replicas,
        runner_class=round_.runner_class,
        counters_readable=not bench.is_routed,
    )
    ok = all(reading.ok for reading in validity)
    return Trial(
        trial_id=bench.trial_id,
        run_id=round_.run_id,
        arm=bench.arm,
        pair_index=round_.pair_index,
        sut=bench.sut,
        scenario=scenario.name,
        scenario_hash=round_.scenario_hashes[scenario.name],
        runner_class=round_.runner_class.name,
        fingerprint=bench.fingerprint,
        started_at=bench.started_at,
        status=TrialStatus.VALID if ok else TrialStatus.INVALID,
        reported_version=bench.endpoint.reported_version,
        start_s=bench.endpoint.start_s,
        repeats=repeats,
        validity=validity,
        detail="" if ok else "; ".join(reading.rule for reading in validity if not reading.ok),
        figures=bench.figures,
        replicas=bench.endpoint.replicas,
    )


def elapsed_s(since_s: float) -> float:
    """Seconds of the monotonic clock since `since_s`."""
    return time.monotonic() - since_s
