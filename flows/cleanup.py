"""`redline cleanup`: what a Redline that was killed left behind, in every place where this machine serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from flows.workspace import Workspace, content_root
from redline.deploy.choice import DEPLOYERS
from redline.errors import DeployError, UsageError


def cleanup(state_dir: Path, *, older_than_s: float | None, runner: str = "") -> Iterator[str]:
    """A line for each thing that was ended. Every deployer is asked, even if one fails.

    `older_than_s`: also what was started longer ago than this, whoever started it. `runner`: a cluster's class, whose
    namespace is looked at whether or not this machine made anything there. Raises ContentError for an unknown class,
    UsageError for one without a cluster, and the first DeployError.
    """
    failures: list[DeployError] = []
    count = 0
    for name, clean in _cleaners(state_dir, older_than_s, runner).items():
        try:
            for line in clean():
                count += 1
                yield f"{name}: {line}"
        except DeployError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    if count == 0:
        yield "nothing was left behind"


def _cleaners(state_dir: Path, older_than_s: float | None, runner: str) -> Mapping[str, Callable[[], tuple[str, ...]]]:
    if not runner:
        return {name: partial(make().cleanup, state_dir, older_than_s=older_than_s) for name, make in DEPLOYERS.items()}
    from redline.deploy.cluster_deployer import ClusterDeployer  # noqa: PLC0415 - brings a large library

    runner_class = Workspace(content_root(), state_dir).runner_class(runner)
    deployer = DEPLOYERS[runner_class.deployer]() if runner_class.cluster is not None else None
    if runner_class.cluster is None or not isinstance(deployer, ClusterDeployer):
        raise UsageError(
            f"runner class {runner} serves in no cluster",
            expected="a class with [cluster]",
            found=f'deployer = "{runner_class.deployer}"',
            next_step="leave --runner out: containers of this machine are found without it",
        )
    return {deployer.name: partial(deployer.cleanup_in, runner_class.cluster, older_than_s=older_than_s)}
