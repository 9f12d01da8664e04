"""A server that somebody else started is asked who it is, made to answer, and never stopped."""

from __future__ import annotations

import functools
import http.server
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from redline.deploy.endpoint import ask_first, ask_transcription, attach, is_answered, normal_url, open_client
from redline.deploy.endpoint_answer import Answer
from redline.errors import DeployError, ServerNotReadyError, UsageError
from redline.simulator.process import simulator
from redline.simulator.settings import Serving, Settings, Timing
from tests.deploy.conftest import held_port, stand_in_recipe
from tests.fakes.local_server import LocalServer

ROOT = Path(__file__).parents[2]
QUICK = Settings(timing=Timing(ttft_s=0.005, itl_s=0.002), serving=Serving(model="m"))
REFUSAL = "The model does not support Transcriptions API"
NO_SPEECH = (400, {"error": {"message": REFUSAL, "type": "BadRequestError", "code": 400}})


@contextmanager
def listening(handler) -> Iterator[str]:
    """The address of a web server with this handler."""
    with LocalServer(handler) as server:
        yield server.url


@contextmanager
def answers_to_posts(status: int, content: object) -> Iterator[str]:
    """The address of a server that says it is vLLM with model m, and answers every other request with this."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def say(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.say(200, {"version": "0.32.0", "data": [{"id": "m"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.say(status, content)

    with listening(Handler) as url:
        yield url


def test_attach(launch_stand_in):
    """An attached server names version and model, and still runs afterwards."""
    with launch_stand_in("ok") as server:
        base_url = server.wait_ready().base_url
        endpoint = attach(f"{base_url}/v1/", served_model_name="m")
        assert (endpoint.base_url, endpoint.model, endpoint.reported_version) == (base_url, "m", "0.0.0+standin")
        assert endpoint.installed_version is None
        assert endpoint.pids == ()
        server.check_alive()


def test_other_model(launch_stand_in):
    """A server that serves another model is refused with the models it serves."""
    with launch_stand_in("ok") as server:
        base_url = server.wait_ready().base_url
        with pytest.raises(DeployError, match="does not serve other") as caught:
            attach(base_url, served_model_name="other")
    assert caught.value.found == "m"


def test_nobody_there():
    """An address where nobody listens is a DeployError, at once."""
    with held_port() as port, pytest.raises(DeployError, match=f"no answer from http://127.0.0.1:{port}"):
        attach(f"http://127.0.0.1:{port}", served_model_name="m")


def test_not_vllm(tmp_path):
    """A web server that is not vLLM is told apart by /version."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with listening(handler) as url, pytest.raises(DeployError, match="is no vLLM server") as caught:
        attach(url, served_model_name="m")
    assert caught.value.found.startswith("404")


def test_a_server_of_ours_without_a_version_is_its_builds(launch_stand_in):
    """The same answer is a wrong address where somebody else started the server, and a broken build where we did."""
    with launch_stand_in("ok", environment={"STAND_IN_VERSION": ""}) as server:
        with pytest.raises(ServerNotReadyError, match="does not say its version") as caught:
            server.wait_ready()
        with pytest.raises(DeployError, match="is no vLLM server") as attached:
            attach(f"http://127.0.0.1:{server.port}", served_model_name="m")
    assert type(attached.value) is DeployError
    assert caught.value.found == attached.value.found


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["error500", "no_tokens"])
def test_no_completion(launch_stand_in, mode):
    """A server that is healthy and answers no completion is refused."""
    with launch_stand_in(mode) as server:
        with pytest.raises(ServerNotReadyError):
            server.wait_ready()  # not ready, but its process runs on
        with pytest.raises(DeployError, match="answers no completion"):
            attach(f"http://127.0.0.1:{server.port}", served_model_name="m")


def test_a_model_that_transcribes_is_asked_to():
    """A recording goes up and a text comes down; it counts only if the status says so too."""
    with simulator(QUICK) as running:
        endpoint = attach(running.base_url, served_model_name="m", serves="transcriptions")
        with open_client(running.base_url) as client:
            answer = ask_transcription(client, "m", 10.0)
    assert endpoint.base_url == running.base_url
    assert answer.status == 200
    assert is_answered(answer, "transcriptions")
    assert not is_answered(replace(answer, status=500), "transcriptions")


def test_silence_may_have_no_words():
    """An empty text is a transcription; none at all is not, and a text alone is no completion."""
    assert is_answered(Answer(200, {"text": ""}, ""), "transcriptions")
    assert not is_answered(Answer(200, {"text": None}, ""), "transcriptions")
    assert not is_answered(Answer(200, {}, ""), "transcriptions")
    assert not is_answered(Answer(200, {"text": "words"}, ""), "completions")
    assert is_answered(Answer(200, {"usage": {"completion_tokens": 2}}, ""), "completions")


def test_a_model_that_refuses_speech_is_refused_with_its_own_words():
    """What the server says stands in the error, and that a transcription was asked for."""
    with answers_to_posts(*NO_SPEECH) as url, pytest.raises(DeployError, match="answers no transcription") as caught:
        attach(url, served_model_name="m", serves="transcriptions")
    assert caught.value.expected == "200 with a text"
    assert REFUSAL in caught.value.found
    with answers_to_posts(200, {"text": "words"}) as url:
        assert attach(url, served_model_name="m", serves="transcriptions").reported_version == "0.32.0"
        with pytest.raises(DeployError, match="answers no completion"):
            attach(url, served_model_name="m")


def test_the_first_request_is_of_the_kind_that_is_served():
    """A server of speech gets no prompt, and one of texts no recording."""
    with simulator(QUICK) as running, open_client(running.base_url) as client:
        assert "text" in ask_first(client, "m", "transcriptions", 10.0).content
        assert "choices" in ask_first(client, "m", "completions", 10.0).content


def test_a_deployment_is_ready_when_it_has_done_what_its_recipe_serves(launch_stand_in, tmp_path):
    """A started server whose recipe serves transcriptions is made to transcribe; what it answers counts."""
    program = tmp_path / "simulating"
    program.write_text(
        f"""#!{sys.executable}
import os, sys
port = sys.argv[sys.argv.index("--port") + 1]
os.chdir({str(tmp_path)!r})
os.environ["PYTHONPATH"] = {str(ROOT)!r}
os.execv({sys.executable!r}, [{sys.executable!r}, "-m", "redline.cli", "simulate", "--port", port, "--model", "m"])
"""
    )
    program.chmod(0o755)
    speech = replace(stand_in_recipe(tmp_path, "ok"), serves="transcriptions")
    with launch_stand_in("ok", python=program, recipe=speech) as server:
        endpoint = server.wait_ready()
        with open_client(endpoint.base_url) as client:
            assert ask_transcription(client, "m", 10.0).status == 200


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host:8000/", "http://host:8000"),
        (" https://host/v1/ ", "https://host"),
        ("http://host/team/v1", "http://host/team"),
    ],
)
def test_normal_url(url, normal):
    """An address is taken with or without a trailing slash and `/v1`."""
    assert normal_url(url) == normal


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host", "http://", "file:///etc/passwd", "http://[::1"])
def test_not_an_address(url):
    """What is no HTTP address is a wrong use, not a server that is down."""
    with pytest.raises(UsageError, match="not an address"):
        normal_url(url)
