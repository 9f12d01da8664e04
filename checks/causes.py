"""Why the nights say what they say: findings of every runner class, gathered by what lies behind them. Pure.

    build          a confirmed regression, by its first bad build, whatever metric, scenario or runner class shows it;
                   one whose builds lie around those of a single other one is of that one (`checks.culprits`);
                   a slow drift names no build: by runner class and scenario
    environment    a step that no build explains, by runner class and first night; a drift by class and scenario
    answers        answers or targets lost, by the first bad build if the night before tells it, else by class and
                   scenario
    unsettled      a suspicion that no gate has settled, by runner class and scenario
    missing        nights and readings that were due, by runner class and the date from which they are missing

A cause stands until a night that measured it again does not say it, or its level is accepted. Improvements and
accepted levels are no causes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checks.cause_tracks import BUILD, Track, followed, only_accepts
from checks.culprits import narrowed, width_of
from checks.effects import share_from_log
from checks.missing_nights import NEVER, missing_tracks
from checks.night_series import SETTLED_SUFFIX, whole
from redline.metrics import CATALOGUE
from redline.model import Cause, CauseKind, Night, Symptom, digest

LOG_MAX = 20.0
"""No level moves further (oriented log): what a record says beyond it is not put in words."""

_ORDER = tuple(CauseKind)


def finished(recorded: Sequence[Night]) -> tuple[Night, ...]:
    """The whole nights of a record, those left out that were cut short: what such a night did not say, nobody knows."""
    run_ids = {each.run_id for each in recorded}
    return tuple(each for each in whole(recorded) if only_accepts(each) or each.run_id + SETTLED_SUFFIX in run_ids)


def causes_of(nights: Mapping[str, Sequence[Night]], expected: Sequence[str], date: str) -> tuple[Cause, ...]:
    """Every cause on record until the night of `date`: those that stand first, each part the newest first.

    `nights`: per runner class, oldest first, whole (`finished`); `expected`: runner classes that should have a night
    of `date` (YYYY-MM-DD). Nights after it are not looked at.
    """
    tracks: list[Track] = []
    for runner_class in dict.fromkeys((*nights, *expected)):
        until = [night for night in nights.get(runner_class, ()) if night.date <= date]
        tracks += followed(runner_class, until)
        tracks += missing_tracks(runner_class, until, due=runner_class in expected, day=date)
    groups: dict[tuple[str, ...], list[Track]] = {}
    for cause, track in zip(narrowed(tracks), tracks, strict=True):
        groups.setdefault(cause, []).append(track)
    found = sorted(
        (_cause(cause, group) for cause, group in groups.items()),
        key=lambda cause: (_ORDER.index(cause.kind), cause.title),
    )
    found.sort(key=lambda cause: cause.since, reverse=True)
    return tuple(sorted(found, key=lambda cause: not cause.standing))


def _cause(cause: tuple[str, ...], tracks: Sequence[Track]) -> Cause:
    """The cause behind tracks that share one: symptoms newest first, builds of the narrowest range among them."""
    first = tracks[0]
    ranked = sorted(tracks, key=lambda track: (track.runner_class, track.key))
    ranked.sort(key=lambda track: track.since, reverse=True)
    known = min((track for track in tracks if track.build_bad), key=width_of, default=first)
    named = first.kind in (CauseKind.BUILD, CauseKind.ANSWERS)
    return Cause(
        cause_id=digest(list(cause)),
        kind=first.kind,
        title=_title(first.kind, tracks, known.build_bad),
        build_good=known.build_good if named else "",
        build_bad=known.build_bad if named else "",
        symptoms=tuple(
            Symptom(track.runner_class, track.since, track.last, track.finding, track.ended) for track in ranked
        ),
        standing=any(not track.ended for track in tracks),
    )


def _title(kind: CauseKind, tracks: Sequence[Track], build_bad: str) -> str:
    """One line for people: who, then the worst of what is wrong, then how much more there is."""
    standing = [track for track in tracks if not track.ended] or list(tracks)
    worst = max(standing, key=lambda track: (track.size, not track.finding.scenario))
    return _about(kind, worst, build_bad) + (f", and {len(standing) - 1} more" if len(standing) > 1 else "")


def _about(kind: CauseKind, worst: Track, build_bad: str) -> str:
    who, where = worst.runner_class, worst.finding.scenario
    match kind:
        case CauseKind.BUILD:
            return f"{build_bad if worst.cause[0] == BUILD else who}: {_worse(worst)}"
        case CauseKind.ENVIRONMENT:
            return f"{who}, not the build: {_worse(worst)}"
        case CauseKind.ANSWERS:
            return f"{worst.build_bad or who}: answers lost in {where}"
        case CauseKind.UNSETTLED:
            return f"{who}, not settled: {_label(worst)} in {where}"
        case CauseKind.MISSING:
            absent = "on record" if worst.cause[-1] == NEVER else f"from {worst.since} on"
            return f"{who}: no reading of {_label(worst)} in {where}" if where else f"{who}: no finished night {absent}"


def _worse(track: Track) -> str:
    """`Output throughput in offline 5.1 % worse`; without the figure where nobody measured it."""
    words = f"{_label(track)} in {track.finding.scenario}"
    metric = CATALOGUE.get(track.finding.metric)
    if metric is None or not 0 < track.size < LOG_MAX:
        return f"{words} worse"
    return f"{words} {share_from_log(track.size, metric.better) * 100:.1f} % worse"


def _label(track: Track) -> str:
    metric = CATALOGUE.get(track.finding.metric)
    return metric.label if metric is not None else (track.finding.metric or "the answers")
