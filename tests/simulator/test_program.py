"""The program and the child process: how it starts, what it refuses, and that it always ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from redline.errors import DeployError, ServerExitedError
from redline.simulator.process import simulator
from redline.simulator.settings import Settings, parse_settings
from tests.simulator.asking import QUICK, body, streamed, wait_until

COMMAND = (sys.executable, "-m", "redline.simulator.program")


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    """The program, started."""
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_on_a_signal(number):
    """One line with its address, exit code 0, nothing on standard error, even with a stream under way."""
    with start("--ttft-s=60", "--model=other", "--version=0.31.0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        pattern = r"redline simulate: (http://127\.0\.0\.1:\d+) \(a stand-in: it never counts as a measurement\)\n"
        match = re.fullmatch(pattern, line)
        assert match is not None
        with httpx.Client(base_url=match[1], trust_env=False) as client:
            assert client.get("/version").json()["version"] == "0.31.0"
            with client.stream("POST", "/v1/completions", json=body(model="other")):
                process.send_signal(number)
                assert process.wait(60) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_it_ends_with_its_standard_input():
    """A pipe that is closed, and nothing to read from at all."""
    with start("--until-stdin-ends", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write("what is written is ignored\n")
        process.stdin.flush()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(60) == 0
    with start("--until-stdin-ends", stdin=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0


def test_settings_come_from_a_file_too(tmp_path):
    """--settings takes JSON or a file of it; the short forms win."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"timing": {"ttft_s": 0.5, "itl_s": 0.25}}))
    with start(f"--settings={path}", "--itl-s=0.125", "--until-stdin-ends", stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().split()[2]
        timing = httpx.get(f"{address}/simulator/settings", trust_env=False).json()["timing"]
        process.stdin.close()
        assert process.wait(60) == 0
    assert (timing["ttft_s"], timing["itl_s"]) == (0.5, 0.125)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--settings={}x",), 2, "not JSON"),
        (("--settings=/no/such/file",), 2, "no file"),
        (('--settings={"timing":{"x":1}}',), 2, "one of ttft_s"),
        (("--ttft-s=-1",), 2, "ttft_s"),
        (("--cpu=4096",), 2, "no CPU of this machine"),
        (("--host=no.such.host.invalid",), 2, "no address"),
        (("--port=70000",), 2, "port"),
        (("--log-requests-max=0",), 2, "at least 1"),
        (("--tls-key=x",), 2, "needs both"),
        (("--tls-key=/no/key", "--tls-certificate=/no/certificate"), 2, "cannot be loaded"),
    ],
)
def test_wrong_arguments_are_refused(arguments, code, words):
    """In words, with the exit code of wrong usage."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_refused():
    """Infrastructure, not usage: exit code 5."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run([*COMMAND, f"--port={port}"], capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 5
        assert "cannot be bound" in ended.stderr
        with pytest.raises(ServerExitedError, match="ended at once") as caught, simulator(Settings(), port=port):
            pass
        assert "cannot be bound" in str(caught.value)


def test_the_child_is_pinned_and_ends_with_the_block():
    """It runs on the CPUs that were named, and is gone afterwards, whatever happened inside."""
    cpu = min(os.sched_getaffinity(0))

    def fail_inside() -> int:
        with simulator(parse_settings(QUICK), cpu_ids=(cpu,)) as running:
            pids.append(running.pid)
            assert os.sched_getaffinity(running.pid) == {cpu}
            raise KeyError

    pids: list[int] = []
    with pytest.raises(KeyError):
        fail_inside()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_child_ends_with_its_parent():
    """A parent that is killed leaves no stand-in behind."""
    code = (
        "import time\nfrom redline.simulator.process import simulator\n"
        "from redline.simulator.settings import Settings\n"
        "with simulator(Settings()) as running:\n"
        "    print(running.pid, running.base_url, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        _, address = parent.stdout.readline().split()
        parent.kill()
        parent.wait(10)

    def refused() -> bool:
        try:
            httpx.get(f"{address}/health", trust_env=False)
        except httpx.TransportError:
            return True
        return False

    wait_until(refused)


def test_settings_change_while_it_runs():
    """What was changed is what it says and does; what cannot be is refused and changes nothing."""
    with (
        simulator(parse_settings(QUICK)) as running,
        httpx.Client(base_url=running.base_url, trust_env=False) as client,
    ):
        before = running.settings()
        running.change(parse_settings({"serving": {"model": "new", "context_tokens_max": 100}}, before))
        assert client.get("/v1/models").json()["data"][0]["id"] == "new"
        assert streamed(client, json=body(model="new")).events[0]["model"] == "new"
        refused = client.post("/simulator/settings", json={"timing": {"ttft_s": 0.5, "ittl_s": 1}})
        assert refused.status_code == 400
        assert "one of ttft_s, itl_s" in refused.json()["error"]["message"]
        assert running.settings().timing == before.timing


def test_its_state_is_told():
    """CPU seconds and memory grow and are plausible."""
    with simulator(parse_settings(QUICK)) as running:
        first, second = running.state(), running.state()
        assert 0 < first.cpu_s <= second.cpu_s < 60
        assert first.monotonic_ns < second.monotonic_ns
        assert 1_000_000 < first.memory_bytes_max < 500_000_000
        assert (second.running, second.waiting, second.connections) == (0, 0, 1)


def test_a_lost_child_is_an_error():
    """When it is gone, asking it says so."""
    with simulator(Settings()) as running:
        os.kill(running.pid, signal.SIGKILL)
        with pytest.raises(DeployError, match="does not answer"):
            running.state()
