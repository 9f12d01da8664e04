"""A server that somebody else started is asked who it is, made to answer, and never stopped."""

from __future__ import annotations

import socket

import pytest

from redline.deploy.endpoint import attach, normal_url
from redline.errors import DeployError, ServerNotReadyError, UsageError


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(DeployError, match=f"no answer from {url}"):
        attach(url, served_model_name="m")


def test_not_vllm(tmp_path):
    """A web server that is not vLLM is told apart by /version."""
    import functools
    import http.server
    import threading

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(DeployError, match="is no vLLM server") as caught:
                attach(f"http://127.0.0.1:{server.server_port}", served_model_name="m")
        finally:
            server.shutdown()
    assert caught.value.found.startswith("404")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["error500", "no_tokens"])
def test_no_completion(launch_stand_in, mode):
    """A server that is healthy and answers no completion is refused."""
    with launch_stand_in(mode) as server:
        with pytest.raises(ServerNotReadyError):
            server.wait_ready()  # not ready, but its process runs on
        with pytest.raises(DeployError, match="answers no completion"):
            attach(f"http://127.0.0.1:{server.port}", served_model_name="m")


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
