"""The wait until everything that was made in a cluster serves: looked at anew at every change, bounded in every way.

The state is always listed whole and judged as it is; watching only says when to look again. So no event can be missed,
and a stream that breaks or expires changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_failures import broken_container, crash_error, image_problem, warnings_about
from redline.deploy.cluster_logs import log_path
from redline.deploy.cluster_pods import (
    Container,
    Pod,
    Trouble,
    has_begun,
    has_no_image,
    is_no_image,
    is_over,
    is_pulling,
    pod_of,
    summary,
    trouble_of,
)
from redline.deploy.cluster_ready import JUDGED, contradiction, unready
from redline.deploy.cluster_router import not_readable, require_pinned
from redline.deploy.cluster_target import Target
from redline.deploy.diagnosis import last_line
from redline.deploy.endpoint import COMPLETION_S_MAX, ask_first, ask_version, is_answered, open_client
from redline.deploy.manifests_text import object_name
from redline.errors import (
    ClusterError,
    DeployError,
    NoImageError,
    ServerDiedError,
    ServerExitedError,
    ServerNotReadyError,
)

SUMMARY_LINE_COUNT_MAX = 4

ASK_AGAIN_S = 0.5
REACHED_S_MAX = 5.0
"""How long an address may take to say anything at all; another may be the one that can be reached from here."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: the objects that are judged, the pods, what is not ready, the pods' version to watch from.

    `routers`: the pods that route, as the API shows them; none where the client takes turns. `behind`: the first object
    that is not ready.
    """

    objects: tuple[Json, ...]
    pods: tuple[Pod, ...]
    routers: tuple[Json, ...]
    has_all_pods: bool
    behind: Json | None
    waits_for: tuple[str, ...]
    version: str

    @property
    def all_pods(self) -> tuple[Pod, ...]:
        """Those that serve, then those that route."""
        return (*self.pods, *map(pod_of, self.routers))

    @property
    def text(self) -> str:
        """What is waited for, for people."""
        pods = [summary(pod) for pod in self.all_pods if not pod.ready or pod.ending]
        lines = [*pods, *self.waits_for] or [f"{len(self.pods)} pods ready, no answer yet"]
        return "; ".join(lines[:SUMMARY_LINE_COUNT_MAX])


@dataclass(frozen=True, slots=True)
class Served:
    """What answered: (name, address, version, seconds from the start to its first answer) each, and the pods."""

    answers: tuple[tuple[str, str, str, float], ...]
    pods: tuple[Pod, ...]
    routers: tuple[Pod, ...] = ()


class Starting:
    """The wait for one target. `status` is what it waits for now."""

    def __init__(self, target: Target, closed: threading.Event) -> None:
        self._target = target
        self._closed = closed
        self._started = time.monotonic()
        self._since: dict[tuple[str, str], float] = {}
        self._ready_since: float | None = None
        self._answers: dict[str, tuple[str, str, float]] = {}
        self._refusal = ""
        self.status = "waiting for its first pod"

    def until_ready(self) -> Served:
        """What serves, once every address answered a real request. Raises DeployError."""
        target, limits = self._target, self._target.limits
        recipe = target.order.recipe
        deadline = self._started + recipe.start_s_max + limits.start_margin_s
        while not self._closed.is_set():
            seen = self._look()
            self.status = seen.text + self._newest_words(seen)
            self._require_hope(seen)
            served = self._served(seen)
            if served is not None:
                return served
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise self._not_ready(seen)
            self._wait_for_change(seen, min(limits.turn_s, left_s))
        raise ServerNotReadyError(f"{target.order.name} was stopped before it was ready")

    def _wait_for_change(self, seen: Seen, turn_s: float) -> None:
        """Return when it is worth another look, at the latest after `turn_s`."""
        target = self._target
        if not seen.has_all_pods:
            pods = target.cluster.resource("v1", "Pod")
            target.cluster.wait_for_change(pods, target.namespace, seen.version, turn_s, labels=target.selector)
        elif seen.behind is not None:
            metadata = seen.behind["metadata"]
            kind = target.cluster.resource(seen.behind["apiVersion"], seen.behind["kind"])
            fields, version = f"metadata.name={metadata['name']}", str(metadata.get("resourceVersion", ""))
            target.cluster.wait_for_change(kind, target.namespace, version, turn_s, fields=fields)
        else:
            self._closed.wait(min(ASK_AGAIN_S, turn_s))

    # --- looking --------------------------------------------------------------------------------------------

    def _look(self) -> Seen:
        target = self._target
        objects = target.made.read(JUDGED)
        if len(objects) < target.made.count(JUDGED):
            raise ClusterError(
                f"what {target.order.name} is served by was deleted while it started",
                expected="objects that only Redline ends",
                found=f"{len(objects)} of {target.made.count(JUDGED)} are left",
                next_step="see who deletes in this namespace; the cluster's audit log knows",
            )
        listed, version = target.pods()
        pods = tuple(map(pod_of, listed))
        waits_for = [line for each in objects for line in unready(each)]
        there = [pod for pod in pods if pod.ready and not pod.ending]
        has_all = len(there) == target.order.replica_count
        if not has_all:
            waits_for.append(f"{len(there)} of {target.order.replica_count} pods ready")
        behind = next((each for each in objects if unready(each)), None)
        routers = tuple(each for each in target.routers() if not is_over(each))  # another one is in its place
        return Seen(objects, pods, routers, has_all, behind, tuple(waits_for), version)

    def _newest_words(self, seen: Seen) -> str:
        """What a pod that is loading its model said last."""
        loading = next((pod for pod in seen.pods if pod.phase == "Running" and not pod.ready), None)
        container = loading.serving(self._target.image_digest) if loading is not None else None
        if loading is None or container is None or not container.running:
            return ""
        try:
            said = self._target.cluster.log(
                loading.namespace, loading.name, container.name, previous=False, line_count=20
            )
        except ClusterError:
            return ""
        line = last_line(tuple(said.decode("utf-8", "replace").splitlines()))
        return f"; it says: {line[:200]}" if line else ""

    # --- giving up ------------------------------------------------------------------------------------------

    def _require_hope(self, seen: Seen) -> None:
        for pod in seen.pods:
            other = image_problem(pod, self._target.image_digest)
            if other and not pod.ending:
                raise DeployError(
                    f"pod {pod.name} does not run the pinned image",
                    expected=self._target.order.sut.pin.url or "",
                    found=other,
                    next_step="an admission rule of the cluster replaces images: exempt this namespace, "
                    "or pin the image that it puts there",
                )
        found = (trouble_of(pod) for pod in seen.all_pods if not pod.ending)
        troubles = {trouble.key: trouble for trouble in found if trouble is not None}
        for each in seen.objects:
            said = contradiction(each)
            if said:
                troubles["object", "configuration"] = Trouble("object", "PresetsCombined", said, "configuration")
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in troubles}
        for key, trouble in troubles.items():
            bound_s = self._target.limits.of(trouble.hope)
            if bound_s is not None and now - self._since[key] >= bound_s:
                raise self._hopeless(trouble, seen)

    def _hopeless(self, trouble: Trouble, seen: Seen) -> DeployError:
        self._target.keep_logs(seen.all_pods)
        order = self._target.order
        pod = next((each for each in seen.all_pods if each.name == trouble.pod), None)
        broken = broken_container(pod) if pod is not None and trouble.container else None
        if pod is not None and broken is not None:
            return self._crashed(trouble, pod, broken, is_server=pod in seen.pods and not broken.initialises)
        said = (trouble.text, *warnings_about(self._target.cluster, self._target.namespace, trouble.pod))
        if pod is not None and pod in seen.pods and self._has_no_image(pod, said):
            return self._no_image(said)
        advice = {
            "place": "free or add nodes, or correct accelerator_resource and node_selector in [cluster]",
            "pull": "see whether the nodes reach the registry and image_pull_secret may read it",
            "configuration": "the text names what is missing, refused or contradicts itself: the image's reference and "
            "image_pull_secret in [cluster], a Secret, a claim",
        }
        return ClusterError(
            f"{order.name} cannot be served as it stands",
            expected="pods that find a node, their image and their configuration",
            found="\n    ".join(said),
            next_step=advice.get(trouble.hope, "correct the image's reference"),
        )

    def _crashed(self, trouble: Trouble, pod: Pod, broken: Container, *, is_server: bool) -> DeployError:
        """The error for a container that only crashes; one that is no server of the build is the cluster's."""
        order = self._target.order
        error = crash_error(
            broken,
            ServerExitedError,
            problem=f"pod {pod.name} on {pod.node or 'no node'}: {trouble.text}",
            expected=f"a completion within {order.recipe.start_s_max:g} s",
            platform=order.sut.pin.platform,
            log_path=log_path(order.log_dir, order.name, pod.name, broken.name),
        )
        if is_server:
            return error
        return ClusterError(error.problem, expected=error.expected, found=error.found, next_step=error.next_step)

    def _has_no_image(self, pod: Pod, said: Sequence[str]) -> bool:
        """True if the image of the build is not to be had: by its server's container, or by the words of the events.

        While an older kubelet waits before it pulls again, only the events still say why the last pull failed.
        """
        container = pod.serving(self._target.image_digest)
        if container is None:
            return False
        pulls = [line for line in said if "Failed to pull image" in line and container.image in line]
        return has_no_image(container) or (is_pulling(container) and any(map(is_no_image, pulls[:1])))

    def _no_image(self, said: Sequence[str]) -> NoImageError:
        order = self._target.order
        return NoImageError(
            f"{order.name} has no image that can be served",
            expected=f"an image that its registry still has, for the nodes' processor: {order.sut.pin.url}",
            found="\n    ".join(said),
            next_step="check the digest; nightly tags are deleted after some weeks, so mirror what is to be measured "
            "again",
        )

    def _not_ready(self, seen: Seen) -> DeployError:
        """The error for what was not ready in time: the build's only if each server was begun and one is not ready."""
        target = self._target
        target.keep_logs(seen.all_pods)
        said = (seen.text, *warnings_about(target.cluster, target.namespace, object_name(target.order)))
        if any(self._has_no_image(pod, said) for pod in seen.pods if not pod.ending):
            return self._no_image(said)
        is_builds = self._all_begun(seen) and not seen.has_all_pods
        return (ServerNotReadyError if is_builds else ClusterError)(
            f"{target.order.name} was not ready in time",
            expected=f"a completion within {target.order.recipe.start_s_max:g} s, and {target.limits.start_margin_s:g} "
            "s for finding a node and pulling the image",
            found="\n    ".join(said),
            next_step=f"read the logs in {target.order.log_dir}; raise start_s_max in recipe "
            f"{target.order.recipe.name} if it is only slow"
            if is_builds
            else "see what the cluster waits for: nodes, a queue, a quota, an image, a gateway",
        )

    def _all_begun(self, seen: Seen) -> bool:
        """True if every server that was asked for has a pod on a node, and was run in it at least once."""
        there = [pod for pod in seen.pods if pod.node and not pod.ending and pod.phase not in ("Failed", "Succeeded")]
        servers = [pod.serving(self._target.image_digest) for pod in there]
        begun = [each for each in servers if each is not None and has_begun(each)]
        return len(begun) >= self._target.order.replica_count and len(begun) == len(there)

    # --- asking ---------------------------------------------------------------------------------------------

    def _served(self, seen: Seen) -> Served | None:
        """What serves if everything is ready and every address answers; None if not yet. Raises DeployError."""
        if seen.waits_for:
            self._ready_since = None
            return None
        if self._ready_since is None:
            self._ready_since = time.monotonic()
        overdue = time.monotonic() - self._ready_since > self._target.limits.answer_s
        routers = tuple(map(pod_of, seen.routers))
        if not self._is_routed_as_pinned(seen, routers, overdue=overdue):
            return None
        pods = tuple(pod for pod in seen.pods if pod.ready and not pod.ending)
        addresses = self._addresses(pods)
        for name, urls in addresses:
            if name not in self._answers:
                self._ask(name, urls)
        if all(name in self._answers for name, _ in addresses):
            return Served(tuple((name, *self._answers[name]) for name, _ in addresses), pods, routers)
        if overdue:
            raise ServerNotReadyError(
                f"{self._target.order.name} is ready but answers no {self._target.order.recipe.serves}",
                expected=f"a first answer within {self._target.limits.answer_s:g} s of being ready",
                found=self._refusal or "no address",
                next_step='reach = "pods" needs a way from here to pod addresses, reach = "router" to the gateway; '
                "401 or 403: the gateway asks for a token, switch that off; for an untrusted certificate name its "
                "authority in $SSL_CERT_FILE",
            )
        return None

    def _is_routed_as_pinned(self, seen: Seen, routers: tuple[Pod, ...], *, overdue: bool) -> bool:
        """False while the router's one pod is not there yet. Raises DeployError for another router than the pinned."""
        target = self._target
        if not target.router_selector:
            return True
        if len(routers) != 1 or not routers[0].ready:
            if overdue:
                raise not_readable(target.order, target.router_selector, routers)
            return False
        require_pinned(target.order, target.way.name, seen.routers[0], target.made.read(("ConfigMap",)))
        return True

    def _addresses(self, pods: tuple[Pod, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(name, addresses of which one has to answer) of each replica, or of the router."""
        target = self._target
        if not target.reach_pods:
            urls = target.way.urls(target.order, target.made.read())
            self._refusal = self._refusal or ("" if urls else "the service names no address")
            return (("router", urls),)
        found = []
        for pod in pods:
            container = pod.serving(target.image_digest)
            assert container is not None  # _require_hope looked
            host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
            found.append((pod.name, (f"{container.scheme}://{host}:{container.port}",)))
        return tuple(found)

    def _ask(self, name: str, urls: tuple[str, ...]) -> None:
        """Ask each address until one answers and says which vLLM it is; why none did goes to the refusal."""
        recipe = self._target.order.recipe
        for url in urls:
            try:
                with open_client(url) as client:  # without a key: Redline's own servers never get one
                    client.get("/health", timeout=REACHED_S_MAX)  # whatever it says: an address that leads nowhere
                    answer = ask_first(client, recipe.served_model_name, recipe.serves, self._ask_s())
                    if not is_answered(answer, recipe.serves):
                        self._refusal = f"{url}: {answer.status} {answer.text}"
                        continue
                    answered_s = time.monotonic() - self._started
                    self._answers[name] = (url, ask_version(client), answered_s)
                    return
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                self._refusal = f"{url}: {type(error).__name__}: {error}"
            except DeployError as error:  # no /version: a router's routes may not all be there yet
                self._refusal = f"{error.problem}: {error.expected}, but {error.found}"

    def _ask_s(self) -> float:
        waited_s = time.monotonic() - (self._ready_since or time.monotonic())
        return min(COMPLETION_S_MAX, max(1.0, self._target.limits.answer_s - waited_s))


def require_alike(answers: tuple[tuple[str, str, str, float], ...]) -> str:
    """The version that all of them told. Raises DeployError if they differ, ServerDiedError if there are none."""
    versions = {version for _, _, version, _ in answers}
    if not versions:
        raise ServerDiedError("nothing answers any more")
    if len(versions) > 1:
        raise DeployError(
            "the replicas are different builds",
            expected="one version from all of them",
            found=", ".join(f"{name}: {version}" for name, _, version, _ in answers),
            next_step="report this with the logs: one image was asked for",
        )
    return versions.pop()
