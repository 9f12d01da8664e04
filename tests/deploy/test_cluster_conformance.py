"""The one suite that every deployer passes, for those that serve in a cluster: a simulated one with real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redline.deploy.deployer import Deployer, Order
from redline.deploy.inference_service import InferenceServiceDeployer
from redline.deploy.kserve import KServeDeployer
from redline.deploy.llmd import LlmdDeployer
from redline.model import Endpoint
from tests.deploy.conformance import Conformance, Setting
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, simulated_cluster
from tests.fakes.kubernetes_orders import QUICK, cluster_order, left

pytestmark = pytest.mark.slow


class ClusterSetting(Setting):
    """A namespace of the simulated cluster. Whatever is applied outlives whoever applied it."""

    def __init__(self, folder: Path, cluster: SimulatedCluster, deployer: Deployer, settings: dict[str, Any]) -> None:
        self.deployer = deployer.name
        self._made, self._settings = deployer, settings
        self._folder, self._cluster = folder, cluster

    def make(self) -> Deployer:
        return self._made

    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 30.0) -> Order:
        return cluster_order(self._folder, mode, replicas=replicas, start_s_max=start_s_max, **self._settings)

    def kill(self, endpoint: Endpoint, replica: int) -> None:
        pod = endpoint.replicas[replica].name
        self._cluster.kubelet.kill(pod)
        deadline = time.monotonic() + 10
        while not self._restarts(pod):  # as seen by the API server, a moment later
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _restarts(self, pod: str) -> int:
        found = self._cluster.state.get("pods", NAMESPACE, pod) or {}
        return sum(each["restartCount"] for each in found.get("status", {}).get("containerStatuses", ()))

    def left_over(self) -> set[str]:
        return {*left(self._cluster), *(f"process {pid}" for pid in self._cluster.kubelet.pids())}

    def environment(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self._cluster.kubeconfig)}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCluster]:
    """A cluster that serves what is asked for."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


class TestKServe(Conformance):
    """LLMInferenceService."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """Pods reached one by one."""
        return ClusterSetting(tmp_path, cluster, KServeDeployer(QUICK), {})


class TestInferenceService(Conformance):
    """InferenceService."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """Pods reached one by one."""
        sized = {"pod_cpus": "1", "pod_memory": "1Gi"}
        return ClusterSetting(tmp_path, cluster, InferenceServiceDeployer(QUICK), sized)


class TestLlmd(Conformance):
    """llm-d's plain objects."""

    @pytest.fixture
    def setting(self, tmp_path: Path, cluster: SimulatedCluster) -> Setting:
        """Pods reached one by one."""
        return ClusterSetting(tmp_path, cluster, LlmdDeployer(QUICK), {})
