"""The deployer `inference-service`: an InferenceService in Standard mode, reached by its pods or by its address."""

from __future__ import annotations

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_deployer import ClusterDeployer
from redline.deploy.cluster_pods import texts
from redline.deploy.cluster_target import Limits, Way
from redline.deploy.deployer import Order

KIND = ("serving.kserve.io/v1beta1", "InferenceService")


def addresses(order: Order, found: tuple[Json, ...]) -> tuple[str, ...]:
    """What its status names: the address from outside, then the one within the cluster."""
    del order
    service = next((each for each in found if each["kind"] == KIND[1]), {})
    told = (texts(service, "status", "url"), texts(service, "status", "address", "url"))
    return tuple(dict.fromkeys(url.rstrip("/") for url in told if url))


class InferenceServiceDeployer(ClusterDeployer):
    """Serves an image as an InferenceService of KServe."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(Way("inference-service", addresses, (KIND,)), limits)
