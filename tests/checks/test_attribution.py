"""Why: what is said to have moved, how it is ranked, how often noise is said to move, and what is never said."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.attribution import Kind, Statement, explain
from checks.measures import CLIENT, DECODE, E2E, ENGINE_STEPS, PREEMPTIONS, QUEUE, STAGES, sent_e2e_s
from redline.model import Arm, Outcome, SystemUnderTest, Trial, TrialStatus
from tests.checks.made_up_stages import RUNNER, SUT, Spent, arms, pin, trial

CAUSES = re.compile(
    r"\b(because|caus\w*|due to|owing|therefore|thus|hence|leads? to|led to|results? (in|from)|responsible|explains?|"
    r"blame\w*|thanks to|reason)\b",
    re.IGNORECASE,
)
SLOWER = Spent(decode_s=0.060, queue_s=0.006)
OTHER = SystemUnderTest(pin("0.33.0", "torch==2.9.0"), ("--max-num-seqs", "2"))
WORSE_EVERYWHERE = Spent(
    queue_s=0.1, prefill_s=0.02, decode_s=0.02, front_end_s=0.01, network_s=0.01, late_s=0.02, cpu_s=0.05,
    preemption_count=40.0, hit_count=100.0, step_count=50.0, start_s=90.0,
)  # fmt: skip


def said(statements: tuple[Statement, ...], words: str) -> list[Statement]:
    """The statements whose text holds these words."""
    return [each for each in statements if words in each.text]


def explained(before: Spent, after: Spent, pair_count: int = 4, **more: object) -> tuple[Statement, ...]:
    """What is said of noisy pairs."""
    return explain(*arms(before, after, pair_count, **more))


# --- what moved -----------------------------------------------------------------------------------------------


def test_the_parts_add_up_to_what_the_client_saw():
    """Queue, prefill, decode, front end, client and network: nothing is counted twice, nothing is lost."""
    one = trial(Arm.SINGLE, 0, SLOWER)
    parts = [measure.of(one) for measure in (*STAGES, CLIENT)]
    assert parts[0] == pytest.approx(0.006)
    assert sum(parts) == pytest.approx(sent_e2e_s(one), abs=1e-12)
    assert sent_e2e_s(one) == pytest.approx(SLOWER.sent_e2e_s, abs=1e-8)


def test_the_stage_that_moved_most_is_said_first_with_its_share_of_the_whole():
    """Decode by 20 ms and queue by 5 ms, of 25 ms: in this order, with interval, p and pairs."""
    before = [trial(Arm.BASELINE, pair, Spent(decode_s=0.040 + pair * 1e-4)) for pair in range(3)]
    after = [trial(Arm.CANDIDATE, pair, replace(SLOWER, decode_s=0.060 + pair * 2e-4)) for pair in range(3)]
    decode, queue = explain(before, after)
    assert decode.text == (
        "server: decode time per request, by the server's own clock, moved by +20.1 ms (95 % interval +19.9 ms to "
        "+20.3 ms, p < 0.0001, 3 pairs), from 40.1 ms to 60.2 ms (+50.1 %); it accounts for 20.1 ms of the 25.1 ms by "
        "which E2E per request, from sending, changed"
    )
    assert queue.text.startswith("server: queue time per request, by the server's own clock, moved by +5 ms")
    assert "1 ms to 6 ms (6 times); it accounts for 5 ms of the 25.1 ms" in queue.text
    assert decode.change is not None
    assert decode.change.mean == pytest.approx(0.0201)
    assert decode.change.low == pytest.approx(0.0201 - 4.302653 * 1e-4 / math.sqrt(3), rel=1e-6)
    assert decode.weight == pytest.approx(0.0201 / after[1].repeats[1].records[0].chunk_ns[-1] * 1e9, rel=0.01)


def test_a_part_that_moved_against_the_whole_does_not_account_for_it():
    """Queue falls while E2E rises: the two changes are said beside each other."""
    statements = explained(Spent(queue_s=0.02), Spent(decode_s=0.080))
    assert "accounts for" not in said(statements, "queue time")[0].text
    assert "E2E per request, from sending, changed by +" in said(statements, "queue time")[0].text


def test_client_and_network_are_beside_the_build():
    """Time that the client saw and the server did not is a statement of its own kind."""
    (found,) = [each for each in explained(Spent(), Spent(network_s=0.030), 6) if each.kind is Kind.CLIENT]
    assert found.text.startswith("server: client and network time per request")
    assert found.text.endswith("evidence beside the build")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Spent(preemption_count=50.0), "preemptions per window moved by +"),
        (Spent(hit_count=100.0), "prefix-cache hit share moved by +50.00 points"),
        (Spent(step_count=50.0), "tokens per engine step moved by +"),
        (Spent(start_s=60.0), "time to start the server moved by +3"),
        (
            Spent(late_s=0.02),
            "time between due and sent (client lateness, or the wait for a place in flight) moved by +",
        ),
        (Spent(cpu_s=0.05), "load client's CPU time per request moved by +"),
        (Spent(decode_s=0.4), "requests running at once (mean) moved by +"),
    ],
)
def test_telemetry_that_moved_with_the_arm_is_said(after: Spent, words: str):
    """Each measure is found where it moved, as telemetry."""
    found = said(explained(Spent(), after, 6), words)
    assert [each.kind for each in found] == [Kind.TELEMETRY]


def test_a_machine_that_was_busier_for_one_arm_is_said():
    """Foreign CPU and steal that moved with the arm are evidence beside the build."""
    before, after = arms(Spent(), Spent(), 5)
    busy = [
        replace(
            each,
            repeats=tuple(
                replace(one, foreign_cpu_share=(one.foreign_cpu_share or 0.0) + 0.2, steal_share=one.steal_share + 0.3)
                for one in each.repeats
            ),
        )
        for each in after
    ]
    texts = [each.text for each in explain(before, busy) if each.kind is Kind.TELEMETRY]
    assert [text.split(" moved by ")[0] for text in texts] == [
        "server: CPU share stolen",
        "server: CPU share of other processes",
    ]
    assert all(text.endswith("; evidence beside the build") for text in texts)


def test_a_deployment_of_two_scenarios_takes_its_time_to_start_once():
    """Both scenarios of a deployment hold the same starts: said once."""
    statements = explained(Spent(), Spent(start_s=60.0), 6, scenarios=("offline", "server"))
    assert len(said(statements, "time to start")) == 1


def test_stages_come_before_telemetry_and_telemetry_before_differences():
    """The ranking: by kind, then by weight."""
    before, after = arms(Spent(), WORSE_EVERYWHERE, 6, scenarios=("a", "b"))
    statements = explain(before, after, baseline=SUT, candidate=OTHER)
    kinds = ["moved" if each.kind in (Kind.STAGE, Kind.CLIENT) else each.kind.value for each in statements]
    assert kinds == sorted(kinds, key=["moved", "telemetry", "difference"].index)
    for kind in set(kinds):
        weights = [each.weight for each, its in zip(statements, kinds, strict=True) if its == kind]
        assert weights == sorted(weights, reverse=True)
    assert said(statements, "build differs")[0].weight == 1.0


# --- few pairs, and trials that do not count ------------------------------------------------------------------


@pytest.mark.parametrize(("count", "words"), [(1, "one pair: not tested"), (2, "two pairs: not tested")])
def test_fewer_than_three_pairs_are_not_tested(count: int, words: str):
    """The plain means of what changed a lot, said to be untested; nothing is said to have moved."""
    statements = explained(Spent(), WORSE_EVERYWHERE, count)
    assert said(statements, "queue time per request, by the server's own clock, went from")
    assert all(words in each.text and "moved" not in each.text for each in statements)
    assert {each.kind for each in statements} == {Kind.STAGE, Kind.CLIENT}
    assert all(each.p is None and each.change.low is None for each in statements)


def test_small_changes_of_few_pairs_are_not_said():
    """Three per cent of decode in one pair is nothing."""
    before = [trial(Arm.BASELINE, 0, Spent())]
    assert explain(before, [trial(Arm.CANDIDATE, 0, Spent(decode_s=0.0412))]) == ()
    assert len(explain(before, [trial(Arm.CANDIDATE, 0, Spent(decode_s=0.0440))])) == 1


def test_only_whole_pairs_of_valid_unscored_trials_count():
    """An invalid trial is evidence of nothing; nor is a trial whose other arm is missing; nor are scored answers."""
    before, after = arms(Spent(), SLOWER, 4)
    assert said(explain(before, after), "4 pairs)")
    spoilt = [replace(after[0], status=TrialStatus.INVALID), *after[1:]]
    assert said(explain(before, spoilt), "3 pairs)")
    assert said(explain(before[1:], after), "3 pairs)")
    assert explain(before, []) == ()
    scored = [
        [
            replace(
                each,
                repeats=tuple(
                    replace(one, records=tuple(replace(record, score=1.0) for record in one.records))
                    for one in each.repeats
                ),
            )
            for each in arm
        ]
        for arm in (before, after)
    ]
    assert explain(*scored) == ()


def test_client_and_server_that_counted_different_requests_are_not_subtracted():
    """A failed request leaves client and network unsaid, and what the server alone says stands."""
    before, after = arms(Spent(), Spent(network_s=0.050, decode_s=0.080), 4)
    failed = [
        replace(
            each,
            repeats=tuple(
                replace(one, records=(replace(one.records[0], outcome=Outcome.TIMEOUT), *one.records[1:]))
                for one in each.repeats
            ),
        )
        for each in after
    ]
    statements = explain(before, failed)
    assert said(statements, "decode time")
    assert not said(statements, "client and network")


# --- properties -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), pair_count=st.integers(1, 6), decode_s=st.floats(0.01, 0.2))
def test_swapping_the_arms_flips_every_sign_and_nothing_else(seed: int, pair_count: int, decode_s: float):
    """The same statements with the same p and weight, changes negated and bounds mirrored."""
    before, after = arms(Spent(), replace(WORSE_EVERYWHERE, decode_s=decode_s), pair_count, seed=seed)

    def key(each: Statement) -> tuple[str, str, str]:
        return each.kind.value, each.scenario, re.split(r" (?:moved by|went from) ", each.text)[0]

    there = {key(each): each for each in explain(before, after)}
    back = {key(each): each for each in explain(after, before)}
    assert list(there) == list(back)
    for name, each in there.items():
        mirrored = back[name]
        assert mirrored.change.mean == -each.change.mean
        assert (mirrored.p, mirrored.weight) == (each.p, each.weight)
        assert (mirrored.change.baseline, mirrored.change.candidate) == (each.change.candidate, each.change.baseline)
        if each.change.low is not None and each.change.high is not None:
            assert (mirrored.change.low, mirrored.change.high) == (-each.change.high, -each.change.low)


def test_noise_alone_is_rarely_said_to_move():
    """Of 240 verdicts on equal builds at most about one in ten says that anything moved."""
    loud = [
        bool(explained(Spent(), Spent(), pair_count, seed=seed, scenarios=("offline", "server")))
        for pair_count in (3, 4, 6)
        for seed in range(80)
    ]
    assert sum(loud) / len(loud) <= 0.11


def test_the_order_of_trials_does_not_matter():
    """Shuffled trials give the same statements in the same order."""
    before, after = arms(Spent(), WORSE_EVERYWHERE, 5, scenarios=("a", "b"))
    statements = explain(before, after, baseline=SUT, candidate=OTHER)
    rng = random.Random(3)
    for _ in range(5):
        rng.shuffle(before)
        rng.shuffle(after)
        assert explain(before, after, baseline=SUT, candidate=OTHER) == statements


COUNTERS = [
    f"{QUEUE}_sum", f"{QUEUE}_count", f"{DECODE}_sum", f"{DECODE}_count", f"{E2E}_sum", f"{E2E}_count",
    f"{ENGINE_STEPS}_count", PREEMPTIONS,
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    bad=st.dictionaries(st.sampled_from(COUNTERS), st.sampled_from([math.nan, math.inf, -math.inf, -5.0, 0.0])),
    side=st.sampled_from([0, 1]),
    missing=st.booleans(),
)
def test_counters_that_say_nothing_are_left_out(bad: dict[str, float], side: int, missing: bool):
    """NaN, infinite, negative and missing counters never reach a statement, and nothing raises."""

    def spoil(each: Trial) -> Trial:
        repeats = tuple(
            replace(
                one,
                server_counters={} if missing else dict(one.server_counters) | bad,
                foreign_cpu_share=None if missing else one.foreign_cpu_share,
            )
            for one in each.repeats
        )
        return replace(each, repeats=repeats, start_s=math.nan)

    sides = list(arms(Spent(), WORSE_EVERYWHERE, 4))
    sides[side] = [spoil(each) for each in sides[side]]
    for each in explain(*sides):
        figures = (each.change.mean, each.change.low, each.change.high, each.change.baseline, each.p, each.weight)
        assert all(math.isfinite(figure) for figure in figures)
        assert not re.search(r"\b(nan|inf)\b", each.text)
        assert "time to start" not in each.text


def test_a_counter_missing_in_one_pair_leaves_that_pair_out_of_that_measure():
    """The other pairs still say something, and their number is given."""
    before, after = arms(Spent(), SLOWER, 4)
    after[2] = replace(
        after[2],
        repeats=tuple(
            replace(one, server_counters=dict(one.server_counters) | {f"{QUEUE}_count": 0.0})
            for one in after[2].repeats
        ),
    )
    statements = explain(before, after)
    assert "3 pairs)" in said(statements, "queue time")[0].text
    assert "4 pairs)" in said(statements, "decode time")[0].text


# --- words ----------------------------------------------------------------------------------------------------


def everything_said() -> list[Statement]:
    """Statements of every kind: moved, untested, better, worse, of every difference."""
    found: list[Statement] = []
    other = replace(OTHER, models=(("tiny", "models/other"),), pin=replace(OTHER.pin, python_version="3.12"))
    same_version = replace(SUT, pin=replace(SUT.pin, wheel_sha256="cd" * 32), extra_args=("--max_num_seqs=2",))
    moved = replace(RUNNER, facts={"cpu_model": "Xeon"}, notes={"kernel": "6.9"})
    for candidate in (SUT, other, same_version):
        for pair_count in (1, 2, 5):
            before, after = arms(Spent(), WORSE_EVERYWHERE, pair_count)
            after = [replace(each, fingerprint=moved) for each in after]
            found += explain(before, after, baseline=SUT, candidate=candidate)
            found += explain(after, before, baseline=candidate, candidate=replace(OTHER, extra_args=("-q", "3")))
    found += explain([], [], baseline=SUT, candidate=SUT)
    return found


def test_no_statement_claims_a_cause():
    """Moved, differs, accounts for: never because."""
    found = everything_said()
    assert {each.kind for each in found} == set(Kind)
    assert len({each.text for each in found}) > 40
    assert [each.text for each in found if CAUSES.search(each.text)] == []


def test_every_statement_about_a_measure_has_its_figures():
    """Interval, p and pairs where it was tested; both means where it was not."""
    for each in everything_said():
        if each.kind is Kind.DIFFERENCE:
            assert each.change is None
        elif each.p is None:
            assert re.search(r" went from \S+ \S+ to \S+ .*: not tested", each.text)
        else:
            assert re.search(
                r"moved by [+-].* \(95 % interval [+-].* to [+-].*, p [=<] [\d.e-]+, \d pairs\)", each.text
            )
