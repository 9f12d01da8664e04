"""The wait until a cluster serves: what it says meanwhile, and what ends it early and why."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from redline.deploy.kserve import KServeDeployer
from redline.errors import (
    ClusterError,
    DeployError,
    NoImageError,
    OutOfMemoryError,
    ServerExitedError,
    ServerNotReadyError,
    UsageError,
)
from redline.model import BuildKind, BuildPin, SystemUnderTest
from tests.fakes.kubernetes_api import Fault
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, play_controllers, pod_plan, simulated_cluster
from tests.fakes.kubernetes_orders import IMAGE, QUICK, answered, cluster_order, deployed, left


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster that serves what is asked for."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


@pytest.mark.slow
def test_it_says_what_it_waits_for(cluster, tmp_path):
    """Conditions that are false and pods that find no node are told in the cluster's own words while one waits."""
    seen = threading.Event()

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        spec, _, labels = pod_plan(plural, made)
        told = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "held by a queue"}
        pod = simulated.add_pod(made, 7, spec, labels)
        simulated.tell_pod(pod, conditions=[told])
        simulated.conditions(plural, made["metadata"]["name"], ("RouterReady", "False", "NoGateway", "no gateway yet"))
        assert seen.wait(50)
        simulated.state.forget("pods", NAMESPACE, pod)
        play_controllers(simulated, plural, made)

    class Lines(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if "held by a queue" in line and "no gateway yet" in line:
                seen.set()

    said = Lines()
    cluster.script = script
    with deployed(tmp_path, said=said) as deployment:
        deployment.wait_ready()
    assert seen.is_set()
    assert any("pod" in line and "SchedulingGated: held by a queue" in line for line in said)


def pod_that_waits(**status: Any):
    """A script whose only pod stays as it is told."""

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        spec, _, labels = pod_plan(plural, made)
        pod = simulated.add_pod(made, 0, spec, labels)
        simulated.tell_pod(pod, **status)

    return script


def held(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """A status whose container waits, or whose pod has no node."""
    if reason == "Unschedulable":
        told = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        return {"phase": "Pending", "conditions": [told]}
    container = {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}} | more
    return {"phase": "Pending", "containerStatuses": [container]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (held("Unschedulable", "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."), "4 Insufficient"),
        (held("ErrImagePull", "pull access denied"), "pull access denied"),
        (held("ImagePullBackOff", "i/o timeout"), "i/o timeout"),
        (held("CreateContainerConfigError", 'secret "hub" not found'), 'secret "hub" not found'),
    ],
)
def test_what_cannot_heal_ends_the_wait_early(cluster, tmp_path, status, words):
    """No node, no pull, no secret: an error with the cluster's words, long before the start's own bound."""
    cluster.script = pod_that_waits(**status)
    with pytest.raises(ClusterError) as caught, deployed(tmp_path, start_s_max=600.0) as deployment:
        deployment.wait_ready()
    assert words in caught.value.found
    assert left(cluster) == []


