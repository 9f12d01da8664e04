"""What differs between two machines, in words, and whether their results may be compared."""

from __future__ import annotations

from checks.fingerprints import Difference, differences, differences_of_arms, may_compare, why_incomparable
from redline.model import RunnerFingerprint

BEFORE = RunnerFingerprint({"host": "a", "gpu_driver": "570.86"}, {"kernel": "6.1", "governor": "performance"})
AFTER = RunnerFingerprint({"host": "a", "gpu_driver": "575.51"}, {"kernel": "6.8", "microcode": "0x1"})


def test_what_differs_is_named_in_words() -> None:
    """Facts first, then notes, before and after."""
    found = differences(BEFORE, AFTER)
    assert [each.words for each in found] == ["gpu driver 570.86 -> 575.51", "kernel 6.1 -> 6.8"]
    assert [each.kind for each in found] == ["fact", "note"]


def test_only_facts_forbid_a_comparison() -> None:
    """A new kernel is recorded; a new driver is another machine."""
    assert not may_compare(BEFORE, AFTER)
    assert why_incomparable(BEFORE, AFTER) == "gpu driver 570.86 -> 575.51"
    patched = RunnerFingerprint(BEFORE.facts, AFTER.notes)
    assert may_compare(BEFORE, patched)
    assert why_incomparable(BEFORE, patched) == ""


def test_a_fact_that_one_side_lacks_forbids_a_comparison() -> None:
    """A CPU's fingerprint has no accelerator; a note that was not recorded then says nothing."""
    bare = RunnerFingerprint({"host": "a"})
    assert not may_compare(bare, AFTER)
    assert differences(bare, AFTER) == (Difference("fact", "gpu_driver", "", "575.51"),)
    assert why_incomparable(bare, AFTER) == "gpu driver unknown -> 575.51"


def test_arms_on_several_machines_show_all_values() -> None:
    """Each arm's values are joined; an arm without trials differs in nothing."""
    both = differences_of_arms([BEFORE, AFTER], [AFTER])
    assert [each.words for each in both if each.kind == "fact"] == ["gpu driver 570.86 and 575.51 -> 575.51"]
    assert differences_of_arms([], [AFTER]) == ()
