"""A build that nobody made, as a value: walking over commits, that is an answer and no failure."""

from __future__ import annotations

from dataclasses import dataclass

from redline.errors import NoBuildError

REASON_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class NoBuild:
    """There is no such build. `name`: as it was asked for; `reason`: what there is instead, in one line of words."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        # It stands in lists with one build a line, and comes from an index or a registry.
        line = "".join(character if character.isprintable() else " " for character in self.reason)
        object.__setattr__(self, "reason", " ".join(line.split())[:REASON_CHARACTERS_MAX])

    def as_error(self) -> NoBuildError:
        """For those who need this one build."""
        return NoBuildError(
            f"there is no build {self.name}",
            expected="a build for this machine",
            found=self.reason,
            next_step="wait if the commit is younger than an hour or two, name another variant or commit, "
            "or ask `redline builds last` for the newest one that exists",
        )
