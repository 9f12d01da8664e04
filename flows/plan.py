"""What will be done, checked before anything is started."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.policy import Policy
from flows import code_judge, stand_ins
from flows.bench import ArmSetup, Round
from flows.client_fit import require_room
from flows.durations import expected_round_s
from flows.machine import devices_of, fingerprint_here, fingerprint_of, serves_here
from flows.official import Driver, official_settings
from flows.workload import Work, at_rate, checked_identity, work_of
from flows.workspace import Workspace
from redline.builds.build_spec import EndpointSpec, RecordSpec, parse_spec
from redline.builds.trusted_record import read_trusted_pin
from redline.deploy.routing import router_of
from redline.errors import ContentError, UsageError
from redline.metrics import CATALOGUE
from redline.model import (
    Arm,
    Calibration,
    Device,
    Recipe,
    RunnerClass,
    RunnerFingerprint,
    Scenario,
    Server,
    SystemUnderTest,
    Trial,
)
from redline.runner.fingerprint import memory_bytes, read_fingerprint
from redline.store.calibrations import read_calibration

PREFECT_EXPECTED_S = 12.0
INSTALL_EXPECTED_S = 25.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """One arm as the user asked for it: a build spec or an endpoint, extra server arguments, replaced models."""

    arm: Arm
    spec: str
    extra_args: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()


class Use(enum.StrEnum):
    """What the pairs are for; it decides which form of the policy judges them."""

    GATE = "gate"
    SIGNOFF = "sign-off"

    def policy_of(self, policy: Policy) -> Policy:
        """The policy as this use has it."""
        match self:
            case Use.GATE:
                return policy
            case Use.SIGNOFF:
                return policy.for_signoff()


@dataclass(frozen=True, slots=True)
class Options:
    """What every measuring command is told; `command` repeats it, `program` is how Redline was called.

    `complete`: measure everything even when the verdict is already known; `use`: what is asked, a gate unless it says
    otherwise. `driver`: who says when a request is sent, Redline or MLPerf's own LoadGen. `run_code`: run the programs
    in answers, in a sandbox. `run_file`: where the run's id is put as soon as it has one, whatever becomes of it.
    `in_job`: in a job of GitHub Actions, whose folders no reader has.
    """

    state_dir: Path
    scenarios: tuple[str, ...]
    runner: str
    wait_s: float
    as_json: bool
    quiet: bool
    program: str
    command: str
    complete: bool = False
    use: Use = Use.GATE
    driver: Driver = "native"
    run_code: bool = False
    run_file: Path | None = None
    in_job: bool = False


@dataclass(frozen=True, slots=True)
class SearchShape:
    """How a rate search is done: `window_s` of arrivals per probe, `resolution` of one search as a share."""

    search_count: int
    window_s: float
    resolution: float

    def __post_init__(self) -> None:
        if not (1 <= self.search_count <= 20 and 1 <= self.window_s <= 3600 and 0.005 <= self.resolution <= 1):
            raise UsageError(
                "this search makes no sense",
                expected="1 to 20 searches, windows of 1 to 3600 s, a resolution of 0.005 to 1",
                found=f"{self.search_count} searches, {self.window_s:g} s, {self.resolution:g}",
                next_step="correct --searches, --seconds or --resolution",
            )


@dataclass(frozen=True, slots=True)
class Group:
    """The scenarios that share one recipe, and so one deployment; accuracy never shares one with speed."""

    recipe: Recipe
    scenarios: tuple[Scenario, ...]

    @property
    def measures_accuracy(self) -> bool:
        """True if answers are scored in this group."""
        return self.scenarios[0].measures_accuracy


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is fixed before the first server is started."""

    run_id: str
    workspace: Workspace
    runner_class: RunnerClass
    policy: Policy
    groups: tuple[Group, ...]
    works: Mapping[str, Work]
    scenario_hashes: Mapping[str, str]
    fingerprint: RunnerFingerprint
    calibration: Calibration | None = None
    driver: Driver = "native"
    run_code: bool = False
    devices: tuple[Device, ...] = ()
    memory_bytes_free_min: int = 0

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """All scenarios, in the order in which they are measured."""
        return tuple(scenario for group in self.groups for scenario in group.scenarios)

    def round_of(
        self, group: Group, arms: tuple[ArmSetup, ...], pair_index: int, on_trial: Callable[[Trial], None]
    ) -> Round:
        """One round of a group's scenarios on these arms; `on_trial` gets each trial as soon as it is written."""
        return Round(
            run_id=self.run_id,
            pair_index=pair_index,
            arms=arms,
            recipe=group.recipe,
            scenarios=group.scenarios,
            works=self.works,
            scenario_hashes=self.scenario_hashes,
            runner_class=self.runner_class,
            fingerprint=self.fingerprint,
            model_paths={setup.arm: model_path(self.workspace, setup.sut, group.recipe) for setup in arms},
            workspace=self.workspace,
            log_dir=self.workspace.log_dir(self.run_id),
            calibration=self.calibration,
            driver=self.driver,
            run_code=self.run_code,
            devices=self.devices,
            on_trial=on_trial,
        )

    def expected_s(self, group: Group, arm_count: int) -> float:
        """Seconds one round of a group is expected to take."""
        return expected_round_s(group.recipe, group.scenarios, arm_count, self.runner_class.arms_resident_max)


