"""The benchmark of the decisions: it measures what it says. No test here asserts a time."""

from __future__ import annotations

from benchmarks.method.decide import LIVES, Timing, gate_case, main, table, time_gate
from redline.model import Finding


def test_the_gate_that_is_timed_is_a_whole_one():
    """Six primaries and ten descriptive metrics at the 8th pair, undecided until then: nothing is short-circuited."""
    case = gate_case()
    state = case.judge(8)
    assert [each.primary for each in state.comparisons] == [True] * 6 + [False] * 10
    assert case.looks == (3, 4, 5, 6, 7, 8)
    assert state.pair_count == state.pair_limit == 8
    assert all(each.prior_df > 0 for each in state.comparisons)
    assert case.judge(3).finding is Finding.INCONCLUSIVE


def test_cold_and_warm_are_timed_as_often_as_asked():
    """Three rows, each with as many times; only single decisions have a target."""
    timings = time_gate(gate_case(), 2)
    assert [len(each.seconds) for each in timings] == [2, 2, 2]
    assert [each.target_s is not None for each in timings] == [True, True, False]


def test_every_series_has_a_life():
    """The shares of the kinds of series add up to all of them."""
    assert abs(sum(share for share, _, _ in LIVES) - 1) < 1e-9


def test_a_missed_target_is_said():
    """A median above its target is marked in the table; one without a target never is."""
    slow, free = Timing("slow", (0.1, 30.0, 40.0), 20.0), Timing("free", (40.0,), None)
    text = table([slow, free])
    assert "| slow | 30.0 s | 100.0 ms | 40.0 s | 20.0 s MISSED |" in text
    assert "| free | 40.0 s | 40.0 s | 40.0 s |  |" in text
    assert (slow.missed, free.missed) == (True, False)


def test_the_command_prints_its_table(capsys):
    """A short run ends, with one row per decision."""
    assert main(["--times", "1", "--nights", "20", "--series", "4"]) in {0, 1}
    printed = capsys.readouterr().out
    assert printed.count("| gate, ") == 3
    assert "| nightly, 20 nights x 4 series |" in printed
