"""What a scenario will send, made whole before anything is started: its items, their order, due times, its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from flows import stand_ins
from flows.datasets import prepared_of
from flows.workspace import Workspace
from redline.builds.extras import extras_id
from redline.datasets import materialise
from redline.errors import ContentError
from redline.load import loadgen
from redline.load.arrivals import offsets_ns
from redline.load.order import sample_indices
from redline.mlperf import seeds_of
from redline.model import DatasetItems, Item, Offline, Recipe, Request, Scenario, Server, SkillTasks, digest


@dataclass(frozen=True, slots=True)
class Work:
    """A scenario with its requests at hand.

    `items`: one per request, in the order in which they are asked; empty where prompts are generated. `scorer`: whose
    scores its answers get, empty where none are. `sample_indices`: which item of the data set each of them is.
    `extras`: (platform, identity) of the extra packages it is served with.
    """

    scenario: Scenario
    items: tuple[Item, ...] = ()
    sample_indices: tuple[int, ...] = ()
    scorer: str = ""
    extras: tuple[tuple[str, str], ...] = ()

    def requests(self, window: int, salt: str) -> tuple[Request, ...]:
        """The requests of one window, shape (request_count,); the first `discard_count` windows are warm-up."""
        scenario = self.scenario
        warm_up = window < scenario.discard_count
        due_ns = offsets_ns(scenario)
        return materialise.requests(scenario, window, due_ns, salt, warm_up=warm_up, items=self.items)

    def identity(self, recipe: Recipe) -> str:
        """16 hex digits: its requests, due times and windows, and how the model is served.

        Raises ValueError for a scenario that does not fit together.
        """
        scenario = self.scenario
        windows = range(scenario.discard_count + scenario.repeat_count)
        work = materialise.scenario_hash(scenario, [offsets_ns(scenario) for _ in windows], self.items)
        served = [recipe.model, recipe.revision, recipe.context_tokens_max]
        how = [{key: list(value) for key, value in recipe.server_args.items()}, _plain(recipe.environment)]
        made = [stand_ins.version()] if recipe.stand_in else []
        # Another citation is no other work; a rate is in the due times and counts of those that it sizes.
        spread = [asdict(replace(each, source="-", rate_per_s=0.0)) for each in recipe.placements]
        # Scores of two scorers are no pair; the skill tasks have had one for ever.
        scores = [f"scored by {self.scorer}"] if scenario.accuracy is not None else []
        windows_of = [scenario.discard_count, scenario.repeat_count]
        routed = [] if scenario.routing == "even" else [f"routed {scenario.routing}"]
        return digest([work, *windows_of, served, how, *made, *spread, *self.extras, *scores, *routed])


def work_of(workspace: Workspace, scenario: Scenario) -> Work:
    """The scenario with its items.

    Raises ContentError for a data set that is not prepared, is shorter than the scenario needs, or does not fit it.
    """
    if isinstance(scenario.workload, SkillTasks):
        return Work(scenario, scorer="exact-match")
    if not isinstance(scenario.workload, DatasetItems):
        return Work(scenario)
    name, count = scenario.workload.dataset, scenario.workload.item_count
    prepared = prepared_of(workspace, name)
    if count > len(prepared.items):
        raise ContentError(
            f"scenario {scenario.name} asks for more items than data set {name} has",
            expected=f"at most {len(prepared.items)}",
            found=f"workload.item_count = {count}",
            next_step=f"correct scenarios/{scenario.name}.toml",
        )
    indices = _indices(scenario)
    scorer = workspace.dataset(name).scorer if scenario.measures_accuracy else ""
    extras = workspace.extras(workspace.recipe(scenario.recipe))
    locked = tuple((platform, extras_id(lock)) for platform, lock in sorted(extras.items()))
    return Work(scenario, tuple(prepared.items[index] for index in indices), indices, scorer, locked)


def at_rate(scenario: Scenario, rate_per_s: float) -> Scenario:
    """The same scenario at another rate, with as many requests as LoadGen would issue; an offline one only resized.

    A variant that is shorter than MLPerf wants keeps its number of requests. Source: `redline.load.loadgen`.
    """
    rules, workload = scenario.mlperf, scenario.workload
    arrivals = scenario.arrivals
    if isinstance(arrivals, Server):
        scenario = replace(scenario, arrivals=replace(arrivals, rate_per_s=rate_per_s))
    if rules is None or rules.shortened or scenario.accuracy is not None or not isinstance(workload, DatasetItems):
        return scenario
    if isinstance(arrivals, Server):
        seed = seeds_of(scenario).schedule
        count = loadgen.server_query_count(
            rate_per_s, rules.duration_s_min, rules.query_count_min, seed, workload.item_count
        )
    elif isinstance(arrivals, Offline):
        count = loadgen.offline_sample_count(
            rate_per_s, rules.duration_s_min, rules.query_count_min, workload.item_count
        )
    else:
        return scenario
    return replace(scenario, request_count=count)


def checked_identity(work: Work, recipe: Recipe) -> str:
    """The identity of a scenario that fits together and in its window. Raises ContentError if it does not."""
    scenario = work.scenario
    last_s = offsets_ns(scenario)[-1] / 1e9
    if last_s >= scenario.limits.window_s_max:
        raise ContentError(
            f"scenario {scenario.name} does not fit in its window",
            expected=f"the last request due before limits.window_s_max = {scenario.limits.window_s_max:g} s",
            found=f"{scenario.request_count} requests, the last due at {last_s:.1f} s",
            next_step=f"raise window_s_max, or lower request_count, in scenarios/{scenario.name}.toml",
        )
    try:
        return work.identity(recipe)
    except ValueError as error:
        raise _does_not_fit(scenario, error) from error


def _indices(scenario: Scenario) -> tuple[int, ...]:
    try:
        return sample_indices(scenario)
    except ValueError as error:
        raise _does_not_fit(scenario, error) from error


def _does_not_fit(scenario: Scenario, error: ValueError) -> ContentError:
    return ContentError(
        f"scenario {scenario.name} does not fit together",
        expected="as many requests as its workload makes",
        found=str(error),
        next_step=f"correct scenarios/{scenario.name}.toml",
    )


def _plain(environment: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {platform: dict(variables) for platform, variables in environment.items()}
