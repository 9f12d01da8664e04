"""A replay in words: what becomes of findings on the page, in the CSV and in JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from checks.effects import share_from_log
from checks.policy import Policy
from checks.replay import Recording
from checks.replay_gaps import Gap
from checks.replay_gate import ReplayedGate
from checks.replay_nightly import SUSPICIONS, NightFinding, ReplayedSeries, Said
from checks.replay_noise import SEEN_NIGHTS, night_noise, step_seen_log
from flows.replay_words import gap_words, gate_words, night_words
from redline.errors import ExitCode
from redline.metrics import CATALOGUE
from redline.model import Comparison
from reports import phrases
from reports.replay import ReplayPage, ReplayTable

JSON_SCHEMA = 1
MISSING = "missing"
_SEEN_SHARES = (0.5, 0.9)
_TOO_SHORT = "nothing was judged: no series has enough nights"
_SUMMARY_HEAD = (
    "runner",
    "scenario",
    "metric",
    "nights",
    "suspected",
    "confirmed",
    "environment",
    "improved",
    "CV",
    "seen 50 %",
    "seen 90 %",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What was judged, by which policy, and what must be said of it."""

    file: str
    policy: Policy
    past: Recording
    since: str = ""
    release: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A replay as a page, as CSV and as a JSON object, and what the command ends with."""

    page: ReplayPage
    csv_head: tuple[str, ...]
    csv_rows: tuple[tuple[object, ...], ...]
    value: Mapping[str, object]
    exit_code: ExitCode


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series: nights it was suspected on, what came of it, the CV of a night and which steps would be seen.

    `cv`, `seen_50`, `seen_90`: shares; NaN or infinite where there are too few nights.
    """

    runner: str
    scenario: str
    metric: str
    nights: int
    nights_judged: int
    suspected: int
    confirmed: int
    environment: int
    improved: int
    cv: float
    seen_50: float
    seen_90: float


# --- the nightly --------------------------------------------------------------------------------------------


def of_nights(
    judged: Judged,
    findings: Sequence[NightFinding],
    series: Sequence[ReplayedSeries],
    gaps: Sequence[Gap],
    open_: Sequence[NightFinding],
    exit_code: ExitCode,
) -> Shown:
    """The nightly's replay. `open_`: the suspicions that the recording cannot settle."""
    summaries = _summaries(judged.policy, findings, series)
    said = [
        (each.date, each.runner, each.scenario, phrases.metric_label(each.metric), each.said.value, night_words(each))
        for each in findings
    ]
    said += [(each.first, each.runner, each.scenario, _leg(each), MISSING, gap_words(each)) for each in gaps]
    page = ReplayPage(
        title=f"{judged.file}, replayed as the nightly",
        answer=_nights_answer(findings, open_, gaps) if any(each.nights_judged for each in summaries) else _TOO_SHORT,
        facts=(*_facts(judged), *_night_facts(judged, summaries)),
        said=ReplayTable(
            "What the nightly would have said",
            ("night", "runner", "scenario", "metric", "said", "why"),
            tuple(sorted(said, key=lambda row: row[:2])),
            "nothing on any night",
        ),
        summary=ReplayTable(
            "Each series", _SUMMARY_HEAD, tuple(_cells(each) for each in summaries), "none", tuple(range(3, 11))
        ),
        notes=(*judged.notes, *_notes(judged)),
    )
    head = tuple(item.name for item in fields(NightFinding) if item.name != "comparison")
    rows = tuple(
        (*(_plain(getattr(each, name)) for name in head), *_gate_cells(each.comparison), night_words(each))
        for each in findings
    )
    value = {
        **_object(judged, page, "nightly"),
        "findings": [_finite({**asdict(each), "why": night_words(each)}) for each in findings],
        "gaps": [asdict(each) for each in gaps],
        "series": [_finite(asdict(each)) for each in summaries],
        "unsettled": [_finite(asdict(each)) for each in open_],
    }
    return Shown(page, (*head, "gate_finding", "gate_pairs", "gate_effect", "why"), rows, value, exit_code)


