"""Speed and accuracy joined: which finding wins, and the sentence for the top line."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from checks.findings import not_compared
from checks.verdict import PRECEDENCE, join
from redline.model import AccuracyComparison, Comparison, Finding

SPEED = Comparison(
    scenario="offline",
    metric="output_tokens_per_s",
    finding=Finding.NO_WORSE,
    primary=True,
    baseline=4500.0,
    candidate=4490.0,
    effect=0.002,
    effect_low=-0.03,
    effect_high=0.034,
    margin=0.10,
    pair_count=4,
    df=3.0,
    p_two_sided=0.9,
    effect_detectable=0.06,
    method="paired t on logs",
)
SLOW = replace(SPEED, finding=Finding.REGRESSED, effect=0.48, effect_low=0.44, effect_high=0.52, candidate=2340.0)
FAST = replace(SPEED, finding=Finding.IMPROVED, effect=-0.12, effect_low=-0.16, effect_high=-0.08)
OPEN = replace(SPEED, finding=Finding.INCONCLUSIVE, effect=0.06, effect_low=-0.02, effect_high=0.14, pairs_needed=14)
BROKEN = not_compared("server", "ttft_s_median", 0.25, "readings of 1 of 4 pairs are missing", primary=True)
RIGHT = AccuracyComparison(
    scenario="skill",
    finding=Finding.NO_WORSE,
    item_count=360,
    baseline=0.954,
    candidate=0.954,
    change=0.0,
    change_low=0.0,
    change_high=0.0,
    lost_count=0,
    gained_count=0,
    worse_p=0.5,
    alpha=0.025,
    share_min=0.98,
    share_finding=Finding.NO_WORSE,
    items_needed=None,
)
WRONG = replace(
    RIGHT, finding=Finding.REGRESSED, candidate=0.901, change=-0.053, lost_count=20, gained_count=1, worse_p=1e-6
)
UNSURE = replace(RIGHT, finding=Finding.INCONCLUSIVE, candidate=0.951, change=-0.003, items_needed=1500)


@pytest.mark.parametrize(
    ("comparisons", "accuracy", "finding"),
    [
        ([SPEED], [RIGHT], Finding.NO_WORSE),
        ([SPEED, FAST], [RIGHT], Finding.IMPROVED),
        ([FAST], [WRONG], Finding.REGRESSED),
        ([SLOW], [RIGHT], Finding.REGRESSED),
        ([SLOW, BROKEN], [], Finding.REGRESSED),
        ([SPEED, BROKEN], [RIGHT], Finding.INVALID),
        ([OPEN, FAST], [], Finding.INCONCLUSIVE),
        ([OPEN], [WRONG], Finding.REGRESSED),
        ([SPEED], [UNSURE], Finding.INCONCLUSIVE),
        ([replace(SLOW, primary=False), SPEED], [], Finding.NO_WORSE),
        ([replace(SLOW, primary=False)], [], Finding.INVALID),
        ([], [], Finding.INVALID),
        ([], [RIGHT], Finding.NO_WORSE),
    ],
)
def test_the_finding_follows_the_table(comparisons, accuracy, finding):
    """Proven harm first, then what could not be measured, then what is undecided, then the passes."""
    verdict = join(comparisons, accuracy)
    assert verdict.finding is finding
    assert verdict.reason
    assert len(verdict.evidence) == len(comparisons) + len(accuracy)


def test_every_mix_of_two_follows_the_precedence():
    """Of any two primaries the finding that stands first in the table is the verdict's."""
    for one, other in product(PRECEDENCE, repeat=2):
        verdict = join([replace(SPEED, finding=one), replace(SPEED, finding=other)])
        assert verdict.finding is min(one, other, key=PRECEDENCE.index)
        assert verdict.reason


def test_a_wrong_arm_invalidates_everything():
    """Even a regression is not believed when the arm is not the build asked for."""
    verdict = join([SLOW], [WRONG], arm_problems=["the server answers as 0.31.0, pinned is 0.32.0"])
    assert verdict.finding is Finding.INVALID
    assert verdict.reason == "the server answers as 0.31.0, pinned is 0.32.0"


def test_a_missing_baseline_is_never_a_pass():
    """A scenario without baseline makes a quiet verdict "no baseline"; a regression elsewhere still stands."""
    quiet = join([SPEED], missing_baselines=["server-short"])
    assert (quiet.finding, quiet.reason) == (Finding.NO_BASELINE, "No baseline for server-short")
    assert "no baseline for server-short" in quiet.warnings
    assert join([SLOW], missing_baselines=["server-short"]).finding is Finding.REGRESSED


