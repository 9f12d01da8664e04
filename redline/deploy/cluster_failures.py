"""Why a pod's server failed, as the error to raise: its own last words first, then what the cluster says."""

from __future__ import annotations

from pathlib import Path

from redline.deploy.cluster_client import Cluster
from redline.deploy.cluster_pods import Container, Pod, at, texts
from redline.deploy.diagnosis import Ending, error_of, lines_that_matter, read_tail
from redline.errors import ClusterError, DeployError, OutOfMemoryError

EVENT_COUNT_MAX = 3


def crash_error(
    container: Container, kind: type[DeployError], *, problem: str, expected: str, platform: str, log_path: Path
) -> DeployError:
    """The error for a container that ended: OutOfMemoryError where memory was the reason, `kind` otherwise."""
    ended = container.ended
    lines = lines_that_matter(read_tail(log_path))
    if ended is not None and ended.oom_killed:
        said = "\n    ".join((ended.text, *lines))
        return OutOfMemoryError(
            f"{problem}: it reached the pod's memory limit",
            expected=expected,
            found=said,
            next_step=f"raise pod_memory in [cluster] of the runner class; log: {log_path}",
        )
    return error_of(
        Ending(ended.exit_status if ended is not None else 0, lines),
        kind,
        problem=problem,
        expected=expected,
        platform=platform,
        log_path=log_path,
    )


def broken_container(pod: Pod) -> Container | None:
    """The container of a pod that ended, the one that was ended most often first; None if none did."""
    ended = [each for each in pod.containers if each.ended is not None and (each.crash_count or not each.initialises)]
    return max(ended, key=lambda each: each.crash_count, default=None)


def warnings_about(cluster: Cluster, namespace: str, name: str) -> tuple[str, ...]:
    """The newest warnings about objects whose names start with `name`: quotas, probes, volumes, preemption.

    () where events may not be read: they help, and nothing depends on them.
    """
    try:
        found, _ = cluster.listed("v1", "Event", namespace, fields="type=Warning")
    except ClusterError:
        return ()
    ours = [each for each in found if texts(each, "involvedObject", "name").startswith(name)]
    ours.sort(key=lambda each: str(at(each, "lastTimestamp") or at(each, "eventTime") or ""))
    told = (
        f"{texts(each, 'involvedObject', 'name')}: {texts(each, 'reason')}: {texts(each, 'message')}"
        for each in reversed(ours)
    )
    return tuple(dict.fromkeys(told))[:EVENT_COUNT_MAX]


def image_problem(pod: Pod, image_digest: str) -> str:
    """What a pod runs instead of the pinned image; '' if one of its containers has it.

    The container's image is the proof: a digest names one content. The runtime's own `imageID` may be another digest
    of the same image, of one platform's part of it, and is only noted. Source: cri-o pull request 6924.
    """
    if pod.serving(image_digest) is not None or not pod.containers:
        return ""
    return ", ".join(each.image for each in pod.containers if not each.initialises)
