"""The tables of a report: model values to aligned Markdown tables, every outside string escaped on the way."""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Sequence

from redline.model import AccuracyComparison, Arm, Comparison, ReplicaReading, Sample, SystemUnderTest, TargetReading
from redline.units import format_value
from reports import phrases
from reports.data import DroppedRepeats, ReportData, ScenarioSection, TrialValidity
from reports.markdown import Safe, code, table, text

BROKEN_ROWS_MAX = 20
EXAMPLES_MAX = 3
_LOCKED_PACKAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])? *(?:==|@)", re.MULTILINE)


def _references(own: Sequence[str], notes: Sequence[str]) -> str:
    """` (1, 3)`: where a row's footnotes stand among all of them; empty for none."""
    numbers = sorted({notes.index(note) + 1 for note in own})
    return f" ({', '.join(map(str, numbers))})" if numbers else ""


def primaries_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, primary ones first, otherwise in their order."""
    return sorted(comparisons, key=lambda comparison: not comparison.primary)


def comparison_table(comparisons: Sequence[Comparison], notes: Sequence[str]) -> Safe:
    """One row per metric: readings, effect with interval, margin, smallest detectable effect, verdict."""
    head = ("metric", "baseline", "candidate", "effect (interval; + is worse)", "margin", "detectable", "verdict")
    rows = [
        (
            phrases.metric_label(found.metric) + ("" if found.primary else ", descriptive"),
            phrases.metric_value(found.metric, found.baseline),
            phrases.metric_value(found.metric, found.candidate),
            phrases.effect(found),
            phrases.size(found.margin),
            phrases.size(found.effect_detectable),
            phrases.finding(found.finding) + _references(phrases.comparison_notes(found), notes),
        )
        for found in primaries_first(comparisons)
    ]
    return table(head, rows, right=(1, 2, 4, 5))


def of_arm(arm: Arm) -> Safe:
    """` of the baseline`; empty where there is one arm."""
    return Safe("" if arm is Arm.SINGLE else f" of the {arm.value}")


def replica_table(readings: Sequence[ReplicaReading]) -> Safe:
    """One row per replica: what it got, answered and produced, and how long that took."""
    head = (
        "replica",
        "accelerators",
        "start",
        "requests",
        "answered",
        "output tokens",
        "TTFT p50 / p99",
        "E2E p50 / p99",
    )
    rows = [
        (
            text(each.replica.name),
            text(", ".join(each.replica.device_uuids) or "none"),
            format_value(each.replica.start_s, "s"),
            str(each.sent_count),
            str(each.ok_count),
            str(each.output_tokens),
            _two_times(each.ttft_s_p50, each.ttft_s_p99),
            _two_times(each.e2e_s_p50, each.e2e_s_p99),
        )
        for each in readings
    ]
    return table(head, rows, right=(2, 3, 4, 5, 6, 7))


def _two_times(first_s: float | None, second_s: float | None) -> str:
    return " / ".join("none" if value is None else format_value(value, "s") for value in (first_s, second_s))


def sample_table(samples: Sequence[Sample]) -> Safe:
    """One row per metric that has readings of the candidate and nothing to compare them with."""
    rows = [
        (
            phrases.metric_label(sample.metric),
            phrases.metric_value(sample.metric, statistics.median(sample.values)),
            phrases.metric_value(sample.metric, min(sample.values)),
            phrases.metric_value(sample.metric, max(sample.values)),
            str(len(sample.values)),
            "not compared",
        )
        for sample in samples
    ]
    head = ("metric", "candidate (median of trials)", "lowest trial", "highest trial", "trials", "verdict")
    return table(head, rows, right=(1, 2, 3, 4))


def accuracy_table(found: AccuracyComparison, notes: Sequence[str]) -> Safe:
    """One row: the score of both arms, the paired change, what flipped, and the rule on the baseline's share."""
    label = phrases.metric_label(found.metric).lower()
    head = (
        "items",
        f"baseline, {label}",
        f"candidate, {label}",
        "change (interval in points; - is worse)",
        "lost",
        "gained",
        "p (worse, one-sided)",
        "kept share of baseline",
        "verdict",
    )
    row = (
        f"{found.item_count:,}",
        phrases.metric_value(found.metric, found.baseline),
        phrases.metric_value(found.metric, found.candidate),
        phrases.change(found),
        str(found.lost_count),
        str(found.gained_count),
        phrases.p_value(found.worse_p),
        phrases.share_rule(found),
        phrases.finding(found.finding) + _references(phrases.accuracy_notes(found), notes),
    )
    return table(head, [row], right=(0, 1, 2, 4, 5, 6))


def targets_table(targets: Sequence[TargetReading]) -> Safe:
    """One row per figure and trial: what was read, and what is needed of the reference."""
    rows = [
        (
            "this build" if each.arm is Arm.SINGLE else each.arm.value,
            each.figure,
            "not reported" if each.value is None else f"{each.value:.6g}",
            f"{each.reference:.7g}",
            f"at least {each.low:.6g}" + (f", at most {each.high:.6g}" if each.high is not None else ""),
            "reached" if each.ok else "NOT REACHED",
            each.source,
        )
        for each in targets
    ]
    head = ("arm", "figure", "read", "reference", "needed", "answer", "whose reference")
    return table(head, rows, right=(2, 3))


