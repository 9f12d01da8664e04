"""The pod that serves: vLLM from the pinned image, with the arguments and variables that a host's server has.

Nothing stray gets in there either: no variables of the namespace's Services (one called `vllm` would set VLLM_PORT),
no token of the cluster's API beside a model's own code, no privileges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from redline.deploy.command import server_command, server_environment
from redline.deploy.deployer import Order
from redline.deploy.manifests_model import MOUNT, ModelSource, cluster_of
from redline.deploy.manifests_text import Manifest, byte_quantity
from redline.deploy.routing import require_prefix_cache
from redline.errors import UsageError
from redline.model import BuildKind, ClusterSettings

PORT = 8000
CACHE = "/redline-cache"
"""All that vLLM compiles and caches: empty at every start, and writable whoever the image runs as."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux has it, not a temporary file of ours

TLS_DIR = "/var/run/kserve/tls"
"""Where KServe mounts the certificate of a server behind its router."""

SERVER_PROGRAM = ("python3", "-m", "vllm.entrypoints.openai.api_server")
"""What every vLLM image holds, whatever its entry point is."""

SHM_BYTES_PER_ACCELERATOR = 10 << 30
"""Shared memory of a pod: the 20 GiB of llm-d's own overlay for two accelerators (tensor parallel 2)."""

PROBE_S = 5
UNHEALTHY_S_MAX = 300
UNREADY_S_MAX = 60


def image_of(order: Order) -> str:
    """The pinned image's reference. Raises UsageError for a build of another kind."""
    pin = order.sut.pin
    if pin.kind is not BuildKind.IMAGE or pin.url is None:
        raise UsageError(
            f"{pin.label} cannot be served in a cluster: its nodes run images",
            expected="an image by digest: repository@sha256:...",
            found=f"a build of kind {pin.kind.value} ({pin.spec})",
            next_step="name the image of this build: --build image:REPOSITORY@sha256:...",
        )
    return pin.url


def server_args(order: Order, source: ModelSource, *, tls: bool = False) -> tuple[str, ...]:
    """vLLM's arguments as a host's server gets them, but reachable from other pods.

    Raises: UsageError if the recipe does not know the platform, if an extra argument is not free, or if requests are
    routed by prefixes over servers that keep none.
    """
    arguments = list(
        server_command(
            python=Path("python3"),
            recipe=replace(order.recipe, model=source.path, revision=source.revision),
            platform=order.sut.pin.platform,
            extra_args=order.sut.extra_args,
            model=source.path,
            port=PORT,
        )
    )[len(SERVER_PROGRAM) :]
    arguments[arguments.index("--host") + 1] = "0.0.0.0"  # noqa: S104 - a pod's address is what it is reached by
    if order.sut.router is not None:
        require_prefix_cache(order.sut.router, arguments)
    if tls:
        arguments += ["--ssl-certfile", f"{TLS_DIR}/tls.crt", "--ssl-keyfile", f"{TLS_DIR}/tls.key"]
    return tuple(arguments)


def server_container(
    order: Order, source: ModelSource, name: str, write: Callable[[str], str], *, tls: bool = False
) -> Manifest:
    """The container that serves `source`; `write` makes each string arrive as it is. Raises UsageError as above."""
    cluster = cluster_of(order)
    mounts: list[Manifest] = [
        {"name": "dshm", "mountPath": SHARED_MEMORY},
        {"name": "redline-cache", "mountPath": CACHE},
    ]
    if source.claim:
        mounts.append({"name": "model", "mountPath": MOUNT, "readOnly": True})
    return {
        "name": name,
        "image": image_of(order),
        "imagePullPolicy": "IfNotPresent",
        "command": list(SERVER_PROGRAM),
        "args": [write(each) for each in server_args(order, source, tls=tls)],
        "env": _environment(order, source, write),
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(order, cluster),
        **_probes(order, "HTTPS" if tls else "HTTP"),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }


