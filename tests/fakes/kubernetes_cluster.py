"""A cluster to deploy to in tests: the API server, a kubelet with real processes, and what controllers would do.

By default a service becomes ready as KServe and Kubernetes say it, condition by condition. What a test wants
otherwise it sets before it deploys: `template`, `pods`, or a `script` of its own.
"""

from __future__ import annotations

import copy
import http.client
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.kubernetes_api import KubernetesApi
from tests.fakes.kubernetes_kubelet import Kubelet, address
from tests.fakes.kubernetes_state import State
from tests.fakes.local_server import LocalHandler, LocalServer

NAMESPACE = "perf"
GATEWAY_PORT = 8081
SERVICES = {"llminferenceservices": "LLMInferenceService", "inferenceservices": "InferenceService"}

READY = {"type": "Ready", "status": "True"}
SCHEDULER_ARGUMENTS = ["--pool-name", "pool", "--grpc-port", "9002", "--zap-encoder", "json"]
"""What KServe's preset for the scheduler gives it besides its configuration."""

Script = Callable[["SimulatedCluster", str, dict[str, Any]], None]


class SimulatedCluster:
    """All of it. `script(cluster, plural, service)` plays the controllers, in a thread for each service.

    `change_router` may change a router's pod on its way, as an admission rule or a preset does.
    """

    def __init__(self, folder: Path) -> None:
        self.state = State()
        self.api = KubernetesApi(self.state)
        self.kubelet = Kubelet(self.state, folder / "pods")
        self.api.logs = self.kubelet.log
        self.kubeconfig = folder / "kubeconfig"
        self.script: Script = play_controllers
        self.change_router: Callable[[dict[str, Any]], None] = lambda pod: None
        self.nodes = ("node-a", "node-b")
        self._threads: list[threading.Thread] = []
        self._gateways: list[LocalServer] = []
        self.failures: list[BaseException] = []
        self.state.create("namespaces", "", {"metadata": {"name": NAMESPACE}, "status": {"phase": "Active"}})
        for name in self.nodes:
            self.state.create("nodes", "", node(name))
        self.state.on_created.append(self._on_created)

    def _on_created(self, plural: str, made: dict[str, Any]) -> None:
        if plural in SERVICES or plural == "deployments":
            thread = threading.Thread(target=self._play, args=(plural, made), daemon=True)
            self._threads.append(thread)
            thread.start()
        if plural == "services":
            ip = self.open_gateway(made["spec"]["ports"][0]["port"])
            self.state.edit("services", NAMESPACE, made["metadata"]["name"], lambda found: _set_ip(found, ip))

    def _play(self, plural: str, made: dict[str, Any]) -> None:
        try:
            self.script(self, plural, made)
        except BaseException as error:  # noqa: BLE001 - a test must see it
            self.failures.append(error)

    def conditions(self, plural: str, name: str, *told: tuple[str, str, str, str], **status: Any) -> None:
        """Set a service's conditions, (type, status, reason, message) each, and more of its status."""
        rows = [dict(zip(("type", "status", "reason", "message"), row, strict=True)) for row in told]
        self.state.edit(
            plural, NAMESPACE, name, lambda found: found.setdefault("status", {}).update(conditions=rows, **status)
        )

    def add_pod(self, owner: dict[str, Any], index: int, spec: dict[str, Any], labels: dict[str, str]) -> str:
        """A pod without a node; its name."""
        manifest = pod_of(owner, str(index), spec, labels) | {"status": {"phase": "Pending", "conditions": []}}
        self.state.create("pods", NAMESPACE, manifest)
        return str(manifest["metadata"]["name"])

    def add_router(self, owner: dict[str, Any], spec: dict[str, Any], labels: dict[str, str]) -> None:
        """A pod that routes, as far as the API knows: it is ready, and what it does the gateway does."""
        told = [
            {"name": each["name"], "image": each["image"], "ready": True, "restartCount": 0, "state": {"running": {}}}
            for each in spec["containers"]
        ]
        manifest = pod_of(owner, "router", spec, labels)
        manifest["status"] = {"phase": "Running", "conditions": [READY], "containerStatuses": told}
        self.change_router(manifest)
        self.state.create("pods", NAMESPACE, manifest)

    def restart_router(self, name: str) -> None:
        """The first container of a router's pod ended and runs again."""
        ended = {"exitCode": 2, "reason": "Error"}

        def change(found: dict[str, Any]) -> None:
            found["status"]["containerStatuses"][0].update(restartCount=1, lastState={"terminated": ended})

        self.state.edit("pods", NAMESPACE, name, change)

    def tell_pod(self, name: str, **status: Any) -> None:
        """Set parts of a pod's status."""
        self.state.edit("pods", NAMESPACE, name, lambda found: found["status"].update(status))

    def run_pod(self, name: str, index: int = 0) -> None:
        """Give a pod its node and its process; nothing if it is gone."""
        node_name = self.nodes[index % len(self.nodes)]
        self.state.edit("pods", NAMESPACE, name, lambda found: found["spec"].update(nodeName=node_name))
        for found in self.state.listed("pods", NAMESPACE, fields=f"metadata.name={name}"):
            self.kubelet.start(NAMESPACE, name, found["spec"]["containers"][0])

    def wait_pods_ready(self, names: list[str]) -> None:
        """Return when all of them are ready, or gone, or the cluster is closing."""
        while not self.api.closing.is_set():
            found = {each["metadata"]["name"]: each for each in self.state.listed("pods", NAMESPACE)}
            if not any(name in found for name in names) or all(_is_ready(found.get(name)) for name in names):
                return
            with self.state.changed:
                self.state.changed.wait(0.1)

    def pod_url(self, name: str) -> str:
        """Where a pod listens; '' if it is gone."""
        found = {each["metadata"]["name"]: each for each in self.state.listed("pods", NAMESPACE)}.get(name)
        if not found or "podIP" not in found["status"]:
            return ""
        return f"{found['status']['podIP']}:{found['spec']['containers'][0]['ports'][0]['containerPort']}"

    def open_gateway(self, port: int, prefix: str = "") -> str:
        """An address of a router that spreads requests over all ready pods, under a path."""
        ip = address()
        turns = itertools.count()

        def choose() -> str:
            found = [each for each in self.state.listed("pods", NAMESPACE) if _is_ready(each)]
            ready = [each["metadata"]["name"] for each in found if "podIP" in each["status"]]
            return self.pod_url(ready[next(turns) % len(ready)]) if ready else ""

        server = LocalServer(_Gateway, (ip, port), choose=staticmethod(choose), prefix=prefix)
        server.start()
        self._gateways.append(server)
        return ip

    def close(self) -> None:
        """End every thread and process."""
        self.api.closing.set()
        for thread in self._threads:  # first: one of them may just be starting a pod, which has to end with the others
            thread.join(30)
        self.kubelet.close()
        for server in self._gateways:
            server.close()


