"""What `redline health` shows of one series, in words and cells; the same for terminal and page."""

from __future__ import annotations

from checks.health import SuiteHealth, Support
from checks.metric_health import VARIANCE_CONFIDENCE, Margin, MetricHealth
from checks.policy import Policy
from checks.successive import LagOne
from checks.variance_components import Component
from redline.errors import ExitCode
from reports.health import HealthSection, TextTable

UNKNOWN = "-"
EXIT_CODES = {
    Support.SUPPORTED: ExitCode.NO_WORSE,
    Support.NOT_ENOUGH: ExitCode.INCONCLUSIVE,
    Support.NOT_SUPPORTED: ExitCode.INVALID,
}
PAIRING = (
    "D: difference of the logs of a pair; arms: correlation of the two arms of a pair, which share a time. "
    "Pairing takes that share out of the variance of D, against two trials at different times"
)
NOISE = (
    "standard deviations of logs, their 95 % intervals and the df of their mean squares; builds are kept apart",
    "repeat: windows within a deployment; deployment: within a day; a day apart: one trial and one of another day",
    (
        "request: not estimated. The requests of a window share its schedule and its queue: an error taken from "
        "their spread, as if each were drawn by itself, would say nothing true. What they add is part of the repeat"
    ),
    (
        "best repeats: windows a deployment that spend time best on this metric alone, given what the arms of a "
        "pair do not share; - where deployments of a pair do not differ visibly"
    ),
)
ORDER = (
    "lag 1: correlation with the next pair of the round, and where 95 % lie if the order is chance",
    "rounds: how much further apart the arms of whole rounds lie than their pairs explain; 1 is as it should be",
    "two groups: of the days (each build apart) with five trials or more, those whose trials fall into two",
)


def section(found: SuiteHealth, policy: Policy, series: tuple[str, ...], next_step: str) -> HealthSection:
    """One series as it is shown."""
    return HealthSection(
        answer=f"{_answer(found, policy)}: {found.reasons[0]}",
        reasons=found.reasons,
        next_step=next_step,
        series=(*series, _rests_on(found)),
        tables=(_margins(found, policy), _components(found), _order(found)) if found.round_count else (),
        false_alarms=_false_alarms(found, policy) if found.round_count else (),
        warnings=found.warnings,
    )


def _answer(found: SuiteHealth, policy: Policy) -> str:
    return found.support.value if found.support is Support.NOT_ENOUGH else f"{found.support.value} {policy.name}"


def _rests_on(found: SuiteHealth) -> str:
    return ", ".join(
        (
            _count(found.round_count, "A/A round"),
            _count(found.pair_count, "pair"),
            _count(found.day_count, "day"),
            _count(found.system_count, "system"),
        )
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _percent(share: float | None, digits: int = 1) -> str:
    return UNKNOWN if share is None else f"{share * 100:.{digits}f} %"


def _margins(found: SuiteHealth, policy: Policy) -> TextTable:
    bound = f"the {_percent(VARIANCE_CONFIDENCE, 0)} upper bound of D's variance"
    rows = tuple(
        (
            each.scenario,
            each.metric + ("" if each.primary else " (descriptive)"),
            str(each.pair_count),
            str(each.pair_df),
            _percent(each.difference_sd),
            _percent(each.trial_sd),
            UNKNOWN if each.arm_correlation is None else f"{each.arm_correlation:+.2f}",
            _percent(each.margin),
            _percent(each.margin_supported),
            _margin_words(each),
        )
        for each in found.metrics
    )
    return TextTable(
        "Margins",
        ("scenario", "metric", "pairs", "df", "sd of D", "sd of a trial", "arms", "margin", "supported", "answer"),
        rows,
        right=(2, 3, 4, 5, 6, 7, 8),
        notes=(
            f"supported: what {policy.pair_count_max} pairs resolve at {bound}",
            PAIRING,
        ),
    )


def _margin_words(metric: MetricHealth) -> str:
    match metric.answer:
        case Margin.NARROWER:
            return f"could be narrower: {_percent(metric.margin_supported)}"
        case Margin.NOT_SUPPORTED:
            return f"not supported: this machine supports {_percent(metric.margin_supported)}"
        case Margin.SUPPORTED | Margin.OPEN | Margin.UNKNOWN:
            return metric.answer.value


def _components(found: SuiteHealth) -> TextTable:
    rows = tuple(
        (
            each.scenario,
            each.metric,
            *(_component(component) for component in reversed(each.components)),
            f"{_percent(each.day_apart_sd)} ({_percent(each.day_apart_declared)})",
            UNKNOWN if each.repeats is None else str(each.repeats),
        )
        for each in found.metrics
    )
    return TextTable(
        "Where the noise comes from",
        ("scenario", "metric", "repeat", "deployment", "day", "a day apart (declared)", "best repeats"),
        rows,
        notes=NOISE,
    )


def _component(component: Component) -> str:
    if component.variance is None or component.low is None or component.high is None:
        return f"unknown: {component.unknown_because}"
    low, estimate, high = (f"{value**0.5 * 100:.1f}" for value in (component.low, component.variance, component.high))
    return f"{estimate} % ({low} to {high}, df {component.df})"


def _order(found: SuiteHealth) -> TextTable:
    rows = tuple(
        (
            each.scenario,
            each.metric,
            _lag(each.differences),
            _lag(each.levels),
            UNKNOWN if each.drift is None else f"{each.drift.per_step * 100:+.2f} % (p {each.drift.p_two_sided:.3f})",
            UNKNOWN if each.offset is None else f"{each.offset.ratio:.1f} (p {each.offset.p_high:.3f})",
            UNKNOWN if each.offset is None else f"{each.offset.mean * 100:+.2f} %",
            f"{each.group_found_count} of {each.group_count}",
        )
        for each in found.metrics
    )
    return TextTable(
        "Order and shape",
        ("scenario", "metric", "lag 1 of D", "lag 1 of pairs", "drift a pair", "rounds", "mean D", "two groups"),
        rows,
        notes=ORDER,
    )


def _lag(found: LagOne | None) -> str:
    return UNKNOWN if found is None else f"{found.correlation:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _false_alarms(found: SuiteHealth, policy: Policy) -> tuple[str, ...]:
    counted, resampled = found.counted, found.resampled
    lines = [f"the policy grants {_percent(policy.alpha_regressed)} of suites"]
    if counted.low is None or counted.high is None:
        lines.append("counted: no recorded A/A gate can be judged")
    else:
        lines.append(
            f"counted: {counted.alarm_count} of {counted.gate_count} A/A gates regressed (95 % interval "
            f"{_percent(counted.low)} to {_percent(counted.high)}), {counted.passed_count} passed, "
            f"{counted.undecided_count} undecided"
        )
    lines.append(f"to show at most 1 % it takes {counted.needed} A/A gates, none further of them regressed")
    if resampled is None:
        lines.append("resampled: no round has two pairs of every primary metric")
    else:
        lines.append(
            f"resampled: {_percent(resampled.alarm_share)} of {resampled.suite_count} suites made of "
            f"{resampled.pair_count} recorded pairs regressed, {_percent(resampled.passed_share)} passed in "
            f"{resampled.pairs_mean:.1f} pairs on average; a resampling of few pairs knows no more than they do"
        )
    return tuple(lines)
