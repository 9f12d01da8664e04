"""Servers in a cluster, from the first object to the last: the real client, a small API server, real processes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from redline.deploy.inference_service import InferenceServiceDeployer
from redline.deploy.kserve import KServeDeployer
from redline.deploy.llmd import LlmdDeployer
from redline.deploy.routing import endpoint_picker_config
from redline.errors import (
    ClusterError,
    PodLostError,
    ReplicaDiedError,
    ServerDiedError,
)
from tests.deploy.conftest import noted_pids, still_there
from tests.fakes.kubernetes_api import Fault
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, simulated_cluster
from tests.fakes.kubernetes_orders import IMAGE, QUICK, answered, deployed, left

CHECKOUT = Path(__file__).parents[2]
SIZED = {"pod_cpus": "1", "pod_memory": "1Gi"}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A cluster that serves what is asked for."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


def documented_rights() -> set[tuple[str, str, str]]:
    """(group, resource, verb) that docs/kubernetes.md has an administrator grant."""
    (text,) = re.findall(
        r"^```yaml\n(.*?)^```", (CHECKOUT / "docs" / "kubernetes.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return {
        (group, resource, verb)
        for each in yaml.safe_load_all(text)
        for rule in each.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def router_facts(deployer: str) -> dict[str, str]:
    """What a result behind a router says of it."""
    configuration = hashlib.sha256(endpoint_picker_config("even").encode()).hexdigest()[:8]
    return {"router": f"{'b' * 12}/{configuration}"} | ({"proxy": "c" * 12} if deployer == "llm-d" else {})


@pytest.mark.parametrize(
    ("deployer", "reach", "settings"),
    [
        (KServeDeployer(QUICK), "pods", {}),
        pytest.param(KServeDeployer(QUICK), "router", {}, marks=pytest.mark.slow),
        pytest.param(InferenceServiceDeployer(QUICK), "pods", SIZED, marks=pytest.mark.slow),
        pytest.param(LlmdDeployer(QUICK), "pods", {}, marks=pytest.mark.slow),
        pytest.param(LlmdDeployer(QUICK), "router", {}, marks=pytest.mark.slow),
    ],
)
def test_every_way_serves_and_leaves_nothing(cluster, tmp_path, deployer, reach, settings):
    """Two replicas answer at their addresses, are alive, are known by their machines, and are gone afterwards.

    All that with the rights that the documentation grants.
    """
    with deployed(tmp_path, deployer=deployer, replicas=2, reach=reach, **settings) as deployment:
        endpoint = deployment.wait_ready()
        deployment.check_alive()
        assert [answered(url) for url in endpoint.base_urls] == [2] * (2 if reach == "pods" else 1)
        assert len(endpoint.replicas) == len(endpoint.base_urls)
        if reach == "pods":
            assert [each.name for each in endpoint.replicas] == cluster.state.names("pods")
        assert endpoint.reported_version == "0.0.0+standin"
        assert endpoint.facts == {
            "served_by": deployer.name,
            "reach": reach,
            "nodes": "node-a, node-b",
            "accelerator": "none",
            **(router_facts(deployer.name) if reach == "router" else {}),
        }
        assert endpoint.notes["driver"] == "580.95.05"
        assert endpoint.notes["image_id"] == IMAGE
        assert Path(endpoint.log_path).is_file()
        assert deployment.pids() == ()
        deployment.confine((0,))
        pids = noted_pids(tmp_path)
        assert len(pids) == 2
    assert still_there(pids) == set()
    assert left(cluster) == []
    assert {(each.group, each.plural, each.verb) for each in cluster.api.asked} <= documented_rights()


def test_a_replica_that_dies_is_named(cluster, tmp_path):
    """One of two pods is killed while they are in use: the error names it, its exit and its node."""
    with deployed(tmp_path, replicas=2) as deployment:
        endpoint = deployment.wait_ready()
        victim = endpoint.replicas[1].name
        cluster.kubelet.kill(victim)
        with cluster.state.changed:
            assert cluster.state.changed.wait_for(lambda: restarts(cluster, victim) > 0, 60)
        with pytest.raises(ReplicaDiedError) as caught:
            deployment.check_alive()
    assert type(caught.value) is ReplicaDiedError
    assert f"pod {victim} on node-b" in caught.value.problem
    assert "ended by SIGKILL" in caught.value.found
    assert left(cluster) == []


def restarts(cluster: SimulatedCluster, pod: str) -> int:
    """How often a pod's container was started again."""
    found = cluster.state.get("pods", NAMESPACE, pod)
    return sum(each["restartCount"] for each in found["status"]["containerStatuses"])