def _summaries(
    policy: Policy, findings: Sequence[NightFinding], series: Sequence[ReplayedSeries]
) -> tuple[SeriesSummary, ...]:
    """One per series; those of which something was said come first."""
    counts = Counter((each.key, each.said) for each in findings)
    found = []
    for each in series:
        key, better = each.series.key, CATALOGUE[each.series.metric].better
        noise = night_noise(each.readings, each.changes)
        seen = [step_seen_log(noise, len(each.readings), policy.nightly, share) for share in _SEEN_SHARES]
        shares = [share_from_log(step, better) if step < 20 else math.inf for step in seen]
        found.append(
            SeriesSummary(
                *key,
                nights=len(each.readings),
                nights_judged=max(0, len(each.readings) - policy.nightly.nights_min),
                suspected=sum(counts[key, said] for said in SUSPICIONS),
                confirmed=counts[key, Said.REGRESSED],
                environment=counts[key, Said.ENVIRONMENT],
                improved=counts[key, Said.IMPROVED],
                cv=math.expm1(noise) if noise < 20 else math.nan,
                seen_50=shares[0],
                seen_90=shares[1],
            )
        )
    return tuple(sorted(found, key=lambda one: -(one.suspected + one.improved)))


def _night_facts(judged: Judged, summaries: Sequence[SeriesSummary]) -> tuple[str, ...]:
    nights = sum(each.nights_judged for each in summaries)
    suspected = sum(each.suspected for each in summaries)
    rate = f": {100 * suspected / nights:.2f} in 100" if nights else ""
    first = f"the first {judged.policy.nightly.nights_min} nights of a series are not judged"
    nine_in_ten = "the step that half, and nine in ten, of such series would show"
    return (
        f"{_count(suspected, 'suspicion')} in {nights:,} nights judged over all series{rate}; {first}",
        f"seen: {nine_in_ten} within {SEEN_NIGHTS} nights, as noisy as they are, if their nights are independent",
    )


def _nights_answer(findings: Sequence[NightFinding], open_: Sequence[NightFinding], gaps: Sequence[Gap]) -> str:
    counts = Counter(each.said for each in findings)
    parts = [
        f"{_count(counts[Said.REGRESSED], 'regression')} confirmed",
        f"{_count(len(open_), 'suspicion')} that no recorded gate can settle",
        _count(counts[Said.ENVIRONMENT], "step") + " of the environment",
        f"{_count(counts[Said.IMPROVED], 'improvement')}",
        f"{_count(len(gaps), 'gap')}",
    ]
    return ", ".join(parts)


def _cells(each: SeriesSummary) -> tuple[str, ...]:
    return (
        each.runner,
        each.scenario,
        phrases.metric_label(each.metric),
        f"{each.nights:,}",
        str(each.suspected),
        str(each.confirmed),
        str(each.environment),
        str(each.improved),
        phrases.size(each.cv),
        *(phrases.size(share) if math.isfinite(share) else phrases.UNKNOWN for share in (each.seen_50, each.seen_90)),
    )


def _leg(gap: Gap) -> str:
    return phrases.metric_label(gap.metric) if gap.metric else phrases.UNKNOWN


# --- the gate -----------------------------------------------------------------------------------------------


