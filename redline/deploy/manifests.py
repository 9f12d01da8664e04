"""What is applied to a cluster for one order, by deployer: plain objects, and the same as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from redline.deploy.deployer import Order
from redline.deploy.manifests_kserve import (
    INFERENCE_CONTAINER,
    LLM_CONTAINER,
    inference_service,
    llm_inference_service,
)
from redline.deploy.manifests_llmd import PICKER_CONTAINER, SERVER_CONTAINER, llmd, router_labels, server_labels
from redline.deploy.manifests_text import Manifest, object_name, yaml_text

MANIFESTS: Mapping[str, Callable[[Order], tuple[Manifest, ...]]] = {
    "kserve": llm_inference_service,
    "inference-service": inference_service,
    "llm-d": llmd,
}
"""Deployer -> the objects of an order, in the order in which they are applied."""

SERVER_CONTAINERS: Mapping[str, str] = {
    "kserve": LLM_CONTAINER,
    "inference-service": INFERENCE_CONTAINER,
    "llm-d": SERVER_CONTAINER,
}
"""Deployer -> the container of a pod in which vLLM runs."""

PICKER_CONTAINERS: Mapping[str, str] = {"kserve": LLM_CONTAINER, "llm-d": PICKER_CONTAINER}
"""Deployer -> the container of its router's pod that picks who answers."""


def pod_labels(order: Order, deployer: str) -> dict[str, str]:
    """The labels by which the pods that serve an order are found. Source: KServe's presets for its own."""
    name = object_name(order)
    if deployer == "kserve":
        return {"app.kubernetes.io/name": name, "kserve.io/component": "workload"}
    if deployer == "inference-service":
        return {"serving.kserve.io/inferenceservice": name, "component": "predictor"}
    return server_labels(order)


def router_pod_labels(order: Order, deployer: str) -> dict[str, str]:
    """The labels by which the pods of an order's router are found; {} where it has none that is pinned.

    Source: KServe's controller for its own (the selector of the Deployment that it makes for the scheduler).
    """
    if order.sut.router is None or order.cluster is None or order.cluster.reach != "router":
        return {}
    if deployer == "kserve":
        component = "llminferenceservice-router-scheduler"
        return {"app.kubernetes.io/name": object_name(order), "app.kubernetes.io/component": component}
    return router_labels(order) if deployer == "llm-d" else {}


def manifest_files(objects: Sequence[Manifest]) -> dict[str, str]:
    """File name -> YAML text, one object a file, named so that they are applied in their order."""
    return {f"{index:02d}-{each['kind'].lower()}.yaml": yaml_text([each]) for index, each in enumerate(objects, 1)}