@pytest.mark.slow
def test_the_only_server_that_dies_says_why(cluster, tmp_path):
    """Its last words are in the error, whoever started it anew."""
    gate = tmp_path / "gate"
    with deployed(tmp_path, "dies", environment={"STAND_IN_GATE": str(gate)}) as deployment:
        endpoint = deployment.wait_ready()
        gate.touch()
        with cluster.state.changed:
            assert cluster.state.changed.wait_for(lambda: restarts(cluster, endpoint.replicas[0].name) > 0, 60)
        with pytest.raises(ServerDiedError) as caught:
            deployment.check_alive()
    assert type(caught.value) is ServerDiedError
    assert "the engine fell over" in caught.value.found
    assert "exit status 3" in caught.value.found


def test_a_pod_that_somebody_deletes_is_missed(cluster, tmp_path):
    """A pod that is evicted or deleted is a loss, though another would take its place, and no build's fault."""
    with deployed(tmp_path) as deployment:
        pod = deployment.wait_ready().replicas[0].name
        cluster.tell_pod(pod, phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
        with pytest.raises(PodLostError, match="taken away while it was in use: Failed Evicted The node was low"):
            deployment.check_alive()
        cluster.kubelet.kill(pod)
        cluster.state.delete("pods", NAMESPACE, pod, {})
        with cluster.state.changed:
            assert cluster.state.changed.wait_for(lambda: not cluster.state.names("pods"), 60)
        with pytest.raises(PodLostError, match="it is gone"):
            deployment.check_alive()


def test_a_cluster_that_does_not_say_is_no_death(cluster, tmp_path):
    """One look without an answer is told and passed over, the second in a row is an error, but not of the server."""
    cluster.api.forbidden.add(("get", "nodes"))
    said: list[str] = []
    with deployed(tmp_path, said=said) as deployment:
        endpoint = deployment.wait_ready()
        assert endpoint.notes["driver"] == "unknown"
        fault = Fault("list", "pods", 503, "ServiceUnavailable", times=6)
        cluster.api.faults.append(fault)  # a question is asked three times
        deployment.check_alive()
        assert "asked again later" in said[-1]
        with pytest.raises(ClusterError) as caught:
            deployment.check_alive()
        assert not isinstance(caught.value, ServerDiedError)
        deployment.check_alive()
        fault.times = 3
        deployment.check_alive()
        assert fault.times == 0
        cluster.kubelet.kill(endpoint.replicas[0].name)
        with cluster.state.changed:
            assert cluster.state.changed.wait_for(lambda: restarts(cluster, endpoint.replicas[0].name) > 0, 60)
        with pytest.raises(ServerDiedError):
            deployment.check_alive()
    assert left(cluster) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_however_the_block_ends_nothing_is_left(cluster, tmp_path, error):
    """Ctrl-C and any other exception while it starts: everything is deleted, and the exception stays what it was."""
    with pytest.raises(error), deployed(tmp_path, "never"):
        raise error
    assert left(cluster) == []


@pytest.mark.slow
def test_two_runs_do_not_meet(cluster, tmp_path):
    """The same arm of two runs in one namespace: two services, neither of which touches the other."""
    with deployed(tmp_path, run_id="one") as first, deployed(tmp_path, run_id="two") as second:
        first.wait_ready()
        second.wait_ready()
        assert len(cluster.state.names("llminferenceservices")) == 2
    assert left(cluster) == []


KILLED = """
import sys
from pathlib import Path
from redline.deploy.kserve import KServeDeployer
from tests.fakes.kubernetes_orders import QUICK, cluster_order

with KServeDeployer(QUICK).deploy(cluster_order(Path(sys.argv[1])), print) as deployment:
    deployment.wait_ready()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_what_a_killed_redline_leaves_is_cleaned_up(cluster, tmp_path):
    """kill -9 leaves servers that run; a live Redline's are not touched, a dead one's are ended and named."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as redline:
        assert redline.stdout is not None
        assert any(line == "ready\n" for line in redline.stdout)
        deployer = KServeDeployer(QUICK)
        assert deployer.cleanup(tmp_path / "state", older_than_s=None) == ()
        redline.send_signal(signal.SIGKILL)
    assert len(cluster.kubelet.pids()) == 1
    (line,) = deployer.cleanup(tmp_path / "state", older_than_s=None)
    assert "LLMInferenceService" in line
    assert f"process {redline.pid}" in line
    assert left(cluster) == []
    assert still_there(noted_pids(tmp_path)) == set()
