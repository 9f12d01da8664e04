"""A fresh deployment of each arm of a round: what is ordered, who serves it, and who it says it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows import stand_ins
from flows.durations import START_EXPECTED_S
from flows.machine import fingerprint_of
from flows.official import Driver
from flows.progress import Narrator
from flows.workload import Work
from flows.workspace import Workspace
from redline.access import api_key
from redline.builds.extras import with_extras
from redline.builds.install import InstalledBuild
from redline.deploy.choice import deployer_of
from redline.deploy.deployer import Deployment, Order
from redline.deploy.routing import router_of
from redline.errors import DeployError
from redline.model import (
    Arm,
    BuildKind,
    Calibration,
    ContainerSettings,
    Device,
    Endpoint,
    Recipe,
    Repeat,
    RunnerClass,
    RunnerFingerprint,
    Scenario,
    SystemUnderTest,
    Trial,
)
from redline.runner.fingerprint import split_cpus, usable_cpu_ids


@dataclass(frozen=True, slots=True)
class ArmSetup:
    """One side as it will be deployed; `build`: the installed wheel, None for an image or an endpoint."""

    arm: Arm
    sut: SystemUnderTest
    build: InstalledBuild | None


@dataclass(frozen=True, slots=True)
class Round:
    """Everything that stays the same for the trials of one round; its scenarios share one deployment of each arm."""

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
    devices: tuple[Device, ...] = ()
    on_trial: Callable[[Trial], None] = lambda _: None


@dataclass(slots=True)
class Bench:
    """A live deployment of one arm with what has been measured on it so far.

    `is_routed`: one address stands for several servers, which nobody can ask one by one.
    """

    arm: Arm
    sut: SystemUnderTest
    endpoint: Endpoint
    deployment: Deployment
    fingerprint: RunnerFingerprint
    trial_id: str = ""
    started_at: str = ""
    repeats: list[Repeat] = field(default_factory=list)
    figures: Mapping[str, float] = field(default_factory=dict)
    retries_left: int = 0
    death: DeployError | None = None
    is_routed: bool = False
    api_key: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """True if its processes are on this machine and can be seen: their CPU time is told from others'."""
        return bool(self.endpoint.pids)

    @property
    def is_ours(self) -> bool:
        """True if Redline started it."""
        return self.sut.pin.kind is not BuildKind.ENDPOINT


@contextmanager
def deployed(round_: Round, group: Sequence[ArmSetup], narrator: Narrator) -> Iterator[list[Bench]]:
    """Fresh servers of a group of arms, started together, ready, and kept off the client's CPU.

    Raises DeployError if one does not come up, UsageError for a build that cannot be served on this class.
    """
    names = " and ".join(setup.arm.value for setup in group) if len(group) > 1 else group[0].sut.label
    expected_s = START_EXPECTED_S * (1.25 if len(group) == 2 else 1)
    with ExitStack() as stack:
        with narrator.doing(f"starting {round_.recipe.name}: {names}", expected_s):
            _make_stand_in(round_, group, narrator)
            orders = [(setup, _ordered(round_, setup, narrator)) for setup in group]
            deployments = [(setup, order, _started(round_, order, stack, narrator)) for setup, order in orders]
            benches = [_ready(round_, setup, order, deployment) for setup, order, deployment in deployments]
        yield benches


def order_of(
    workspace: Workspace,
    runner_class: RunnerClass,
    recipe: Recipe,
    setup: ArmSetup,
    scenario: Scenario,
    *,
    run_id: str,
    pair_index: int,
    model: str,
) -> Order:
    """One arm as it is ordered from a deployer, with its router if it has one; its accelerators are not chosen yet.

    `recipe`: as placed. `scenario`: any of the round, for all are routed alike. `model`: a directory or a hub id.
    Raises UsageError as `router_of`.
    """
    router, build = router_of(runner_class, scenario.routing), setup.build
    is_endpoint = setup.sut.pin.kind is BuildKind.ENDPOINT  # what spreads its requests is not ours to state
    return Order(
        name=f"{recipe.name}-{pair_index:02d}-{setup.arm.value}",
        run_id=run_id,
        recipe=recipe,
        sut=replace(setup.sut, router=None if is_endpoint else router),
        model=model,
        state_dir=workspace.state_dir,
        log_dir=workspace.log_dir(run_id),
        python=build.python if build is not None else None,
        installed_version=build.installed_version if build is not None else None,
        container=runner_class.container or ContainerSettings(),
        cluster=runner_class.cluster,
    )


