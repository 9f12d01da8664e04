"""Servers behind a router: it is read back before they are used, watched while they are, and named where it fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redline.deploy.cluster_router import reach_facts
from redline.deploy.kserve import KServeDeployer
from redline.deploy.llmd import LlmdDeployer
from redline.errors import ClusterError, DeployError, PodLostError
from tests.deploy.cluster_orders import EVERYTHING, order_of
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, simulated_cluster
from tests.fakes.kubernetes_orders import QUICK, deployed, left

KSERVE, LLMD = KServeDeployer(QUICK), LlmdDeployer(QUICK)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster that serves what is asked for."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


def router_of(cluster: SimulatedCluster) -> str:
    """The name of the pod that routes."""
    (name,) = (each for each in cluster.state.names("pods") if each.endswith("-router"))
    return name


@pytest.mark.parametrize(
    ("deployer", "container", "words"),
    [
        (KSERVE, "main", "its picker runs mirror/other:latest"),
        pytest.param(LLMD, "picker", "its picker runs mirror/other:latest", marks=pytest.mark.slow),
        pytest.param(LLMD, "proxy", "its proxy runs mirror/other:latest", marks=pytest.mark.slow),
    ],
)
def test_another_image_than_the_pinned_one_does_not_route(cluster, tmp_path, deployer, container, words):
    """An image that was replaced is an error that names it; nothing is measured behind it."""

    def replaced(pod: dict[str, Any]) -> None:
        next(each for each in pod["spec"]["containers"] if each["name"] == container)["image"] = "mirror/other:latest"

    cluster.change_router = replaced
    with (
        pytest.raises(DeployError, match="not routed by the pinned router") as caught,
        deployed(tmp_path, deployer=deployer, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert words in caught.value.found
    assert left(cluster) == []


def test_a_preset_that_brings_a_configuration_is_told(cluster, tmp_path):
    """What the picker was really given counts, and not what was asked for."""
    preset = "--config-file=/etc/preset.yaml"
    cluster.change_router = lambda pod: pod["spec"]["containers"][0]["args"].append(preset)
    with (
        pytest.raises(DeployError, match="not routed by the pinned router") as caught,
        deployed(tmp_path, deployer=KSERVE, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert "two configurations" in caught.value.found


@pytest.mark.slow
def test_a_configuration_that_somebody_edits_is_told(cluster, tmp_path):
    """llm-d's picker reads a ConfigMap: what stands in it when the picker is there is what counts."""

    def edited(plural: str, made: dict[str, Any]) -> None:
        if plural == "configmaps" and made["metadata"]["name"].endswith("-picker"):
            name, data = made["metadata"]["name"], {"picker.yaml": "kind: EndpointPickerConfig"}
            cluster.state.edit(plural, NAMESPACE, name, lambda found: found.update(data=data))

    cluster.state.on_created.append(edited)
    with (
        pytest.raises(DeployError, match="not routed by the pinned router") as caught,
        deployed(tmp_path, deployer=LLMD, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert "another configuration" in caught.value.found


@pytest.mark.slow
def test_a_router_that_cannot_be_found_is_not_believed(cluster, tmp_path):
    """Servers may answer through it: what cannot be read back is not the pinned one."""
    cluster.change_router = lambda pod: pod["metadata"].update(labels={"another": "version"})
    deployer = KServeDeployer(replace(QUICK, answer_s=0.3))
    with (
        pytest.raises(DeployError, match="cannot be read back") as caught,
        deployed(tmp_path, deployer=deployer, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert "llminferenceservice-router-scheduler" in caught.value.expected
    assert left(cluster) == []


def test_a_router_that_cannot_start_ends_the_wait(cluster, tmp_path):
    """Its image is not there: nobody waits an hour for it while a model loads."""
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}
    held = {"name": "main", "image": "x", "ready": False, "restartCount": 0, "state": waiting}
    cluster.change_router = lambda pod: pod["status"].update(conditions=[], containerStatuses=[held])
    with (
        pytest.raises(ClusterError, match="cannot be served") as caught,
        deployed(tmp_path, "never", deployer=KSERVE, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert "manifest unknown" in caught.value.found


@pytest.mark.slow
@pytest.mark.parametrize(("code", "reason"), [(1, "Error"), (137, "OOMKilled")])
def test_a_router_that_crashes_is_no_crash_of_the_build(cluster, tmp_path, code, reason):
    """A picker that does not know a plugin, or has too little memory, ends at once: its pod is named, and no server."""
    ended = {"terminated": {"exitCode": code, "reason": reason}}
    held = {"name": "main", "image": "x", "ready": False, "restartCount": 3, "lastState": ended, "state": {}}
    cluster.change_router = lambda pod: pod["status"].update(conditions=[], containerStatuses=[held])
    with (
        pytest.raises(ClusterError, match="-router on") as caught,
        deployed(tmp_path, "never", deployer=KSERVE, reach="router") as deployment,
    ):
        deployment.wait_ready()
    assert "main ended 4 times" in caught.value.problem


@pytest.mark.parametrize("deployer", [KSERVE, pytest.param(LLMD, marks=pytest.mark.slow)])
def test_a_router_that_restarts_is_named(cluster, tmp_path, deployer):
    """It forgets what is in flight: what was measured past it is evidence of nothing, and no server is blamed."""
    with deployed(tmp_path, deployer=deployer, reach="router") as deployment:
        deployment.wait_ready()
        deployment.check_alive()
        cluster.restart_router(router_of(cluster))
        with pytest.raises(PodLostError, match="the router's pod") as caught:
            deployment.check_alive()
    assert caught.value.problem.split()[3].endswith("-router")
    assert "exit code 2" in caught.value.found
    assert left(cluster) == []


@pytest.mark.slow
def test_a_router_that_somebody_deletes_is_missed(cluster, tmp_path):
    """Another takes its place, and knows nothing of the prefixes that this one had seen."""
    with deployed(tmp_path, deployer=KSERVE, reach="router") as deployment:
        deployment.wait_ready()
        cluster.state.forget("pods", NAMESPACE, router_of(cluster))
        with pytest.raises(PodLostError, match="it is gone"):
            deployment.check_alive()


def test_what_is_reached_how_is_a_fact():
    """Pods, a Service and a router are not compared with each other."""
    by_pods = order_of(replace(EVERYTHING, reach="pods"))
    assert reach_facts(by_pods, "kserve") == {"reach": "pods"}
    service = order_of(EVERYTHING, deployer="inference-service")
    assert reach_facts(service, "inference-service") == {"reach": "router"}
    assert sorted(reach_facts(order_of(EVERYTHING), "kserve")) == ["reach", "router"]
    assert sorted(reach_facts(order_of(EVERYTHING, deployer="llm-d"), "llm-d")) == ["proxy", "reach", "router"]
