"""What the nights of one runner class said, followed from night to night until it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from checks.gate import Key
from checks.nightly import Outcome
from redline.model import COMMIT_IN_VERSION, CauseKind, LevelKind, Night, NightChange, NightFinding

BUILD = "build"
"""Begins what identifies a cause that is one build, in every runner class."""

UNEXPLAINED = "unexplained"
"""Begins what identifies a step that is too small to say whose it is."""

TAKEN = "taken into the level, unexplained"
"""How a step ends that was too small to say whose it is, when the next night does not suspect it any more."""

_SETTLED = {each.value for each in Outcome} - {Outcome.OPEN.value}
_OF_LEVELS = (CauseKind.BUILD, CauseKind.ENVIRONMENT, CauseKind.UNSETTLED)


@dataclass(slots=True)
class Track:
    """One finding of one runner class, from the first night that said it to the last.

    `cause`: what identifies the cause behind it; `series`: (series id, scenario hash), the hash empty for answers,
    which no reading is kept of; `size`: how much worse (oriented log), 0 where nobody measured it; `left`: what of an
    environment step has not been given back; `ended`: how it ended, empty while it stands; `began`: the first night of
    all, where `since` is that of its last return.
    """

    cause: tuple[str, ...]
    kind: CauseKind
    runner_class: str
    series: tuple[str, str]
    finding: NightFinding
    since: str
    last: str
    build_good: str = ""
    build_bad: str = ""
    size: float = 0.0
    left: float = 0.0
    ended: str = ""
    began: str = ""

    def __post_init__(self) -> None:
        self.began = self.began or self.since

    @property
    def key(self) -> Key:
        """(scenario, metric)."""
        return self.finding.scenario, self.finding.metric


def build_key(label: str) -> str:
    """What is the same build on every platform: its commit, else its version, of an image its digest too."""
    words = label.split()
    if len(words) < 2:
        return label
    commit = COMMIT_IN_VERSION.search(words[1])
    if commit is not None:
        return f"commit {commit['commit'][:7]}"
    digest = words[2:4] if words[2:3] == ["image"] else []
    return " ".join([words[1].partition("+")[0], *digest])


def followed(runner_class: str, nights: Iterable[Night]) -> tuple[Track, ...]:
    """Everything that these nights, oldest first, blamed on something, in order of appearance."""
    history = _History(runner_class)
    for night in nights:
        history.take(night)
    return tuple(history.tracks.values())


def only_accepts(night: Night) -> bool:
    """True for the record of an acceptance: nothing was measured."""
    return not night.readings and not night.trial_ids


@dataclass(slots=True)
class _History:
    """The nights taken so far, and what they said."""

    runner_class: str
    tracks: dict[tuple[tuple[str, ...], str, str], Track] = field(default_factory=dict)
    nights: list[Night] = field(default_factory=list)
    better: dict[Key, tuple[str, str]] = field(default_factory=dict)  # (date, words) of the last improvement

    def take(self, night: Night) -> None:
        """Follow one more night."""
        if only_accepts(night):
            self._accept(night)
        else:
            said: list[Track] = []
            for finding in night.findings:
                said += self._said(night, finding)
            self._give_back(night)
            self._refute(night, said)
        self.nights.append(night)

    def _said(self, night: Night, finding: NightFinding) -> tuple[Track, ...]:
        """The tracks that a finding begins or goes on with."""
        match finding.kind:
            case Outcome.REGRESSED.value:
                return (self._regressed(night, finding),)
            case "owed":
                return self._owed(night, finding)
            case Outcome.ENVIRONMENT.value:
                return (self._environment(night, finding),)
            case Outcome.OPEN.value:
                of_scenario = ("unsettled", self.runner_class, finding.scenario)
                return (self._begin(of_scenario, CauseKind.UNSETTLED, night, finding),)
            case Outcome.UNEXPLAINED.value:
                of_step = (UNEXPLAINED, self.runner_class, finding.scenario, finding.first_run_id or night.run_id)
                return (self._begin(of_step, CauseKind.UNSETTLED, night, finding),)
            case "accuracy" | "target":
                return (self._answers(night, finding),)
            case _:
                return ()

    def _begin(self, cause: tuple[str, ...], kind: CauseKind, night: Night, finding: NightFinding) -> Track:
        """The track of a finding, begun tonight or gone on with; one that had ended begins again."""
        change = _change_of(night, finding)
        size = change.size if change is not None else 0.0
        read = _read(night).get((finding.scenario, finding.metric), "")
        place = (cause, finding.scenario, finding.metric)
        track = self.tracks.get(place)
        if track is None:
            track = Track(cause, kind, self.runner_class, (night.series_id, read), finding, night.date, night.date)
            self.tracks[place] = track
        elif track.ended:
            track.since = night.date
        track.series, track.finding, track.last, track.ended = (night.series_id, read), finding, night.date, ""
        track.build_good, track.build_bad = finding.build_good, finding.build_bad
        track.size = track.left = size
        return track

    def _regressed(self, night: Night, finding: NightFinding) -> Track:
        """A confirmed regression, by its first bad build; a drift, which has none, by class and scenario."""
        change = _change_of(night, finding)
        if change is not None and change.kind is LevelKind.DRIFT:
            cause: tuple[str, ...] = ("drift", self.runner_class, finding.scenario)
        else:
            bad = next((each for each in (*self.nights, night) if each.run_id == finding.first_run_id), None)
            identity = self._identity(finding.build_good, finding.build_bad, bad or night)
            cause = (BUILD, *identity)
        return self._begin(cause, CauseKind.BUILD, night, finding)

    @staticmethod
    def _identity(good: str, bad: str, first: Night) -> tuple[str, ...]:
        """The first bad build on every platform; its own id too where its name does not tell it from the good one."""
        key = build_key(bad)
        return (key,) if bad and key != build_key(good) else (key, first.sut_id)

    def _owed(self, night: Night, finding: NightFinding) -> tuple[Track, ...]:
        """The regressions that the level still holds: which of several was mended, it does not say."""
        of_it = [
            track
            for track in self.tracks.values()
            if track.kind is CauseKind.BUILD
            and track.key == (finding.scenario, finding.metric)
            and track.series[0] == night.series_id
        ]
        standing = [track for track in of_it if not track.ended] or of_it[-1:]
        for track in standing:
            track.since = night.date if track.ended else track.since
            track.last, track.ended = night.date, ""
        if standing:
            return tuple(standing)
        cause = ("owed", self.runner_class, finding.scenario)  # the night that confirmed it is not on record
        return (self._begin(cause, CauseKind.BUILD, night, finding),)

    def _environment(self, night: Night, finding: NightFinding) -> Track:
        change = _change_of(night, finding)
        if change is not None and change.kind is LevelKind.LOOKED_INTO:
            cause = ("environment drift", self.runner_class, finding.scenario)
        else:
            cause = ("environment", self.runner_class, finding.first_run_id or night.run_id)
        return self._begin(cause, CauseKind.ENVIRONMENT, night, finding)

    def _answers(self, night: Night, finding: NightFinding) -> Track:
        """Answers lost: the cause that stands, else tonight's build if the night before did not say so of another."""
        place = (finding.scenario, finding.metric)
        for track in self.tracks.values():
            if track.kind is CauseKind.ANSWERS and track.key == place and not track.ended:
                return self._begin(track.cause, CauseKind.ANSWERS, night, _named_as(finding, track))
        before = next((each for each in reversed(self.nights) if not only_accepts(each)), None)
        cause: tuple[str, ...] = ("answers", self.runner_class, finding.scenario)
        known = (
            before is not None
            and before.series_id == night.series_id
            and finding.scenario not in _unread(before)
            and build_key(before.sut_label) != build_key(night.sut_label)
        )
        if known and before is not None:
            cause = ("answers", build_key(night.sut_label))
            finding = _renamed(finding, before.sut_label, night.sut_label, night.run_id)
        return self._begin(cause, CauseKind.ANSWERS, night, finding)

    def _accept(self, night: Night) -> None:
        """An acceptance ends what its metric showed, in an older series of the class too: nobody measures that."""
        for change in night.changes:
            if change.kind is not LevelKind.ACCEPTED:
                continue
            key = (change.scenario, change.metric)
            told = [
                each.text for each in night.findings if (each.kind, each.scenario, each.metric) == ("accepted", *key)
            ]
            words = told[0] if told else f"the level was accepted on {night.date}"
            for track in self.tracks.values():
                if track.key == key and track.kind in _OF_LEVELS and not track.ended:
                    track.ended = words

    def _give_back(self, night: Night) -> None:
        """A better level pays for steps of the environment, the newest first; half of one given back ends it."""
        said = {(each.scenario, each.metric): each.text for each in night.findings if each.kind == "improvement"}
        self.better |= {key: (night.date, words) for key, words in said.items()}
        for change in night.changes:
            if change.size >= 0 or change.kind not in (LevelKind.ENVIRONMENT, LevelKind.IMPROVEMENT):
                continue
            key, pay = (change.scenario, change.metric), -change.size
            for track in reversed(self.tracks.values()):
                if (track.kind, track.key, track.series) == (
                    CauseKind.ENVIRONMENT,
                    key,
                    (night.series_id, change.scenario_hash),
                ):
                    used = min(pay, track.left)
                    track.left, pay = track.left - used, pay - used
                    if used and track.left <= track.size / 2 and not track.ended:
                        track.ended = said.get(key) or f"the night of {night.date} has given the level back"

    def _refute(self, night: Night, said: Sequence[Track]) -> None:
        """End what tonight measured and did not say. What it did not measure stands: no evidence is no fix."""
        told, read, unread = {id(track) for track in said}, _read(night), _unread(night)
        for track in self.tracks.values():
            if track.ended or id(track) in told or track.kind is CauseKind.ENVIRONMENT:
                continue
            series_id, of_hash = track.series
            measured = read.get(track.key) == of_hash if of_hash else track.finding.scenario not in unread
            if series_id == night.series_id and measured:
                track.ended = self._how(track, night)

    def _how(self, track: Track, night: Night) -> str:
        if track.cause[0] == UNEXPLAINED:
            return TAKEN
        settled = [
            each.kind
            for each in night.findings
            if (each.scenario, each.metric) == track.key and each.kind in _SETTLED and track.kind is CauseKind.UNSETTLED
        ]
        if settled:
            return f"settled on {night.date}: {settled[0]}"
        of_it = f"the night of {night.date} ({night.sut_label}) does not say it any more"
        date, better = self.better.get(track.key, ("", ""))
        return f"{of_it}; {better}" if track.kind is CauseKind.BUILD and date > track.since else of_it


def _change_of(night: Night, finding: NightFinding) -> NightChange | None:
    """What a finding of tonight put on record: the level that got worse."""
    key = (finding.scenario, finding.metric)
    return next((each for each in night.changes if (each.scenario, each.metric) == key and each.size > 0), None)


def _read(night: Night) -> dict[Key, str]:
    return {(reading.scenario, reading.metric): reading.scenario_hash for reading in night.readings}


def _unread(night: Night) -> set[str]:
    """The scenarios whose answers tonight says nothing certain of."""
    return {finding.scenario for finding in night.findings if finding.kind in ("missing", "answers unsettled")}


def _renamed(finding: NightFinding, good: str, bad: str, first_run_id: str) -> NightFinding:
    return NightFinding(finding.kind, finding.scenario, finding.metric, finding.text, good, bad, first_run_id)


def _named_as(finding: NightFinding, track: Track) -> NightFinding:
    return _renamed(finding, track.build_good, track.build_bad, track.finding.first_run_id)
