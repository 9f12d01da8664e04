"""What differs between two machines, and whether what was measured on them may be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from redline.model import RunnerFingerprint


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry of the fingerprint that is not the same. Empty texts: it was not recorded on that side.

    A `fact` that differs makes two results incomparable; a `note` may explain why one of them changed.
    """

    kind: Literal["fact", "note"]
    name: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """`gpu driver 570.86.15 -> 575.51.03`."""
        return f"{self.name.replace('_', ' ')} {self.before or 'unknown'} -> {self.after or 'unknown'}"


def differences(before: RunnerFingerprint, after: RunnerFingerprint) -> tuple[Difference, ...]:
    """What differs, facts first, each by name."""
    return differences_of_arms([before], [after])


def differences_of_arms(
    before: Sequence[RunnerFingerprint], after: Sequence[RunnerFingerprint]
) -> tuple[Difference, ...]:
    """What differs between the machines of two arms; nothing if one arm has none.

    A note that one arm does not have at all is no difference: an earlier version did not record it.
    """
    if not before or not after:
        return ()
    facts = _different("fact", [each.facts for each in before], [each.facts for each in after])
    notes = _different("note", [each.notes for each in before], [each.notes for each in after])
    return (*facts, *(each for each in notes if each.before and each.after))


def may_compare(before: RunnerFingerprint, after: RunnerFingerprint) -> bool:
    """True if results of the two may be compared: every fact is the same."""
    return before.fingerprint_id == after.fingerprint_id


def why_incomparable(before: RunnerFingerprint, after: RunnerFingerprint) -> str:
    """The facts that forbid a comparison, in words; empty where it is allowed."""
    return ", ".join(each.words for each in differences(before, after) if each.kind == "fact")


def _different(
    kind: Literal["fact", "note"], before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]
) -> list[Difference]:
    names = sorted({name for mapping in (*before, *after) for name in mapping})
    found = []
    for name in names:
        left, right = _values(name, before), _values(name, after)
        if left != right:
            found.append(Difference(kind, name, _either(left), _either(right)))
    return found


def _values(name: str, mappings: Iterable[Mapping[str, str]]) -> frozenset[str]:
    return frozenset(mapping[name] for mapping in mappings if name in mapping)


def _either(values: frozenset[str]) -> str:
    return " and ".join(sorted(value or "empty" for value in values))
