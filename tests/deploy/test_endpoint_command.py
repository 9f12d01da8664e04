"""Which process listens is shown with the options that matter and without anything that may be a secret."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.deploy.endpoint_command import HIDDEN, command_of, is_loopback, listening_process, without_secrets

SECRET = "sk-Ab1_Zy9"
VLLM = ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/llama")


@pytest.mark.parametrize(
    "words",
    [
        (*VLLM, "--api-key", SECRET),
        (*VLLM, "--api-key", "one", SECRET, "two", "--port", "8000"),
        (*VLLM, f"--api-key={SECRET}"),
        (*VLLM, "--hf-token", SECRET),
        (*VLLM, "--hf_token", SECRET),
        (*VLLM, "--kv-transfer-config", f'{{"password": "{SECRET}"}}'),
        (*VLLM, f"--model=https://user:{SECRET}@host/model?token={SECRET}"),
        (*VLLM, "--middleware", f"team.auth:{SECRET}"),
        (*VLLM, "--ssl-keyfile", f"/secrets/{SECRET}"),
        (*VLLM, f"--unknown-{SECRET}!"),
        ("env", f"HF_TOKEN={SECRET}", "vllm", "serve", "/models/llama"),
        ("bash", "-c", f"HF_TOKEN={SECRET} vllm serve /models/llama"),
        ("cloudflared", "tunnel", "run", SECRET),
        ("ssh", "-L", f"8000:{SECRET}:8000", "vllm-gateway"),
        (f"/opt/{SECRET}/proxy", "--to", "host"),
    ],
)
def test_no_secret_is_shown(words: tuple[str, ...]) -> None:
    """A key is hidden wherever it stands, in vLLM's own command line and in that of a tunnel in front of it."""
    shown = without_secrets(words)
    assert SECRET not in shown
    assert HIDDEN in shown or "its arguments hidden" in shown


def test_what_decides_the_speed_is_shown() -> None:
    """Model, types and numbers stay readable; options whose values are hidden keep their names."""
    extra = ("--dtype", "bfloat16", "--tensor-parallel-size", "4", "--gpu-memory-utilization=0.92", "--enforce-eager")
    shown = without_secrets([*VLLM, *extra, "--speculative-config", '{"method": "eagle"}'])
    assert shown == f"{' '.join((*VLLM, *extra))} --speculative-config {HIDDEN}"
    assert without_secrets(["vllm", "serve", "them/llama", "--port", "8000"]) == "vllm serve them/llama --port 8000"
    assert without_secrets(["VLLM::APIServer"]) == "VLLM::APIServer"


def test_a_number_is_hidden_where_keys_are_expected() -> None:
    """A key of digits alone is a key."""
    assert without_secrets([*VLLM, "--api-key", "12345", "--max-num-seqs", "64"]).endswith(
        f"--api-key {HIDDEN} --max-num-seqs 64"
    )


@given(st.lists(st.text(max_size=40), max_size=8))
def test_any_command_line_is_one_clean_line(words: list[str]) -> None:
    """Whatever a process calls itself, what is shown fits a line, a terminal and UTF-8."""
    for prefix in ((), VLLM):
        shown = without_secrets([*prefix, *words])
        assert len(shown) < 500
        assert shown.isprintable()
        shown.encode("utf-8")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", True),  # noqa: S104 - recognised, not bound
        ("10.0.0.1", False),
        ("127.0.0.1.example.org", False),
        ("node7", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Addresses of this machine are told from names and addresses that lead elsewhere."""
    assert is_loopback(host) is expected


def test_this_very_process_is_found_where_it_listens() -> None:
    """A listening socket of this process leads to its pid; an address elsewhere, or where nobody listens, to nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert listening_process(f"http://127.0.0.1:{port}") == ""
        listener.listen()
        found = listening_process(f"http://localhost:{port}/v1")
        assert found.startswith("pid ")
        assert listening_process(f"http://node7:{port}") == ""
    assert command_of(2**22 + 1) == "ended meanwhile"
