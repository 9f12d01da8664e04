"""Whole `redline run`s in containers and in a cluster: what is stored, reported and left, and what a death does to it.

Engine and cluster are simulated and the servers are stand-ins, but every process, socket and file is real.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from redline.cli import main
from redline.deploy.routing import endpoint_picker_config
from redline.deploy.supervisor_program import live_descendants
from redline.model import Outcome, Trial, TrialStatus
from redline.store.trials import list_trials, read_trial
from tests.deploy.conftest import still_there
from tests.fakes import kubernetes_kubelet
from tests.fakes.container_world import DIGEST
from tests.fakes.container_world import ContainerWorld as PlainWorld
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster, simulated_cluster
from tests.fakes.kubernetes_orders import ROUTER_IMAGE, left
from tests.flows.deployed_content import HELD, IMAGE, REFERENCE, REQUEST_COUNT, ROOT, WATCHED_COUNT, write_content

pytestmark = pytest.mark.slow
WAIT_S_MAX = 120.0
GONE_S_MAX = 60.0
HELD_COUNT = 4
"""So many requests wait: each of two replicas has some."""


class ContainerWorld(PlainWorld):
    """Its containers count, and their windows may be held."""

    def install(self, program: str, dialect: str) -> None:
        """As there, with another module."""
        super().install(program, dialect)
        path = self.programs / program
        path.write_text(path.read_text().replace("tests.fakes.container_engine", "tests.flows.counting_engine"))


class Program:
    """Forks of one `redline` (tests/flows/deployed_program.py); one command at a time."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.flows.deployed_program", str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "program.log").open("w"),
            text=True,
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert self._line() == "ready", (folder / "program.log").read_text()
        self._running = 0

    def start(self, arguments: tuple[str, ...], environment: dict[str, str], stdout: Path, stderr: Path) -> int:
        """The process id of a command."""
        order = {"arguments": arguments, "environment": environment, "stdout": str(stdout), "stderr": str(stderr)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._running = int(self._line())
        return self._running

    def status(self) -> int:
        """The exit status of the command, when it has ended."""
        status = int(self._line())
        self._running = 0
        return status

    def close(self) -> None:
        """End it, and a command that a failed test left running."""
        if self._running:
            os.kill(self._running, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S_MAX)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One for all tests: Prefect's start alone takes longer than a run."""
    made = Program(tmp_path_factory.mktemp("program"))
    try:
        yield made
    finally:
        made.close()


@dataclass
class Place:
    """A content folder, a state folder, the programs on PATH, and a cluster."""

    folder: Path
    program: Program
    environment: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def said(self) -> str:
        """On standard error, so far."""
        return (self.folder / "stderr").read_text()

    @property
    def asked(self) -> list[str]:
        """What the pods' servers were asked with GET."""
        return (self.folder / "asked").read_text().split()

    def start(self, runner: str, scenario: str = "tiny", build: str = IMAGE) -> int:
        """Begin to measure on a runner class; the process id."""
        arguments = ("run", "--runner", runner, "--build", build, "--scenario", scenario, "--json", "--wait", "300")
        return self.program.start(arguments, self.environment, self.folder / "stdout", self.folder / "stderr")

    def end(self) -> tuple[int, dict[str, object]]:
        """(exit status, verdict) of what was started; no verdict if it printed none."""
        status = self.program.status()
        printed = (self.folder / "stdout").read_text()
        return status, json.loads(printed) if printed.strip() else {}

    def trial(self) -> Trial:
        """The only one that was stored."""
        (path,) = list_trials(self.state / "trials")
        return read_trial(path)

    def report(self) -> str:
        """The only one that was written."""
        (path,) = (self.state / "reports").glob("*.md")
        return path.read_text()

    @contextmanager
    def in_a_window(self, runner: str) -> Iterator[int]:
        """Begin to measure `long`; inside the context requests are being answered, and none is answered to its end.

        Gives the process id.
        """
        held = self.folder / HELD
        held.touch()
        pid = self.start(runner, "long")
        deadline = time.monotonic() + WAIT_S_MAX
        while held.stat().st_size < HELD_COUNT:
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)
        yield pid
        held.unlink()


@pytest.fixture
def place(tmp_path: Path, program: Program) -> Place:
    """A state that is empty; no engine on PATH and no cluster yet."""
    content = write_content(tmp_path / "content", tmp_path / "asked")
    environment = {"REDLINE_CONTENT": str(content), "REDLINE_STATE": str(tmp_path / "state"), "HOME": str(tmp_path)}
    (tmp_path / "nothing").mkdir()
    (tmp_path / "stderr").touch()
    return Place(tmp_path, program, {**environment, "PATH": str(tmp_path / "nothing")})