@contextmanager
def simulated_cluster(folder: Path) -> Iterator[SimulatedCluster]:
    """A running cluster with a namespace `perf`, two nodes and a kubeconfig in `folder`."""
    cluster = SimulatedCluster(folder)
    with cluster.api:
        cluster.api.kubeconfig(cluster.kubeconfig)
        try:
            yield cluster
        finally:
            cluster.close()
    assert cluster.failures == []


def pod_of(owner: dict[str, Any], suffix: str, spec: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """A pod that belongs to what made it, without a status."""
    made = owner["metadata"]
    references = [{"uid": made["uid"], "kind": owner["kind"], "name": made["name"]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{made['name']}-{suffix}", "labels": labels, "ownerReferences": references},
        "spec": copy.deepcopy(spec),
    }


def node(name: str) -> dict[str, Any]:
    """A node as NVIDIA's feature discovery labels it."""
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-H200",
        "nvidia.com/cuda.driver.major": "580",
        "nvidia.com/cuda.driver.minor": "95",
        "nvidia.com/cuda.driver.rev": "05",
    }
    told = {"kubeletVersion": "v1.36.2", "kernelVersion": "6.12.0", "containerRuntimeVersion": "cri-o://1.36.0"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"nodeInfo": told}}


def pod_plan(plural: str, made: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
    """(spec of the serving pods, how many, their labels) as the controllers of KServe and Kubernetes make them."""
    name, spec = made["metadata"]["name"], made["spec"]
    if plural == "llminferenceservices":
        labels = {"app.kubernetes.io/name": name, "kserve.io/component": "workload"}
        return spec["template"], spec["replicas"], labels
    if plural == "inferenceservices":
        labels = {"serving.kserve.io/inferenceservice": name, "component": "predictor"}
        return spec["predictor"], spec["predictor"]["minReplicas"], labels
    return spec["template"]["spec"], spec["replicas"], spec["template"]["metadata"]["labels"]


def scheduler_plan(made: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(spec of the scheduler's pod, its labels) as KServe's controller makes them: the inline configuration last."""
    router = made["spec"]["router"]["scheduler"]
    spec = copy.deepcopy(router["template"])
    spec["containers"][0]["args"] = [*SCHEDULER_ARGUMENTS, "--config-text", json.dumps(router["config"]["inline"])]
    labels = {
        "app.kubernetes.io/component": "llminferenceservice-router-scheduler",
        "app.kubernetes.io/name": made["metadata"]["name"],
        "app.kubernetes.io/part-of": "llminferenceservice",
    }
    return spec, labels


def play_controllers(cluster: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
    """Pods for a service, then, when all are ready, its conditions and its address."""
    name = made["metadata"]["name"]
    spec, count, labels = pod_plan(plural, made)
    if plural == "deployments" and "--host" not in spec["containers"][0].get("args", []):
        cluster.add_router(made, spec, labels)  # llm-d's router: what it does, the Service does
        told = {"readyReplicas": count, "observedGeneration": 1}
        cluster.state.edit(plural, NAMESPACE, name, lambda found: found.update(status=told))
        return
    cluster.conditions(
        plural,
        name,
        ("PresetsCombined", "True", "", ""),
        ("WorkloadsReady", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
        ("Ready", "False", "MinimumReplicasUnavailable", ""),
        observedGeneration=1,
    )
    if "router" in made["spec"]:
        cluster.add_router(made, *scheduler_plan(made))
    names = [cluster.add_pod(made, index, spec, labels) for index in range(count)]
    for index, pod in enumerate(names):
        cluster.run_pod(pod, index)
    cluster.wait_pods_ready(names)
    if cluster.api.closing.is_set():
        return
    prefix = f"/{NAMESPACE}/{name}" if plural == "llminferenceservices" else ""
    url = f"http://{cluster.open_gateway(GATEWAY_PORT, prefix)}:{GATEWAY_PORT}{prefix}"
    cluster.conditions(plural, name, ("Ready", "True", "", ""), observedGeneration=1, readyReplicas=count, url=url)


def _is_ready(pod: dict[str, Any] | None) -> bool:
    told = (pod or {}).get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in told)


def _set_ip(found: dict[str, Any], ip: str) -> None:
    found["spec"]["clusterIP"] = ip


class _Gateway(LocalHandler):
    """Passes a request on to a pod; a client of the real thing sees no difference that matters here."""

    protocol_version = "HTTP/1.0"
    choose: Callable[[], str]
    prefix: str

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self._pass_on(b"")

    def do_POST(self) -> None:  # noqa: N802 - as above
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def _pass_on(self, body: bytes) -> None:
        target = self.choose()
        if not target or not self.path.startswith(self.prefix + "/"):
            self.reply(404 if target else 503, json.dumps({"detail": "no route"}).encode())
            return
        connection = http.client.HTTPConnection(target, timeout=90)
        try:
            connection.request(self.command, self.path.removeprefix(self.prefix), body or None)
            answer = connection.getresponse()
            self.reply(answer.status, answer.read())
        except OSError:
            self.reply(502, b"{}")
        finally:
            connection.close()
