"""One round: a fresh deployment of each arm, and every scenario of one recipe measured on them.

Where two servers fit, both arms are up together and take turns window by window, the order alternating;
where only one fits, the arms follow each other, the order alternating from pair to pair.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from checks.validity import drop_reason_for, trial_validity
from flows import stand_ins
from flows.durations import START_EXPECTED_S, expected_scenario_s
from flows.official import Driver, drive_officially
from flows.progress import Narrator
from flows.scored import scored
from flows.workload import Work, work_of
from flows.workspace import Workspace
from redline.access import api_key
from redline.builds.extras import with_extras
from redline.builds.install import InstalledBuild
from redline.deploy import endpoint as attached
from redline.deploy import process as deployer
from redline.deploy.server_metrics import difference, read_counters
from redline.errors import DeployError
from redline.load.client import LoadPlan
from redline.load.worker import LoadWorker, Window, load_worker
from redline.model import (
    Arm,
    Calibration,
    Endpoint,
    Recipe,
    Repeat,
    RunnerClass,
    RunnerFingerprint,
    Scenario,
    SystemUnderTest,
    Trial,
    TrialStatus,
    in_flight_max,
    is_closed_loop,
)
from redline.runner.affinity import pin
from redline.runner.fingerprint import split_cpus, usable_cpu_ids
from redline.runner.telemetry import cpu_shares, read_cpu_times
from redline.store.trials import write_trial

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ArmSetup:
    """One side as it will be deployed; `build` is None when the server is somebody else's."""

    arm: Arm
    sut: SystemUnderTest
    build: InstalledBuild | None


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that stays the same for the trials of one round."""

    run_id: str
    pair_index: int
    arms: tuple[ArmSetup, ...]
    recipe: Recipe
    scenarios: tuple[Scenario, ...]
    works: Mapping[str, Work]
    scenario_hashes: Mapping[str, str]
    runner_class: RunnerClass
    fingerprint: RunnerFingerprint
    model_paths: Mapping[Arm, str]
    workspace: Workspace
    log_dir: Path
    calibration: Calibration | None = None
    driver: Driver = "native"
    run_code: bool = False
    on_trial: Callable[[Trial], None] = lambda _: None


@dataclass(slots=True)
class _Bench:
    """A live deployment of one arm with what has been measured on it so far."""

    setup: ArmSetup
    endpoint: Endpoint
    server: deployer.ServerProcess | None
    trial_id: str = ""
    started_at: str = ""
    repeats: list[Repeat] = field(default_factory=list)
    figures: Mapping[str, float] = field(default_factory=dict)
    retries_left: int = 0
    api_key: str | None = field(default=None, repr=False)


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
    with _deployed(round_, group, narrator) as benches, load_worker(_client_cpus(benches)) as worker:
        yield lambda scenario: _measure_scenario(_prepared(round_, scenario), scenario, benches, worker, narrator)


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


def _client_cpus(benches: Sequence[_Bench]) -> tuple[int, ...]:
    """The client's own CPU where the server is ours and pinned to the others."""
    ours = all(bench.server is not None for bench in benches)
    return split_cpus(usable_cpu_ids())[1] if ours else ()


@contextmanager
def _deployed(round_: Round, group: Sequence[ArmSetup], narrator: Narrator) -> Iterator[list[_Bench]]:
    """Fresh servers of a group of arms, started together, ready and pinned away from the client."""
    names = " and ".join(setup.arm.value for setup in group) if len(group) > 1 else group[0].sut.label
    resident = len(group)
    expected_s = START_EXPECTED_S * (1.25 if resident == 2 else 1)
    with ExitStack() as stack:
        with narrator.doing(f"starting {round_.recipe.name}: {names}", expected_s):
            _make_stand_in(round_, group, narrator)
            servers = [(setup, _launch(round_, setup, stack, narrator)) for setup in group]
            benches = [_ready(round_, setup, server) for setup, server in servers]
        yield benches