@pytest.fixture
def world(place: Place) -> Iterator[ContainerWorld]:
    """A stand-in for docker on PATH."""
    world = ContainerWorld(place.folder)
    place.environment["PATH"] = f"{world.programs}{os.pathsep}/usr/bin:/bin"
    with world.daemon():
        yield world


@pytest.fixture
def cluster(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCluster]:
    """A cluster whose pods count."""
    monkeypatch.setattr(kubernetes_kubelet, "STAND_IN", Path(__file__).parent / "counting_stand_in.py")
    with simulated_cluster(place.folder) as simulated:
        place.environment["KUBECONFIG"] = str(simulated.kubeconfig)
        yield simulated


def is_empty(left_over: Callable[[], object], within_s: float = GONE_S_MAX) -> bool:
    """True if nothing is left over before the bound."""
    deadline = time.monotonic() + within_s
    while left_over() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not left_over()


def in_cluster(cluster: SimulatedCluster) -> list[str]:
    """Objects and processes of pods."""
    return [*left(cluster), *(f"process {pid}" for pid in cluster.kubelet.pids())]


def broken(trial: Trial) -> str:
    """The readings of the validity rules that the trial breaks."""
    return "; ".join(reading.reading for reading in trial.validity if not reading.ok)


def test_two_containers_of_an_image(place: Place, world: ContainerWorld) -> None:
    """A valid trial of two replicas that share the load, with telemetry; the report names the digest; nothing stays."""
    place.start("host-2", "watched")
    status, verdict = place.end()
    assert (status, verdict["finding"]) == (6, "no baseline"), place.said
    trial, report = place.trial(), place.report()
    assert trial.status is TrialStatus.VALID, trial.detail
    assert trial.sut.pin.url == REFERENCE
    assert (trial.sut.router, trial.reported_version) == (None, "0.0.0+standin")
    assert [replica.name for replica in trial.replicas] == ["replica 0", "replica 1"]
    for repeat in trial.repeats:
        assert [record.replica for record in repeat.records] == [index % 2 for index in range(WATCHED_COUNT)]
        assert repeat.telemetry, "what was read, or that the sampler was lost: a busy machine may lose it for a window"
        assert repeat.foreign_cpu_share is not None
    assert "cpu" in {sample.source for repeat in trial.repeats for sample in repeat.telemetry}
    assert "installed 0.33.0" in "; ".join(reading.reading for reading in trial.validity)
    assert "Load spread over 2 replicas" in report
    rows = [line for line in report.splitlines() if re.match(r"\| replica [01] ", line)]
    assert [f"| {WATCHED_COUNT:8} | {WATCHED_COUNT:8} |" in row for row in rows] == [True, True], rows
    assert f"@sha256:{DIGEST}" in report
    assert trial.sut.sut_id in report
    assert is_empty(world.left_over), world.left_over()


def test_pods_one_by_one(place: Place, cluster: SimulatedCluster) -> None:
    """Every pod is asked in turn and counted; the nodes decide comparability; this machine is only the client."""
    place.start("pods")
    status, _ = place.end()
    assert status == 6, place.said
    trial = place.trial()
    assert trial.status is TrialStatus.VALID, trial.detail
    assert trial.fingerprint.facts["nodes"] == "node-a, node-b"
    assert trial.fingerprint.facts["served_by"] == "kserve"
    assert trial.fingerprint.facts["client_machine"] == os.uname().machine
    assert "machine" not in trial.fingerprint.facts
    assert trial.fingerprint.notes["kernel"] == "6.12.0"
    assert len({replica.name for replica in trial.replicas}) == 2
    for repeat in trial.repeats:
        assert [record.replica for record in repeat.records] == [index % 2 for index in range(REQUEST_COUNT)]
        assert repeat.server_counters == {"vllm:request_success_total": REQUEST_COUNT}
        assert (repeat.telemetry, repeat.foreign_cpu_share) == ((), None)
    report = place.report()
    assert all(f"| {replica.name} " in report for replica in trial.replicas)
    assert "made in namespace perf: LLMInferenceService/" in place.said
    assert is_empty(lambda: in_cluster(cluster)), in_cluster(cluster)


