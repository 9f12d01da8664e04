"""`redline gate --plan`, `redline signoff --plan`: what would be done, how long it takes, what it could see.

Nothing is started: no machine is held, no build resolved or installed, no server deployed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from checks.effects import metric_named
from checks.planning import MetricPlan, Outlook, SuitePlan, plan_suite
from flows import judge
from flows.plan import INSTALL_EXPECTED_S, PREFECT_EXPECTED_S, Plan, Use, Wanted, make_plan
from flows.priors import left_out_lines
from flows.query import table
from flows.request import Answer, GateRequest
from flows.workspace import Workspace, content_root
from redline.errors import ExitCode
from redline.store.history import OwnRounds, own_rounds, pair_variances
from redline.units import format_duration

JSON_SCHEMA = 1
SEED = 20261121
SUITES_MAX = 200  # a share of 95 % is then known to about +-3 points
JUDGEMENTS_MAX = 10_000  # of one metric at one look, each about 0.3 ms: a plan takes seconds in the worst case
OUTLOOK_NAMES = ("equal builds", "at its margin", "at twice its margin")


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """The plan of one command. `suite` is None where no speed is measured; all durations are expectations.

    `install_s`: at most, a build that is installed takes nothing; `accuracy_s`: once; `pair_s`: every pair.
    """

    plan: Plan
    use: Use
    wanted: tuple[Wanted, Wanted]
    suite: SuitePlan | None
    history: OwnRounds
    install_s: float
    accuracy_s: float
    pair_s: float

    def duration_s(self, pair_count: float) -> float:
        """Seconds of the whole command with so many pairs, without windows that are measured again."""
        return PREFECT_EXPECTED_S + self.install_s + self.accuracy_s + pair_count * self.pair_s


def plan_gate(request: GateRequest) -> Answer:
    """The plan of a gate, or of a sign-off by the options' `use`, as text or JSON.

    Raises:
        UsageError: what the command itself would refuse.
        StoreBusyError: another process holds the database.
    """
    found = command_plan(request)
    lines = (as_json(found),) if request.options.as_json else tuple(lines_of(found))
    return Answer(lines, ExitCode.NO_WORSE)


def command_plan(request: GateRequest) -> CommandPlan:
    """What the command would do. Raises as `plan_gate`."""
    options, wanted = request.options, (request.baseline, request.candidate)
    workspace = Workspace(content_root(), options.state_dir)
    plan = make_plan("plan", workspace, options, wanted, to_start=False)
    state = judge.start(plan)
    keys = judge.speed_keys(plan)
    rows = pair_variances(workspace.database_path, plan.runner_class.name) if keys else ()
    history = own_rounds(
        (row for row in rows if row.scenario in plan.scenario_hashes),
        plan.fingerprint.fingerprint_id,
        plan.scenario_hashes,
    )
    counts = {key: len(found) for key, found in history.variances.items()}
    suite = None
    if keys:
        suite_count = _suite_count(len(plan.policy.primaries(keys)), len(plan.policy.looks(state.pair_limit)))
        suite = plan_suite(keys, state.priors, counts, plan.policy, seed=SEED, suite_count=suite_count)
    accuracy = [group for group in plan.groups if group.measures_accuracy]
    speed = [group for group in plan.groups if not group.measures_accuracy]
    return CommandPlan(
        plan=plan,
        use=options.use,
        wanted=wanted,
        suite=suite,
        history=history,
        install_s=INSTALL_EXPECTED_S * len({each.spec for each in wanted}),
        accuracy_s=sum(plan.expected_s(group, 2) for group in accuracy),
        pair_s=sum(plan.expected_s(group, 2) for group in speed),
    )


def _suite_count(primary_count: int, look_count: int) -> int:
    """Suites per outlook: as many as the time for a plan allows if none of them is decided early."""
    return min(SUITES_MAX, JUDGEMENTS_MAX // (len(OUTLOOK_NAMES) * primary_count * look_count))


# --- text ---------------------------------------------------------------------------------------------------


def lines_of(found: CommandPlan) -> Iterator[str]:
    """The plan as lines for people."""
    plan = found.plan
    baseline, candidate = found.wanted
    yield f"plan of a {found.use.value}: nothing is started"
    yield f"candidate {_system(candidate)} against {_system(baseline)}"
    yield (
        f"runner class {plan.runner_class.name}, policy '{plan.policy.name}', "
        f"this machine is {plan.fingerprint.fingerprint_id}"
    )
    if found.suite is not None:
        yield ""
        yield from _metric_lines(found.suite, plan)
        yield ""
        yield from _outlook_lines(found, found.suite)
    yield ""
    yield from _duration_lines(found)
    yield from (f"note: {text}" for text in notes_of(found))
    if found.suite is not None:
        yield from (f"warning: {text}" for text in found.suite.warnings)


def _system(wanted: Wanted) -> str:
    parts = [wanted.spec, *wanted.extra_args, *(f"{recipe}={model}" for recipe, model in wanted.models)]
    return " ".join(parts)


def _metric_lines(suite: SuitePlan, plan: Plan) -> Iterator[str]:
    columns = ["scenario", "primary metric", "margin", "past rounds", "df", "CV of a pair", "resolves"]
    if plan.policy.fixed:
        columns.append("half-width")
    rows = [_metric_row(metric, fixed=plan.policy.fixed) for metric in suite.metrics]
    yield from _rows(columns, rows)
    limit = suite.pair_limit
    when = (
        f"{limit} pairs, judged once" if plan.policy.fixed else f"at most {limit} pairs, judged from {suite.looks[0]}"
    )
    yield f"{when}; resolves: the minimum detectable effect with {limit} pairs"


def _metric_row(metric: MetricPlan, *, fixed: bool) -> tuple[str, ...]:
    half_width = (_percent(metric.half_width),) if fixed else ()
    return (
        metric.scenario,
        metric_named(metric.metric).label,
        _percent(metric.margin),
        str(metric.round_count) if metric.prior_df else "no history",
        f"{metric.prior_df:.1f}" if metric.prior_df else "-",
        _percent(metric.pair_cv),
        _percent(metric.detectable),
        *half_width,
    )


def _outlook_lines(found: CommandPlan, suite: SuitePlan) -> Iterator[str]:
    columns = ("if the candidate is", "no worse", "regressed", "undecided", "pairs", "takes")
    scenario, metric = suite.outlooks[0].key
    rows = []
    for outlook in suite.outlooks:
        rates = outlook.rates
        shares = (f"{share * 100:.0f} %" for share in (rates.passed, rates.regressed, rates.inconclusive))
        takes = format_duration(found.duration_s(rates.pairs_mean))
        rows.append((_outlook_name(outlook), *shares, f"{rates.pairs_mean:.1f}", takes))
    yield from _rows(columns, rows)
    hardest = f"{metric_named(metric).label} of {scenario}"
    count = suite.outlooks[0].rates.suite_count
    points = math.ceil(200 * math.sqrt(0.95 * 0.05 / count))
    yield f"one metric is worse: {hardest}, the hardest to resolve"
    yield f"chances from {count} simulated suites: 95 % is known to +-{points} points"


def _outlook_name(outlook: Outlook) -> str:
    if outlook.margins == 0:
        return "equal to the baseline"
    place = "exactly at the margin" if outlook.margins == 1 else "twice the margin"
    return f"{_percent(outlook.effect)} worse, {place}"


def _duration_lines(found: CommandPlan) -> Iterator[str]:
    parts = [f"{format_duration(PREFECT_EXPECTED_S)} to begin"]
    parts.append(f"{format_duration(found.install_s)} to install (nothing if installed)")
    if found.accuracy_s:
        parts.append(f"{format_duration(found.accuracy_s)} for the answers")
    longest = found.duration_s(0)
    if found.suite is not None:
        parts.append(f"{format_duration(found.pair_s)} a pair")
        longest = found.duration_s(found.suite.pair_limit)
    yield f"expected: {', '.join(parts)}; at most {format_duration(longest)}, without windows measured again"


def notes_of(found: CommandPlan) -> tuple[str, ...]:
    """What a reader must know of the figures: where the noise comes from, what was assumed, what is left out."""
    notes: list[str] = []
    suite, policy = found.suite, found.plan.policy
    if suite is None:
        return ("no speed is measured: there are no pairs to plan",)
    if suite.assumed:
        which = "no metric has" if len(suite.assumed) == len(suite.metrics) else f"{len(suite.assumed)} metrics have no"
        notes.append(
            f"{which} history on this machine, so the noise is unknown; the chances ASSUME that this runner class just "
            f"supports its margins with {suite.pair_limit} pairs. `redline health --rounds 5` measures the noise"
        )
    if len(suite.assumed) < len(suite.metrics):
        notes.append("noise as large as in past rounds of this machine; a noisier day decides less")
    notes.append("metrics are simulated as independent and normal")
    notes += left_out_lines(found.history, "of these scenarios")
    if found.accuracy_s:
        notes.append("answers that are proven worse end it before any speed is measured (unless --complete)")
    if found.accuracy_s:
        share = f"{policy.accuracy.share_min * 100:g} %"
        notes.append(f"answers: the same items on both builds, at least {share} of the accuracy must be kept")
    return tuple(notes)


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    *lines, _ = table(columns, rows)  # without the count of rows
    yield from lines


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share * 100:.1f} %"


# --- JSON ---------------------------------------------------------------------------------------------------


def as_json(found: CommandPlan) -> str:
    """The plan as one JSON object; shares as shares, durations in seconds, null for what nobody knows.

    Keys: `schema`, `use`, `baseline`, `candidate`, `runner_class`, `policy`, `fingerprint_id`, `scenarios`,
    `pair_count_max`, `looks`, `metrics`, `noise_assumed` (metrics without history), `outlooks`, `install_s`,
    `accuracy_s`, `pair_s`, `duration_s_max`, `notes`, `warnings`.
    """
    plan, suite = found.plan, found.suite
    value = {
        "schema": JSON_SCHEMA,
        "use": found.use.value,
        "baseline": _system(found.wanted[0]),
        "candidate": _system(found.wanted[1]),
        "runner_class": plan.runner_class.name,
        "policy": plan.policy.name,
        "fingerprint_id": plan.fingerprint.fingerprint_id,
        "scenarios": [scenario.name for scenario in plan.scenarios],
        "pair_count_max": suite.pair_limit if suite else 0,
        "looks": list(suite.looks) if suite else [],
        "metrics": [_metric_json(metric) for metric in suite.metrics] if suite else [],
        "noise_assumed": [list(key) for key in suite.assumed] if suite else [],
        "outlooks": [_outlook_json(found, outlook) for outlook in suite.outlooks] if suite else [],
        "install_s": found.install_s,
        "accuracy_s": found.accuracy_s,
        "pair_s": found.pair_s,
        "duration_s_max": found.duration_s(suite.pair_limit if suite else 0),
        "notes": list(notes_of(found)),
        "warnings": list(suite.warnings) if suite else [],
    }
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def _metric_json(metric: MetricPlan) -> dict[str, object]:
    return {
        "scenario": metric.scenario,
        "metric": metric.metric,
        "margin": metric.margin,
        "round_count": metric.round_count,
        "prior_df": metric.prior_df,
        "pair_cv": metric.pair_cv,
        "effect_detectable": metric.detectable,
        "half_width": metric.half_width,
    }


def _outlook_json(found: CommandPlan, outlook: Outlook) -> dict[str, object]:
    rates = outlook.rates
    return {
        "case": OUTLOOK_NAMES[outlook.margins],
        "scenario": outlook.key[0],
        "metric": outlook.key[1],
        "effect": outlook.effect,
        "suite_count": rates.suite_count,
        "no_worse": rates.passed,
        "regressed": rates.regressed,
        "inconclusive": rates.inconclusive,
        "pairs_mean": rates.pairs_mean,
        "pairs_max": rates.pairs_max,
        "duration_s_mean": found.duration_s(rates.pairs_mean),
    }
