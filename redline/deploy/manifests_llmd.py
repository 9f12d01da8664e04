"""llm-d as objects, without Helm: vLLM's pods, and the router that spreads requests over them.

The router is llm-d's standalone one: an Envoy and the endpoint picker in one pod, which needs no Gateway. Reached by
pods there is no router, and what is left is one Deployment: no CustomResourceDefinition is needed then.

Source: llm-d-router v0.10 (its standalone chart's flags, ports, probes and rights), InferencePool v1 of the Gateway
API Inference Extension.
"""

from __future__ import annotations

import math
from typing import Any

from redline.deploy.deployer import Order
from redline.deploy.manifests_kserve import require_router
from redline.deploy.manifests_model import cluster_of, own_model
from redline.deploy.manifests_pod import PORT, pull_secrets, server_container, server_pod
from redline.deploy.manifests_proxy import PICKER_PORT, PROXY_PORT, PROXY_READY_PORT, envoy_config
from redline.deploy.manifests_text import Manifest, literal, object_name, yaml_text
from redline.deploy.routing import picker_config
from redline.errors import UsageError
from redline.model import ClusterSettings, RouterPin

SERVER_CONTAINER = "vllm"
PICKER_CONTAINER = "picker"
PROXY_CONTAINER = "proxy"
POOL_GROUP = "inference.networking.k8s.io"
PICKER_HEALTH_PORT = 9003
PICKER_METRICS_PORT = 9090
PROXY_CPUS = 4
PICKER_CPUS = 4
ROUTER_MEMORY = "8Gi"
DEADLINE_MARGIN_S = 600

PICKER_RULES: tuple[dict[str, list[str]], ...] = (
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [POOL_GROUP], "resources": ["inferencepools"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": ["inference.networking.x-k8s.io", "llm-d.ai"],
        "resources": ["inferenceobjectives", "inferencemodelrewrites"],
        "verbs": ["get", "list", "watch"],
    },
)
"""What the endpoint picker reads. Kubernetes lets nobody grant what they do not have: Redline's own Role holds it."""


def llmd(order: Order) -> tuple[Manifest, ...]:
    """The objects of an order, in the order in which they are applied; only the servers where there is no router.

    Raises UsageError for an order that llm-d cannot serve.
    """
    cluster = cluster_of(order)
    servers = _servers(order, cluster)
    if cluster.reach == "pods":
        return (servers,)
    router = require_router(order)
    if not cluster.proxy_image:
        raise UsageError(
            "llm-d's router needs a proxy that is pinned",
            expected="proxy_image in [cluster], an Envoy by digest",
            found="none",
            next_step='name proxy_image in the runner class, or set reach = "pods"',
        )
    return (*_account(order, cluster), *_configuration(order, cluster, router), *_routed(order, cluster), servers)


def router_name(order: Order) -> str:
    """What everything of the router is called, its Service too."""
    return f"{object_name(order)}-router"


def router_url(order: Order) -> str:
    """Where the router is reached from inside the cluster."""
    return f"http://{router_name(order)}.{cluster_of(order).namespace}.svc:{PROXY_PORT}"


def server_labels(order: Order) -> dict[str, str]:
    """The labels by which a server's pods are found, by the router and by Redline."""
    return {"app.kubernetes.io/instance": object_name(order), "app.kubernetes.io/component": "model-server"}


def router_labels(order: Order) -> dict[str, str]:
    """The labels by which the router's pod is found, by its Service and by Redline."""
    return {"app.kubernetes.io/instance": object_name(order), "app.kubernetes.io/component": "router"}


def _object(api_version: str, kind: str, name: str, cluster: ClusterSettings, **body: Any) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": cluster.namespace},
        **body,
    }


def _servers(order: Order, cluster: ClusterSettings) -> Manifest:
    source = own_model(order)
    container = server_container(order, source, SERVER_CONTAINER, literal)
    spec = {
        "replicas": order.replica_count,
        "selector": {"matchLabels": server_labels(order)},
        "strategy": {"type": "Recreate"},
        "progressDeadlineSeconds": math.ceil(order.recipe.start_s_max) + DEADLINE_MARGIN_S,
        "template": {"metadata": {"labels": server_labels(order)}, "spec": server_pod(order, source, container)},
    }
    return _object("apps/v1", "Deployment", object_name(order), cluster, spec=spec)


def _account(order: Order, cluster: ClusterSettings) -> tuple[Manifest, ...]:
    """Who the picker is to the cluster's API, and what it may read there."""
    name, api_group = router_name(order), "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
    return (
        _object("v1", "ServiceAccount", name, cluster),
        _object(f"{api_group}/v1", "Role", name, cluster, rules=[dict(rule) for rule in PICKER_RULES]),
        _object(
            f"{api_group}/v1",
            "RoleBinding",
            name,
            cluster,
            subjects=[subject],
            roleRef={"apiGroup": api_group, "kind": "Role", "name": name},
        ),
    )


