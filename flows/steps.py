"""The steps of every flow as Prefect tasks: a few lines each, the work is done below."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import measure
from flows.bench import ArmSetup, Round
from flows.machine import on_class
from flows.plan import INSTALL_EXPECTED_S, Plan, Wanted
from flows.progress import Narrator
from flows.request import Session
from flows.workspace import Workspace
from redline.builds.install import InstalledBuild
from redline.builds.install import install as install_build
from redline.builds.resolve import resolve as resolve_spec
from redline.errors import StoreError
from redline.model import Arm, BuildKind, BuildPin, SystemUnderTest, Trial
from redline.store.database import ingest


@task(cache_policy=NO_CACHE, persist_result=False)
def resolve(wanted: Wanted, plan: Plan, narrator: Narrator) -> SystemUnderTest:
    """The system under test: the spec turned into a pin that anyone can install again."""
    with narrator.doing(f"resolving {wanted.arm.value} build {wanted.spec}", 3.0):
        pin = on_class(
            resolve_spec(wanted.spec, state_dir=plan.workspace.state_dir, on_line=narrator.say), plan.runner_class
        )
    return SystemUnderTest(pin=pin, extra_args=wanted.extra_args, models=wanted.models)


@task(cache_policy=NO_CACHE, persist_result=False)
def install(pin: BuildPin, workspace: Workspace, narrator: Narrator) -> InstalledBuild | None:
    """The build in an environment of its own; None for an endpoint and for an image, which the deployer fetches."""
    if pin.kind in (BuildKind.ENDPOINT, BuildKind.IMAGE):
        return None
    with narrator.doing(f"installing {pin.label} in an environment of its own", INSTALL_EXPECTED_S):
        build = install_build(pin, state_dir=workspace.state_dir, on_line=narrator.detail)
    narrator.say(f"installed {pin.label}" + (" (cached)" if build.cached else f" in {build.seconds:.0f} s"))
    return build


def arm_setup(arm: Arm, sut: SystemUnderTest, workspace: Workspace, narrator: Narrator) -> ArmSetup:
    """One side ready to be deployed: its build installed."""
    return ArmSetup(arm, sut, install(sut.pin, workspace, narrator))


def measure_once(wanted: Wanted, session: Session) -> ArmSetup:
    """Every scenario of the plan once on one build: its trials are in `session.seen`."""
    plan, narrator = session.plan, session.narrator
    narrator.plan(INSTALL_EXPECTED_S + sum(plan.expected_s(group, 1) for group in plan.groups))
    sut = resolve(wanted, plan, narrator)
    session.seen.candidate = sut
    setup = arm_setup(wanted.arm, sut, plan.workspace, narrator)
    for group in plan.groups:
        measure_round(plan.round_of(group, (setup,), 0, session.seen.add), narrator)
    return setup


@task(cache_policy=NO_CACHE, persist_result=False)
def measure_round(round_: Round, narrator: Narrator) -> tuple[Trial, ...]:
    """The trials of one round, written to the store's folder."""
    return measure.measure_round(round_, narrator)


@task(cache_policy=NO_CACHE, persist_result=False)
def ingest_trials(workspace: Workspace, narrator: Narrator) -> None:
    """Bring the database up to date with the trials on disk; what is damaged is named, never dropped."""
    try:
        report = ingest(workspace.trials_dir, workspace.database_path)
    except StoreError as error:
        narrator.say(f"the database was not brought up to date, the trials are kept: {error.problem}")
        return
    for each in report.damaged:
        narrator.say(f"damaged trial left out of the database: {each.path.name}: {each.problem}")
