"""Validity rules: each broken on purpose, and blind to what came out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from checks.measures import CACHE_HITS, CACHE_QUERIES, PREEMPTIONS
from checks.validity import (
    BEYOND,
    CLIENT_CALIBRATED,
    CLIENT_STAMPS,
    COUNTED_REPEATS,
    MACHINE_RULES,
    NOT_CALIBRATED,
    REAL_SERVER,
    drop_reason_for,
    is_spoilt,
    is_valid,
    trial_validity,
)
from redline.model import (
    BuildKind,
    BuildPin,
    Calibration,
    CalibrationRung,
    Limits,
    Offline,
    Outcome,
    RandomTokens,
    Repeat,
    RequestRecord,
    RunnerClass,
    Scenario,
    Server,
    SkillTasks,
    StampSource,
    TokenCounts,
)
from tests.checks.test_machine_validity import GPU_CLASS, healthy
from tests.store.trial_examples import CLIENT, make_pin, make_trial

SERVER = Scenario(
    name="server",
    description="two requests",
    recipe="tiny",
    arrivals=Server(rate_per_s=10.0),
    workload=RandomTokens(prompt_tokens=8, output_tokens=4, vocabulary_first=3, vocabulary_last=90),
    request_count=2,
    repeat_count=2,
    discard_count=1,
    seed=1,
    limits=Limits(schedule_lag_s_p99_max=0.005, prefix_cache_hit_share_max=0.01, window_s_max=60.0),
    metrics=("ttft_s_median",),
)
OFFLINE = replace(SERVER, name="offline", arrivals=Offline(in_flight_max=8))
RUNNER = RunnerClass(
    name="cpu",
    description="a host",
    platform="cpu",
    policy="cpu",
    arms_resident_max=1,
    foreign_cpu_share_max=0.05,
    retry_count_max=3,
    memory_bytes_free_min=0,
)


def record(index, **changes):
    """One answered request, 1 ms late."""
    plain = RequestRecord(
        index=index,
        outcome=Outcome.OK,
        sched_ns=0,
        send_ns=1_000_000,
        done_ns=50_000_000,
        chunk_ns=(10_000_000, 20_000_000, 30_000_000, 40_000_000),
        chunk_tokens=(1, 1, 1, 1),
        prompt_tokens=8,
        output_tokens=4,
        output_text="",
        finish_reason="length",
    )
    return replace(plain, **changes)


def repeat(index, **changes):
    """One clean window; the first is warm-up."""
    plain = Repeat(
        index=index,
        started_at="2026-11-21T04:00:00Z",
        duration_ns=1_000_000_000,
        records=(record(0), record(1)),
        server_counters={CACHE_QUERIES: 1000.0, CACHE_HITS: 5.0},
        foreign_cpu_share=0.01,
        steal_share=0.0,
        client=CLIENT,
        drop_reason="warm-up" if index == 0 else "",
    )
    return replace(plain, **changes)


def read(repeats, scenario=SERVER, reported="0.32.0", installed="0.32.0", pin=None, **more):
    """Every rule by name."""
    readings = trial_validity(
        scenario, repeats, pin=pin or make_pin(), reported_version=reported, installed_version=installed, **more
    )
    return {reading.rule: reading for reading in readings}


CLEAN = (repeat(0), repeat(1), repeat(2))


def test_a_clean_trial_keeps_every_rule():
    """Every rule is listed with a reading and a limit, and all are kept."""
    readings = read(CLEAN)
    assert is_valid(tuple(readings.values()))
    assert len(readings) == 10
    assert all(reading.reading and reading.limit for reading in readings.values())
    assert "schedule lag p99" not in read(CLEAN, OFFLINE)


@pytest.mark.parametrize(
    ("rule", "repeats"),
    [
        ("counted repeats", CLEAN[:2]),
        ("every request answered", (*CLEAN[:2], repeat(2, records=(record(0), record(1, outcome=Outcome.TIMEOUT))))),
        ("every request answered", (*CLEAN[:2], repeat(2, records=(record(0),)))),
        ("outputs of full length", (*CLEAN[:2], repeat(2, records=(record(0), record(1, output_tokens=3))))),
        ("schedule lag p99", (*CLEAN[:2], repeat(2, records=(record(0), record(1, send_ns=6_000_000))))),
        ("prefix cache hits", (*CLEAN[:2], repeat(2, server_counters={CACHE_QUERIES: 100.0, CACHE_HITS: 2.0}))),
        ("prefix cache hits", (*CLEAN[:2], repeat(2, server_counters={CACHE_HITS: 2.0}))),
        ("prefix cache hits", (*CLEAN[:2], repeat(2, server_counters={}))),
    ],
)
def test_each_rule_can_be_broken(rule, repeats):
    """One thing wrong in one counted repeat breaks exactly its rule."""
    broken = [name for name, reading in read(repeats).items() if not reading.ok]
    assert broken == [rule]


def test_failures_are_counted_by_outcome():
    """The reading says how many requests ended how."""
    failed = (*CLEAN[:2], repeat(2, records=(record(0, outcome=Outcome.TIMEOUT), record(1, outcome=Outcome.SHORT))))
    assert read(failed)["every request answered"].reading == "2 ok, 1 short, 1 timeout of 4"


def test_a_dropped_repeat_breaks_nothing():
    """Failures in a window that does not count are no evidence either way."""
    dropped = repeat(1, records=(record(0, outcome=Outcome.TIMEOUT),), drop_reason="foreign CPU")
    assert all(reading.ok for reading in read((CLEAN[0], dropped, repeat(2), repeat(3))).values())


def test_no_repeat_at_all_is_invalid():
    """A trial without a counted window breaks the rules that need one."""
    readings = read(())
    assert not readings["counted repeats"].ok
    assert not readings["every request answered"].ok
    assert not is_valid(())


@pytest.mark.parametrize(
    ("reported", "installed", "ok"),
    [
        ("0.32.0", "0.32.0", True),
        ("0.32.0+cpu", "0.32.0", True),
        ("0.32.0", None, True),
        ("0.31.0", "0.32.0", False),
        ("0.32.0", "0.31.0", False),
        ("", "0.32.0", False),
        ("0.32.0.dev1", "0.32.0", False),
    ],
)
def test_the_pinned_build_has_to_answer(reported, installed, ok):
    """The server's own version and the installed one must be the pin's; a local part may be missing."""
    assert read(CLEAN, reported=reported, installed=installed)["the pinned build answers"].ok is ok


BARE = tuple(replace(each, server_counters={}) for each in CLEAN)
ENDPOINT = BuildPin(BuildKind.ENDPOINT, "http://a", "vllm", "0.32.0", "cpu", "", None, "", url="http://a")
IMAGE = BuildPin(
    BuildKind.IMAGE, "v", "vllm", "0.32.0", "cuda", "", None, "", url=f"vllm/vllm-openai@sha256:{'ab' * 32}"
)


def test_an_endpoint_without_counters_is_listed_as_unread():
    """Where the server is not ours, missing counters are said and break nothing; no figure is made up for them."""
    readings = read(BARE, installed=None, pin=ENDPOINT)
    for rule in ("prefix cache hits", "preemptions"):
        assert readings[rule].reading == "not read in 2 of 2 repeats: not reported by the server"
    assert is_valid(tuple(readings.values()))


@pytest.mark.parametrize("pin", [make_pin(), IMAGE])
def test_a_server_of_ours_without_counters_breaks_the_cache_rule(pin):
    """Also in a cluster, where no installed version can be seen: whose server it is depends on the pin alone."""
    readings = read(BARE, installed=None, pin=pin)
    assert [rule for rule, reading in readings.items() if not reading.ok] == ["prefix cache hits"]
    assert readings["preemptions"].reading.startswith("not read")
    may_hit = replace(SERVER, limits=replace(SERVER.limits, prefix_cache_hit_share_max=1.0))
    assert read(BARE, may_hit, installed=None, pin=pin)["prefix cache hits"].ok


def test_behind_a_router_counters_are_not_read_and_break_nothing():
    """One address for many servers: nobody can ask each of them, so nothing is stated and nothing broken."""
    readings = read(BARE, installed=None, pin=IMAGE, counters_readable=False)
    for rule in ("prefix cache hits", "preemptions"):
        assert readings[rule].reading == "not read: behind a router no single server can be asked"
    assert is_valid(tuple(readings.values()))


def test_what_was_read_counts_beside_what_was_not():
    """Hits in one repeat break the rule though another said nothing; counts say how many repeats they leave out."""
    hits = repeat(2, server_counters={CACHE_QUERIES: 100.0, CACHE_HITS: 50.0, PREEMPTIONS: 3.0})
    readings = read((CLEAN[0], BARE[1], hits), installed=None, pin=ENDPOINT)
    unread = "not read in 1 of 2 repeats: not reported by the server"
    assert readings["prefix cache hits"].reading == f"50.00 %; {unread}"
    assert not readings["prefix cache hits"].ok
    assert readings["preemptions"].reading == f"3; {unread}"
    assert read(())["preemptions"].reading == read(())["prefix cache hits"].reading == "not read: no repeat counts"


@pytest.mark.parametrize(
    "counters",
    [
        {CACHE_QUERIES: -900.0, CACHE_HITS: -5.0},
        {CACHE_QUERIES: -900.0},
        {CACHE_QUERIES: 9.0, CACHE_HITS: math.nan},
        {CACHE_QUERIES: math.nan},
        {CACHE_QUERIES: 9.0, CACHE_HITS: math.inf},
    ],
)
def test_counters_that_fell_or_are_no_numbers_prove_no_empty_cache(counters):
    """A server that was started anew in a window, or hostile text on /metrics, is not within the limit."""
    for repeats in ((*CLEAN[:2], repeat(2, server_counters=counters)), (CLEAN[0], repeat(1, server_counters=counters))):
        assert not read(repeats, installed=None, pin=ENDPOINT)["prefix cache hits"].ok


def test_a_cache_that_is_off_is_no_hit():
    """Counters without cache queries mean that there is no cache in use."""
    off = tuple(replace(each, server_counters={"vllm:prompt_tokens_total": 16.0}) for each in CLEAN)
    assert read(off)["prefix cache hits"].reading == "0.00 %"


def test_preemptions_are_listed_and_never_break():
    """Preemptions may be the regression itself: they are shown, not excluded."""
    busy = (*CLEAN[:2], repeat(2, server_counters={CACHE_QUERIES: 9.0, PREEMPTIONS: 7.0}))
    assert (read(busy)["preemptions"].reading, read(busy)["preemptions"].ok) == ("7", True)


def test_scored_answers_may_be_of_any_length():
    """Where answers are scored they end where they end: no rule on their length."""
    skill = replace(OFFLINE, workload=SkillTasks(items_per_task=1, output_tokens_max=16))
    assert "outputs of full length" not in read(CLEAN, skill)


@pytest.mark.parametrize(
    ("index", "foreign", "steal", "start"),
    [
        (0, 0.0, 0.0, "warm-up"),
        (1, 0.049, 0.0, ""),
        (1, 0.05, 0.0, "foreign CPU"),
        (1, 0.03, 0.02, "foreign CPU"),
        (1, None, 0.0, ""),
        (1, None, 0.2, "foreign CPU"),
        (1, math.nan, 0.0, "foreign CPU could not"),
    ],
)
def test_a_window_is_dropped_for_what_happened_around_it(index, foreign, steal, start):
    """Warm-up, foreign CPU and steal drop a window; what it measured is not even an argument."""
    reason = drop_reason_for(index, foreign, steal, SERVER, RUNNER)
    assert reason.startswith(start)
    assert bool(reason) == bool(start)


def test_a_stand_in_is_never_a_measurement():
    """One answer of `redline simulate`, even in a dropped window, breaks the trial."""
    simulated = repeat(0, client=replace(CLIENT, simulated=True))
    readings = read((simulated, *CLEAN[1:]))
    assert [rule for rule, reading in readings.items() if not reading.ok] == [REAL_SERVER]


def test_the_clients_own_words_are_listed_and_break_nothing():
    """Whose stamps, how tokens are known, what shared a read, what was sent twice, a clock that was set."""
    told = replace(
        CLIENT,
        stamps=StampSource.MIXED,
        token_counts=TokenCounts.ASSUMED,
        chunk_count=200,
        coalesced_count=50,
        resent_count=3,
        clock_step_ns=-2_000_000,
        tls=True,
    )
    reading = read((CLEAN[0], repeat(1, client=told), repeat(2, client=told)))[CLIENT_STAMPS]
    assert reading.ok
    for words in ("mixed stamps", "assumed", "25.0 % of chunks", "6 requests resent", "TLS", "set by 2.0 ms"):
        assert words in reading.reading


RUNGS = tuple(
    CalibrationRung(rate, 32, rate < 1000, 1e-5, 1e-4, 2e-5, rate * 1e-6, 1e-6, 2e-5, 0.1) for rate in (50, 200, 1000)
)
CALIBRATION = Calibration("0123456789abcdef", "2026-11-21T10:00:00+00:00", StampSource.KERNEL, RUNGS)


def calibrated(requests_per_s, calibration):
    """The reading of a trial whose windows send this many requests a second for two seconds, then drain."""
    gap_ns = 1_000_000_000 // requests_per_s
    records = tuple(
        record(index, sched_ns=index * gap_ns, send_ns=index * gap_ns, chunk_ns=(index * gap_ns + 5_000_000,))
        for index in range(2 * requests_per_s)
    )
    repeats = (CLEAN[0], repeat(1, records=records, duration_ns=9_000_000_000))
    readings = trial_validity(
        SERVER,
        repeats,
        pin=make_pin(),
        reported_version="0.32.0",
        installed_version=None,
        calibration=calibration,
    )
    return next(each for each in readings if each.rule == CLIENT_CALIBRATED)


def test_a_trial_says_what_the_client_errs_at_its_rate():
    """The gentlest rung that is busy enough speaks; beyond what was held that is said; neither breaks the trial."""
    assert "TTFT 0.05 ms" in calibrated(20, CALIBRATION).reading
    assert "TTFT 0.20 ms" in calibrated(60, CALIBRATION).reading
    assert BEYOND in calibrated(400, CALIBRATION).reading  # 1000 a second was tried and not held
    assert NOT_CALIBRATED in calibrated(20, None).reading
    assert all(calibrated(400, each).ok for each in (CALIBRATION, None))


HOT = tuple(replace(each, telemetry=healthy(throttled_thermal=1.0).telemetry) for each in CLEAN)


def test_the_rules_of_the_machine_are_rules_of_a_trial():
    """By their names, so that no flow blames a build for one of them because it is called otherwise here."""
    readings = read(HOT, runner_class=GPU_CLASS)
    assert set(readings) >= MACHINE_RULES
    assert [rule for rule, reading in readings.items() if not reading.ok] == ["thermal throttling"]


def test_a_trial_is_spoilt_by_the_machine_and_by_nothing_else():
    """A broken rule of the machine or no repeat that counts; failed requests are not the machine's."""

    def spoilt(repeats):
        return is_spoilt(make_trial(repeats=repeats, validity=tuple(read(repeats, runner_class=GPU_CLASS).values())))

    failed = (*CLEAN[:2], repeat(2, records=(record(0), record(1, outcome=Outcome.TIMEOUT))))
    late = (*CLEAN[:2], repeat(2, records=(record(0), record(1, send_ns=6_000_000))))
    dropped = tuple(replace(each, drop_reason="foreign CPU") for each in CLEAN)
    assert [spoilt(each) for each in (CLEAN, failed, HOT, late, dropped)] == [False, False, True, True, True]
    assert is_spoilt(make_trial(repeats=dropped, validity=())), "whatever the rules say of no requests"


def test_a_hot_machine_makes_answers_late_and_not_wrong():
    """Where answers are scored the machine's rules are listed with what they read, and break nothing."""
    skill = replace(OFFLINE, workload=SkillTasks(items_per_task=1, output_tokens_max=16))
    reading = read(HOT, skill, runner_class=GPU_CLASS)["thermal throttling"]
    assert reading.ok
    assert reading.reading.endswith("100 % of the samples of repeat 1")
    assert "listed only" in reading.limit
    busy = read(CLEAN[:2], skill, runner_class=GPU_CLASS)
    assert not busy[COUNTED_REPEATS].ok
