"""Asking an engine who it is, pulling the pinned image, and every way in which that is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from redline.deploy.container_command import Engine
from redline.deploy.container_engine import Container, ask, containers, ensure_image, find_engine, image_of, remove
from redline.deploy.container_start import is_first_process
from redline.errors import ContainerError, NoImageError
from tests.fakes.container_world import DIGEST, REFERENCE, ContainerWorld

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, monkeypatch) -> Iterator[ContainerWorld]:
    """Stand-ins for docker and podman on PATH, docker's daemon running."""
    world = ContainerWorld(tmp_path)
    monkeypatch.setenv("PATH", f"{world.programs}{os.pathsep}{os.environ['PATH']}")
    with world.daemon():
        yield world


def test_who_it_is(world):
    """The engine's own version, and whether it runs as an ordinary account."""
    docker, podman = find_engine("docker"), find_engine("podman")
    assert (docker.dialect, docker.label, docker.rootless) == ("docker", "docker 20.10.24+dfsg1", False)
    assert (podman.dialect, podman.label, podman.rootless) == ("podman", "podman 4.3.1", False)
    world.say(rootless=True)
    assert find_engine("podman").rootless


def test_docker_that_is_podman(world):
    """A program called docker that says it is podman is spoken to as podman."""
    world.install("docker", "podman")
    assert find_engine("docker").dialect == "podman"


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        (
            {"says": {"info": ["permission denied while trying to connect to the Docker daemon socket", 1]}},
            "may not use",
        ),
        ({"rootless": True}, "docker runs rootless here"),
        ({"address": "tcp://10.0.0.1:2375"}, "runs containers on another machine"),
        ({"address": "ssh://user@host"}, "runs containers on another machine"),
    ],
)
def test_engines_that_cannot_be_used(world, facts, problem):
    """An engine that would serve somewhere else, or not for us, is refused before anything is started."""
    world.say(**facts)
    with pytest.raises(ContainerError, match=problem) as caught:
        find_engine("docker")
    assert caught.value.next_step


def test_no_engine(monkeypatch, tmp_path):
    """An engine that is not installed is named, with how to choose another."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContainerError, match="podman cannot be run") as caught:
        find_engine("podman")
    assert "container.engine" in caught.value.next_step


def test_no_daemon(tmp_path, monkeypatch):
    """A client without its daemon is told as such."""
    world = ContainerWorld(tmp_path)
    monkeypatch.setenv("PATH", f"{world.programs}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ContainerError, match="docker does not run"):
        find_engine("docker")


def test_an_engine_that_hangs(tmp_path):
    """No question waits for ever."""
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(ContainerError, match="does not answer"):
        ask(Engine(str(program), "docker"), "ps", timeout_s=0.2)


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_image_is_pulled_once(world, tmp_path, name):
    """The pull is told, and what is here is not pulled again."""
    engine = find_engine(name)
    told: list[str] = []
    assert image_of(engine, REFERENCE) is None
    image = ensure_image(engine, REFERENCE, tmp_path / "pull.log", told.append)
    assert image.digests == {DIGEST}
    assert len(told) == 2
    assert f"Digest: sha256:{DIGEST}" in (tmp_path / "pull.log").read_text()
    assert ensure_image(engine, REFERENCE, tmp_path / "pull.log", told.append) == image
    assert len(told) == 2


def test_slow_pull_tells_how_far_it_is(world, tmp_path, monkeypatch):
    """One line now and then, with the engine's newest words."""
    monkeypatch.setattr("redline.deploy.container_engine.PROGRESS_EVERY_S", 0.2)
    heard = tmp_path / "heard"
    world.say(pull_until=str(heard))
    told: list[str] = []

    def hear(line: str) -> None:
        told.append(line)
        if "Pulling fs layer" in line:
            heard.touch()

    ensure_image(find_engine("docker"), REFERENCE, tmp_path / "pull.log", hear)
    assert heard.exists()
    assert told[-1].startswith(f"pulled {REFERENCE} in ")


def test_pull_is_bounded(world, tmp_path, monkeypatch):
    """A download that does not end is given up, and its process with it."""
    monkeypatch.setattr("redline.deploy.container_engine.PULL_S_MAX", 0.5)
    world.say(pull_s=30)
    with pytest.raises(ContainerError, match="did not come in time"):
        ensure_image(find_engine("docker"), REFERENCE, tmp_path / "pull.log", print)
    assert world.left_over() == set()


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_no_such_image(world, tmp_path, name):
    """An image that its registry no longer has is told as that, in the engine's words."""
    gone = REFERENCE.replace(DIGEST, "d" * 64)
    with pytest.raises(NoImageError, match="there is no such image") as caught:
        ensure_image(find_engine(name), gone, tmp_path / "pull.log", print)
    assert "manifest unknown" in caught.value.found
    assert "mirror" in caught.value.next_step


def test_image_of_another_digest(world, tmp_path):
    """What an engine shows under the pinned name must have the pinned digest."""
    world.say(other_digest="e" * 64)
    with pytest.raises(ContainerError, match="not the pinned one") as caught:
        ensure_image(find_engine("docker"), REFERENCE, tmp_path / "pull.log", print)
    assert "e" * 64 in caught.value.found


def test_containers_that_are_gone(world):
    """A container may end between two questions: it is left out, and removing it again does no harm."""
    engine = find_engine("docker")
    assert containers(engine, "nobody") == ()
    assert containers(engine) == ()
    remove(engine, "nobody")


def test_a_pid_of_another_process_table():
    """A pid is believed only if that process started when the container did."""
    now_s = Path("/proc/self").stat().st_ctime
    mine = Container("i", "n", "", "", os.getpid(), now_s - 10**6, now_s - 10**6, {})
    assert not is_first_process(mine)
    assert not is_first_process(Container("i", "n", "", "", 0, 0.0, 0.0, {}))