def _make_stand_in(round_: Round, group: Sequence[ArmSetup], narrator: Narrator) -> None:
    """The tiny model that the recipe stands for, once on this machine; both arms serve the same one."""
    python = next((setup.build.python for setup in group if setup.build is not None), None)
    if round_.recipe.stand_in and python is not None:
        narrator.detail(f"stand-in model {round_.recipe.stand_in}: made now unless it was made before")
        stand_ins.make(round_.workspace, round_.recipe, python)


def _launch(round_: Round, setup: ArmSetup, stack: ExitStack, narrator: Narrator) -> deployer.ServerProcess | None:
    if setup.build is None:
        return None
    name = f"{round_.recipe.name}-{round_.pair_index:02d}-{setup.arm.value}.log"
    lock = round_.workspace.extras(round_.recipe).get(setup.sut.pin.platform)
    python = setup.build.python
    if lock:
        state_dir = round_.workspace.state_dir
        python = with_extras(setup.build, lock, state_dir=state_dir, on_line=narrator.detail)
    return stack.enter_context(
        deployer.launch(
            python=python,
            recipe=round_.recipe,
            platform=setup.sut.pin.platform,
            extra_args=setup.sut.extra_args,
            model=round_.model_paths[setup.arm],
            state_dir=round_.workspace.state_dir,
            log_path=round_.log_dir / name,
            distribution=setup.sut.pin.distribution,
            installed_version=setup.build.installed_version,
            on_progress=narrator.detail,
        )
    )


def _ready(round_: Round, setup: ArmSetup, server: deployer.ServerProcess | None) -> _Bench:
    if server is None:
        key = api_key()
        replicas = [
            attached.attach(
                url, served_model_name=round_.recipe.served_model_name, serves=round_.recipe.serves, api_key=key
            )
            for url in (setup.sut.pin.url or "").split(",")
        ]
        others = tuple(replica.base_url for replica in replicas[1:])
        return _Bench(setup, replace(replicas[0], replica_urls=others), None, api_key=key)
    endpoint = server.wait_ready()
    server_cpus, _ = split_cpus(usable_cpu_ids())
    if server_cpus:
        pin(server.pids(), server_cpus)
    return _Bench(setup, replace(endpoint, cpu_ids=server_cpus), server)


def _measure_scenario(
    round_: Round, scenario: Scenario, benches: Sequence[_Bench], worker: LoadWorker, narrator: Narrator
) -> list[Trial]:
    """One trial of this scenario on each bench. An interruption writes what there is as partial trials."""
    for bench in benches:
        bench.trial_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        bench.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        bench.repeats = []
        bench.figures = {}
        bench.retries_left = round_.runner_class.retry_count_max
    expected_s = expected_scenario_s(round_.recipe, scenario) * len(benches)
    try:
        with narrator.doing(f"measuring {scenario.name}, round {round_.pair_index + 1}", expected_s):
            for window in range(scenario.discard_count + scenario.repeat_count):
                for bench in turn(benches, window):
                    _measure_window(round_, scenario, window, bench, benches, worker, narrator)
    except BaseException as error:
        for bench in benches:
            if bench.repeats:
                partial = _trial(round_, scenario, bench)
                detail = f"interrupted: {type(error).__name__}"
                _keep(round_, replace(partial, status=TrialStatus.PARTIAL, detail=detail))
        raise
    trials = [_trial(round_, scenario, bench) for bench in benches]
    for trial in trials:
        _keep(round_, trial)
    return trials


def _keep(round_: Round, trial: Trial) -> None:
    write_trial(round_.workspace.trials_dir, trial)
    round_.on_trial(trial)


def _measure_window(
    round_: Round,
    scenario: Scenario,
    window: int,
    bench: _Bench,
    benches: Sequence[_Bench],
    worker: LoadWorker,
    narrator: Narrator,
) -> None:
    """One window on one bench; one that a rule drops is measured again while retries are left."""
    while True:
        repeat = _one_repeat(
            round_, scenario, window, bench, worker, idle=[other for other in benches if other is not bench]
        )
        bench.repeats.append(repeat)
        if window < scenario.discard_count or not repeat.drop_reason or bench.retries_left == 0:
            return
        bench.retries_left -= 1
        narrator.detail(f"{repeat.drop_reason}: measuring again ({bench.retries_left} retries left)")


