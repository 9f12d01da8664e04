"""`redline cleanup`: what killed Redlines left is ended wherever it is, said once, and nothing else is touched."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from redline.cli import main
from redline.deploy.deployer import Order
from tests.deploy.conftest import FAKES
from tests.deploy.test_container import container_order, killed_with_its_supervisors
from tests.fakes.container_world import ContainerWorld
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, simulated_cluster
from tests.fakes.kubernetes_orders import cluster_order, deployed, left
from tests.flows.deployed_content import ROOT, write_content
from tests.flows.test_deployed_runs import is_empty

NOTHING = "nothing was left behind\n"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCluster]:
    """A cluster that this account may use."""
    with simulated_cluster(tmp_path) as simulated:
        monkeypatch.setenv("KUBECONFIG", str(simulated.kubeconfig))
        yield simulated


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerWorld]:
    """Stand-ins for docker and podman on PATH, docker's daemon running."""
    world = ContainerWorld(tmp_path)
    monkeypatch.setenv("PATH", f"{world.programs}{os.pathsep}/usr/bin:/bin")
    with world.daemon():
        yield world


@dataclass
class Cleaned:
    """The end of one command. Standard error is left out of comparisons: the simulated cluster talks there too."""

    status: int
    out: str
    err: str = field(default="", compare=False)


@pytest.fixture
def cleanup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Cleaned]:
    """`redline cleanup`, with the state of this test unless another is named."""
    monkeypatch.setenv("REDLINE_CONTENT", str(write_content(tmp_path / "content", tmp_path / "asked")))
    monkeypatch.setenv("PATH", os.environ["PATH"] if "engine" in os.environ["PATH"] else str(tmp_path))

    def call(*arguments: str, state: Path = tmp_path / "state") -> Cleaned:
        capsys.readouterr()
        status = main(["cleanup", *arguments, "--state-dir", str(state)])
        return Cleaned(status, *capsys.readouterr())

    return call


def abandoned(folder: Path, order: Order) -> int:
    """Serve an order in another process, kill that process and nothing else; its process id."""
    pickled = folder / "order.pickle"
    pickled.write_bytes(pickle.dumps(("kserve", order)))
    with subprocess.Popen(
        [sys.executable, str(FAKES / "deploying_order.py"), str(pickled)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline(), "it never became ready"
        caller.kill()
    return caller.pid


def test_nothing(cleanup: Callable[..., Cleaned]) -> None:
    """No engine, no cluster, no state: that is said, and is no failure."""
    assert cleanup() == Cleaned(0, NOTHING)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--runner", "host"), "runner class host serves in no cluster"),
        (("--runner", "nobody"), "no such file"),
        (("--older-than-hours", "0"), "nothing is older than that"),
        (("--older-than-hours", "nan"), "nothing is older than that"),
    ],
)
def test_wrong_usage(cleanup: Callable[..., Cleaned], arguments: tuple[str, ...], problem: str) -> None:
    """Exit 2, and what to write instead."""
    done = cleanup(*arguments)
    assert (done.status, done.out) == (2, "")
    assert problem in done.err
    assert all(f"  {word}: " in done.err for word in ("expected", "found", "next step"))


@pytest.mark.slow
def test_one_place_that_fails_keeps_no_other(
    cleanup: Callable[..., Cleaned], world: ContainerWorld, cluster: SimulatedCluster, tmp_path: Path
) -> None:
    """The containers are ended although the cluster refuses; that is an error, and is mended later."""
    killed_with_its_supervisors(container_order(tmp_path), tmp_path)
    pid = abandoned(tmp_path, cluster_order(tmp_path))
    made = left(cluster)
    assert made
    cluster.api.forbidden.add(("list", "llminferenceservices"))
    done = cleanup()
    assert done.status == 5
    assert "container: docker container redline-" in done.out
    assert all(f"  {word}: " in done.err for word in ("expected", "found", "next step"))
    assert "forbidden" in done.err
    assert is_empty(world.left_over), world.left_over()  # the last monitor may still be ending itself
    assert left(cluster) == made
    cluster.api.forbidden.clear()
    done = cleanup()
    assert done.status == 0, done.err
    (line,) = done.out.splitlines()
    assert line.startswith("kserve: LLMInferenceService ")
    assert f" in namespace {NAMESPACE}: process {pid} on " in line
    assert left(cluster) == []
    assert cleanup() == Cleaned(0, NOTHING)


@pytest.mark.slow
def test_a_class_is_enough(cleanup: Callable[..., Cleaned], cluster: SimulatedCluster, tmp_path: Path) -> None:
    """A runner without the state of the killed one finds nothing by itself, and everything by the class."""
    abandoned(tmp_path, cluster_order(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    assert cleanup(state=elsewhere) == Cleaned(0, NOTHING)
    assert left(cluster)
    done = cleanup("--runner", "pods", state=elsewhere)
    assert done.status == 0, done.err
    assert done.out.startswith("kserve: LLMInferenceService ")
    assert left(cluster) == []
    assert cleanup("--runner", "pods", state=elsewhere) == Cleaned(0, NOTHING)


@pytest.mark.slow
def test_what_lives_or_is_not_ours_stays(
    cleanup: Callable[..., Cleaned], cluster: SimulatedCluster, tmp_path: Path
) -> None:
    """A living Redline's service only goes by its age; one that carries no mark of Redline's never does."""
    theirs = {"metadata": {"name": "theirs"}, "kind": "LLMInferenceService", "spec": {"template": {}, "replicas": 0}}
    cluster.state.create("llminferenceservices", NAMESPACE, theirs, manager="somebody")
    with deployed(tmp_path) as deployment:
        deployment.wait_ready()
        mine, _ = sorted(cluster.state.names("llminferenceservices"), key=lambda name: name == "theirs")
        for arguments in ((), ("--runner", "pods"), ("--older-than-hours", "1")):
            assert cleanup(*arguments) == Cleaned(0, NOTHING)
        time.sleep(2.1)  # ages are told in whole seconds
        done = cleanup("--runner", "pods", "--older-than-hours", str(1 / 3600))
        assert done.status == 0, done.err
        assert f"LLMInferenceService {mine} " in done.out
        assert " h old" in done.out
        assert cluster.state.names("llminferenceservices") == ["theirs"]