def _ordered(round_: Round, setup: ArmSetup, narrator: Narrator) -> Order:
    """The order of one arm of a round, its extra packages installed."""
    order = order_of(
        round_.workspace,
        round_.runner_class,
        round_.recipe,
        setup,
        round_.scenarios[0],
        run_id=round_.run_id,
        pair_index=round_.pair_index,
        model=round_.model_paths[setup.arm],
    )
    python, lock = order.python, round_.workspace.extras(round_.recipe).get(setup.sut.pin.platform)
    if setup.build is not None and lock:
        python = with_extras(setup.build, lock, state_dir=order.state_dir, on_line=narrator.detail)
    return replace(order, python=python, devices=round_.devices, log_dir=round_.log_dir)


def _make_stand_in(round_: Round, group: Sequence[ArmSetup], narrator: Narrator) -> None:
    """The tiny model that the recipe stands for, once on this machine; both arms serve the same one."""
    python = next((setup.build.python for setup in group if setup.build is not None), None)
    if round_.recipe.stand_in and python is not None:
        narrator.detail(f"stand-in model {round_.recipe.stand_in}: made now unless it was made before")
        stand_ins.make(round_.workspace, round_.recipe, python)


def _started(round_: Round, order: Order, stack: ExitStack, narrator: Narrator) -> Deployment:
    deployer = deployer_of(round_.runner_class, order.sut.pin)
    # Nobody else sees what a cluster waits for, and for how long: in a job's log too, which shows no passing remarks.
    on_progress = narrator.say if round_.runner_class.cluster is not None else narrator.detail
    return stack.enter_context(deployer.deploy(order, on_progress))


def _ready(round_: Round, setup: ArmSetup, order: Order, deployment: Deployment) -> Bench:
    """The bench once every replica answered; local servers are kept on the CPUs that are not the client's."""
    endpoint = deployment.wait_ready()
    server_cpus, _ = split_cpus(usable_cpu_ids())
    if endpoint.pids and server_cpus:
        deployment.confine(server_cpus)
        endpoint = replace(endpoint, cpu_ids=server_cpus)
    is_endpoint = setup.sut.pin.kind is BuildKind.ENDPOINT
    cluster = None if is_endpoint else round_.runner_class.cluster
    return Bench(
        setup.arm,
        order.sut,
        endpoint,
        deployment,
        _fingerprint(round_, endpoint),
        is_routed=cluster is not None and cluster.reach == "router" and order.replica_count > 1,
        api_key=api_key() if is_endpoint else None,
    )


def _fingerprint(round_: Round, endpoint: Endpoint) -> RunnerFingerprint:
    """Read anew for every deployment: a power cap or a driver may change while one waits or measures."""
    here = fingerprint_of(round_.runner_class) if not endpoint.facts else round_.fingerprint
    return fingerprint_with(here, endpoint)


def fingerprint_with(client: RunnerFingerprint, endpoint: Endpoint) -> RunnerFingerprint:
    """What decides comparability where others serve: what is known of the servers, and this machine as the client.

    The client's host name is a note there: where Redline runs in a pod, it is another one every time.
    """
    if not endpoint.facts:
        return replace(client, notes={**client.notes, **endpoint.notes})
    client_facts = {f"client_{name}": value for name, value in client.facts.items()}
    host = {"client_host": client_facts.pop("client_host", "unknown")}
    return RunnerFingerprint(
        facts=client_facts | dict(endpoint.facts), notes={**client.notes, **host, **endpoint.notes}
    )


def client_cpus(benches: Sequence[Bench]) -> tuple[int, ...]:
    """The client's own CPU where the servers are on this machine and kept to the others."""
    return split_cpus(usable_cpu_ids())[1] if all(bench.is_local for bench in benches) else ()
