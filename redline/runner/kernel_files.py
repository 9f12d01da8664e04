"""Reading the kernel's files, each of which may be missing, closed to us, or empty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """/proc, /sys and their like below a root, which is `/` but for tests. What cannot be read is None or empty."""

    root: Path = Path("/")

    def path(self, name: str) -> Path:
        """Where the file of an absolute name lies."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """The text of a file without its last newline; empty where it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace").strip()
        except (OSError, ValueError):
            return ""

    def number(self, name: str) -> int | None:
        """The number that a file holds; None where it cannot be read or holds something else."""
        try:
            return int(self.text(name))
        except ValueError:
            return None

    def flag(self, name: str) -> bool | None:
        """Whether the number that a file holds is not 0; None where it cannot be read."""
        found = self.number(name)
        return None if found is None else found != 0

    def names(self, folder: str) -> tuple[str, ...]:
        """What a folder holds, sorted; () where it cannot be read."""
        try:
            return tuple(sorted(entry.name for entry in self.path(folder).iterdir()))
        except OSError:
            return ()

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            return self.path(name).exists()
        except OSError:
            return False

    def table(self, name: str) -> dict[str, str]:
        """`key: value` lines, up to the first empty one; the last of several equal keys counts."""
        found: dict[str, str] = {}
        for line in self.text(name).split("\n\n", 1)[0].splitlines():
            key, colon, value = line.partition(":")
            if colon:
                found[key.strip()] = value.strip()
        return found


def listed_count(text: str) -> int | None:
    """How many the kernel's list `0-3,8` names; None for an empty or another text."""
    total = 0
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            total += int(last) - int(first) + 1 if dash else int(first) * 0 + 1
    except ValueError:
        return None
    return total
