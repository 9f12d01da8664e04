"""One window of a rate search: what spoilt it is measured again, what the rate broke is an answer, the rest is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from checks.rate_search import Bracket, Probe, RateLimits
from checks.replicas import ALL_ANSWER, EVEN_SPREAD
from checks.validity import ALL_ANSWERED, FULL_OUTPUTS, MACHINE_RULES, trial_validity
from flows.rate_search import (
    RATE_RULES,
    RETRY_COUNT_MAX,
    LeftOut,
    Search,
    answer_of,
    as_json,
    lines_of,
    probe_at,
)
from redline.errors import InvalidMeasurementError
from redline.model import (
    HealthyHost,
    Outcome,
    Repeat,
    Replica,
    RunnerFingerprint,
    Scenario,
    Trial,
    ValidityReading,
)
from tests.checks.test_machine_validity import GPU_CLASS, healthy, series
from tests.checks.test_validity import SERVER, record, repeat
from tests.store.trial_examples import CLIENT, make_trial

AT_RATE = replace(SERVER, repeat_count=1, discard_count=0)
LIMITS = RateLimits(ttft_s_p99=1.0, tpot_s_p99=1.0)
WATCHED = replace(GPU_CLASS, healthy=HealthyHost(steal_share_max=0.02))
REPLICAS = (Replica("replica 0"), Replica("replica 1"))
CLEAN = repeat(1, records=(record(0), record(1, replica=1)), telemetry=healthy().telemetry)


def trial(window: Repeat, *rules: ValidityReading, version: str = "0.32.0") -> Trial:
    """A trial of one window with the rules as they really read it, and further ones."""
    found = trial_validity(
        AT_RATE,
        (window,),
        pin=make_trial().sut.pin,
        reported_version=version,
        installed_version="0.32.0",
        replicas=REPLICAS,
        runner_class=WATCHED,
    )
    return make_trial(repeats=(window,), replicas=REPLICAS, validity=(*found, *rules))


def hot(**changes: object) -> Repeat:
    """The clean window on an accelerator in another state."""
    return replace(CLEAN, telemetry=healthy(1, **changes).telemetry)  # type: ignore[arg-type]  # values by name


SPOILT = {
    "thermal throttling": hot(throttled_thermal=series(0, {7: 1})),
    "hardware slowdown": hot(throttled_hardware=1.0),
    "power cap": hot(power_cap_w=series(700, {19: 600})),
    "foreign processes on accelerators": hot(foreign_process_count=1.0),
    "steal": replace(CLEAN, steal_share=0.1),
    "schedule lag p99": replace(CLEAN, records=(record(0), record(1, replica=1, send_ns=6_000_000))),
    "counted repeats": replace(CLEAN, drop_reason="foreign CPU"),
}


class Machine:
    """Gives these trials one after the other, the last one for ever; counts the windows."""

    def __init__(self, *trials: Trial) -> None:
        self.trials, self.window_count = trials, 0

    def measure(self, scenario: Scenario) -> list[Trial]:
        """The next window."""
        assert scenario is AT_RATE
        self.window_count += 1
        return [self.trials[min(self.window_count, len(self.trials)) - 1]]


def test_a_clean_window_is_a_probe() -> None:
    """At once, with its readings."""
    machine = Machine(trial(CLEAN))
    probe = probe_at(AT_RATE, 10.0, machine.measure)
    assert (probe.rate_per_s, probe.ttft_s_p99, probe.tpot_s_p99, probe.failed_count) == (10.0, 0.01, 0.01, 0)
    assert probe.within(LIMITS)
    assert machine.window_count == 1


@pytest.mark.parametrize("rule", sorted(SPOILT))
def test_a_window_that_the_machine_spoilt_is_no_probe(rule: str) -> None:
    """It is measured again; a machine that never keeps its rules ends the search with the rule's name."""
    spoilt = trial(SPOILT[rule])
    assert rule in [reading.rule for reading in spoilt.validity if not reading.ok]
    machine = Machine(spoilt, trial(CLEAN))
    assert probe_at(AT_RATE, 10.0, machine.measure).within(LIMITS)
    assert machine.window_count == 2
    machine = Machine(spoilt)
    with pytest.raises(InvalidMeasurementError, match="no valid window at") as caught:
        probe_at(AT_RATE, 10.0, machine.measure)
    assert f"{rule}: " in caught.value.found
    assert "redline doctor" in caught.value.next_step
    assert machine.window_count == 1 + RETRY_COUNT_MAX


@pytest.mark.parametrize("rule", sorted(MACHINE_RULES))
def test_every_rule_of_the_machine_is_known_to_the_search(rule: str) -> None:
    """Also those that one window alone cannot break."""
    machine = Machine(trial(CLEAN, ValidityReading(rule, "bad", "good", ok=False)), trial(CLEAN))
    probe_at(AT_RATE, 10.0, machine.measure)
    assert machine.window_count == 2
    assert rule not in RATE_RULES


