"""What a pod's status says: pure functions of the API's objects, which may lack anything.

A pod is read once into a `Pod`; what stands in its way is a `Trouble` with how long one may hope.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_errors import message_of

CRASH_COUNT_MAX = 3
"""A container that ended so often before it was ready will do so again."""

DEFAULT_PORT = 8000

_NEVER_PULLED = re.compile(
    r"not found|manifest unknown|unauthorized|authentication required|denied|no match for platform"
    r"|invalid reference",
    re.IGNORECASE,
)
_NO_IMAGE = re.compile(
    r"\S: not found|manifest for \S+ not found|manifest unknown|name unknown|no match for platform"
    r"|no matching manifest for|no image found in .* for architecture|invalid reference",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"authori[sz]|authentication required|denied|forbidden"  # whoever is refused knows nothing
    r"|no such host|dial tcp|timeout|x509|\beof\b|too ?many ?requests",
    re.IGNORECASE,
)
_PULLING = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable"})
_MISCONFIGURED = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_STARTING = frozenset({"ContainerCreating", "PodInitializing", ""})

Hope = Literal["hopeless", "pull", "configuration", "place", "waits"]
"""What a trouble allows: nothing, a bounded wait of one kind, or waiting as long as a start may take."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container's last run ended. `oom_killed`: it reached its memory limit."""

    exit_code: int
    reason: str
    signal: int = 0

    @property
    def oom_killed(self) -> bool:
        """True if the kernel ended it for its memory."""
        return self.reason == "OOMKilled"

    @property
    def exit_status(self) -> int:
        """As a process has it: minus the signal's number for one that a signal ended."""
        if self.signal:
            return -self.signal
        return 128 - self.exit_code if 128 < self.exit_code < 160 else self.exit_code

    @property
    def text(self) -> str:
        """`OOMKilled, exit code 137`."""
        return ", ".join(part for part in (self.reason, f"exit code {self.exit_code}") if part)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod, initialising ones included."""

    name: str
    image: str
    image_id: str
    ready: bool
    restart_count: int
    waiting: str
    waiting_message: str
    ended: Ended | None
    running: bool
    initialises: bool
    port: int
    scheme: str

    @property
    def crash_count(self) -> int:
        """How often it ended with an error so far."""
        down = not self.running and not self.waiting and self.ended is not None and self.ended.exit_code != 0
        return self.restart_count + int(down)


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod as the API tells of it."""

    name: str
    namespace: str
    uid: str
    phase: str
    reason: str
    message: str
    ip: str
    node: str
    ending: bool
    disrupted: str
    unscheduled: str
    unscheduled_message: str
    ready: bool
    containers: tuple[Container, ...]

    @property
    def restart_count(self) -> int:
        """Restarts of all its containers."""
        return sum(each.restart_count for each in self.containers)

    def serving(self, image_digest: str) -> Container | None:
        """The container whose image is the pinned one, by its `sha256:...`; None if there is none."""
        return next((each for each in self.containers if each.image.endswith(f"@{image_digest}")), None)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps a pod from serving. `hope`: how long one may wait for it to heal; `container`: whose log says more."""

    pod: str
    what: str
    text: str
    hope: Hope
    container: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The same for as long as it is the same trouble."""
        return self.pod, self.hope