def make_plan(
    run_id: str, workspace: Workspace, options: Options, wanted: Sequence[Wanted], *, to_start: bool = True
) -> Plan:
    """The plan of one command, with all content read and checked.

    `to_start`: False if it will only be looked at, whatever memory, disk and descriptors there are now; it is for this
    machine with its accelerators if the class's are here.
    Raises UsageError (ContentError for a content file), SandboxError if programs are to be run and cannot be: nothing
    has been started then.
    """
    runner_class = workspace.runner_class(options.runner)
    models = tuple(pair for each in wanted for pair in each.models)
    grouped = groups(workspace, options.scenarios, runner_class, models)
    _check_wanted(wanted)
    serves = serves_here(runner_class, [each.spec for each in wanted])
    devices = devices_of(runner_class) if serves and to_start else ()
    for group in grouped:
        router_of(runner_class, group.scenarios[0].routing)  # refused now rather than after the first installation
    policy = workspace.policy(runner_class.policy)
    _check_policy(grouped, policy)
    for group in grouped:
        for scenario in group.scenarios:
            workspace.baseline(runner_class.name, scenario.name)  # a damaged one is refused before the work
    fingerprint = (fingerprint_of if to_start else fingerprint_here)(runner_class, serves=serves)
    works = {each.name: work_of(workspace, each) for group in grouped for each in group.scenarios}
    if to_start:
        for work in works.values():
            require_room(work)
    if options.driver == "loadgen":
        for work in works.values():
            official_settings(work)
    if options.run_code:
        code_judge.require_runnable(works)
    return Plan(
        run_id=run_id,
        workspace=workspace,
        runner_class=runner_class,
        policy=options.use.policy_of(policy),
        groups=grouped,
        works=works,
        scenario_hashes={
            each.name: code_judge.identity_of(
                checked_identity(works[each.name], group.recipe), works[each.name], is_run=options.run_code
            )
            for group in grouped
            for each in group.scenarios
        },
        fingerprint=fingerprint,
        calibration=read_calibration(workspace.calibrations_dir, read_fingerprint().fingerprint_id),
        driver=options.driver,
        run_code=options.run_code,
        devices=devices,
        memory_bytes_free_min=runner_class.memory_bytes_free_min if serves else 0,
    )


def require_searchable(plan: Plan, wanted: Wanted, shape: SearchShape) -> None:
    """A rate is searched for one server scenario of random prompts, once on an endpoint. Raises UsageError."""
    if shape.search_count > 1 and isinstance(parse_spec(wanted.spec), EndpointSpec):
        raise UsageError(
            "an endpoint is one deployment, however often it is searched",
            expected="one search, which has no interval",
            found=f"{shape.search_count} searches of {wanted.spec}",
            next_step="leave out --searches, or name the build, which is then deployed afresh for each search",
        )
    scenarios = plan.scenarios
    searchable = [each for each in scenarios if isinstance(each.arrivals, Server) and not each.measures_accuracy]
    if len(scenarios) != 1 or not searchable:
        raise UsageError(
            "there is no rate to search",
            expected="one server scenario that measures speed",
            found=", ".join(f"{each.name} ({each.arrivals.kind})" for each in scenarios),
            next_step="name one: redline rate server-short ...",
        )


def identity_of(workspace: Workspace, name: str, runner_class: RunnerClass) -> tuple[Scenario, str]:
    """(scenario, identity) of a scenario as a runner class would measure it. Raises ContentError."""
    (group,) = groups(workspace, (name,), runner_class, ())
    (scenario,) = group.scenarios
    return scenario, checked_identity(work_of(workspace, scenario), group.recipe)


def _check_wanted(wanted: Sequence[Wanted]) -> None:
    """Refuse what cannot be done with an endpoint, and records that are not believed, before anything is resolved.

    Raises UsageError for these and for a malformed spec, ContentError for a damaged record.
    """
    for each in wanted:
        spec = parse_spec(each.spec)
        if isinstance(spec, RecordSpec):
            read_trusted_pin(spec.path)
        if not isinstance(spec, EndpointSpec):
            continue
        if each.arm is not Arm.SINGLE:
            raise UsageError(
                f"the {each.arm.value} of a gate cannot be an endpoint",
                expected="a build that Redline can deploy afresh for every pair: the fresh deployment is the replicate",
                found=each.spec,
                next_step="measure an endpoint with `redline run --endpoint`, or name its build",
            )
        if each.extra_args or each.models:
            raise UsageError(
                "--server-args and --model cannot change a server that is already running",
                expected="--endpoint alone",
                found=f"{each.spec} with {' '.join(each.extra_args) or 'another model'}",
                next_step="leave them out, or measure a build",
            )