def server_pod(order: Order, source: ModelSource, container: Manifest) -> Manifest:
    """The pod around the container: its volumes, where it may run, how long it may take to end."""
    cluster = cluster_of(order)
    shm_bytes = cluster.shm_bytes or SHM_BYTES_PER_ACCELERATOR * order.tensor_parallel
    volumes: list[Manifest] = [
        {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": byte_quantity(shm_bytes)}},
        {"name": "redline-cache", "emptyDir": {}},
    ]
    if source.claim:
        volumes.append({"name": "model", "persistentVolumeClaim": {"claimName": source.claim, "readOnly": True}})
    pod: Manifest = {
        "containers": [container],
        "volumes": volumes,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": max(1, math.ceil(order.grace_s)),
    }
    return pod | pull_secrets(cluster) | _accelerated(cluster) | _account(cluster)


def pull_secrets(cluster: ClusterSettings) -> Manifest:
    """What every pod of ours needs to be pulled from a private registry; nothing if none is named."""
    return {"imagePullSecrets": [{"name": cluster.image_pull_secret}]} if cluster.image_pull_secret else {}


def _accelerated(cluster: ClusterSettings) -> Manifest:
    """On which nodes: those selected, and those that are kept for accelerators."""
    found: Manifest = {}
    if cluster.node_selector:
        found["nodeSelector"] = dict(sorted(cluster.node_selector.items()))
    if cluster.accelerator_resource:
        found["tolerations"] = [
            {"key": cluster.accelerator_resource, "operator": "Exists", "effect": "NoSchedule"},
        ]
    if cluster.runtime_class:
        found["runtimeClassName"] = cluster.runtime_class
    return found


def _account(cluster: ClusterSettings) -> Manifest:
    return {"serviceAccountName": cluster.service_account} if cluster.service_account else {}


def _environment(order: Order, source: ModelSource, write: Callable[[str], str]) -> list[Manifest]:
    """The whole environment, as on a host; no secret stands in it, only where one is kept."""
    cluster, platform = cluster_of(order), order.sut.pin.platform
    own = {"HOME": CACHE, "USER": "vllm", "LOGNAME": "vllm"}  # an image may run as a user that has no name
    own |= server_environment(
        python=Path("python3"),
        recipe=order.recipe,
        platform=platform,
        model=source.path,
        cache_dir=Path(CACHE),
        caller={},
    )
    stated = order.recipe.environment.get(platform, {})
    if "PATH" not in stated:
        del own["PATH"]  # the image's own
    if source.path.startswith(MOUNT):
        own.setdefault("HF_HUB_OFFLINE", "1")
    else:
        own = {"HF_HOME": f"{CACHE}/huggingface"} | own
    variables: list[Manifest] = [{"name": name, "value": write(value)} for name, value in own.items()]
    if cluster.hub_token_secret and not source.path.startswith(MOUNT):
        secret = {"name": cluster.hub_token_secret, "key": "HF_TOKEN"}
        variables.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}})
    return variables


def _resources(order: Order, cluster: ClusterSettings) -> Manifest:
    """Requests equal limits: what a replica has does not depend on its neighbours. Raises UsageError."""
    platform, resource = order.sut.pin.platform, cluster.accelerator_resource
    if (platform == "cpu") == bool(resource):
        raise UsageError(
            f"a build for {platform} and the accelerators of this cluster do not fit together",
            expected='accelerator_resource = "nvidia.com/gpu" for cuda, "amd.com/gpu" for rocm, none for cpu',
            found=f'accelerator_resource = "{resource}"',
            next_step="correct [cluster] of the runner class, or name a build for its platform",
        )
    amounts = {"cpu": cluster.pod_cpus, "memory": cluster.pod_memory}
    amounts[resource] = str(order.tensor_parallel) if resource else ""
    asked = {name: amount for name, amount in amounts.items() if amount}
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def _probes(order: Order, scheme: str) -> Manifest:
    """Patience: a start takes as long as the recipe says, and a server that is busy is neither ended nor avoided."""
    asked = {
        "httpGet": {"path": "/health", "port": PORT, "scheme": scheme},
        "periodSeconds": PROBE_S,
        "timeoutSeconds": PROBE_S,
    }
    return {
        "startupProbe": asked | {"failureThreshold": math.ceil(order.recipe.start_s_max / PROBE_S) + 1},
        "readinessProbe": asked | {"failureThreshold": UNREADY_S_MAX // PROBE_S},
        "livenessProbe": asked | {"failureThreshold": UNHEALTHY_S_MAX // PROBE_S},
    }
