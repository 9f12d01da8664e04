"""The deployer `llm-d`: a Deployment of vLLM, reached by its pods or through llm-d's standalone router."""

from __future__ import annotations

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_deployer import ClusterDeployer
from redline.deploy.cluster_pods import objects, texts, whole
from redline.deploy.cluster_target import Limits, Way
from redline.deploy.deployer import Order
from redline.deploy.manifests_llmd import POOL_GROUP, router_name, router_url

KINDS = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    (f"{POOL_GROUP}/v1", "InferencePool"),
    ("v1", "ConfigMap"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ServiceAccount"),
)


def addresses(order: Order, found: tuple[Json, ...]) -> tuple[str, ...]:
    """The router's address in the cluster, by number and then by name: a name needs the cluster's own resolver."""
    wanted = ("Service", router_name(order))
    service = next((each for each in found if (each["kind"], texts(each, "metadata", "name")) == wanted), {})
    address = texts(service, "spec", "clusterIP")
    port = next((whole(each, "port") for each in objects(service, "spec", "ports")), 0)
    if not address or address == "None" or not port:
        return (router_url(order),)
    host = f"[{address}]" if ":" in address else address
    return (f"http://{host}:{port}", router_url(order))


class LlmdDeployer(ClusterDeployer):
    """Serves an image behind llm-d's router, without Helm."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(Way("llm-d", addresses, KINDS), limits)