def _one_repeat(
    round_: Round, scenario: Scenario, window: int, bench: _Bench, worker: LoadWorker, idle: Sequence[_Bench]
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
        continuous_usage=bench.server is None,  # not every server that answers returns token ids
    )
    own_pids = [worker.pid, *(pid for each in (bench, *idle) if each.server for pid in each.server.pids())]
    counters_before = _counters(bench)
    times_before = read_cpu_times(own_pids)
    measured, own_cpu_s = _driven(round_, work, bench, plan, worker)
    shares = cpu_shares(times_before, read_cpu_times(own_pids), own_cpu_s=own_cpu_s)
    ours = bench.server is not None
    records = measured.records
    if work.scorer:
        records, bench.figures = scored(work.scorer, plan.requests, records, run_code=round_.run_code)
    repeat = Repeat(
        index=len(bench.repeats),
        started_at=measured.started_at,
        duration_ns=measured.duration_ns,
        records=records,
        server_counters={},
        foreign_cpu_share=shares.foreign if ours else None,
        steal_share=shares.steal,
        client=measured.client,
        drop_reason=drop_reason_for(
            window, shares.foreign if ours else None, shares.steal, scenario, round_.runner_class
        ),
    )
    try:
        if bench.server is not None:
            bench.server.check_alive()
        counters_after = _counters(bench)
    except DeployError:
        bench.repeats.append(replace(repeat, drop_reason="the server died in or after this window"))
        raise
    return replace(repeat, server_counters=difference(counters_before, counters_after))


def _driven(round_: Round, work: Work, bench: _Bench, plan: LoadPlan, worker: LoadWorker) -> tuple[Window, float]:
    """(the window as it was driven, CPU seconds of ours that no process that is still there has)."""
    match round_.driver:
        case "native":
            return worker.run(plan), 0.0
        case "loadgen":
            log_dir = round_.log_dir / "loadgen" / bench.trial_id / f"{len(bench.repeats):02d}"
            return drive_officially(work, plan, log_dir, worker.cpu_ids)


def _counters(bench: _Bench) -> dict[str, float]:
    """The servers' own counters, added up over replicas."""
    total: dict[str, float] = {}
    for base_url in bench.endpoint.base_urls:
        for name, value in read_counters(base_url, bench.api_key).items():
            total[name] = total.get(name, 0.0) + value
    return total


def _trial(round_: Round, scenario: Scenario, bench: _Bench) -> Trial:
    setup, repeats = bench.setup, tuple(bench.repeats)
    validity = trial_validity(
        scenario,
        repeats,
        pin_version=setup.sut.pin.version,
        reported_version=bench.endpoint.reported_version,
        installed_version=bench.endpoint.installed_version,
        calibration=round_.calibration,
    )
    ok = all(reading.ok for reading in validity)
    return Trial(
        trial_id=bench.trial_id,
        run_id=round_.run_id,
        arm=setup.arm,
        pair_index=round_.pair_index,
        sut=setup.sut,
        scenario=scenario.name,
        scenario_hash=round_.scenario_hashes[scenario.name],
        runner_class=round_.runner_class.name,
        fingerprint=round_.fingerprint,
        started_at=bench.started_at,
        status=TrialStatus.VALID if ok else TrialStatus.INVALID,
        reported_version=bench.endpoint.reported_version,
        start_s=bench.endpoint.start_s,
        repeats=repeats,
        validity=validity,
        detail="" if ok else "; ".join(reading.rule for reading in validity if not reading.ok),
        figures=bench.figures,
    )


def elapsed_s(since_s: float) -> float:
    """Seconds of the monotonic clock since `since_s`."""
    return time.monotonic() - since_s