def test_pods_behind_a_router(place: Place, cluster: SimulatedCluster) -> None:
    """Nobody's counters are read through a router; its image and configuration are part of what was measured."""
    place.start("router")
    status, _ = place.end()
    assert status == 6, place.said
    trial, report = place.trial(), place.report()
    assert trial.status is TrialStatus.VALID, trial.detail
    assert trial.sut.router is not None
    assert trial.sut.router.image == ROUTER_IMAGE
    assert trial.sut.router.config == endpoint_picker_config("even")
    assert [replica.name for replica in trial.replicas] == ["router"]
    assert [repeat.server_counters for repeat in trial.repeats] == [{}, {}]
    assert "/health" in place.asked
    assert "/metrics" not in place.asked
    assert trial.fingerprint.facts["nodes"] == "node-a, node-b"
    assert ROUTER_IMAGE in report
    assert "active-request-scorer" in report
    assert trial.sut.sut_id in report
    assert is_empty(lambda: in_cluster(cluster)), in_cluster(cluster)


# --- deaths -------------------------------------------------------------------------------------------------------


def test_a_container_killed_in_the_middle(place: Place, world: ContainerWorld) -> None:
    """One of two: the trial is stored, invalid, and names the replica; the other one's answers are kept with it."""
    with place.in_a_window("host-2"):
        (name,) = [path.name for path in world.state_dir.glob("containers/*-1-*")]
        server = container_server(world, name)
        os.kill(server, signal.SIGKILL)
        assert still_there([server]) == set()
    status, verdict = place.end()
    assert (status, verdict["finding"]) == (4, "invalid"), place.said
    trial, report = place.trial(), place.report()
    assert trial.status is TrialStatus.INVALID
    assert "replica 1 of 2" in trial.detail
    assert "replica 1 of 2" in broken(trial)
    assert "SIGKILL" in report
    (repeat,) = trial.repeats
    assert {record.replica for record in repeat.records if record.outcome is not Outcome.OK} == {1}
    assert is_empty(world.left_over), world.left_over()


def container_server(world: ContainerWorld, name: str) -> int:
    """The pid of the server in a container, below its init."""
    return live_descendants(world.first_pid(name))[0]


def test_a_pod_killed_in_the_middle(place: Place, cluster: SimulatedCluster) -> None:
    """It is started again by its kubelet, which does not save the trial; as it serves alone, that is an error."""
    with place.in_a_window("pod"):
        (pod,) = cluster.state.names("pods")
        assert still_there([cluster.kubelet.kill(pod)]) == set()
    status, verdict = place.end()
    assert (status, verdict["finding"]) == (5, "error"), place.said
    trial = place.trial()
    assert trial.status is TrialStatus.INVALID
    assert pod in trial.detail
    assert pod in broken(trial)
    assert pod in place.report()
    assert is_empty(lambda: in_cluster(cluster)), in_cluster(cluster)


def test_redline_killed_in_the_middle(
    place: Place, cluster: SimulatedCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 leaves the objects and no process of Redline's; `redline cleanup` ends them, says so, and only once."""
    with place.in_a_window("pods") as pid:
        helpers = live_descendants(pid)
        os.kill(pid, signal.SIGKILL)
        status, _ = place.end()
    assert status == -signal.SIGKILL
    assert still_there(helpers) == set()
    (service,) = cluster.state.names("llminferenceservices")
    assert len(cluster.kubelet.pids()) == 2

    for name in ("KUBECONFIG", "PATH"):
        monkeypatch.setenv(name, place.environment[name])
    command = ["cleanup", "--state-dir", str(place.state)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"LLMInferenceService {service} in namespace {NAMESPACE}: process {pid} on " in said
    assert "is gone" in said
    assert is_empty(lambda: in_cluster(cluster)), in_cluster(cluster)
    assert main(command) == 0
    assert capsys.readouterr().out == "nothing was left behind\n"


# --- what is not there ----------------------------------------------------------------------------------------


def test_no_engine(place: Place) -> None:
    """An image on a host without docker: exit 5, a report that says so, and nothing was started."""
    place.start("host")
    status, verdict = place.end()
    assert (status, verdict["finding"]) == (5, "error"), place.said
    report = place.report()
    assert "docker cannot be run" in report
    assert all(f"  {word}: " in report for word in ("expected", "found", "next step"))
    assert list_trials(place.state / "trials") == ()


def test_no_namespace(place: Place, cluster: SimulatedCluster) -> None:
    """Redline makes none: nothing was asked of the cluster but whether it is there."""
    place.start("elsewhere")
    status, verdict = place.end()
    assert (status, verdict["finding"]) == (5, "error"), place.said
    report = place.report()
    assert "namespace nowhere does not exist" in report
    assert all(f"  {word}: " in report for word in ("expected", "found", "next step"))
    assert {question.verb for question in cluster.api.asked} == {"get"}
    assert {question.plural for question in cluster.api.asked} == {"namespaces"}
    assert in_cluster(cluster) == []