def test_requests_that_the_server_fails_at_a_rate_are_an_answer() -> None:
    """Of a replica too: beyond the limits, measured once."""
    lost = record(1, replica=1, outcome=Outcome.TIMEOUT, output_tokens=1)
    overloaded = trial(replace(CLEAN, records=(record(0), lost)))
    assert {reading.rule for reading in overloaded.validity if not reading.ok} == {
        ALL_ANSWERED,
        FULL_OUTPUTS,
        ALL_ANSWER,
    }
    machine = Machine(overloaded)
    probe = probe_at(AT_RATE, 90.0, machine.measure)
    assert probe.failed_count == 1
    assert not probe.within(LIMITS)
    assert machine.window_count == 1


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("the pinned build answers", lambda: trial(CLEAN, version="0.31.0")),
        ("prefix cache hits", lambda: trial(replace(CLEAN, server_counters={}))),
        (EVEN_SPREAD, lambda: trial(replace(CLEAN, records=(record(0), record(1))))),
        ("a rule of tomorrow", lambda: trial(CLEAN, ValidityReading("a rule of tomorrow", "bad", "good", ok=False))),
    ],
)
def test_any_other_broken_rule_refuses_the_search(rule: str, wrong: Callable[[], Trial]) -> None:
    """What no rate breaks is no answer, and measuring again would not mend it."""
    machine = Machine(wrong())
    with pytest.raises(InvalidMeasurementError, match="no measurement of the build") as caught:
        probe_at(AT_RATE, 10.0, machine.measure)
    assert rule in caught.value.found
    assert machine.window_count == 1


def test_a_stand_in_is_searched_and_told_elsewhere() -> None:
    """The answer of the whole search says that nothing was measured."""
    stand_in = trial(replace(CLEAN, client=replace(CLIENT, simulated=True)))
    assert not all(reading.ok for reading in stand_in.validity)
    assert probe_at(AT_RATE, 10.0, Machine(stand_in).measure).within(LIMITS)


# --- several searches -------------------------------------------------------------------------------------------


def search(held_per_s: float, **facts: str) -> Search:
    """A search that held this rate and broke at one a tenth higher, on a node of these facts."""
    probes = (Probe(held_per_s, 0.5, 0.5), Probe(held_per_s * 1.1, 2.0, 0.5))
    return Search(probes, RunnerFingerprint({"served_by": "kserve", "nodes": "node-a", "accelerator": "H200"} | facts))


def test_searches_on_other_machines_are_left_out_and_named() -> None:
    """A node of another kind is in no estimate and no interval: its searches are shown beside it, with what differs."""
    own = (search(10.0), search(10.4))
    alone = answer_of("steady", LIMITS, own)
    assert (alone.left_out, alone.problem) == ((), "")
    elsewhere = search(40.0, nodes="node-b", accelerator="B300")
    found = answer_of("steady", LIMITS, (own[0], elsewhere, own[1]))
    why = "another machine served it: accelerator H200 -> B300, nodes node-a -> node-b"
    assert found.left_out == (LeftOut(2, why),)
    assert found.estimate == alone.estimate
    assert found.estimate is not None and found.estimate.search_count == 2
    assert (found.problem, len(found.probes)) == ("", 3)
    assert found.brackets[1] == Bracket(40.0, 44.0)
    assert f"search 2 is left out: {why}" in lines_of(found)
    assert lines_of(found)[-1].endswith("2 deployments)")
    said = json.loads(as_json(found))
    assert said["left_out"] == [{"search": 2, "why": why}]
    assert said["machines"] == [each.machine.fingerprint_id for each in (own[0], elsewhere, own[1])]


def test_a_power_cap_that_was_changed_between_two_searches_leaves_one() -> None:
    """The first, without an interval, and the answer is not complete: nobody takes it for two."""
    found = answer_of("steady", LIMITS, (search(10.0, gpu_power_cap_w="700"), search(8.0, gpu_power_cap_w="500")))
    assert found.estimate is not None
    assert (found.estimate.search_count, found.estimate.low_per_s) == (1, None)
    assert found.problem == "no two searches were served by machines that may be compared"
    assert lines_of(found)[-2:] == ("held 10.00, broken at 11.00 requests a second; one search", found.problem)
    assert "gpu power cap w 700 -> 500" in found.left_out[0].why


def test_what_no_counted_search_found_is_not_taken_from_another_machine() -> None:
    """A rate that was bracketed elsewhere only is none; why a search ended early is said as well."""
    beyond = Search((Probe(10.0, 2.0, 0.5),), search(1.0).machine)
    searches = (beyond, search(40.0, nodes="node-b"), beyond)
    found = answer_of("steady", LIMITS, searches, early="search 4 of 5 ended early: a pod died")
    assert found.estimate is None
    assert found.counted_brackets == (found.brackets[0], found.brackets[2])
    last, early = lines_of(found)[-2:]
    assert last.startswith("no rate could be bracketed: beyond the limits even at 10") and "held" not in last
    assert early == found.problem == "search 4 of 5 ended early: a pod died"


def test_one_search_is_no_search_left_out() -> None:
    """As it was asked for: its bracket, no problem."""
    found = answer_of("steady", LIMITS, (search(10.0),))
    assert (found.left_out, found.problem) == ((), "")
    assert lines_of(found)[-1] == "held 10.00, broken at 11.00 requests a second; one search"