def examples_list(found: AccuracyComparison) -> Safe:
    """Up to three items whose answers changed. An example is (item, expected, baseline's, candidate's answer)."""
    return Safe(
        "\n".join(
            f"- {code(item)}: expected {code(expected)}, baseline {code(before)}, candidate {code(after)}"
            for item, expected, before, after in found.examples[:EXAMPLES_MAX]
        )
    )


def statistics_table(comparisons: Sequence[Comparison]) -> Safe:
    """Everything a statistician asks for next, one row per comparison."""
    head = (
        "scenario",
        "metric",
        "pairs",
        "clipped",
        "df",
        "p (two-sided)",
        "noise multiplier",
        "prior df",
        "detectable",
        "method",
    )
    rows = [
        (
            code(found.scenario),
            phrases.metric_label(found.metric),
            str(found.pair_count),
            str(found.clipped_count),
            f"{found.df:.1f}",
            phrases.p_value(found.p_two_sided),
            f"{found.noise_multiplier:.2f}",
            f"{found.prior_df:.1f}",
            phrases.size(found.effect_detectable),
            found.method,
        )
        for found in comparisons
    ]
    return table(head, rows, right=(2, 3, 4, 5, 6, 7, 8))


def broken_table(validity: Sequence[TrialValidity]) -> Safe:
    """The broken rules of all trials, at most `BROKEN_ROWS_MAX` of them."""
    rows = [
        (code(trial.scenario), trial.arm.value, code(trial.trial_id), reading.rule, reading.reading, reading.limit)
        for trial in validity
        for reading in trial.broken
    ]
    shown = table(("scenario", "arm", "trial", "broken rule", "reading", "limit"), rows[:BROKEN_ROWS_MAX])
    rest = len(rows) - BROKEN_ROWS_MAX
    return Safe(f"{shown}\n\nand {rest} more, in the validity readings below." if rest > 0 else shown)


def validity_table(trial: TrialValidity) -> Safe:
    """Every rule of one trial with its reading."""
    rows = [(found.rule, found.reading, found.limit, "kept" if found.ok else "**broken**") for found in trial.readings]
    return table(("rule", "reading", "limit", "result"), [(*row[:3], Safe(row[3])) for row in rows])


def dropped_table(dropped: Sequence[DroppedRepeats]) -> Safe:
    """How many windows were dropped, why, and on which arm: the rule is the same for both."""
    rows = [(code(found.scenario), found.arm.value, found.reason, str(found.count)) for found in dropped]
    return table(("scenario", "arm", "reason", "windows dropped"), rows, right=(3,))


def pins_table(data: ReportData) -> Safe:
    """What was measured, arm by arm: enough to install it again."""
    arms = [(arm, sut) for arm, sut in ((Arm.BASELINE, data.baseline), (Arm.CANDIDATE, data.candidate)) if sut]
    columns = [_pin_cells(sut) for _, sut in arms]
    rows = [(name, *(column[name] for column in columns)) for name in (columns[0] if columns else ())]
    return table(("pin", *(arm.value for arm, _ in arms)), rows)


def _pin_cells(sut: SystemUnderTest) -> dict[str, Safe]:
    pin = sut.pin
    packages = len(_LOCKED_PACKAGE.findall(pin.lock))
    return {
        "build": code(pin.label),
        "asked for as": code(pin.spec) if pin.spec else Safe("-"),
        "kind": Safe(pin.kind.value),
        "platform": code(pin.platform),
        "Python": code(pin.python_version),
        "wheel SHA-256": code(pin.wheel_sha256) if pin.wheel_sha256 else Safe("none"),
        "lock SHA-256": code(hashlib.sha256(pin.lock.encode()).hexdigest()) if pin.lock else Safe("none"),
        "packages in the lock": Safe(packages),
        "source commit": code(pin.commit) if pin.commit else Safe("unknown"),
        "address": code(pin.url) if pin.url else Safe("-"),
        "router": code(sut.router.image) if sut.router is not None else Safe("none"),
        "added server arguments": code(" ".join(sut.extra_args)) if sut.extra_args else Safe("none"),
        "replaced models": text(", ".join(f"{name}={model}" for name, model in sut.models) or "none"),
        "system under test": code(sut.sut_id),
        "can be installed again": Safe("yes" if pin.reinstallable else "no: somebody else started it"),
    }


def machine_table(data: ReportData) -> Safe:
    """The runner's fingerprint: compared facts first, then what is recorded only."""
    rows = [(code(name), code(value), "compared") for name, value in sorted(data.fingerprint.facts.items())]
    rows += [(code(name), code(value), "recorded") for name, value in sorted(data.fingerprint.notes.items())]
    return table(("fact", "value", "use"), rows)


def scenario_table(scenarios: Sequence[ScenarioSection]) -> Safe:
    """The identity of every scenario: equal hashes mean the same requests at the same instants."""
    return table(("scenario", "hash"), [(code(found.name), code(found.scenario_hash)) for found in scenarios])
