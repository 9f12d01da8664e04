"""Servers in containers: the shared suite, and what only containers do."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from redline.deploy.container import ContainerDeployer, launch_container
from redline.deploy.container_engine import find_engine, ours
from redline.deploy.deployer import Order
from redline.deploy.supervisor import GuardedProcess, guarded
from redline.deploy.supervisor_program import live_descendants
from redline.errors import NoImageError, PortTakenError, ServerDiedError, UsageError
from redline.model import BuildKind, Endpoint
from tests.deploy.conformance import ROOT, Setting, Started, is_empty
from tests.deploy.conftest import FAKES, noted_pids, stand_in_recipe, still_there
from tests.deploy.test_replicas import order_of
from tests.fakes import container_monitor
from tests.fakes.container_world import COMMIT, REFERENCE, ContainerWorld

pytestmark = pytest.mark.slow


def container_order(
    folder: Path, mode: str = "ok", *, replicas: int = 1, engine="docker", start_s_max=60.0, **environment: str
) -> Order:
    """An order of stand-ins in containers."""
    recipe = stand_in_recipe(folder, mode, start_s_max=start_s_max, **environment)
    order = order_of(folder, None, recipe, replicas, kind=BuildKind.IMAGE)
    pin = replace(order.sut.pin, url=REFERENCE, distribution="vllm", version="0.33.0")
    return replace(
        order,
        sut=replace(order.sut, pin=pin),
        installed_version=None,
        container=replace(order.container, engine=engine, open_files_max=4096),
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch) -> Iterator[ContainerWorld]:
    """Stand-ins for docker and podman on PATH, docker's daemon running."""
    world = ContainerWorld(tmp_path)
    monkeypatch.setenv("PATH", f"{world.programs}{os.pathsep}{os.environ['PATH']}")
    for name in ("DOCKER_HOST", "HF_TOKEN", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    with world.daemon():
        yield world


class ContainerSetting(Setting):
    """Containers of a stand-in engine: the supervisor removes them whatever becomes of their caller."""

    deployer = "container"
    ends_with_its_caller = True
    version = "0.33.0"  # what the stand-in's image claims to hold

    def __init__(self, folder: Path, world: ContainerWorld, engine: str) -> None:
        super().__init__(folder)
        self._world, self._engine = world, engine

    def order(self, mode: str = "ok", *, replicas: int = 1, start_s_max: float = 60.0) -> Order:
        return container_order(
            self.folder, mode, replicas=replicas, engine=self._engine, start_s_max=start_s_max, **self.told
        )

    def order_of_another(self) -> tuple[Order, str]:
        self._world.say(runs_image="e" * 64)
        return self.order(), "does not run the pinned image"

    def kill(self, endpoint: Endpoint, replica: int) -> str:
        os.kill(endpoint.pids[replica], signal.SIGKILL)
        assert still_there([endpoint.pids[replica]]) == set()
        return ""

    def there(self) -> set[str]:
        return self._world.left_over()


class TestDocker(Started):
    """An image served by docker."""

    @pytest.fixture
    def setting(self, tmp_path: Path, world: ContainerWorld) -> Setting:
        """A stand-in for docker."""
        return ContainerSetting(tmp_path, world, "docker")


class TestPodman(Started):
    """An image served by podman, whose containers are below the client until their monitor goes its own way."""

    @pytest.fixture
    def setting(self, tmp_path: Path, world: ContainerWorld) -> Setting:
        """A stand-in for podman."""
        return ContainerSetting(tmp_path, world, "podman")


def test_podman_ends_what_went_its_own_way(world, tmp_path):
    """A process that left the server's group and session is ended with the container."""
    with ContainerDeployer().deploy(container_order(tmp_path, "family", engine="podman"), print) as deployment:
        endpoint = deployment.wait_ready()
        assert set(endpoint.pids) == set(noted_pids(tmp_path))
        assert endpoint.notes["container_engine"] == "podman 4.3.1"
    assert not still_there(endpoint.pids, within_s=0)
    assert is_empty(ContainerSetting(tmp_path, world, "podman"))


def test_who_it_is(world, tmp_path):
    """The endpoint says what is installed, of which commit, and by which engine and image it was served."""
    order = container_order(tmp_path)
    order = replace(order, sut=replace(order.sut, pin=replace(order.sut.pin, commit=COMMIT + "0" * 31)))
    told: list[str] = []
    with ContainerDeployer().deploy(order, told.append) as deployment:
        endpoint = deployment.wait_ready()
        assert endpoint.installed_version == "0.33.0"
        assert endpoint.reported_version == "0.0.0+standin"
        assert endpoint.notes["vllm_commit"] == COMMIT
        assert endpoint.notes["image"] == REFERENCE
        assert endpoint.start_s > 0
        assert still_there(endpoint.pids, within_s=0) == set(deployment.pids())
        cpu = min(os.sched_getaffinity(0))
        deployment.confine((cpu,))
        assert {frozenset(os.sched_getaffinity(pid)) for pid in endpoint.pids} == {frozenset({cpu})}
    assert any(line.startswith(f"pulling {REFERENCE}") for line in told)
    assert any(line.startswith(f"pulled {REFERENCE} in ") for line in told)


def test_the_server_sees_what_it_was_meant_to(world, tmp_path, monkeypatch):
    """Its directory is empty, its variables are ours, the recipe's and the image's; a token is in no command line."""
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    order = replace(container_order(tmp_path), model="nobody/nothing")
    with ContainerDeployer().deploy(order, print) as deployment:
        endpoint = deployment.wait_ready()
        seen = httpx.get(f"{endpoint.base_url}/environment", trust_env=False).json()
        commands = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        (spec,) = world.specs()
    assert seen["environment"]["HF_TOKEN"] == "hf_very_secret"
    assert seen["environment"]["HF_HOME"] == str(tmp_path / "hub")
    assert "VLLM_LOGGING_LEVEL" not in seen["environment"]
    assert list(Path(seen["cwd"]).iterdir()) == []
    assert b"hf_very_secret" not in commands
    assert "hf_very_secret" not in Path(endpoint.log_path).read_text()
    assert {"redline.owner", "redline.run", "redline.name"} <= spec["labels"].keys()
    assert spec["options"]["entrypoint"] == ["python3"]


def test_another_commit_is_refused(world, tmp_path):
    """An image that holds another commit than the pin says is not measured."""
    order = container_order(tmp_path)
    order = replace(order, sut=replace(order.sut, pin=replace(order.sut.pin, commit="b" * 40)))
    with pytest.raises(NoImageError, match="another commit"), ContainerDeployer().deploy(order, print) as deployment:
        deployment.wait_ready()
    assert is_empty(ContainerSetting(tmp_path, world, "docker"))


def test_refusal_at_the_start_is_the_engines(world, tmp_path):
    """What the engine says when it cannot start the container is told as its words, not as the server's."""
    world.say(says={"run": ['docker: Error response from daemon: exec: "python3": executable file not found', 127]})
    with (
        pytest.raises(NoImageError, match="no vLLM image"),
        ContainerDeployer().deploy(container_order(tmp_path), print) as deployment,
    ):
        deployment.wait_ready()


def test_end_by_the_kernel_is_told_as_a_signal(world, tmp_path):
    """The client repeats 137 for a killed server; it is told as SIGKILL, as for a process."""
    with ContainerDeployer().deploy(container_order(tmp_path), print) as deployment:
        os.kill(deployment.wait_ready().pids[0], signal.SIGKILL)
        with pytest.raises(ServerDiedError, match="SIGKILL"):
            eventually(deployment.check_alive)


def eventually(call, within_s: float = 60.0) -> None:
    """Call until it raises."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        call()
        time.sleep(0.05)


def test_lost_race_for_a_port(world, tmp_path):
    """A port that somebody else took first costs a second container, not the deployment; the first one is gone."""
    with ContainerDeployer().deploy(container_order(tmp_path, "port_lost_once"), print) as deployment:
        endpoint = deployment.wait_ready()
        assert len(noted_pids(tmp_path)) == 2
        assert len(world.specs()) == 1
        assert set(endpoint.pids) < set(noted_pids(tmp_path))


def test_asked_for_port_in_use(world, tmp_path):
    """A port that is in use is refused before a container is made."""
    order, engine = container_order(tmp_path), find_engine("docker")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with (
            pytest.raises(PortTakenError, match=f"port {port} is in use"),
            launch_container(order, engine=engine, on_progress=print, port=port),
        ):
            pass
    assert world.specs() == []


def test_only_images(tmp_path):
    """A wheel cannot be served in a container, and that is said before an engine is looked for."""
    order = order_of(tmp_path, None, stand_in_recipe(tmp_path, "ok"), 1)
    for call in (
        lambda: ContainerDeployer().render(order),
        lambda: ContainerDeployer().deploy(order, print).__enter__(),
    ):
        with pytest.raises(UsageError, match="is no image"):
            call()


def test_render_needs_no_engine(tmp_path, monkeypatch):
    """The commands are shown where no engine is, one for the pull and one for each replica."""
    monkeypatch.setenv("PATH", "/nowhere")
    text = ContainerDeployer().render(container_order(tmp_path, replicas=2))
    assert text.startswith(f"docker pull {REFERENCE}\n")
    assert text.count("docker run \\\n") == 2
    assert "--port 8000" in text
    assert "--port 8001" in text
    assert not (tmp_path / "state").exists()


# --- what is left when everybody was killed -------------------------------------------------------------------------


def killed_with_its_supervisors(order: Order, folder: Path) -> None:
    """Serve an order in another process, then kill that process and both halves of its supervisor at once."""
    pickled = folder / "order.pickle"
    pickled.write_bytes(pickle.dumps(("container", order)))
    command = [sys.executable, str(FAKES / "deploying_order.py"), str(pickled)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline(), "it never became ready"
        warden, keeper = live_descendants(caller.pid)[:2]
        os.kill(warden, signal.SIGSTOP)  # it can do nothing between the kills
        caller.kill()
        for pid in (keeper, warden):
            os.kill(pid, signal.SIGKILL)
        assert not still_there([warden, keeper])


def test_what_even_the_supervisor_left_is_cleaned_up(world, tmp_path):
    """docker keeps the container; `cleanup` finds it by its owner, who is gone, and says so once."""
    order = container_order(tmp_path)
    killed_with_its_supervisors(order, tmp_path)
    (left,) = ours(find_engine("docker"))
    assert still_there(noted_pids(tmp_path), within_s=0)
    (said,) = ContainerDeployer().cleanup(tmp_path, older_than_s=None)
    assert left.name in said
    assert "is gone" in said
    assert not still_there(noted_pids(tmp_path))
    assert ContainerDeployer().cleanup(tmp_path, older_than_s=None) == ()


def test_cleanup_spares_what_lives_unless_it_is_old(world, tmp_path):
    """Containers of a living Redline are ended only when they are older than somebody says."""
    with ContainerDeployer().deploy(container_order(tmp_path), print) as deployment:
        deployment.wait_ready()
        assert ContainerDeployer().cleanup(tmp_path, older_than_s=None) == ()
        assert ContainerDeployer().cleanup(tmp_path, older_than_s=3600.0) == ()
        (said,) = ContainerDeployer().cleanup(tmp_path, older_than_s=0.001)
        assert "made " in said
        with pytest.raises(ServerDiedError):
            eventually(deployment.check_alive)


def test_cleanup_touches_nothing_of_others(world, tmp_path):
    """A container without an owner that Redline wrote is left alone, and engines that do not answer are no error."""
    with ContainerDeployer().deploy(container_order(tmp_path), print) as deployment:
        deployment.wait_ready()
        (path,) = world.state_dir.glob("containers/*/spec.json")
        spec = container_monitor.read(path)
        container_monitor.write(path, spec | {"labels": {"redline.owner": "somebody"}})
        assert ContainerDeployer().cleanup(tmp_path, older_than_s=None) == ()
    world.say(says={"info": ["Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", 1]})
    assert ContainerDeployer().cleanup(tmp_path, older_than_s=0.0) == ()


# --- the command that tidies up afterwards ----------------------------------------------------------------------


def tidying(folder: Path, command: list[str]) -> GuardedProcess:
    """A guarded command that leaves a mark when everything is over."""
    mark = ["/bin/sh", "-c", f"echo over >> {folder}/mark; echo tidied; exit 3"]
    return guarded(command, environment={"PATH": os.defpath}, log_path=folder / "log", grace_s=1.0, afterwards=mark)


@pytest.mark.parametrize("command", [["/bin/true"], ["/bin/sleep", "60"], ["/bin/sh", "-c", "trap '' TERM; sleep 60"]])
def test_afterwards_runs_once_however_it_ended(tmp_path, command):
    """By itself, by SIGTERM or by SIGKILL: then the tidying runs, once, and its words are not the server's."""
    with tidying(tmp_path, command) as child:
        time.sleep(0.2)
    assert child.pids() == ()
    assert (tmp_path / "mark").read_text() == "over\n"
    assert "tidied" not in (tmp_path / "log").read_text()
    assert "exit status 3" in (tmp_path / "log").read_text()


def test_afterwards_runs_when_the_warden_is_killed(tmp_path):
    """The keeper is told of the warden's end, and tidies up."""
    with tidying(tmp_path, ["/bin/sleep", "60"]) as child:
        os.kill(child._warden.pid, signal.SIGKILL)
        assert not still_there([child.pid, child._keeper_pid])
    assert (tmp_path / "mark").read_text() == "over\n"
