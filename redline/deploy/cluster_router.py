"""The router of a cluster's servers, read back: is what spreads the requests the one that is pinned?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_errors import message_of
from redline.deploy.cluster_pods import Pod, at, objects, summary, texts
from redline.deploy.deployer import Order
from redline.deploy.manifests import PICKER_CONTAINERS
from redline.deploy.manifests_llmd import PROXY_CONTAINER
from redline.deploy.routing import image_mark, router_mark, router_problem
from redline.errors import DeployError


def require_pinned(order: Order, deployer: str, pod: Json, config_maps: Iterable[Json]) -> None:
    """Refuse a router that is not the pinned one: other images, another configuration. Raises DeployError.

    `pod`: the router's; `config_maps`: those that Redline made.
    """
    router = order.sut.router
    assert router is not None  # only a pinned router has labels to be found by
    ours = {texts(each, "metadata", "name"): _strings(at(each, "data")) for each in config_maps}
    problem = router_problem(router, pod, PICKER_CONTAINERS[deployer], ours) or _proxy_problem(order, deployer, pod)
    if not problem:
        return
    raise DeployError(
        f"{order.name} is not routed by the pinned router",
        expected=f"{router.image} with the configuration of the scenario's routing",
        found=f"pod {texts(pod, 'metadata', 'name')}: {message_of(problem)}",
        next_step="an admission rule replaces images, or a preset of KServe for the scheduler brings a configuration: "
        "exempt this namespace, or pin what the cluster puts there",
    )


def not_readable(order: Order, selector: str, routers: tuple[Pod, ...]) -> DeployError:
    """The error for servers that are ready while what routes to them is not there to be read: none, or several."""
    return DeployError(
        f"the router of {order.name} cannot be read back",
        expected=f"one pod that is ready with the labels {selector}",
        found="; ".join(map(summary, routers)) or "none",
        next_step="kubectl get pods --show-labels; compare the version of KServe with docs/kubernetes.md, "
        'or set reach = "pods"',
    )


def reach_facts(order: Order, deployer: str) -> dict[str, str]:
    """What stands between the client and the servers, as far as it is pinned: it decides what may be compared.

    `reach`: `pods` or `router`; `router`: as `router_mark`; `proxy`: of llm-d's router, the image's digest in short.
    """
    cluster, router = order.cluster, order.sut.router
    facts: dict[str, str] = {"reach": cluster.reach if cluster is not None else "pods"}
    if cluster is None or cluster.reach != "router" or router is None:
        return facts
    facts["router"] = router_mark(router)
    return facts | ({"proxy": image_mark(cluster.proxy_image)} if deployer == "llm-d" else {})


def _proxy_problem(order: Order, deployer: str, pod: Json) -> str:
    """What keeps llm-d's proxy from being the pinned one; ''. KServe's gateway is the cluster's, and not pinned."""
    if deployer != "llm-d" or order.cluster is None:
        return ""
    images = [
        texts(each, "image") for each in objects(pod, "spec", "containers") if each.get("name") == PROXY_CONTAINER
    ]
    pinned = order.cluster.proxy_image.rpartition("@")[2]
    if [image.rpartition("@")[2] for image in images] == [pinned]:
        return ""
    return f"its proxy runs {', '.join(images) or 'no image'}, and {order.cluster.proxy_image} is pinned"


def _strings(found: object) -> dict[str, str]:
    """The texts of a table; {} for what is none."""
    if not isinstance(found, Mapping):
        return {}
    return {str(key): value for key, value in found.items() if isinstance(value, str)}
