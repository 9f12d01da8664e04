"""Which process of this machine listens where a server answers, without the secrets in its command line."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

import httpx

from redline.deploy.port import port_holders
from redline.markdown import one_line

PROCESSES_MAX = 4
COMMAND_BYTES_MAX = 64 * 1024
COMMAND_CHARACTERS_MAX = 400
HIDDEN = "[hidden]"

SHOWN = frozenset(
    {
        "attention-backend",
        "block-size",
        "config-format",
        "device",
        "distributed-executor-backend",
        "dtype",
        "generation-config",
        "host",
        "kv-cache-dtype",
        "load-format",
        "max-model-len",
        "max-num-batched-tokens",
        "max-num-seqs",
        "model",
        "performance-mode",
        "port",
        "quantization",
        "revision",
        "served-model-name",
        "tokenizer",
        "tokenizer-mode",
    }
)
"""Options of vLLM whose values are shown; of all others only a plain number is, because values may be secrets."""

_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,6})?")
_PLAIN = re.compile(r"[\w./:@+-]{1,200}", re.ASCII)
_SECRET = re.compile(r"key|token$|secret|passw|pwd|auth|credential", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """True if the address leads to this machine, and to nothing behind it but what forwards from here."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def listening_process(base_url: str) -> str:
    """`pid 4711: python -m vllm... --port 8000` for an address of this machine; empty if it is none or not visible.

    It is who listens, not who serves: a tunnel, or the forwarder of a container engine, listens too.
    """
    url = httpx.URL(base_url)
    if not is_loopback(url.host):
        return ""
    port = url.port or (443 if url.scheme == "https" else 80)
    found = [f"pid {pid}: {command_of(pid)}" for pid in port_holders(port)[:PROCESSES_MAX]]
    return one_line("; ".join(found), COMMAND_CHARACTERS_MAX) if found else ""


def command_of(pid: int) -> str:
    """The command line of a process as it may be shown. Source: /proc/PID/cmdline, words that end with a NUL."""
    try:
        with Path(f"/proc/{pid}/cmdline").open("rb") as file:
            raw = file.read(COMMAND_BYTES_MAX)
    except OSError:
        return "ended meanwhile"
    return without_secrets(raw.decode("utf-8", "replace").rstrip("\0").split("\0"))


def without_secrets(words: Sequence[str]) -> str:
    """A command line of vLLM with every option's name, and only those values that cannot be a secret; one line.

    Shown are the plain words before the first option, values of SHOWN, and numbers. Of another program, a tunnel for
    instance, only its name: its plain words may be secrets.
    """
    if not any("vllm" in word.lower() for word in words[:4]):
        name = words[0].rsplit("/", 1)[-1] if words else ""
        return f"{one_line(name, 60)}, its arguments hidden" if _PLAIN.fullmatch(name) else "a process without a name"
    shown: list[str] = []
    option: str | None = None
    for word in words:
        if word == "-m" or (word.startswith("-") and not _NUMBER.fullmatch(word)):
            name, equals, value = word.partition("=")
            option = name.lstrip("-").replace("_", "-") if word != "-m" else "model"  # a module's name is no secret
            plain_name = name if _PLAIN.fullmatch(name) else HIDDEN
            shown.append(f"{plain_name}={_value(option, value)}" if equals else plain_name)
        elif option is None:
            shown.append(word if _PLAIN.fullmatch(word) else HIDDEN)
        else:
            shown.append(_value(option, word))
    return one_line(" ".join(shown), COMMAND_CHARACTERS_MAX)


def _value(option: str, value: str) -> str:
    if option in SHOWN and _PLAIN.fullmatch(value):
        return value
    is_number = _NUMBER.fullmatch(value) is not None and _SECRET.search(option) is None
    return value if is_number else HIDDEN
