"""What changed on a runner class since its last good night: builds, their packages, the machine, the arguments.

All of it is read from the state directory and may have been written elsewhere: what is missing or damaged is said, and
never stops the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checks.fingerprints import differences
from checks.lock_diff import PackageChange, package_changes
from checks.night_findings import machine_changes
from flows.service.trends import bad_run_ids
from redline.builds.lock_text import normalised, parse_lock
from redline.errors import StoreError
from redline.model import REPOSITORY, BuildPin, Cause, Night, SystemUnderTest, Trial
from redline.store.encoding import decode_pin
from redline.store.trials import PINS, read_trial
from reports import build_range
from reports.overview_data import NightChanges

PIN_BYTES_MAX = 8_000_000
_PIN_ID = re.compile(r"[0-9a-f]{16}")
_TRIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a night beyond its record: its build's pin and one of its trials, None where unreadable."""

    night: Night
    pin: BuildPin | None
    trial: Trial | None


def last_good(nights: Sequence[Night], tonight: Night) -> Night | None:
    """The last night before `tonight` that measured something and that nothing speaks against; None if there is none.

    One of tonight's own series before any other: a class may have two machines. `nights`: whole, of one runner class,
    oldest first.
    """
    bad = bad_run_ids(nights)
    good = [
        night
        for night in reversed(nights)
        if night.run_id < tonight.run_id and (night.readings or night.trial_ids) and night.run_id not in bad
    ]
    return next((night for night in good if night.series_id == tonight.series_id), good[0] if good else None)


def changes_of(nights: Sequence[Night], tonight: Night, trials_dir: Path, source: str) -> NightChanges:
    """What changed from the last good night to `tonight`. `source`: the builds' repository on GitHub, `owner/name`."""
    good = last_good(nights, tonight)
    if good is None:
        return NightChanges(tonight.runner_class, "", "", tonight.sut_label)
    before, after = evidence_of(good, trials_dir), evidence_of(tonight, trials_dir)
    unknown: list[str] = []
    packages = _packages(before, after, unknown)
    machine = _machine(before, after, unknown)
    arguments = _arguments(before, after, unknown)
    if good.series_id != tonight.series_id and not (machine or arguments):
        unknown.append("the two nights may not be compared, and their trials do not say why")
    link = compare_url(source, before, after)
    return NightChanges(
        tonight.runner_class,
        good.date,
        good.sut_label,
        tonight.sut_label,
        link=link,
        refs=_short(link.rpartition("/compare/")[2]),
        packages=tuple(each.words for each in packages),
        machine=machine,
        arguments=arguments,
        unknown=tuple(unknown),
    )


def cause_links(
    causes: Iterable[Cause], nights: Iterable[Night], trials_dir: Path, source: str
) -> dict[tuple[str, str], str]:
    """(last good build, first bad build) of causes -> the address that compares them, where it is known."""
    pins = {night.sut_label: night.pin_id for night in nights if night.pin_id}
    found = {}
    for good, bad in {(cause.build_good, cause.build_bad) for cause in causes}:
        link = _compare_url(source, good, bad, *(read_pin(trials_dir, pins.get(label, "")) for label in (good, bad)))
        if link:
            found[good, bad] = link
    return found


def compare_url(source: str, before: Evidence, after: Evidence) -> str:
    """The page on GitHub that compares two nights' builds, empty where nothing names them or both are one.

    By the commits that their pins state, else by what their names certainly say (`reports.build_range`).
    """
    return _compare_url(source, before.night.sut_label, after.night.sut_label, before.pin, after.pin)


def _compare_url(source: str, good: str, bad: str, good_pin: BuildPin | None, bad_pin: BuildPin | None) -> str:
    if good_pin is None or bad_pin is None or not (good_pin.commit and bad_pin.commit):
        return build_range.compare_url(source, good, bad)
    if good_pin.commit == bad_pin.commit or not REPOSITORY.fullmatch(source):
        return ""
    return f"https://github.com/{source}/compare/{good_pin.commit}...{bad_pin.commit}"


