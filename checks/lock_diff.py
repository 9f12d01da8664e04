"""What differs between the packages of two builds, the most telling first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from checks.differences import relevance


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that is not the same. An empty version: it is not installed there."""

    name: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """`torch 2.13.0 -> 2.14.0`, `xgrammar 0.1.9 added`, `ray 2.50 removed`."""
        if not self.before:
            return f"{self.name} {self.after} added"
        if not self.after:
            return f"{self.name} {self.before} removed"
        if self.before == self.after:
            return f"{self.name} {self.after}: other files of the same version"
        return f"{self.name} {self.before} -> {self.after}"


def package_changes(
    before: Mapping[str, tuple[str, tuple[str, ...]]],
    after: Mapping[str, tuple[str, tuple[str, ...]]],
    *,
    builds: frozenset[str] = frozenset(),
) -> tuple[PackageChange, ...]:
    """What differs between two locks: (version, digests of the files) by package name.

    Other files of one version are a change only where the two share none: a lock may name more or fewer platforms.
    `builds`: names of the builds themselves, which are said elsewhere.
    """
    found = []
    for name in sorted((before.keys() | after.keys()) - builds, key=relevance):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or old[0] != new[0] or not set(old[1]) & set(new[1]):
            found.append(PackageChange(name, old[0] if old else "", new[0] if new else ""))
    return tuple(found)
