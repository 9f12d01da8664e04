"""What all deployers to a cluster share: serve, render and clean up by one `Way` of serving."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from redline.deploy.cluster_deployment import ClusterDeployment, serve
from redline.deploy.cluster_objects import cleanup_place, noted_places
from redline.deploy.cluster_target import Limits, Way
from redline.deploy.deployer import Order
from redline.deploy.manifests import MANIFESTS
from redline.deploy.manifests_text import yaml_text
from redline.errors import ClusterError
from redline.model import ClusterSettings


class ClusterDeployer:
    """One way of serving in a cluster. `limits`: how long what may take."""

    def __init__(self, way: Way, limits: Limits | None = None) -> None:
        self.name = way.name
        self._way = way
        self._limits = limits

    def deploy(self, order: Order, on_progress: Callable[[str], None]) -> AbstractContextManager[ClusterDeployment]:
        """Servers in the order's cluster, as `redline.deploy.cluster_deployment.serve` says."""
        return serve(self._way, order, on_progress, self._limits)

    def render(self, order: Order) -> str:
        """The manifests, as YAML that `kubectl apply` takes. Raises UsageError."""
        return yaml_text(MANIFESTS[self.name](order))

    def cleanup(self, state_dir: Path, *, older_than_s: float | None) -> tuple[str, ...]:
        """End what Redlines that are gone left, wherever this machine made something this way; a line for each object.

        Every place is looked at, even if one fails. Raises ClusterError for the first that failed.
        """
        ended: list[str] = []
        failures: list[ClusterError] = []
        for context, namespace, kinds in noted_places(state_dir, self.name):
            try:
                ended += cleanup_place(context, namespace, kinds, older_than_s=older_than_s)
            except ClusterError as error:
                failures.append(error)
        if failures:
            first = failures[0]
            raise ClusterError(
                f"cleanup could not finish: {first.problem}",
                expected=first.expected,
                found="; ".join((first.found, *(f"ended: {line}" for line in ended))),
                next_step=f"{first.next_step}; places are noted in {state_dir / 'clusters'}: remove the note of one "
                "that is no more",
            ) from first
        return tuple(ended)

    def cleanup_in(self, settings: ClusterSettings, *, older_than_s: float | None) -> tuple[str, ...]:
        """The same in one cluster and namespace, whoever made something there. Raises ClusterError.

        For runners that keep no state: what a host that is no more left there is known by its age only.
        """
        return cleanup_place(settings.context, settings.namespace, self._way.kinds, older_than_s=older_than_s)