def _configuration(order: Order, cluster: ClusterSettings, router: RouterPin) -> tuple[Manifest, ...]:
    """The picker's configuration as it is pinned, and the proxy's."""
    picker_config(router)
    name = router_name(order)
    return (
        _object("v1", "ConfigMap", f"{name}-picker", cluster, data={"picker.yaml": router.config}),
        _object("v1", "ConfigMap", f"{name}-proxy", cluster, data={"envoy.yaml": yaml_text([envoy_config()])}),
    )


def _routed(order: Order, cluster: ClusterSettings) -> tuple[Manifest, ...]:
    """The pool of servers, and the router over it with its address."""
    name, labels = router_name(order), router_labels(order)
    pool = {
        "selector": {"matchLabels": server_labels(order)},
        "targetPorts": [{"number": PORT}],
        "endpointPickerRef": {"name": name, "port": {"number": PICKER_PORT}, "failureMode": "FailClose"},
    }
    ports = [
        {"name": "http", "port": PROXY_PORT, "targetPort": PROXY_PORT, "protocol": "TCP"},
        {"name": "grpc-picker", "port": PICKER_PORT, "targetPort": PICKER_PORT, "protocol": "TCP"},
    ]
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": labels}, "spec": _router_pod(order, cluster)},
    }
    return (
        _object(f"{POOL_GROUP}/v1", "InferencePool", object_name(order), cluster, spec=pool),
        _object("v1", "Service", name, cluster, spec={"selector": labels, "ports": ports}),
        _object("apps/v1", "Deployment", name, cluster, spec=spec),
    )


def _router_pod(order: Order, cluster: ClusterSettings) -> Manifest:
    name = router_name(order)
    return {
        "serviceAccountName": name,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": max(1, math.ceil(order.grace_s)),
        "containers": [_proxy(cluster), _picker(order, cluster)],
        "volumes": [
            {"name": "picker", "configMap": {"name": f"{name}-picker"}},
            {"name": "proxy", "configMap": {"name": f"{name}-proxy"}},
        ],
    } | pull_secrets(cluster)


def _confined(cpus: int) -> Manifest:
    """As many CPUs on every node, and no rights."""
    return {
        "resources": {"requests": {"cpu": str(cpus), "memory": ROUTER_MEMORY}, "limits": {"memory": ROUTER_MEMORY}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _proxy(cluster: ClusterSettings) -> Manifest:
    """Envoy with a fixed number of threads: by itself it takes one for each CPU of whatever node it is on."""
    return {
        "name": PROXY_CONTAINER,
        "image": cluster.proxy_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": ["-c", "/etc/envoy/envoy.yaml", "--log-level", "warn", "--concurrency", str(PROXY_CPUS)],
        "ports": [{"name": "http", "containerPort": PROXY_PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PROXY_READY_PORT}, "periodSeconds": 5},
        **_confined(PROXY_CPUS),
        "volumeMounts": [{"name": "proxy", "mountPath": "/etc/envoy", "readOnly": True}],
    }


def _picker(order: Order, cluster: ClusterSettings) -> Manifest:
    """The endpoint picker: no TLS to the proxy in the same pod, no rights over the whole cluster for its metrics."""
    router = require_router(order)
    flags = {
        "pool-name": object_name(order),
        "pool-namespace": cluster.namespace,
        "pool-group": POOL_GROUP,
        "config-file": "/config/picker.yaml",
        "grpc-port": PICKER_PORT,
        "grpc-health-port": PICKER_HEALTH_PORT,
        "metrics-port": PICKER_METRICS_PORT,
        "secure-serving": "false",
        "metrics-endpoint-auth": "false",
        "tracing": "false",
        "zap-encoder": "json",
    }
    probe = {"grpc": {"port": PICKER_HEALTH_PORT}, "periodSeconds": 5}
    return {
        "name": PICKER_CONTAINER,
        "image": router.image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--{name}={value}" for name, value in flags.items()],
        "env": [
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [
            {"name": "grpc", "containerPort": PICKER_PORT},
            {"name": "grpc-health", "containerPort": PICKER_HEALTH_PORT},
            {"name": "metrics", "containerPort": PICKER_METRICS_PORT},
        ],
        "readinessProbe": probe,
        **_confined(PICKER_CPUS),
        "volumeMounts": [{"name": "picker", "mountPath": "/config", "readOnly": True}],
    }
