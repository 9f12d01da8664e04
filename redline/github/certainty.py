"""Creations that happen once, although an answer may be lost on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redline.errors import GitHubUnsureError
from redline.github.client import GitHub

T = TypeVar("T")

LOOK_AGAIN_S = (3.0, 10.0)
"""Seconds before each further look: GitHub's lists may be a moment behind what was made."""


def until_sure(github: GitHub, attempt: Callable[[], T]) -> T:
    """What `attempt` returns, which begins by looking whether it was done already. Made again while nobody can tell.

    Raises GitHubUnsureError if the answer was lost each time.
    """
    for wait_s in LOOK_AGAIN_S:
        try:
            return attempt()
        except GitHubUnsureError as error:
            github.pause(wait_s, error.problem)
    return attempt()