def _check_policy(grouped: Sequence[Group], policy: Policy) -> None:
    """Refuse metrics for which the policy states no error rates. Raises ContentError."""
    keys = [(each.name, metric) for group in grouped for each in group.scenarios for metric in each.metrics]
    speed = [key for key in keys if CATALOGUE[key[1]].unit != "1"]
    missing = policy.missing(metric for _, metric in speed)
    try:
        if speed and not missing:
            policy.primaries(speed)
        problem = f"no entry for {', '.join(missing)}" if missing else ""
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ContentError(
            f"policy {policy.name} cannot judge these scenarios",
            expected="an entry for every metric, and 1 to 6 primary ones",
            found=problem,
            next_step=f"add the metric to checks/policies/{policy.name}.toml, or choose other scenarios",
        )


def groups(
    workspace: Workspace, names: Sequence[str], runner_class: RunnerClass, models: Sequence[tuple[str, str]]
) -> tuple[Group, ...]:
    """The scenarios grouped by what serves them, accuracy first: a wrong build is known before its speed is measured.

    Scenarios share a deployment if they share the recipe as it is placed on the runner class. Raises ContentError for
    an unknown scenario or a recipe that cannot be served there, UsageError for a model that replaces no recipe's.
    """
    scenarios = [_rated(workspace, workspace.scenario(name), runner_class) for name in dict.fromkeys(names)]
    recipes = {scenario.recipe: workspace.recipe(scenario.recipe) for scenario in scenarios}
    for recipe in recipes.values():
        _check_recipe(recipe, runner_class)
    for name, _ in models:
        if name not in recipes:
            raise UsageError(
                f"no scenario of this run uses recipe '{name}'",
                expected=f"one of {', '.join(sorted(recipes))}",
                found=f"a model for '{name}'",
                next_step="correct the recipe's name before the '='",
            )
    found: list[tuple[Recipe, list[Scenario]]] = []
    for scenario in scenarios:
        placed = recipes[scenario.recipe].placed(runner_class, scenario)
        shared = next(
            (
                chosen
                for recipe, chosen in found
                if recipe == placed
                and (chosen[0].measures_accuracy, chosen[0].routing) == (scenario.measures_accuracy, scenario.routing)
            ),
            None,
        )
        if shared is None:
            found.append((placed, [scenario]))
        else:
            shared.append(scenario)
    grouped = [Group(recipe, tuple(chosen)) for recipe, chosen in found]
    return tuple(sorted(grouped, key=lambda group: not group.measures_accuracy))


def _rated(workspace: Workspace, scenario: Scenario, runner_class: RunnerClass) -> Scenario:
    """The scenario at the rate of the placement that serves it, sized as LoadGen does; as it is where there is none."""
    placement = workspace.recipe(scenario.recipe).placement_on(runner_class, scenario)
    interactive = scenario.mlperf is not None and scenario.mlperf.interactive
    if placement is None or not placement.rate_per_s or (interactive and placement.arrivals != "interactive"):
        return scenario  # what a placement sustains within the server's limits says nothing about tighter ones
    return at_rate(scenario, placement.rate_per_s)


def _check_recipe(recipe: Recipe, runner_class: RunnerClass) -> None:
    if runner_class.platform not in recipe.server_args:
        raise ContentError(
            f"recipe {recipe.name} does not know platform {runner_class.platform}",
            expected=f"[server_args] with {runner_class.platform}",
            found=", ".join(recipe.server_args),
            next_step=f"add {runner_class.platform} to recipes/{recipe.name}.toml, or choose other scenarios",
        )


def model_path(workspace: Workspace, sut: SystemUnderTest, recipe: Recipe) -> str:
    """The model that a system under test serves for a recipe: replaced, a stand-in, or the recipe's own."""
    replaced = dict(sut.models).get(recipe.name)
    if replaced is None and recipe.stand_in:
        return str(stand_ins.path_of(workspace, recipe))
    return workspace.model_path(replaced or recipe.model)


def check_memory(needed_bytes: int) -> None:
    """Refuse to start where the servers would not fit. Raises UsageError."""
    _, available = memory_bytes()
    if available < needed_bytes:
        raise UsageError(
            "too little free memory to measure",
            expected=f"{needed_bytes / 1e9:.1f} GB available",
            found=f"{available / 1e9:.1f} GB",
            next_step="end other programs, or use a larger machine",
        )
