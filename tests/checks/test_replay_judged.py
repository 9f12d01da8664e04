"""A recorded past judged: what the nightly and the gate would have said, knowing only what was known then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.gate import judge_suite
from checks.nightly import SuspicionKind
from checks.replay_gate import PastRounds, judge_recorded, paired, replay_gates
from checks.replay_nightly import Said, replay_nights, unsettled
from redline.model import Finding, LevelKind
from tests.checks.made_up_recordings import METRIC, Row, day, nights, pairs, recorded, releases
from tests.checks.policies import CPU, GPU

STEP = 30


def nightly(rows, **named):
    """What the nightly would have said of runner r."""
    return replay_nights(recorded(rows, primaries_only=True), "r", GPU, **named)


def from_step(replayed):
    """What was said from the step on."""
    return [found for found in replayed.findings if found.date >= day(STEP)]


def pairs_of(past, baseline="old", candidate="new"):
    """The pairs of the first night of the first series."""
    found = paired(past.series[0].nights[0], ("s", METRIC), baseline, candidate, GPU)
    assert found is not None
    return found


# --- as the nightly -----------------------------------------------------------------------------------------


def test_a_step_without_a_recorded_gate_stays_suspected_and_the_level_moves():
    """From its second night on it is on record as unexplained, and the nights after it are quiet."""
    replayed = nightly(nights(60, step_at=STEP, worse=0.06))
    said = from_step(replayed)
    assert {found.said for found in said} == {Said.SUSPECTED}
    assert said[0].date <= day(STEP + 1)
    recorded_ones = [found for found in said if found.recorded]
    assert len(recorded_ones) == 1
    assert recorded_ones[0].first_bad in {day(STEP - 1), day(STEP), day(STEP + 1)}
    assert recorded_ones[0].effect == pytest.approx(0.06, abs=0.02)
    assert replayed.series[0].changes[0].kind is LevelKind.UNEXPLAINED
    assert unsettled(replayed.findings) == tuple(replayed.findings)


def test_recorded_pairs_confirm_a_regression():
    """Of the suspected and the last good build, on a night since the first bad one, judged as a confirmation."""
    replayed = nightly([*releases(40, STEP, worse=0.06), *pairs(STEP, "old", "new", worse=0.06)])
    found = next(each for each in replayed.findings if each.said is Said.REGRESSED)
    assert (found.date, found.gate_date) == (day(STEP), day(STEP))
    assert (found.build, found.last_good_build) == ("new", "old")
    assert found.comparison.finding is Finding.REGRESSED
    assert found.comparison.margin == pytest.approx(0.03 * 0.667)
    assert unsettled(replayed.findings) == ()


def test_recorded_pairs_of_equal_builds_say_that_the_environment_stepped():
    """An odd night at first; once it has lasted, the same pairs settle it and the level moves."""
    replayed = nightly([*releases(40, STEP, worse=0.06), *pairs(STEP, "old", "new", level=0.06)])
    said = from_step(replayed)
    assert said[0].said is Said.ODD_NIGHT
    assert {found.said for found in said} == {Said.ODD_NIGHT, Said.ENVIRONMENT}
    assert next(found for found in said if found.said is Said.ENVIRONMENT).last_good_build == "old"
    assert [change.kind for change in replayed.series[0].changes] == [LevelKind.ENVIRONMENT]
    assert unsettled(replayed.findings) == ()


def test_one_build_throughout_cannot_regress():
    """A step between two nights of one build is the environment's, without a gate."""
    replayed = nightly(nights(50, step_at=STEP, worse=0.06, build="b"))
    said = from_step(replayed)
    assert {found.said for found in said} <= {Said.ODD_NIGHT, Said.ENVIRONMENT}
    assert [found.said for found in said].count(Said.ENVIRONMENT) >= 1
    assert all(found.same_build and found.comparison is None for found in said)
    assert unsettled(replayed.findings) == ()


def test_a_later_night_can_confirm_what_was_suspected():
    """Then the record says so: what was unexplained is a regression."""
    rows = releases(45, STEP, worse=0.06)
    alone = nightly(rows)
    assert LevelKind.UNEXPLAINED in [change.kind for change in alone.series[0].changes]
    replayed = nightly([*rows, *pairs(STEP + 5, "old", "new", worse=0.06)])
    confirmed = next(found for found in replayed.findings if found.said is Said.REGRESSED)
    assert (confirmed.date, confirmed.gate_date) == (day(STEP + 5), day(STEP + 5))
    assert [change.kind for change in replayed.series[0].changes] == [LevelKind.REGRESSION]
    assert unsettled(replayed.findings) == ()


