"""The deployer `kserve`: an LLMInferenceService, reached by its pods or through its gateway."""

from __future__ import annotations

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_deployer import ClusterDeployer
from redline.deploy.cluster_pods import objects, texts
from redline.deploy.cluster_target import Limits, Way
from redline.deploy.deployer import Order

KIND = ("serving.kserve.io/v1alpha2", "LLMInferenceService")


def addresses(order: Order, found: tuple[Json, ...]) -> tuple[str, ...]:
    """What its status names: the address that KServe prefers, then the others. They end in a path of their own."""
    del order
    service = next((each for each in found if each["kind"] == KIND[1]), {})
    told = (
        texts(service, "status", "url"),
        *(texts(each, "url") for each in objects(service, "status", "addresses")),
        texts(service, "status", "address", "url"),
    )
    return tuple(dict.fromkeys(url.rstrip("/") for url in told if url))


class KServeDeployer(ClusterDeployer):
    """Serves an image as an LLMInferenceService of KServe."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(Way("kserve", addresses, (KIND,)), limits)
