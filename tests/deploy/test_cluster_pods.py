"""What the status of pods, services and nodes is read as: tables of what a kubelet and controllers say."""

from __future__ import annotations

from typing import Any

import pytest

from redline.deploy.cluster_facts import machine_facts, machine_notes
from redline.deploy.cluster_pods import has_no_image, is_taken, loss_of, pod_of, summary, trouble_of
from redline.deploy.cluster_ready import contradiction, unready

DIGEST = "sha256:" + "a" * 64


def pod(
    *, spec: dict[str, Any] | None = None, container: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    """A pod of one container, which runs unless `container` says otherwise."""
    told = {"name": "main", "state": {"running": {}}, "restartCount": 0, "ready": True}
    return {
        "metadata": {"name": "p-0", "namespace": "perf", "uid": "1"},
        "spec": {"nodeName": "n", "containers": [{"name": "main", "image": f"r/i@{DIGEST}"} | (spec or {})]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [told | (container or {})],
        }
        | status,
    }


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """A container that waits."""
    return {"state": {"waiting": {"reason": reason, "message": message}}, "ready": False} | more


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    """A container that ended and was started again `restartCount` times."""
    return {"lastState": {"terminated": {"exitCode": code, "reason": reason}}, "ready": False} | more


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
}


@pytest.mark.parametrize(
    ("found", "hope", "text"),
    [
        (pod(phase="Pending", conditions=[UNSCHEDULABLE], containerStatuses=[]), "place", "4 Insufficient nvidia.com"),
        (
            pod(phase="Pending", conditions=[UNSCHEDULABLE | {"reason": "SchedulingGated"}], containerStatuses=[]),
            "waits",
            "SchedulingGated",
        ),
        (pod(container=waiting("ErrImagePull", "manifest unknown")), "configuration", "manifest unknown"),
        (pod(container=waiting("ImagePullBackOff", "pull access denied")), "configuration", "denied"),
        (pod(container=waiting("ImagePullBackOff", "i/o timeout")), "pull", "i/o timeout"),
        (pod(container=waiting("InvalidImageName")), "hopeless", "InvalidImageName"),
        (pod(container=waiting("CreateContainerConfigError", 'secret "x" not found')), "configuration", "secret"),
        (pod(container=waiting("SomethingNew", "odd")), "configuration", "SomethingNew: odd"),
        (pod(container=ended(1, restartCount=1)), "waits", "ended 1 times"),
        (pod(container=waiting("CrashLoopBackOff") | ended(1, restartCount=3)), "hopeless", "Error, exit code 1"),
        (pod(container=ended(137, "OOMKilled", restartCount=3)), "hopeless", "OOMKilled, exit code 137"),
        (pod(phase="Failed", reason="Evicted", message="low on ephemeral-storage"), "waits", "Evicted low on"),
        (pod(phase="Failed", reason="UnexpectedAdmissionError"), "waits", "UnexpectedAdmissionError"),
    ],
)
def test_what_keeps_a_pod_from_serving(found: dict[str, Any], hope: str, text: str):
    """Each thing a kubelet or a scheduler says has its bound, and its own words are shown."""
    trouble = trouble_of(pod_of(found))
    assert trouble is not None
    assert trouble.hope == hope
    assert text in trouble.text
    assert text in summary(pod_of(found))


@pytest.mark.parametrize(
    "found",
    [
        pod(),
        pod(container=waiting("ContainerCreating"), phase="Pending"),
        pod(container=waiting("PodInitializing"), phase="Pending"),
        pod(container={"ready": False}),
        pod(container={"restartCount": 2, "lastState": {"terminated": {"exitCode": 1}}}),
    ],
)
def test_a_pod_that_is_only_not_there_yet_is_in_no_trouble(found: dict[str, Any]):
    """Creating, initialising, loading a model, and a pod that is ready after restarts."""
    assert trouble_of(pod_of(found)) is None


def test_an_init_container_that_fails_is_seen():
    """A model that cannot be fetched keeps the pod from serving, and its container is named."""
    found = pod(phase="Pending", containerStatuses=[])
    found["spec"]["initContainers"] = [{"name": "storage-initializer", "image": "kserve/storage-initializer"}]
    found["status"]["initContainerStatuses"] = [
        {"name": "storage-initializer"} | waiting("CrashLoopBackOff") | ended(1, restartCount=3)
    ]
    trouble = trouble_of(pod_of(found))
    assert trouble is not None
    assert (trouble.hope, trouble.container) == ("hopeless", "storage-initializer")