def test_pairs_that_decide_nothing_are_used_once():
    """Three noisy pairs leave it open tonight; from the next night on it is a suspicion without a gate."""
    rows = [*releases(45, STEP, worse=0.06), *pairs(STEP, "old", "new", 3, level=0.06, cv=0.1)]
    said = [found.said for found in from_step(nightly(rows))]
    assert said[0] is Said.UNDECIDED
    assert said.count(Said.UNDECIDED) == 1
    assert Said.SUSPECTED in said
    assert Said.REGRESSED not in said


def test_an_odd_night_moves_nothing():
    """One night 15 % worse is said once, and never again."""
    rows = nights(60)
    rows[STEP] = replace(rows[STEP], reading=rows[STEP].reading * 1.15)
    replayed = nightly(rows)
    assert [(found.date, found.recorded) for found in from_step(replayed)] == [(day(STEP), False)]
    assert replayed.series[0].changes == ()


def test_a_better_level_goes_on_record():
    """So that its end is seen as worse."""
    replayed = nightly(nights(60, step_at=STEP, worse=-0.06))
    said = from_step(replayed)
    assert [found.said for found in said] == [Said.IMPROVED]
    assert said[0].effect == pytest.approx(-0.06, abs=0.02)
    assert replayed.series[0].changes[0].kind is LevelKind.IMPROVEMENT


def test_a_slow_drift_is_measured_against_the_release():
    """Given by name; without one, against the first nights. Later nights of the release do not hide it."""
    rows = nights(90, cv=0.004)
    rows = [replace(row, reading=row.reading * 1.0007**index) for index, row in enumerate(rows)]
    rows = [replace(row, build="release") if index < 10 else row for index, row in enumerate(rows)]
    for named in ({"release": "release"}, {}):
        drifts = [found for found in nightly(rows, **named).findings if found.kind is SuspicionKind.DRIFT]
        assert drifts
        assert drifts[0].last_good_build == "release"


@pytest.mark.parametrize("seed", range(4))
def test_only_what_was_known_then_counts(seed):
    """What is said of the first nights does not change with the nights that follow."""
    rows = [*releases(70, STEP, worse=0.04, seed=seed), *pairs(STEP + 2, "old", "new", worse=0.04, seed=seed)]
    whole = nightly(rows).findings
    for until in (STEP + 1, STEP + 2, STEP + 20):
        known = [row for row in rows if row.date < day(until)]
        assert nightly(known).findings == tuple(found for found in whole if found.date < day(until))


def test_many_suspected_metrics_are_confirmed_six_at_a_time():
    """Eight scenarios step together: every one is confirmed, by two suites with the error of a suite each."""
    rows = []
    for number in range(8):
        named = {"scenario": f"s{number}"}
        rows += releases(STEP + 3, STEP, worse=0.08, seed=number, **named)
        rows += pairs(STEP, "old", "new", worse=0.08, seed=number, **named)
    regressed = [found for found in nightly(rows).findings if found.said is Said.REGRESSED]
    assert sorted(found.scenario for found in regressed) == [f"s{number}" for number in range(8)]
    tonight = [found for found in regressed if found.date == day(STEP)]
    assert len(tonight) > 6


# --- as the gate --------------------------------------------------------------------------------------------


def test_a_gate_stops_at_the_pair_where_the_real_one_would():
    """As judging with more and more pairs until the suite is finished."""
    rows = pairs(0, "old", "new", worse=0.05)
    (gate,), problem = replay_gates(recorded(rows), "r", GPU)
    assert problem is None
    assert (gate.baseline, gate.candidate, gate.finding) == ("old", "new", Finding.REGRESSED)
    assert gate.pairs_recorded == 8
    item = pairs_of(recorded(rows))
    state = None
    for count in range(3, 9):
        now = replace(item, baseline=item.baseline[:count], candidate=item.candidate[:count])
        state = judge_suite([now], {}, GPU, state.frozen if state else {})
        if state.finished:
            break
    assert gate.pair_count == state.pair_count < 8
    assert gate.comparisons == state.comparisons


