"""`redline db noise`, second half: what this machine's past rounds say a gate of today should expect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from checks.effects import metric_named, share_from_log
from checks.policy import Policy
from checks.power import detectable_log
from checks.prior import VariancePrior, fit_prior
from flows.machine import fingerprint_of
from flows.plan import identity_of
from flows.query import WAIT_S, table
from flows.workspace import Workspace
from redline.errors import InfrastructureError
from redline.model import RunnerClass, Scenario
from redline.runner.fingerprint import read_fingerprint
from redline.store.history import OwnRounds, PairVariance, own_rounds, pair_variances

COLUMNS = ("runner", "scenario", "metric", "rounds", "df", "CV of a pair %", "supports %", "margin %", "latest x")

NODES_UNKNOWN = "a cluster's nodes are known only once they serve, so a gate there begins without a prior"


@dataclass(frozen=True, slots=True)
class PriorRow:
    """The prior of one metric as a gate would use it now.

    `supported`: the margin (a share) that the policy's `pair_count_max` pairs resolve at the prior's variance.
    `latest`: variance of the latest round over that of the prior of the rounds before it; None for the first round.
    """

    runner_class: str
    scenario: str
    metric: str
    round_count: int
    prior: VariancePrior
    supported: float
    margin: float
    latest: float | None


def lines_of_priors(workspace: Workspace) -> Iterator[str]:
    """The priors of every runner class of the content, on this machine and for the scenarios as they are.

    Raises ContentError for content that cannot be read, and what the database raises.
    """
    fingerprint_id = read_fingerprint().fingerprint_id
    scenarios = _speed_scenarios(workspace)
    yield f"priors that a gate on this machine ({fingerprint_id}) would use now, of the scenarios as they are"
    rows: list[PriorRow] = []
    left_out: list[str] = []
    for runner_class in _runner_classes(workspace):
        recorded = pair_variances(workspace.database_path, runner_class.name, wait_s=WAIT_S)
        if recorded and runner_class.deployer != "host":
            count = len({(row.run_id, row.scenario) for row in recorded})
            left_out.append(f"past rounds of {runner_class.name} left out: {count}, {NODES_UNKNOWN}")
            continue
        measured = {row.scenario for row in recorded}
        hashes = {
            each.name: identity_of(workspace, each.name, runner_class)[1] for each in scenarios if each.name in measured
        }
        try:
            machine_id = fingerprint_of(runner_class).fingerprint_id if recorded else fingerprint_id
        except InfrastructureError as error:
            left_out.append(f"{runner_class.name} is left out: {error.problem}")
            continue
        found = own_rounds(recorded, machine_id, hashes)
        policy = workspace.policy(runner_class.policy)
        rows += prior_rows(runner_class.name, scenarios, policy, found)
        left_out += left_out_lines(found, f"of {runner_class.name}")
    if rows:
        yield from table(COLUMNS, [_cells(row) for row in rows])
        yield "supports: the margin that the policy's most pairs resolve; latest x: variance of the latest round over"
        yield "what the rounds before it led to expect"
    else:
        yield "no history: gates begin with a plain paired t test, which takes more pairs"
        yield "next step: redline health --rounds 5"
    yield from left_out


def prior_rows(
    runner_class: str, scenarios: Sequence[Scenario], policy: Policy, history: OwnRounds
) -> tuple[PriorRow, ...]:
    """One row per metric that has a prior, in the scenarios' order; metrics that the policy does not know have none."""
    rows = []
    for scenario in scenarios:
        for metric in scenario.metrics:
            rounds = history.variances.get((scenario.name, metric), ())
            prior = _fitted(rounds)
            if not prior.known or policy.missing([metric]):
                continue
            supported = share_from_log(
                detectable_log(prior.variance, policy.pair_count_max), metric_named(metric).better
            )
            earlier = _fitted(rounds[:-1])
            rows.append(
                PriorRow(
                    runner_class=runner_class,
                    scenario=scenario.name,
                    metric=metric,
                    round_count=len(rounds),
                    prior=prior,
                    supported=supported,
                    margin=policy.of(metric).margin,
                    latest=rounds[-1].variance / earlier.variance if earlier.known else None,
                )
            )
    return tuple(rows)


def left_out_lines(history: OwnRounds, whose: str) -> tuple[str, ...]:
    """How many past rounds do not count here, and why; nothing if all do."""
    counts = (
        (history.other_machine_count, "another machine measured them"),
        (history.other_version_count, "the scenario has changed since"),
    )
    return tuple(f"past rounds {whose} left out: {count}, {why}" for count, why in counts if count)


def _fitted(rounds: Sequence[PairVariance]) -> VariancePrior:
    return fit_prior((each.variance, each.pair_count - 1.0) for each in rounds)


def _speed_scenarios(workspace: Workspace) -> tuple[Scenario, ...]:
    names = sorted(path.stem for path in (workspace.root / "scenarios").glob("*.toml"))
    found = (workspace.scenario(name) for name in names)
    return tuple(each for each in found if not each.measures_accuracy)


def _runner_classes(workspace: Workspace) -> tuple[RunnerClass, ...]:
    names = sorted(path.stem for path in (workspace.root / "runners").glob("*.toml"))
    return tuple(workspace.runner_class(name) for name in names)


def _cells(row: PriorRow) -> tuple[object, ...]:
    return (
        row.runner_class,
        row.scenario,
        row.metric,
        row.round_count,
        row.prior.df,
        math.sqrt(row.prior.variance) * 100,
        row.supported * 100,
        row.margin * 100,
        row.latest,
    )
