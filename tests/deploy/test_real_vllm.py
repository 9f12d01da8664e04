"""The same claims against a real vLLM build and the tiny trained model."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from redline.deploy.endpoint import attach
from redline.deploy.process import ServerProcess, launch
from redline.errors import OutOfMemoryError, ServerDiedError, ServerExitedError
from redline.model import Recipe
from tests.deploy.conftest import still_there

pytestmark = pytest.mark.vllm

MODEL = Path(__file__).parent.parent.parent / "models" / "tiny-skill"
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
SERVER_ARGS = (
    *("--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"),
    *("--disable-uvicorn-access-log", "--max-num-batched-tokens", "1024", "--max-num-seqs", "64"),
)


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory) -> Path:
    """One state directory, so that later starts find warm caches."""
    return tmp_path_factory.mktemp("state")


def launched(
    build, state_dir: Path, folder: Path, extra_args: tuple[str, ...] = (), **environment: str
) -> AbstractContextManager[ServerProcess]:
    """A launch of the real build."""
    recipe = Recipe(
        name="tiny-skill",
        description="",
        model=str(MODEL),
        revision="in this repository",
        served_model_name="tiny-skill",
        context_tokens_max=128,
        server_args={"cpu": SERVER_ARGS},
        environment={"cpu": ENVIRONMENT | environment},
        start_s_max=240.0,
    )
    return launch(
        python=build.python,
        recipe=recipe,
        platform="cpu",
        extra_args=extra_args,
        model=str(MODEL),
        state_dir=state_dir,
        log_path=folder / "server.log",
        distribution=build.distribution,
        installed_version=build.installed_version,
    )


def dies(server: ServerProcess, *, within_s: float = 30.0) -> ServerDiedError:
    """The error of a server that was killed."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            server.check_alive()
        except ServerDiedError as error:
            return error
        time.sleep(0.1)
    raise AssertionError(f"nothing noticed within {within_s} s")


def test_start_completion_attach_and_end(vllm_build, state_dir, tmp_path):
    """A real build answers a completion, says its pinned version, can be attached to, and leaves nothing behind."""
    with launched(vllm_build, state_dir, tmp_path) as server:
        endpoint = server.wait_ready()
        assert endpoint.reported_version == vllm_build.installed_version
        body = {"model": endpoint.model, "prompt": [3, 4], "max_tokens": 5, "temperature": 0, "ignore_eos": True}
        answer = httpx.post(f"{endpoint.base_url}/v1/completions", json=body, timeout=60, trust_env=False)
        assert answer.json()["usage"]["completion_tokens"] == 5
        assert attach(endpoint.base_url, served_model_name="tiny-skill").reported_version == endpoint.reported_version
        server.check_alive()
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    assert not still_there(endpoint.pids, within_s=0)


def test_kill_of_the_server(vllm_build, state_dir, tmp_path):
    """SIGKILL of the API server in use is noticed, and its engine is gone as well."""
    with launched(vllm_build, state_dir, tmp_path) as server:
        endpoint = server.wait_ready()
        os.kill(endpoint.pids[0], signal.SIGKILL)
        error = dies(server)
        assert "SIGKILL" in str(error)
        assert not still_there(endpoint.pids)


def test_kill_of_the_engine(vllm_build, state_dir, tmp_path):
    """SIGKILL of the engine's process is noticed though the API server was not touched."""
    with launched(vllm_build, state_dir, tmp_path) as server:
        endpoint = server.wait_ready()
        engines = [pid for pid in endpoint.pids if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert engines, "vLLM 0.32.0 has an engine process of its own"
        os.kill(engines[0], signal.SIGKILL)
        dies(server)
        assert not still_there(endpoint.pids)


def test_unknown_argument(vllm_build, state_dir, tmp_path):
    """A wrong argument is one readable line, not vLLM's three hundred of usage."""
    with (
        launched(vllm_build, state_dir, tmp_path, ("--no-such-flag",)) as server,
        pytest.raises(ServerExitedError) as caught,
    ):
        server.wait_ready()
    assert "error: unrecognized arguments: --no-such-flag" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6


def test_out_of_memory(vllm_build, state_dir, tmp_path):
    """A KV cache larger than the host's memory is an OutOfMemoryError that says what to lower."""
    with (
        launched(vllm_build, state_dir, tmp_path, VLLM_CPU_KVCACHE_SPACE="2000") as server,
        pytest.raises(OutOfMemoryError) as caught,
    ):
        server.wait_ready()
    assert "2000.0 GiB" in str(caught.value)
    assert "VLLM_CPU_KVCACHE_SPACE" in caught.value.next_step