def evidence_of(night: Night, trials_dir: Path) -> Evidence:
    """A night with its pin and the first of its trials that can be read."""
    trial = next((found for name in night.trial_ids if (found := _trial(trials_dir, name)) is not None), None)
    pin = read_pin(trials_dir, night.pin_id)
    return Evidence(night, pin if pin is not None or trial is None else trial.sut.pin, trial)


def read_pin(trials_dir: Path, pin_id: str) -> BuildPin | None:
    """A pin kept beside the trials; None if there is none of that name, or it is not what its name says."""
    if not _PIN_ID.fullmatch(pin_id):
        return None
    path = trials_dir / PINS / f"{pin_id}.json"
    try:
        if path.stat().st_size > PIN_BYTES_MAX:
            return None
        return decode_pin(path.read_text(encoding="utf-8"), pin_id=pin_id, spec="")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _trial(trials_dir: Path, trial_id: str) -> Trial | None:
    if not _TRIAL_ID.fullmatch(trial_id):
        return None
    try:
        return read_trial(trials_dir / trial_id)
    except StoreError:
        return None


def _short(refs: str) -> str:
    """Refs for people: commits by their first twelve digits."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", refs)


def _packages(before: Evidence, after: Evidence, unknown: list[str]) -> tuple[PackageChange, ...]:
    old, new = before.pin, after.pin
    if old is None or new is None:
        missing = before.night if old is None else after.night
        unknown.append(f"packages: the pin of {missing.sut_label} is not there, or damaged")
        return ()
    if old.pin_id == new.pin_id:
        return ()
    locks = []
    for pin in (old, new):
        try:
            packages = parse_lock(pin.lock)
        except ValueError as error:
            unknown.append(f"packages of {pin.label}: {error}")
            return ()
        if not packages:
            unknown.append(f"packages: {pin.label} is known by its digest alone")
            return ()
        locks.append({name: (each.version, each.sha256) for name, each in packages.items()})
    builds = frozenset(normalised(pin.distribution) for pin in (old, new))
    return package_changes(locks[0], locks[1], builds=builds)


def _machine(before: Evidence, after: Evidence, unknown: list[str]) -> tuple[str, ...]:
    """Facts and notes where both trials can be read, else the notes that the nights themselves keep."""
    if before.trial is not None and after.trial is not None:
        return tuple(
            f"{each.words} (another machine to Redline: a new series)" if each.kind == "fact" else each.words
            for each in differences(before.trial.fingerprint, after.trial.fingerprint)
        )
    unknown.append(
        "the machine's facts: the nights' trials cannot be read; what follows from the nights' notes is shown"
    )
    return machine_changes(before.night.notes, after.night.notes)


def _arguments(before: Evidence, after: Evidence, unknown: list[str]) -> tuple[str, ...]:
    if before.trial is None or after.trial is None:
        unknown.append("server arguments and models: the nights' trials cannot be read")
        return ()
    old, new = before.trial.sut, after.trial.sut
    found = []
    if old.extra_args != new.extra_args:
        found.append(f"server arguments: {_words(old)} -> {_words(new)}")
    models: tuple[Mapping[str, str], ...] = (dict(old.models), dict(new.models))
    for name in sorted(models[0].keys() | models[1].keys()):
        replaced = tuple(each.get(name, "the recipe's own") for each in models)
        if replaced[0] != replaced[1]:
            found.append(f"model of {name}: {replaced[0]} -> {replaced[1]}")
    if old.router != new.router:
        images = [sut.router.image if sut.router is not None else "none" for sut in (old, new)]
        found.append(f"router: {images[0]} -> {images[1]}" if images[0] != images[1] else "the router's configuration")
    return tuple(found)


def _words(sut: SystemUnderTest) -> str:
    return " ".join(sut.extra_args) or "none"