def test_an_error_is_not_joined():
    """An error is no finding of a comparison and raises."""
    with pytest.raises(ValueError, match="raise it"):
        join([replace(SPEED, finding=Finding.ERROR)])


@pytest.mark.parametrize(
    ("comparisons", "accuracy", "reason"),
    [
        ([SLOW], [], "Output throughput 48 % worse (95 % interval 44 to 52 %), margin 10 %"),
        ([FAST], [], "Output throughput 12 % better (95 % interval 8 to 16 %), margin 10 %"),
        (
            [SLOW, BROKEN],
            [],
            "Output throughput in offline 48 % worse (95 % interval 44 to 52 %), margin 10 %",
        ),
        (
            [SPEED],
            [RIGHT],
            (
                "1 primary metric no worse; nearest its margin: Output throughput 0.2 % worse "
                "(95 % interval -3 to 3.4 %), margin 10 %. "
                "Accuracy in skill unchanged at 95.4 % (0 items lost, 0 gained of 360)"
            ),
        ),
        (
            [OPEN],
            [],
            (
                "Undecided: Output throughput 6 % worse (95 % interval -2 to 14 %), margin 10 %; "
                "about 14 pairs would decide it"
            ),
        ),
        (
            [FAST],
            [WRONG],
            "Accuracy in skill fell from 95.4 % to 90.1 % (20 items lost, 1 gained of 360, p < 0.0001 for worse)",
        ),
        ([BROKEN], [], "TTFT median could not be compared: readings of 1 of 4 pairs are missing"),
        ([], [], "Nothing was compared"),
    ],
)
def test_the_reason_is_one_line(comparisons, accuracy, reason):
    """The top line names what decided, by how much, and against which margin."""
    assert join(comparisons, accuracy).reason == reason


def test_evidence_is_ranked():
    """What decides comes first: regressed by size, then the rest, descriptive metrics last."""
    slower = replace(SLOW, metric="tpot_s_median", scenario="server", effect=0.9)
    noticed = replace(SLOW, metric="ttft_s_p99", primary=False, effect=5.0)
    verdict = join([SPEED, noticed, SLOW, slower], [RIGHT])
    starts = [text.split(" in ")[0] for text in verdict.evidence]
    assert starts == [
        "regressed: TPOT median",
        "regressed: Output throughput",
        "no worse: Accuracy",
        "no worse: Output throughput",
        "regressed: TTFT p99",
    ]
    assert verdict.evidence[-1].endswith("(descriptive)")


# --- what a candidate has to reach, whatever the baseline does ------------------------------------------------

MISSED = "rouge1 in gptj-accuracy is 41, at least 42.944 is needed (99.9 % of the reference 42.9865)"
LATE = "server is INVALID by MLPerf's rules: TTFT p99, 2.31 s, limit at most 2.00 s"


@pytest.mark.parametrize(
    ("comparisons", "accuracy", "missing"),
    [
        ([SPEED], [RIGHT], []),
        ([FAST], [RIGHT], []),
        ([OPEN], [UNSURE], []),
        ([BROKEN], [], []),
        ([SPEED], [], ["server-short"]),
        ([], [], []),
    ],
)
def test_what_is_not_reached_is_regressed(comparisons, accuracy, missing):
    """No comparison makes up for it, not even an improvement, and none has to be made first."""
    verdict = join(comparisons, accuracy, missing_baselines=missing, unmet=[MISSED])
    assert verdict.finding is Finding.REGRESSED
    assert verdict.reason == MISSED
    assert verdict.evidence[0] == f"regressed: {MISSED}"
    assert len(verdict.evidence) == 1 + len(comparisons) + len(accuracy)


def test_a_regression_is_told_beside_what_is_not_reached():
    """The first line names the first requirement, how many more there are, and then the comparison that was lost."""
    verdict = join([SLOW], unmet=[MISSED, LATE])
    assert verdict.reason == f"{MISSED}, and 1 more. {join([SLOW]).reason}"
    assert verdict.evidence[:2] == (f"regressed: {MISSED}", f"regressed: {LATE}")


def test_a_wrong_build_reaches_and_misses_nothing():
    """What another build answers says nothing about the one asked for."""
    problem = "the server answers as 0.31.0, pinned is 0.32.0"
    verdict = join([SPEED], [RIGHT], arm_problems=[problem], unmet=[MISSED])
    assert (verdict.finding, verdict.reason) == (Finding.INVALID, problem)


def test_nothing_to_reach_changes_nothing():
    """A scenario without requirements is judged as before."""
    assert join([SPEED], [RIGHT], unmet=[]) == join([SPEED], [RIGHT])
