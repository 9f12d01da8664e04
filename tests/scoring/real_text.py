"""Real English prose for the scorers: docstrings of the standard library."""

from __future__ import annotations

import functools
import importlib
import random

MODULES = (
    "argparse",
    "asyncio",
    "collections",
    "decimal",
    "email.message",
    "json",
    "logging",
    "os",
    "re",
    "subprocess",
)


@functools.lru_cache(maxsize=1)
def docstrings() -> tuple[str, ...]:
    """Distinct docstrings of 80 to 3,000 characters, as this Python has them."""
    found: dict[str, None] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in sorted(dir(module)):
            text = getattr(getattr(module, attribute), "__doc__", None)
            if isinstance(text, str) and 80 <= len(text) <= 3000:
                found[text] = None
    return tuple(found)


def with_gaps(text: str, rng: random.Random) -> str:
    """The text without three of ten of its words, a few of the others exchanged: what a summary is to its source."""
    kept = [word for word in text.split(" ") if rng.random() < 0.7]
    for _ in range(len(kept) // 10):
        i, j = rng.randrange(len(kept)), rng.randrange(len(kept))
        kept[i], kept[j] = kept[j], kept[i]
    return " ".join(kept)
