"""The logs of pods, kept as files before the pods are gone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from redline.deploy.cluster_client import Cluster
from redline.deploy.cluster_pods import Container, Pod
from redline.errors import ClusterError

LOG_LINES_MAX = 20_000
"""The last lines that are kept of each container."""

LOGS_S_MAX = 30.0
"""How long keeping them may take in all: what holds accelerators must not wait for a slow log."""


def log_path(log_dir: Path, name: str, pod: str, container: str) -> Path:
    """Where a container's log goes; the pod's name comes from the cluster and must not lead elsewhere."""
    file = ".".join(re.sub(r"[^A-Za-z0-9-]", "_", part)[-80:] for part in (name, pod, container))
    return log_dir / f"{file}.log"


def keep_logs(cluster: Cluster, pods: Iterable[Pod], log_dir: Path, name: str) -> None:
    """Write what each container said, its run before the last one first. Never raises for the cluster's sake.

    A container that has not started has nothing to say. Raises OSError if the disk refuses.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOGS_S_MAX
    for pod in pods:
        for container in pod.containers:
            if not (container.running or container.ended) or time.monotonic() > deadline:
                continue
            path = log_path(log_dir, name, pod.name, container.name)
            path.write_bytes(_said(cluster, pod, container))


def _said(cluster: Cluster, pod: Pod, container: Container) -> bytes:
    pieces = []
    for previous in (True, False) if container.restart_count else (False,):
        try:
            text = cluster.log(pod.namespace, pod.name, container.name, previous=previous, line_count=LOG_LINES_MAX)
        except ClusterError as error:
            text = f"# its log could not be read: {error.problem}: {error.found}\n".encode()
        pieces.append(text if text.endswith(b"\n") or not text else text + b"\n")
    return b"# --- started anew ---\n".join(pieces)