def at(value: Any, *path: str) -> Any:
    """What lies at a path of keys in nested objects; None where a step is missing."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def texts(value: Any, *path: str) -> str:
    """The same as clean, bounded text; ''."""
    found = at(value, *path)
    return message_of(found) if isinstance(found, str) else ""


def objects(value: Any, *path: str) -> tuple[Json, ...]:
    """The objects of a list at a path; ()."""
    found = at(value, *path)
    return tuple(each for each in found if isinstance(each, Mapping)) if isinstance(found, list) else ()


def whole(value: Any, *path: str) -> int:
    """The integer at a path; 0."""
    found = at(value, *path)
    return found if isinstance(found, int) else 0


def conditions(found: Json) -> dict[str, Json]:
    """Its conditions by type."""
    return {texts(each, "type"): each for each in objects(found, "status", "conditions")}


def pod_of(found: Json) -> Pod:
    """A pod as it stands."""
    told = conditions(found)
    scheduled = told.get("PodScheduled", {})
    unscheduled = texts(scheduled, "status") == "False"
    disrupted = told.get("DisruptionTarget", {})
    return Pod(
        name=texts(found, "metadata", "name"),
        namespace=texts(found, "metadata", "namespace"),
        uid=texts(found, "metadata", "uid"),
        phase=texts(found, "status", "phase") or "Unknown",
        reason=texts(found, "status", "reason"),
        message=texts(found, "status", "message"),
        ip=texts(found, "status", "podIP"),
        node=texts(found, "spec", "nodeName"),
        ending=at(found, "metadata", "deletionTimestamp") is not None,
        disrupted=texts(disrupted, "reason") if texts(disrupted, "status") == "True" else "",
        unscheduled=texts(scheduled, "reason") if unscheduled else "",
        unscheduled_message=texts(scheduled, "message") if unscheduled else "",
        ready=texts(told.get("Ready", {}), "status") == "True",
        containers=tuple(_containers(found)),
    )


def is_over(found: Json) -> bool:
    """True for a pod that is being deleted, or that ended for good."""
    pod = pod_of(found)
    return pod.ending or pod.phase in ("Failed", "Succeeded")


def _containers(found: Json) -> Iterator[Container]:
    for specs, statuses, initialises in (
        ("initContainers", "initContainerStatuses", True),
        ("containers", "containerStatuses", False),
    ):
        told = {texts(each, "name"): each for each in objects(found, "status", statuses)}
        for spec in objects(found, "spec", specs):
            yield _container(spec, told.get(texts(spec, "name"), {}), initialises=initialises)


def _container(spec: Json, status: Json, *, initialises: bool) -> Container:
    ended = at(status, "state", "terminated") or at(status, "lastState", "terminated")
    waiting = at(status, "state", "waiting")
    probe = at(spec, "readinessProbe", "httpGet") or at(spec, "startupProbe", "httpGet") or {}
    return Container(
        name=texts(spec, "name"),
        image=texts(spec, "image"),
        image_id=texts(status, "imageID"),
        ready=at(status, "ready") is True,
        restart_count=whole(status, "restartCount"),
        waiting=texts(waiting, "reason"),
        waiting_message=texts(waiting, "message"),
        ended=Ended(whole(ended, "exitCode"), texts(ended, "reason"), whole(ended, "signal")) if ended else None,
        running=at(status, "state", "running") is not None,
        initialises=initialises,
        port=_port(spec, probe),
        scheme="https" if texts(probe, "scheme").upper() == "HTTPS" else "http",
    )


def _port(spec: Json, probe: Json) -> int:
    """Where it is asked whether it is ready; else the first port that it declares."""
    asked = at(probe, "port")
    if isinstance(asked, int):
        return asked
    ports = objects(spec, "ports")
    named = [each for each in ports if asked and texts(each, "name") == asked] or list(ports)
    return whole(named[0], "containerPort") if named else DEFAULT_PORT


def trouble_of(pod: Pod) -> Trouble | None:
    """The one thing that most keeps a pod from serving; None where it is only not there yet."""
    if pod.phase == "Failed":
        said = " ".join(part for part in (pod.reason, pod.message) if part) or "failed"
        return Trouble(pod.name, pod.reason or "Failed", said, "waits")
    for container in pod.containers:
        found = _container_trouble(pod, container)
        if found is not None:
            return found
    if pod.unscheduled:
        held = pod.unscheduled == "SchedulingGated"  # a queue (Kueue) lets it in when it is its turn
        text = f"{pod.unscheduled}: {pod.unscheduled_message}"
        return Trouble(pod.name, pod.unscheduled, text, "waits" if held else "place")
    return None


def is_no_image(said: str) -> bool:
    """True if words about a pull say that there is no such image, or none for this processor, or no such name.

    Not where a registry refuses this account, from which it may hide what it has, or is out of reach.
    Source: the words of containerd, cri-o and docker in the kubelet's ErrImagePull, from their issue trackers.
    """
    return bool(_NO_IMAGE.search(said)) and not _UNSURE.search(said)


def has_no_image(container: Container) -> bool:
    """True if a container waits for an image that does not exist, or whose name is none."""
    if container.waiting == "InvalidImageName":
        return True
    return container.waiting in _PULLING and is_no_image(container.waiting_message)


def is_pulling(container: Container) -> bool:
    """True if a container waits for an image that could not be pulled so far."""
    return container.waiting in _PULLING


def has_begun(container: Container) -> bool:
    """True if it was run at least once, whatever became of it."""
    return container.running or container.ended is not None or container.restart_count > 0


def _container_trouble(pod: Pod, container: Container) -> Trouble | None:
    waiting, said = container.waiting, container.waiting_message
    what = f"{container.name} {waiting}: {said}".removesuffix(": ")
    if waiting == "InvalidImageName":
        return Trouble(pod.name, waiting, what, "hopeless")
    if waiting in _PULLING:
        # Refused rather than out of reach: a registry's token may still be renewed, but not for long.
        return Trouble(pod.name, waiting, what, "configuration" if _NEVER_PULLED.search(said) else "pull")
    if container.crash_count and not container.ready:
        ended = f" ({container.ended.text})" if container.ended else ""
        text = f"{container.name} ended {container.crash_count} times before it was ready{ended}"
        hope: Hope = "hopeless" if container.crash_count >= CRASH_COUNT_MAX else "waits"
        return Trouble(pod.name, waiting or "Crashed", text, hope, container.name)
    if waiting in _MISCONFIGURED or waiting not in _STARTING:
        return Trouble(pod.name, waiting, what, "configuration")
    return None


def summary(pod: Pod) -> str:
    """`pod a-1 Pending, Unschedulable: 0/4 nodes are available: ...`: one line for somebody who waits."""
    found = trouble_of(pod)
    if found is not None:
        return f"pod {pod.name} {pod.phase}, {found.text}"
    starting = next((f"{each.name} {each.waiting}" for each in pod.containers if each.waiting), "")
    state = "ready" if pod.ready else starting or ("not ready yet" if pod.phase == "Running" else "")
    return f"pod {pod.name} {pod.phase}{f', {state}' if state else ''}"


def loss_of(before: Pod, now: Pod | None) -> str:
    """Why a pod that was ready no longer is the one that was; '' while it is.

    A readiness probe that fails under load is no loss: the process still serves.
    """
    if now is None or now.uid != before.uid:
        return "it is gone" + (f": {now.disrupted}" if now is not None and now.disrupted else "")
    if now.phase not in ("Running", "Pending"):
        return " ".join(part for part in (now.phase, now.reason, now.message) if part)
    if now.ending:
        return f"it is being ended: {now.disrupted or now.reason or 'deleted'}"
    was = {each.name: each.restart_count for each in before.containers}
    for container in now.containers:
        if container.restart_count > was.get(container.name, 0) or (not container.initialises and _is_down(container)):
            ended = f" ({container.ended.text})" if container.ended else ""
            return f"its container {container.name} ended{ended}"
    return ""


def is_taken(before: Pod, now: Pod | None) -> bool:
    """True if a loss is the whole pod's: gone, replaced, evicted, being ended, or on a node that went.

    Its containers end then too, which says nothing of them. Source: Kubernetes, Pod lifecycle: the kubelet restarts a
    container that ends, and only what ends pods writes a reason beside Failed, or a DisruptionTarget.
    """
    if now is None or now.uid != before.uid or now.ending or now.disrupted:
        return True
    return now.phase == "Unknown" or (now.phase == "Failed" and bool(now.reason))


def _is_down(container: Container) -> bool:
    return not container.running and container.ended is not None