@pytest.mark.parametrize("status", [None, 3, [], {"phase": 3, "conditions": {}, "containerStatuses": "x"}])
def test_a_status_that_is_odd_is_no_crash(status: Any):
    """Whatever the API says in place of a status, the pod is one that is not ready."""
    found = pod()
    found["status"] = status
    read = pod_of(found)
    assert not read.ready
    assert summary(read).startswith("pod p-0 ")


@pytest.mark.parametrize(
    ("now", "loss", "taken"),
    [
        (None, "it is gone", True),
        (pod() | {"metadata": {"name": "p-0", "uid": "2"}}, "it is gone", True),
        (
            pod(
                phase="Failed",
                reason="Evicted",
                message="The node was low on memory",
                container={"state": {"terminated": {"exitCode": 137, "reason": "Error"}}},
            ),
            "Failed Evicted The node was low",
            True,
        ),
        (pod(phase="Unknown"), "Unknown", True),
        (pod(phase="Failed"), "Failed", False),
        (pod(container=ended(1, restartCount=1, ready=True)), "its container main ended (Error, exit code 1)", False),
        (pod(container={"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}), "ended (OOMKilled", False),
        (
            pod(conditions=[{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}])
            | {"metadata": {"name": "p-0", "uid": "1", "deletionTimestamp": "now"}},
            "it is being ended: PreemptionByScheduler",
            True,
        ),
    ],
)
def test_a_loss_says_what_happened(now: dict[str, Any] | None, loss: str, taken: bool):
    """Gone, replaced, evicted, started anew, out of memory: each in its words, and whether the cluster did it."""
    before, after = pod_of(pod()), pod_of(now) if now is not None else None
    assert loss in loss_of(before, after)
    assert is_taken(before, after) is taken


NOT_FOUND = f'failed to resolve reference "r/i@{DIGEST}": r/i@{DIGEST}: not found'


@pytest.mark.parametrize(
    ("reason", "message", "gone"),
    [
        ("InvalidImageName", "", True),
        ("ErrImagePull", f"rpc error: code = NotFound desc = {NOT_FOUND}", True),
        ("ImagePullBackOff", f'Back-off pulling image "r/i": ErrImagePull: {NOT_FOUND}', True),
        ("ErrImagePull", "reading manifest sha256:aa in r/i: manifest unknown", True),
        ("ErrImagePull", "Error response from daemon: manifest for r/i not found: manifest unknown", True),
        ("ErrImagePull", "no match for platform in manifest: not found", True),
        ("ErrImagePull", 'no image found in manifest list for architecture "arm64", OS "linux"', True),
        ("ImagePullBackOff", 'Back-off pulling image "r/i"', False),
        ("ErrImagePull", "pull access denied, repository does not exist or may require authorization", False),
        ("ErrImagePull", "failed to authorize: failed to fetch anonymous token: 404: not found", False),
        ("ErrImagePull", 'exec: "credential-helper": executable file not found in $PATH', False),
        ("ErrImagePull", 'failed to do request: Head "https://r/v2": dial tcp: lookup r: no such host', False),
        ("ErrImageNeverPull", "is not present with pull policy of Never", False),
        ("CreateContainerConfigError", 'secret "x": not found', False),
    ],
)
def test_an_image_is_gone_only_where_that_is_said(reason: str, message: str, gone: bool):
    """A registry out of reach, a refused login and a node's own trouble say nothing about the image."""
    (container,) = pod_of(pod(phase="Pending", container=waiting(reason, message))).containers
    assert has_no_image(container) is gone


def test_a_probe_that_fails_under_load_is_no_loss():
    """A pod that is not ready for a moment still serves: only its process counts."""
    now = pod(container={"ready": False}, conditions=[{"type": "Ready", "status": "False"}])
    assert loss_of(pod_of(pod()), pod_of(now)) == ""


@pytest.mark.parametrize(
    ("spec", "scheme", "port"),
    [
        ({}, "http", 8000),
        ({"ports": [{"containerPort": 8443}]}, "http", 8443),
        ({"readinessProbe": {"httpGet": {"port": 8001, "scheme": "HTTPS"}}, "ports": []}, "https", 8001),
        (
            {
                "readinessProbe": {"httpGet": {"port": "web"}},
                "ports": [{"containerPort": 1, "name": "x"}, {"containerPort": 2, "name": "web"}],
            },
            "http",
            2,
        ),
    ],
)
def test_where_a_pod_is_asked(spec: dict[str, Any], scheme: str, port: int):
    """The port and the scheme are those of its readiness probe, else its first port."""
    container = pod_of(pod(spec=spec)).serving(DIGEST)
    assert container is not None
    assert (container.scheme, container.port) == (scheme, port)


def test_the_serving_container_is_the_one_with_the_pinned_image():
    """It is found by digest, whatever it is called; another image is nobody's."""
    found = pod_of(pod())
    assert found.serving(DIGEST) is not None
    assert found.serving("sha256:" + "b" * 64) is None


def service(*rows: tuple[str, str, str, str], **status: Any) -> dict[str, Any]:
    """An LLMInferenceService with conditions."""
    told = [dict(zip(("type", "status", "reason", "message"), row, strict=True)) for row in rows]
    return {
        "kind": "LLMInferenceService",
        "metadata": {"name": "s", "generation": 2},
        "status": {"conditions": told} | status,
    }


READY = ("Ready", "True", "", "")


def test_a_service_is_ready_when_its_controller_says_so_of_this_generation():
    """Ready of an older generation, or none at all, is not ready; the conditions that are false are told."""
    assert unready(service(READY, observedGeneration=2)) == ()
    assert unready(service(READY)) == ()
    assert unready(service(READY, observedGeneration=1)) == ("Ready True",)
    assert "no condition yet" in unready(service())[0]
    told = unready(service(("Ready", "False", "x", ""), ("RouterReady", "False", "NoGateway", "no gateway\n\x1b[1m")))
    assert told == ("RouterReady False (NoGateway): no gateway",)


def test_a_deployment_is_ready_with_all_its_replicas():
    """Kubernetes calls a Deployment available before all of it is: every replica counts here."""
    found = {"kind": "Deployment", "metadata": {"name": "d", "generation": 1}, "spec": {"replicas": 8}}
    told = {"readyReplicas": 6, "conditions": [{"type": "Available", "status": "True"}], "observedGeneration": 1}
    assert unready(found | {"status": told}) == ("d: 6 of 8 replicas ready",)
    assert unready(found | {"status": told | {"readyReplicas": 8}}) == ()
    failed = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}
    assert unready(found | {"status": failed}) == ("d: 0 of 8 replicas ready", "exceeded quota")


def test_a_configuration_that_contradicts_itself_is_told():
    """PresetsCombined False is what no waiting mends."""
    assert contradiction(service(READY)) == ""
    assert "unknown preset" in contradiction(service(("PresetsCombined", "False", "X", "unknown preset")))


def node(labels: dict[str, str], **info: str) -> dict[str, Any]:
    """A node."""
    return {"metadata": {"labels": labels}, "status": {"nodeInfo": info}}


def test_machines_are_told_by_their_nodes():
    """Accelerators by either vendor's label, differing ones side by side; what may not be read is unknown."""
    nvidia = node({"nvidia.com/gpu.product": "NVIDIA-H200", "nvidia.com/cuda.driver.major": "580"}, kubeletVersion="v1")
    amd = node({"amd.com/gpu.product-name": "AMD_Instinct_MI300X", "amd.com/gpu.driver-version": "6.14"})
    nodes = {"b": nvidia, "a": amd, "c": None}
    facts = machine_facts(nodes, served_by="kserve", reached_by={"reach": "pods"}, with_accelerator=True)
    assert facts == {
        "served_by": "kserve",
        "reach": "pods",
        "nodes": "a, b, c",
        "accelerator": "AMD_Instinct_MI300X, NVIDIA-H200, unknown",
    }
    notes = machine_notes(nodes, [pod_of(pod())], DIGEST)
    assert notes["driver"] == "580, 6.14, unknown"
    assert notes["kubelet"] == "unknown, v1"
    assert notes["replicas_per_node"] == "n: 1"
    assert notes["restarts_before_ready"] == "0"


def test_a_cpu_has_no_accelerator():
    """Nothing is said to be unknown where nothing was asked for."""
    found = machine_facts({"a": node({})}, served_by="llm-d", reached_by={}, with_accelerator=False)
    assert found["accelerator"] == "none"
