"""KServe's two ways of serving, as objects: LLMInferenceService and InferenceService.

Both are told everything that decides a measurement: the image by digest, the whole command line, how many replicas
there are and who spreads requests over them. What KServe adds of its own (its preset, its storage initializer, its
routes) is the same for both arms.

Source: KServe v0.20, the CustomResourceDefinition of LLMInferenceService, and its presets (config/llmisvcconfig).
"""

from __future__ import annotations

from functools import partial

from redline.deploy.deployer import Order
from redline.deploy.manifests_model import cluster_of, provisioned_model
from redline.deploy.manifests_pod import pull_secrets, server_container, server_pod
from redline.deploy.manifests_text import Manifest, literal, object_name
from redline.deploy.routing import picker_config
from redline.errors import UsageError
from redline.model import ClusterSettings, RouterPin

LLM_CONTAINER = "main"
"""The container of KServe's preset that ours is merged into, in the server's pod and in the scheduler's."""

INFERENCE_CONTAINER = "kserve-container"
"""The container of a custom predictor that KServe serves from."""

IN_TEMPLATE = partial(literal, template=True)


def llm_inference_service(order: Order) -> tuple[Manifest, ...]:
    """The LLMInferenceService of an order: replicas x tensor parallel of vLLM, and the router if it is reached by one.

    Raises UsageError for an order that KServe cannot serve this way.
    """
    cluster, source = cluster_of(order), provisioned_model(order)
    tls = cluster.tls and cluster.reach == "router"
    container = server_container(order, source, LLM_CONTAINER, IN_TEMPLATE, tls=tls)
    spec: Manifest = {
        "model": {"uri": source.uri, "name": IN_TEMPLATE(order.recipe.served_model_name)},
        "replicas": order.replica_count,
        "parallelism": {"tensor": order.tensor_parallel},
        "template": server_pod(order, source, container),
    }
    if cluster.reach == "router":
        spec["router"] = _router(order, cluster)
    return (
        {
            "apiVersion": "serving.kserve.io/v1alpha2",
            "kind": "LLMInferenceService",
            "metadata": {"name": object_name(order), "namespace": cluster.namespace},
            "spec": spec,
        },
    )


def inference_service(order: Order) -> tuple[Manifest, ...]:
    """The InferenceService of an order in Standard mode: a custom predictor, a fixed number of replicas.

    Raises UsageError for an order that KServe cannot serve this way.
    """
    cluster, source = cluster_of(order), provisioned_model(order)
    _require_sized(cluster)
    if order.sut.router is not None:
        raise UsageError(
            "an InferenceService has no router that could be configured",
            expected="a scenario that is routed evenly",
            found="a router in the system under test",
            next_step='choose a runner class with deployer = "kserve" or "llm-d"',
        )
    container = server_container(order, source, INFERENCE_CONTAINER, literal)
    container["env"].insert(0, {"name": "STORAGE_URI", "value": literal(source.uri)})
    count = order.replica_count
    metadata: Manifest = {
        "name": object_name(order),
        "namespace": cluster.namespace,
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "none",
        },
    }
    if cluster.reach == "pods":
        metadata["labels"] = {"networking.kserve.io/visibility": "cluster-local"}
    return (
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {
                "predictor": {"minReplicas": count, "maxReplicas": count} | server_pod(order, source, container),
            },
        },
    )


def _router(order: Order, cluster: ClusterSettings) -> Manifest:
    """The cluster's gateway, a route of its own, and the pinned endpoint picker with its whole configuration."""
    router = require_router(order)
    picker: Manifest = {"name": LLM_CONTAINER, "image": router.image, "imagePullPolicy": "IfNotPresent"}
    return {
        "gateway": {},
        "route": {},
        "scheduler": {
            "replicas": 1,
            "config": {"inline": _in_template(picker_config(router))},
            "template": {"containers": [picker]} | pull_secrets(cluster),
        },
    }


def require_router(order: Order) -> RouterPin:
    """The order's pinned router. Raises UsageError if it has none."""
    if order.sut.router is None:
        raise UsageError(
            "a service is reached through its router, and none is pinned",
            expected="router_image in [cluster], by digest",
            found="no router in the system under test",
            next_step='name router_image in the runner class, or set reach = "pods"',
        )
    return order.sut.router


def _in_template(value: object) -> object:
    """The same table with every string as KServe's template leaves it alone."""
    if isinstance(value, dict):
        return {str(key): _in_template(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_template(each) for each in value]
    # The braces only: what redline.deploy.routing writes holds no $.
    return value.replace("{{", "{{`{{`}}") if isinstance(value, str) else value


def _require_sized(cluster: ClusterSettings) -> None:
    if not (cluster.pod_cpus and cluster.pod_memory):
        raise UsageError(
            "KServe gives an InferenceService that asks for no CPUs and memory its own defaults: 1 CPU and 2 GiB",
            expected="pod_cpus and pod_memory in [cluster]",
            found=f'pod_cpus = "{cluster.pod_cpus}", pod_memory = "{cluster.pod_memory}"',
            next_step="say what one replica needs",
        )
