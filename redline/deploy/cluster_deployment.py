"""Servers in a Kubernetes cluster: made, waited for, watched, and always deleted.

    with serve(WAY, order, on_progress) as deployment:   # makes the objects at once, does not wait
        endpoint = deployment.wait_ready()               # every address answered a real request
        ...
        deployment.check_alive()

A thread watches from the start on, so that the time to ready is right in whatever order deployments are waited for.
It is the same for every kind of service; what differs is a `Way`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from redline.deploy.cluster_client import Cluster, Json
from redline.deploy.cluster_credentials import connect
from redline.deploy.cluster_errors import ApiRefusalError
from redline.deploy.cluster_facts import machine_facts, machine_notes
from redline.deploy.cluster_failures import broken_container, crash_error, warnings_about
from redline.deploy.cluster_logs import log_path
from redline.deploy.cluster_objects import Made, note_place
from redline.deploy.cluster_pods import Pod, is_taken, loss_of, pod_of, texts
from redline.deploy.cluster_router import reach_facts
from redline.deploy.cluster_start import Served, Starting, require_alike
from redline.deploy.cluster_target import Limits, Target, Way
from redline.deploy.deployer import Order
from redline.deploy.manifests import MANIFESTS, pod_labels, router_pod_labels
from redline.errors import ClusterError, DeployError, PodLostError, ReplicaDiedError, ServerDiedError, UsageError
from redline.model import BuildKind, ClusterSettings, Endpoint, Replica

PROGRESS_EVERY_S = 30.0
"""How often the same thing is said again."""

_POLL_S = 0.2


class ClusterDeployment:
    """Servers that were asked for in a cluster. Made by `serve`, which also ends them."""

    def __init__(self, target: Target, on_progress: Callable[[str], None]) -> None:
        self._target = target
        self._on_progress = on_progress
        self._closed = threading.Event()
        self._settled = threading.Event()
        self._outcome: Endpoint | BaseException | None = None
        self._ready_pods: tuple[Pod, ...] = ()
        self._ready_routers: tuple[Pod, ...] = ()
        self._is_silent = False
        self._starting = Starting(target, self._closed)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._watcher.start()

    def wait_ready(self) -> Endpoint:
        """The endpoint: the pods in the order of their names, or the router. Says what it waits for.

        Raises: ServerExitedError, OutOfMemoryError, ServerNotReadyError, NoImageError or ClusterError with the pod's
        own words.
        """
        started, said, said_at = time.monotonic(), "", 0.0
        while not self._settled.wait(_POLL_S):
            now, status = time.monotonic(), self._starting.status
            if status != said or now - said_at > PROGRESS_EVERY_S:
                self._on_progress(f"starting {self._target.order.name}, {now - started:.0f} s: {status}")
                said, said_at = status, now
        if isinstance(self._outcome, Endpoint):
            return self._outcome
        assert self._outcome is not None  # settled with a value or an error
        raise self._outcome

    def check_alive(self) -> None:
        """Nothing if every pod is the one that was ready, with no more restarts, the router's too. Not within a window.

        A cluster that does not say is no death: one such look is told and passed over, since what happened meanwhile is
        seen at the next one. Raises: ReplicaDiedError naming the pod (ServerDiedError or OutOfMemoryError if only one
        serves and it is that one), PodLostError if the pod was taken away or routes, ClusterError at the second look
        in a row that tells nothing.
        """
        if not self._ready_pods:
            return
        try:
            now = {pod.name: pod for pod in map(pod_of, (*self._target.pods()[0], *self._target.routers()))}
        except ClusterError as error:
            if self._is_silent:
                raise
            self._is_silent = True
            self._on_progress(f"whether {self._target.order.name} lives is asked again later: {error.problem}")
            return
        self._is_silent = False
        for before in self._ready_pods:
            pod = now.get(before.name)
            loss = loss_of(before, pod)
            if loss:
                raise self._died(before, pod, loss)
        for before in self._ready_routers:
            loss = loss_of(before, now.get(before.name))
            if loss:
                raise self._router_died(before, loss)

    def pids(self) -> tuple[int, ...]:
        """None of this machine."""
        return ()

    def confine(self, cpu_ids: tuple[int, ...]) -> None:
        """Nothing: they are elsewhere."""
        del cpu_ids

    def close(self) -> None:
        """Keep the logs, delete everything, wait until it is gone. Raises ClusterError if it does not go."""
        self._closed.set()
        try:
            with suppress(ClusterError):
                self._target.keep_logs(tuple(map(pod_of, (*self._target.pods()[0], *self._target.routers()))))
        finally:  # also if somebody grows impatient with the logs
            self._target.made.end(lambda: self._target.pods()[0])
        if self._watcher.is_alive():
            self._watcher.join(self._target.limits.turn_s)

    # --- the watcher's thread -------------------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            self._outcome = self._endpoint(self._starting.until_ready())
        except BaseException as error:  # noqa: BLE001 - carried to wait_ready, which raises it there
            self._outcome = error
        self._settled.set()

    def _endpoint(self, served: Served) -> Endpoint:
        target, order = self._target, self._target.order
        version = require_alike(served.answers)
        target.keep_logs(served.pods)
        nodes = {pod.node: self._node(pod.node) for pod in served.pods if pod.node}
        containers = [(pod, pod.serving(target.image_digest)) for pod in served.pods]
        logs = [target.log_of(pod, container) for pod, container in containers if container is not None]
        self._ready_pods, self._ready_routers = served.pods, served.routers
        return Endpoint(
            base_url=served.answers[0][1],
            model=order.recipe.served_model_name,
            reported_version=version,
            installed_version=order.installed_version,
            start_s=max(start_s for *_, start_s in served.answers),
            log_path=logs[0] if logs else "",
            replica_urls=tuple(url for _, url, _, _ in served.answers[1:]),
            replicas=tuple(Replica(name, (), start_s) for name, _, _, start_s in served.answers),
            facts=machine_facts(
                nodes,
                served_by=target.way.name,
                reached_by=reach_facts(order, target.way.name),
                with_accelerator=order.cluster is not None and bool(order.cluster.accelerator_resource),
            ),
            notes=machine_notes(nodes, served.pods, target.image_digest),
        )

    def _node(self, name: str) -> Json | None:
        """The node; None if it may not be read or is gone."""
        try:
            return self._target.cluster.find("v1", "Node", "", name)
        except ApiRefusalError:
            return None

    def _died(self, before: Pod, pod: Pod | None, loss: str) -> DeployError:
        target, order = self._target, self._target.order
        if pod is not None and pod.uid == before.uid:
            target.keep_logs((pod,))
        if pod is None or is_taken(before, pod):
            return self._lost(f"pod {before.name}", before, f"was taken away while it was in use: {loss}", loss)
        problem = f"pod {before.name} on {before.node or 'an unknown node'} died while it was in use: {loss}"
        expected = "a pod that runs until Redline ends it"
        broken = broken_container(pod)
        if broken is not None:
            error = crash_error(
                broken,
                ServerDiedError,
                problem=problem,
                expected=expected,
                platform=order.sut.pin.platform,
                log_path=log_path(order.log_dir, order.name, before.name, broken.name),
            )
        else:
            said = warnings_about(target.cluster, target.namespace, before.name)
            error = ServerDiedError(
                problem,
                expected=expected,
                found="\n    ".join((loss, *said)),
                next_step=f"see what the cluster did to it: kubectl get events; its log: {order.log_dir}",
            )
        if len(self._ready_pods) == 1:
            return error
        return ReplicaDiedError(error.problem, expected=error.expected, found=error.found, next_step=error.next_step)

    def _router_died(self, before: Pod, loss: str) -> PodLostError:
        return self._lost(f"the router's pod {before.name}", before, f"died while it was in use: {loss}", loss)

    def _lost(self, name: str, before: Pod, what: str, loss: str) -> PodLostError:
        """Not the build's fault, and what was measured past it is evidence of nothing."""
        order = self._target.order
        said = warnings_about(self._target.cluster, self._target.namespace, before.name)
        return PodLostError(
            f"{name} on {before.node or 'an unknown node'} {what}",
            expected="a pod that runs until Redline ends it",
            found="\n    ".join((loss, *said)),
            next_step=f"see what the cluster did to it: kubectl get events; its log: {order.log_dir}",
        )


