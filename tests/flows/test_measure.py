"""A server that does not say its counters in time spoils the window, which is no fault of its build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from checks.counter_validity import CACHE_USE
from checks.measures import CACHE_HITS, CACHE_QUERIES
from checks.validity import COUNTED_REPEATS, is_spoilt, trial_validity
from flows.measure import COUNTERS_UNSAID, with_counters
from redline.model import Repeat, Trial
from tests.checks.test_validity import CLEAN, OFFLINE
from tests.store.trial_examples import make_pin, make_trial

BEFORE = {CACHE_QUERIES: 100.0, CACHE_HITS: 1.0}
AFTER = {CACHE_QUERIES: 300.0, CACHE_HITS: 2.0}
UNSAID = [(None, AFTER), (BEFORE, None), (None, None)]


def trial(*repeats: Repeat) -> Trial:
    """What a flow makes of these windows."""
    validity = trial_validity(
        OFFLINE, repeats, pin=make_pin(), reported_version="0.32.0", installed_version=make_pin().version
    )
    return replace(make_trial(), repeats=repeats, validity=validity)


def broken(found: Trial) -> set[str]:
    """The rules it breaks."""
    return {reading.rule for reading in found.validity if not reading.ok}


def test_what_was_said_is_the_windows_growth() -> None:
    """Both readings: the window counts, with what the counters grew by; none offered is an answer too."""
    said = with_counters(replace(CLEAN[1], server_counters={}), BEFORE, AFTER)
    assert (said.server_counters, said.drop_reason) == ({CACHE_QUERIES: 200.0, CACHE_HITS: 1.0}, "")
    silent = with_counters(CLEAN[1], {}, {})
    assert (silent.server_counters, silent.drop_reason) == ({}, "")
    assert broken(trial(CLEAN[0], silent, CLEAN[2])) == {CACHE_USE}


@pytest.mark.parametrize(("before", "after"), UNSAID)
def test_what_was_not_said_drops_the_window(
    before: Mapping[str, float] | None, after: Mapping[str, float] | None
) -> None:
    """It does not count, and measured again the trial is whole; a reason that it had already stays."""
    dropped = with_counters(CLEAN[1], before, after)
    assert (dropped.server_counters, dropped.drop_reason) == ({}, COUNTERS_UNSAID)
    assert broken(trial(CLEAN[0], dropped, CLEAN[1], CLEAN[2])) == set()
    assert with_counters(CLEAN[0], before, after).drop_reason == CLEAN[0].drop_reason == "warm-up"


def test_too_many_such_windows_blame_no_build() -> None:
    """Without another window that counts, the trial is spoilt by the machine, and the cache rule is kept or unread."""
    dropped = with_counters(CLEAN[1], BEFORE, None)
    few = trial(CLEAN[0], dropped, CLEAN[2])
    assert broken(few) == {COUNTED_REPEATS}
    assert is_spoilt(few)
    assert is_spoilt(trial(CLEAN[0], dropped, replace(dropped, index=2)))
