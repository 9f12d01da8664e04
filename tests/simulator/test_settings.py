"""Settings: what is accepted, what is refused and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.simulator.settings import (
    Chance,
    Failures,
    Serving,
    Settings,
    Timing,
    parse_settings,
    parse_settings_text,
    settings_json,
)

shares = st.floats(0, 1)
durations = st.floats(0, 3600)
chances = st.builds(Chance, share=shares, after_requests=st.integers(0, 1000))


@given(
    timing=st.builds(Timing, ttft_s=durations, itl_s=durations, jitter_share=shares, seed=st.integers(0, 10**9)),
    failures=st.builds(Failures, stall=chances, crash=chances, http_error_status=st.sampled_from((429, 500, 503))),
    serving=st.builds(Serving, prefix_cache_hit_share=shares, keep_alive_s=durations),
)
def test_settings_survive_their_json(timing, failures, serving):
    """What is written is read back as the same settings."""
    settings = Settings(timing, failures, serving)
    assert parse_settings_text(settings_json(settings)) == settings


def test_what_is_not_named_stays():
    """A change replaces the named values only."""
    base = parse_settings({"timing": {"ttft_s": 0.2}, "failures": {"hang": 0.5}})
    changed = parse_settings({"timing": {"itl_s": 1}}, base)
    assert changed.timing == Timing(ttft_s=0.2, itl_s=1.0)
    assert changed.failures == base.failures


def test_a_chance_is_a_share_or_a_count():
    """A bare number is a share; a count alone is every request after it."""
    failures = parse_settings({"failures": {"stall": 0.25, "crash": {"after_requests": 7}}}).failures
    assert failures.stall == Chance(share=0.25, after_requests=0)
    assert failures.crash == Chance(share=1.0, after_requests=7)
    assert [name for name, _ in failures.chances] == ["crash", "stall"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"timings": {}}, ("unknown key", "timing, failures, serving", "timings")),
        ({"timing": {"ttft": 1}}, ("timing: unknown key", "ttft_s", "ttft")),
        ({"failures": {"stall": {"chance": 1}}}, ("failures.stall: unknown key", "share, after_requests", "chance")),
        ({"timing": {"ttft_s": -1}}, ("timing: ttft_s", "[0, 3600]", "-1")),
        ({"timing": {"ttft_s": float("nan")}}, ("ttft_s", "nan")),
        ({"timing": {"ttft_s": "1"}}, ("timing.ttft_s has the wrong type", "float")),
        ({"timing": {"lockstep": 1}}, ("timing.lockstep has the wrong type", "bool")),
        ({"timing": {"running_max": 1.5}}, ("timing.running_max has the wrong type", "int")),
        ({"timing": {"running_max": True}}, ("timing.running_max has the wrong type", "int")),
        ({"timing": {"tokens_per_chunk": 0}}, ("tokens_per_chunk", "[1, 1000]")),
        ({"timing": {"lockstep": True, "itl_s": 0}}, ("lockstep", "itl_s above 0")),
        ({"failures": {"stall": 1.5}}, ("share is not a share", "1.5")),
        ({"failures": {"http_error_status": 404}}, ("http_error_status", "429, 500, 503", "404")),
        ({"serving": {"model": ""}}, ("model", "1 to 200 printable")),
        ({"serving": {"version": "1\r\nx: y"}}, ("version", "printable")),
        ({"timing": []}, ("timing: not a JSON object",)),
        ([], ("the settings: not a JSON object",)),
    ],
)
def test_a_wrong_setting_is_refused_in_words(content, words):
    """The message names the key, what is known or possible, and what was found."""
    with pytest.raises(ContentError) as caught:
        parse_settings(content)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff"])
def test_settings_that_are_no_json_are_refused(text):
    """Text that is not JSON is a content error, however broken."""
    with pytest.raises(ContentError):
        parse_settings_text(text)
