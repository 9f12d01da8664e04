"""`redline scenarios`: what there is, and what one of them would run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flows.plan import groups
from flows.workload import checked_identity, work_of
from flows.workspace import Workspace, content_root
from redline import content
from redline.errors import ContentError, UsageError
from redline.mlperf import ROUND_SEEDS
from redline.model import AccuracyTarget, DatasetItems, MlperfRules, Recipe, Scenario


def describe(names: Sequence[str], state_dir: Path, runner: str = "") -> Iterator[str]:
    """Every scenario in a line, or one of them in full; as a runner class would measure it, if one is named.

    Raises ContentError for an unknown one, UsageError for two.
    """
    workspace = Workspace(content_root(), state_dir)
    chosen = [name for name in names if name != "show" or len(names) == 1]
    if len(chosen) > 1:
        raise UsageError(
            "one scenario at a time",
            expected="redline scenarios NAME",
            found=" ".join(names),
            next_step="name one of them; without a name all are listed",
        )
    if not chosen:
        yield from _every(workspace)
        return
    scenario = workspace.scenario(chosen[0])
    recipe = workspace.recipe(scenario.recipe)
    if runner:
        (group,) = groups(workspace, chosen, workspace.runner_class(runner), ())
        recipe, (scenario,) = group.recipe, group.scenarios
    yield f"{scenario.name}: {scenario.description}"
    # Without a runner class: as every class serves it that has no placement of its own.
    yield f"  hash {_identity(workspace, scenario, recipe if runner else replace(recipe, placements=()))}"
    yield f"  {scenario.arrivals}"
    yield f"  {scenario.workload}"
    windows = f"{scenario.discard_count} + {scenario.repeat_count} windows"
    yield f"  {scenario.request_count} requests, {windows}, seed {scenario.seed}"
    yield f"  judged by {', '.join(scenario.metrics)}"
    yield from _data_set(workspace, scenario)
    yield from _target(scenario.accuracy)
    yield from _rules(scenario.mlperf)
    yield from _served(recipe)


def _every(workspace: Workspace) -> Iterator[str]:
    for path in sorted((workspace.root / "scenarios").glob("*.toml")):
        yield f"{path.stem}: {content.scenario(path).description}"
    for suite in workspace.suites():
        yield f"suite {suite.name}: {suite.description}"
        yield f"  {', '.join(suite.scenarios)}"


def _identity(workspace: Workspace, scenario: Scenario, recipe: Recipe) -> str:
    """The hash, or why there is none yet."""
    try:
        return checked_identity(work_of(workspace, scenario), recipe)
    except ContentError as error:
        return f"not known yet: {error.problem}; {error.next_step}"


def _data_set(workspace: Workspace, scenario: Scenario) -> Iterator[str]:
    if isinstance(scenario.workload, DatasetItems):
        found = workspace.dataset(scenario.workload.dataset)
        yield f"  data set {found.name}: {found.item_count} items, scored by {found.scorer}; {found.licence}"


def _target(target: AccuracyTarget | None) -> Iterator[str]:
    if target is None:
        return
    yield f"  answers must reach ({target.source}):"
    for figure, reference in target.reference.items():
        share_max = target.share_max_of.get(figure)
        high = f" to {share_max * 100:g} %" if share_max is not None else ""
        yield f"    {figure}: {target.share_min_of.get(figure, target.share_min) * 100:g} %{high} of {reference:g}"


def _rules(rules: MlperfRules | None) -> Iterator[str]:
    if rules is None:
        return
    seeds = ROUND_SEEDS[rules.round]
    yield f"  MLPerf-style, not verified by MLCommons: {rules.benchmark}, round {rules.round}, in {rules.unit}"
    yield f"    seeds: qsl {seeds.qsl}, sample_index {seeds.sample_index}, schedule {seeds.schedule}"
    yield (
        f"    at least {rules.duration_s_min:g} s and {rules.query_count_min} queries, "
        f"{rules.sample_count} samples at hand"
    )
    limits = {"TTFT": rules.ttft_s_p99_max, "TPOT": rules.tpot_s_p99_max, "E2E": rules.e2e_s_p99_max}
    shown = ", ".join(f"{name} at most {limit:g} s" for name, limit in limits.items() if limit is not None)
    if shown:
        yield f"    p99 {shown}"
    if rules.shortened:
        yield f"    shorter than MLPerf demands: {rules.shortened}"
    for deviation in rules.deviations:
        yield f"    deviation: {deviation}"


def _served(recipe: Recipe) -> Iterator[str]:
    yield f"  recipe {recipe.name}: {recipe.description}"
    yield f"    model {recipe.model}, revision {recipe.revision}"
    for platform, server_args in recipe.server_args.items():
        variables = recipe.environment.get(platform, {})
        yield f"    {platform}: {_started(variables, recipe.model, '', server_args)}"
    for each in recipe.placements:
        kind = f", {each.arrivals}" if each.arrivals else ""
        yield f"    {each.accelerator}{kind}: {each.replicas} x TP{each.tensor_parallel} ({each.source})"
        rate = f" at {each.rate_per_s:g} requests/s" if each.rate_per_s else ""
        yield f"      {_started(each.environment, each.model, each.revision, each.server_args)}{rate}"


def _started(variables: Mapping[str, str], model: str, revision: str, server_args: Sequence[str]) -> str:
    """`NAME=value --model M --revision R --flag value`: what is set, in the order of a command line."""
    words = [f"{name}={value}" for name, value in variables.items()]
    words += ["--model", model] if model else []
    words += ["--revision", revision] if model and revision else []
    return shlex.join([*words, *server_args])