@contextmanager
def serve(
    way: Way, order: Order, on_progress: Callable[[str], None], limits: Limits | None = None
) -> Iterator[ClusterDeployment]:
    """Servers in a cluster, made at once and deleted with the block, however it ends.

    A Redline that is killed leaves them: `cleanup` ends those. Raises: UsageError for an order that no cluster can
    serve; ClusterError if something cannot be made, or does not go in the end.
    """
    settings, bounds = _settings_of(order), limits or Limits()
    manifests = MANIFESTS[way.name](order)
    kinds = tuple(dict.fromkeys((each["apiVersion"], each["kind"]) for each in manifests))
    note_place(order.state_dir, way.name, settings, kinds)
    with connect(settings.context, bounds.calls) as cluster:
        require_namespace(cluster, settings.namespace)
        made = Made(cluster, order.run_id, order.name, bounds.gone_s)
        target = Target(
            cluster=cluster,
            way=way,
            order=order,
            made=made,
            namespace=settings.namespace,
            reach_pods=settings.reach == "pods",
            selector=_selector(pod_labels(order, way.name)),
            router_selector=_selector(router_pod_labels(order, way.name)),
            limits=bounds,
        )
        deployment = ClusterDeployment(target, on_progress)
        try:
            made.make(manifests)
            names = ", ".join(f"{each['kind']}/{each['metadata']['name']}" for each in manifests)
            on_progress(f"made in namespace {manifests[0]['metadata']['namespace']}: {names}")
            deployment.start()
            yield deployment
        finally:
            deployment.close()


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def require_namespace(cluster: Cluster, namespace: str) -> None:
    """Raises ClusterError if the cluster says that there is no such namespace, or that it is ending.

    Who may not read namespaces is told when the first object is made.
    """
    try:
        found = cluster.find("v1", "Namespace", "", namespace)
    except ApiRefusalError as error:
        if error.status == 403:
            return
        raise
    if found is None or texts(found, "status", "phase") == "Terminating":
        raise ClusterError(
            f"namespace {namespace} " + ("is being deleted" if found else "does not exist"),
            expected="a namespace that exists: Redline makes none",
            found=f"{'Terminating' if found else 'nothing'} at {cluster.host}",
            next_step=f"kubectl create namespace {namespace}, or correct [cluster] namespace and context",
        )


def _settings_of(order: Order) -> ClusterSettings:
    pin = order.sut.pin
    if order.cluster is None or pin.kind is not BuildKind.IMAGE:
        raise UsageError(
            f"{pin.label} cannot be served in a cluster",
            expected="an image by digest (image:repository@sha256:...), and a runner class with [cluster]",
            found=f"a build of kind {pin.kind.value}" if order.cluster is not None else "no [cluster]",
            next_step="name an image by digest, or choose a runner class of hosts",
        )
    return order.cluster