@pytest.mark.parametrize(
    ("status", "pulled"),
    [
        (held("ErrImagePull", "manifest unknown"), ""),
        (held("InvalidImageName"), ""),
        (held("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'), f"{IMAGE}: not found"),
    ],
)
def test_an_image_that_is_gone_is_the_builds_fault(cluster, tmp_path, status, pulled):
    """No other cluster helps: told as the build's, also where only the events still say why the last pull failed."""
    wait = pod_that_waits(**status)

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        if pulled:
            warn(simulated, f"{made['metadata']['name']}-0", f'Failed to pull image "{IMAGE}": {pulled}')
        wait(simulated, plural, made)

    cluster.script = script
    with pytest.raises(NoImageError) as caught, deployed(tmp_path, start_s_max=600.0) as deployment:
        deployment.wait_ready()
    assert (pulled or "main") in caught.value.found
    assert IMAGE in caught.value.expected
    assert left(cluster) == []


def warn(simulated: SimulatedCluster, name: str, message: str) -> None:
    """A warning about an object, as an event."""
    event = {"metadata": {"name": "e"}, "type": "Warning", "reason": "Failed", "message": message}
    simulated.state.create("events", NAMESPACE, event | {"involvedObject": {"name": name}})


@pytest.mark.parametrize("is_held", [True, False])
def test_a_server_that_never_began_says_nothing_of_its_build(cluster, tmp_path, is_held):
    """A pod that a queue holds back, or that creates its container, until the time is over: the cluster's fault."""
    gate = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "held by a queue"}
    cluster.script = pod_that_waits(
        **({"phase": "Pending", "conditions": [gate]} if is_held else held("ContainerCreating"))
    )
    with (
        pytest.raises(ClusterError, match="not ready in time") as caught,
        deployed(tmp_path, start_s_max=0.5) as deployment,
    ):
        deployment.wait_ready()
    assert ("held by a queue" if is_held else "ContainerCreating") in caught.value.found
    assert left(cluster) == []


def test_a_server_that_ran_and_is_not_ready_is_its_builds(cluster, tmp_path):
    """On a node, started, and never ready: that is what the build did."""
    running = {"name": "main", "state": {"running": {}}, "ready": False, "restartCount": 0}

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        spec, _, labels = pod_plan(plural, made)
        pod = simulated.add_pod(made, 0, spec | {"nodeName": "node-a"}, labels)
        simulated.tell_pod(pod, phase="Running", containerStatuses=[running])

    cluster.script = script
    with (
        pytest.raises(ServerNotReadyError, match="not ready in time") as caught,
        deployed(tmp_path, start_s_max=0.5) as deployment,
    ):
        deployment.wait_ready()
    assert "raise start_s_max" in caught.value.next_step


@pytest.mark.slow
def test_a_server_that_crashes_at_its_start_is_told_by_its_own_words(cluster, tmp_path):
    """After three crashes the wait ends with the root cause from the log, which is kept."""
    with pytest.raises(ServerExitedError) as caught, deployed(tmp_path, "exit", start_s_max=600.0) as deployment:
        deployment.wait_ready()
    assert "ValueError: this model cannot be served" in caught.value.found
    assert "\x1b" not in str(caught.value)
    assert "node-a" in caught.value.problem
    (log,) = (tmp_path / "logs").iterdir()
    assert "ValueError: this model cannot be served" in log.read_text()
    assert left(cluster) == []


def test_a_model_that_cannot_be_fetched_is_no_crash_of_the_build(cluster, tmp_path):
    """The container that fetches it ends again and again: it is not the build's, whose own was never begun."""
    fetch = {"name": "storage-initializer", "image": "kserve/storage-initializer"}
    crashed = {"restartCount": 3, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        spec, _, labels = pod_plan(plural, made)
        pod = simulated.add_pod(made, 0, spec | {"nodeName": "node-a", "initContainers": [fetch]}, labels)
        simulated.tell_pod(pod, initContainerStatuses=[fetch | crashed | {"state": {}}])

    cluster.script = script
    with pytest.raises(ClusterError, match="storage-initializer ended") as caught, deployed(tmp_path) as deployment:
        deployment.wait_ready()
    assert "OOMKilled" in caught.value.found


def test_a_pod_that_reaches_its_memory_limit_is_told_so(cluster, tmp_path):
    """OOMKilled is an OutOfMemoryError that names the setting."""
    last = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    cluster.script = pod_that_waits(**held("CrashLoopBackOff", restartCount=3, lastState=last))
    with pytest.raises(OutOfMemoryError) as caught, deployed(tmp_path, start_s_max=600.0) as deployment:
        deployment.wait_ready()
    assert "pod_memory" in caught.value.next_step


@pytest.mark.slow
def test_a_service_that_never_becomes_ready_ends_in_time(cluster, tmp_path):
    """After start_s_max and the margin the error tells what was waited for, with the newest warnings: no build's."""
    cluster.script = lambda simulated, plural, made: simulated.state.create(
        "events",
        NAMESPACE,
        {
            "metadata": {"name": "e"},
            "type": "Warning",
            "reason": "FailedCreate",
            "message": "exceeded quota: gpus",
            "involvedObject": {"name": f"{made['metadata']['name']}-kserve-5d9"},
        },
    )
    with pytest.raises(ClusterError, match="in time") as caught, deployed(tmp_path, start_s_max=0.5) as deployment:
        deployment.wait_ready()
    assert "no condition yet" in caught.value.found
    assert "FailedCreate: exceeded quota: gpus" in caught.value.found
    assert left(cluster) == []


@pytest.mark.slow
@pytest.mark.parametrize(("reach", "mode"), [("pods", "error404"), ("pods", "no_tokens"), ("router", "error500")])
def test_one_that_is_ready_but_answers_nothing_is_not_served(cluster, tmp_path, reach, mode):
    """Readiness is what a real request says: an error, or no token, is none."""
    limits = replace(QUICK, answer_s=0.6)
    with (
        pytest.raises(ServerNotReadyError, match="answers no completions") as caught,
        deployed(tmp_path, mode, reach=reach, deployer=KServeDeployer(limits)) as deployment,
    ):
        deployment.wait_ready()
    assert {"error404": "404", "no_tokens": "200", "error500": "500"}[mode] in caught.value.found
    assert left(cluster) == []


def test_another_image_than_the_pinned_one_is_refused(cluster, tmp_path):
    """A pod whose image was replaced on its way is an error that names it."""

    def script(simulated: SimulatedCluster, plural: str, made: dict[str, Any]) -> None:
        spec, _, labels = pod_plan(plural, made)
        spec["containers"][0]["image"] = "mirror/vllm@sha256:" + "d" * 64
        simulated.add_pod(made, 0, spec, labels)

    cluster.script = script
    with pytest.raises(DeployError, match="does not run the pinned image") as caught, deployed(tmp_path) as deployment:
        deployment.wait_ready()
    assert "mirror/vllm@sha256:ddd" in caught.value.found
    assert left(cluster) == []


@pytest.mark.slow
def test_an_expired_version_and_a_cut_stream_do_not_matter(cluster, tmp_path):
    """Every watch breaks or is too old, and the servers still become ready."""
    cluster.api.faults += [Fault("watch", "pods", cut=True, times=2), Fault("watch", "llminferenceservices", 410)]
    with deployed(tmp_path) as deployment:
        cluster.state.expire()
        assert answered(deployment.wait_ready().base_url) == 2
    assert left(cluster) == []


def test_objects_that_somebody_else_deletes_end_the_wait(cluster, tmp_path):
    """A service that is deleted under our hands is said to be."""
    cluster.script = lambda simulated, plural, made: simulated.state.delete(
        plural, NAMESPACE, made["metadata"]["name"], {}
    )
    with pytest.raises(ClusterError, match="was deleted while it started"), deployed(tmp_path) as deployment:
        deployment.wait_ready()


@pytest.mark.parametrize("phase", ["", "Terminating"])
def test_a_namespace_that_is_not_there_is_refused(cluster, tmp_path, phase):
    """Redline makes no namespaces: one that is missing or ending is an error before anything is made."""
    if phase:
        cluster.state.edit("namespaces", "", NAMESPACE, lambda found: found["status"].update(phase=phase))
    else:
        cluster.state.forget("namespaces", "", NAMESPACE)
    with pytest.raises(ClusterError, match="is being deleted" if phase else "does not exist"), deployed(tmp_path):
        pass
    assert cluster.api.count("create", "llminferenceservices") == 0


@pytest.mark.slow
def test_who_may_not_read_namespaces_may_still_serve(cluster, tmp_path):
    """A Role for one namespace need not tell of namespaces at all."""
    cluster.api.forbidden |= {("get", "namespaces"), ("list", "events"), ("get", "pods/log"), ("watch", "pods")}
    with deployed(tmp_path) as deployment:
        assert answered(deployment.wait_ready().base_url) == 2
    assert left(cluster) == []


def test_a_wheel_is_no_image(cluster, tmp_path):
    """A build that no cluster can run is a usage error that names what can be run."""
    order = cluster_order(tmp_path)
    pin = BuildPin(BuildKind.INDEX_WHEEL, "vllm==1", "vllm", "1", "cpu", "3.12", "a" * 64, "vllm==1 --hash=x")
    with (
        pytest.raises(UsageError, match="cannot be served in a cluster"),
        KServeDeployer(QUICK).deploy(replace(order, sut=SystemUnderTest(pin)), print),
    ):
        pass
