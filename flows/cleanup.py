"""`redline cleanup`: what a Redline that was killed left behind, in every place where this machine serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from redline.deploy.choice import DEPLOYERS
from redline.errors import DeployError


def cleanup(state_dir: Path, *, older_than_s: float | None) -> Iterator[str]:
    """A line for each thing that was ended. Every deployer is asked, even if one fails.

    `older_than_s`: also what was started longer ago than this, whoever started it. Raises the first DeployError.
    """
    failures: list[DeployError] = []
    count = 0
    for name, make in DEPLOYERS.items():
        try:
            for line in make().cleanup(state_dir, older_than_s=older_than_s):
                count += 1
                yield f"{name}: {line}"
        except DeployError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    if count == 0:
        yield "nothing was left behind"