def test_a_recording_that_ends_early_is_undecided():
    """Three noisy pairs: the gate would have gone on, and its looks stay those of the policy."""
    (gate,), _ = replay_gates(recorded(pairs(0, "old", "new", 3, cv=0.1)), "r", GPU)
    assert (gate.finding, gate.pair_count, gate.pair_limit) == (Finding.INCONCLUSIVE, 3, GPU.pair_count_max)


def test_each_build_is_compared_with_its_predecessor_of_that_night():
    """Four builds on one night make three gates; two deployments are too few for any."""
    rows = [*pairs(0, "a", "b"), *pairs(1, "b", "c"), *pairs(1, "a", "e", seed=5), *pairs(2, "x", "y", 2)]
    gates, _ = replay_gates(recorded(rows), "r", GPU)
    assert [(gate.date, gate.baseline, gate.candidate) for gate in gates] == [
        (day(0), "a", "b"),
        (day(1), "a", "b"),
        (day(1), "b", "c"),
        (day(1), "c", "e"),
    ]


def test_more_than_six_primaries_are_refused_by_name():
    """No error rate is stated for them."""
    rows = [row for number in range(7) for row in pairs(0, "old", "new", scenario=f"s{number}")]
    gates, problem = replay_gates(recorded(rows), "r", GPU)
    assert gates == ()
    assert len(problem.primaries) == 7


def test_a_gate_learns_from_the_gates_before_it_alone():
    """The prior of a suite never holds its own pairs; with history the limit may be smaller."""
    rows = [row for night in range(6) for row in pairs(night, f"b{night}", f"b{night + 1}", cv=0.003, seed=night)]
    gates, _ = replay_gates(recorded(rows), "r", GPU)
    assert gates[0].comparisons[0].prior_df == 0
    assert gates[-1].comparisons[0].prior_df > 0
    assert gates[-1].pair_limit < gates[0].pair_limit
    item = pairs_of(recorded(rows), "b0", "b1")
    past = PastRounds()
    past.note("r", [item], (day(0), "b0", "b1"))
    assert not past.priors("r", [item.key], (day(0), "b0", "b1"))[item.key].known
    assert past.priors("r", [item.key], (day(1), "b1", "b2"))[item.key].known


def test_descriptive_metrics_are_described_and_decide_nothing():
    """As in the gate: a p99 five times as high blocks nothing."""
    p99 = "ttft_s_p99"
    rows = [*pairs(0, "old", "new"), *pairs(0, "old", "new", worse=4.0, metric=p99)]
    (gate,), _ = replay_gates(recorded(rows, CPU), "r", CPU)
    assert gate.finding is Finding.NO_WORSE
    described = next(found for found in gate.comparisons if found.metric == p99)
    assert (described.primary, described.finding) == (False, Finding.REGRESSED)
    assert replay_gates(recorded(pairs(0, "old", "new", metric=p99), CPU), "r", CPU) == ((), None)


def test_a_leg_with_too_few_deployments_is_left_out_and_named():
    """The others of the suite are judged."""
    rows = [*pairs(0, "old", "new"), *pairs(0, "old", "new", 2, scenario="short")]
    (gate,), _ = replay_gates(recorded(rows), "r", GPU)
    assert gate.left_out == (("short", METRIC),)
    assert [found.scenario for found in gate.comparisons] == ["s"]


def test_one_measurement_read_twice_is_no_evidence():
    """Arms that agree to the last bit are invalid."""
    rows = [
        Row(build, f"{day(0)}T0{index}:00", reading=0.01 + index / 1e4, deployment=f"{index}")
        for build in ("old", "new")
        for index in range(5)
    ]
    (gate,), _ = replay_gates(recorded(rows), "r", GPU)
    assert gate.finding is Finding.INVALID


def test_a_confirmation_goes_on_until_every_metric_is_decided():
    """A gate stops at its first regressed metric; a confirmation says something of each."""
    bad = pairs(0, "old", "new", worse=0.2, cv=0.005)
    rows = [*bad, *pairs(0, "old", "new", scenario="t", cv=0.02, seed=11)]
    items = [paired(series.nights[0], (series.scenario, METRIC), "old", "new", GPU) for series in recorded(rows).series]
    state, decided = judge_recorded(items, {}, GPU)
    assert set(decided) == {("s", METRIC)}
    whole, all_decided = judge_recorded(items, {}, GPU, until_all_decided=True)
    assert whole.pair_count > state.pair_count
    assert set(all_decided) >= set(decided)