def of_gates(judged: Judged, gates: Sequence[ReplayedGate], exit_code: ExitCode) -> Shown:
    """The gates' replay."""
    counts = Counter(each.finding for each in gates)
    said = tuple(
        (each.date, each.runner, each.baseline, each.candidate, each.finding.value, gate_words(each)) for each in gates
    )
    metrics = tuple(
        (
            each.date,
            each.runner,
            each.candidate,
            found.scenario,
            phrases.metric_label(found.metric) + ("" if found.primary else ", descriptive"),
            found.finding.value,
            str(found.pair_count),
            phrases.size(found.margin),
            phrases.size(found.effect_detectable),
            phrases.effect(found),
        )
        for each in gates
        for found in each.comparisons
    )
    head = ("night", "runner", "candidate", "scenario", "metric", "finding", "pairs", "margin", "detectable", "effect")
    page = ReplayPage(
        title=f"{judged.file}, replayed as the gate",
        answer=", ".join([_count(len(gates), "gate"), *(f"{number} {kind.value}" for kind, number in counts.items())]),
        facts=_facts(judged),
        said=ReplayTable(
            "What the gate would have said",
            ("night", "runner", "baseline", "candidate", "finding", "why"),
            said,
            "nothing",
        ),
        summary=ReplayTable("Each metric", head, metrics, "none was judged", (6, 7, 8)),
        notes=_notes(judged),
    )
    builds_head = ("date", "runner", "baseline_build", "candidate_build")
    csv_head = (*builds_head, "gate_finding", "gate_pair_count", "pairs_recorded", "pair_limit")
    comparison_head = tuple(item.name for item in fields(Comparison))
    rows = tuple(
        (
            *(each.date, each.runner, each.baseline, each.candidate, each.finding.value),
            *(each.pair_count, each.pairs_recorded, each.pair_limit),
            *(_plain(getattr(found, name)) for name in comparison_head),
        )
        for each in gates
        for found in each.comparisons
    )
    value = {
        **_object(judged, page, "gate"),
        "gates": [_finite({**asdict(each), "why": gate_words(each)}) for each in gates],
    }
    return Shown(page, (*csv_head, *comparison_head), rows, value, exit_code)


# --- both ---------------------------------------------------------------------------------------------------


def _facts(judged: Judged) -> tuple[str, ...]:
    past = judged.past
    dates = sorted({night.date for series in past.series for night in series.nights})
    builds = len({build for builds in past.builds.values() for build in builds})
    series = f"{_count(len(past.series), 'series', 'series')} on {_count(len(past.builds), 'runner')}"
    nights = f"{_count(len(dates), 'night')} from {dates[0]} to {dates[-1]}"
    facts = [f"{series}, {nights}, {_count(builds, 'build')}; policy {judged.policy.name}"]
    if judged.since:
        facts.append(f"nights before {judged.since} are left out: what they would have taught is not known here")
    if judged.release:
        facts.append(f"a slow drift is measured against {judged.release}")
    return tuple(facts)


def _notes(judged: Judged) -> tuple[str, ...]:
    """What a reader must know before believing it."""
    past = judged.past
    reasons: dict[str, list[str]] = {}
    for metric, why in sorted(past.left_out.items()):
        reasons.setdefault(why, []).append(metric)
    notes = [f"left out: {', '.join(metrics)} ({why})" for why, metrics in reasons.items()]
    if past.dropped_count:
        notes.append(f"{_count(past.dropped_count, 'first repeat')} dropped as warm-up")
    several = {
        (series.runner, night.date) for series in past.series for night in series.nights if len(night.builds) > 1
    }
    if several:
        notes.append(
            f"{_count(len(several), 'night')} measured several builds: the nightly takes the newest, that is the one "
            "which its runner measured first at the latest instant"
        )
    mixed = [series for series in past.series if len(series.definitions) > 1]
    for series in mixed[:5]:
        named = "; ".join(each or "as the catalogue has it" for each in series.definitions)
        notes.append(
            f"{series.scenario} {series.metric} on {series.runner} mixes definitions ({named}): "
            "a step where they change may be the tool's"
        )
    if len(mixed) > 5:
        notes.append(f"{len(mixed) - 5} more series mix definitions")
    return tuple(notes)


def _object(judged: Judged, page: ReplayPage, judged_as: str) -> dict[str, object]:
    return {
        "schema": JSON_SCHEMA,
        "judged_as": judged_as,
        "file": judged.file,
        "policy": judged.policy.name,
        "answer": page.answer,
        "facts": list(page.facts),
        "notes": list(page.notes),
        "left_out": dict(judged.past.left_out),
    }


def _gate_cells(found: Comparison | None) -> tuple[object, ...]:
    return ("", "", "") if found is None else (found.finding.value, found.pair_count, found.effect)


def _plain(value: object) -> object:
    """A cell of the CSV."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return "; ".join(map(str, value)) if isinstance(value, tuple) else value


def _finite(value: object) -> object:
    """The same value with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
