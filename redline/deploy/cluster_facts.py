"""What is known of the machines that serve in a cluster: from the labels and status of their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_pods import Pod, at, texts

UNKNOWN = "unknown"

_PRODUCT_LABELS = (
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "beta.amd.com/gpu.product-name",
    "gpu.intel.com/product",
)
"""Set by the device plug-ins' feature discovery: NVIDIA's GPU feature discovery, AMD's node labeller."""

_DRIVER_LABELS = (
    "nvidia.com/cuda.driver-version.full",
    "amd.com/gpu.driver-version",
    "beta.amd.com/gpu.driver-version",
)
_DRIVER_PARTS = ("nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev")


def _label(node: Json, names: Iterable[str]) -> str:
    labels = at(node, "metadata", "labels")
    return next((texts(labels, name) for name in names if texts(labels, name)), "")


def _driver(node: Json) -> str:
    whole = _label(node, _DRIVER_LABELS)
    parts = [_label(node, (name,)) for name in _DRIVER_PARTS]
    return whole or ".".join(part for part in parts if part)


def _together(values: Iterable[str]) -> str:
    """Different values, sorted; `unknown` where none is known, and beside others where some are not."""
    found = {value or UNKNOWN for value in values}
    return ", ".join(sorted(found)) or UNKNOWN


def machine_facts(
    nodes: Mapping[str, Json | None], *, served_by: str, reached_by: Mapping[str, str], with_accelerator: bool
) -> dict[str, str]:
    """What decides whether two results may be compared: who serves, through what, where, with which accelerators.

    `nodes`: name -> the node, None where it may not be read. `reached_by`: as `cluster_router.reach_facts`. Without
    accelerators none are looked for. Which of a node's accelerators a pod was given the API does not tell.
    """
    found = list(nodes.values())
    return {
        "served_by": served_by,
        **reached_by,
        "nodes": ", ".join(sorted(nodes)) or UNKNOWN,
        "accelerator": _together(_label(node or {}, _PRODUCT_LABELS) for node in found) if with_accelerator else "none",
    }


def machine_notes(nodes: Mapping[str, Json | None], pods: Iterable[Pod], image_digest: str) -> dict[str, str]:
    """What of the machines may change within a series: driver, kernel, kubelet, runtime, and how the pods lie.

    `image_id`: what the runtime calls the image it runs, which may be another digest than the pinned one.
    """
    found = list(nodes.values())
    notes = {
        name: _together(texts(node, "status", "nodeInfo", key) for node in found)
        for name, key in (
            ("kubelet", "kubeletVersion"),
            ("kernel", "kernelVersion"),
            ("container_runtime", "containerRuntimeVersion"),
            ("os", "osImage"),
        )
    }
    notes["driver"] = _together(_driver(node or {}) for node in found)
    served = list(pods)
    per_node = Counter(pod.node or UNKNOWN for pod in served)
    notes["replicas_per_node"] = ", ".join(f"{name}: {count}" for name, count in sorted(per_node.items()))
    notes["restarts_before_ready"] = str(sum(pod.restart_count for pod in served))
    notes["image_id"] = _together(
        container.image_id for pod in served if (container := pod.serving(image_digest)) is not None
    )
    return notes
