"""One HTTP answer of a server that nobody here vouches for: bounded in bytes and time, and clean."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from redline.access import redacted
from redline.markdown import clean, one_line

ANSWER_S_MAX = 10.0
"""How long /health, /version and /v1/models may take."""

ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""More than any of these answers has: a fresh vLLM 0.32.0 says 51 kB under /metrics and 25 kB under /server_info."""

TEXT_CHARACTERS_MAX = 500
"""Of an answer's words, in a message."""

VALUE_CHARACTERS_MAX = 200
"""Of a single value that a server states."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: its status, its content where that is a JSON object, and its words on one line.

    `body`: all of it as text, not cleaned, for what is no JSON. `software`: its Server header, and who passed it on.
    """

    status: int
    content: dict[str, Any]
    text: str
    body: str = ""
    software: str = ""

    @property
    def is_ok(self) -> bool:
        """True if the status is 200."""
        return self.status == httpx.codes.OK


def ask(
    client: httpx.Client, path: str, *, method: str = "GET", timeout_s: float = ANSWER_S_MAX, **request: Any
) -> Answer:
    """The answer to one request, read to its end; `request` is httpx's (`json`, `data`, `files`).

    Of an answer that is too long, or packed although that was not asked for, only status and headers are kept.
    Raises httpx.HTTPError if unreachable or not complete within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    # Unpacked: a small packed answer may be a huge one.
    plain = {"accept-encoding": "identity"}
    with client.stream(method, path, timeout=timeout_s, headers=plain, **request) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            return _without_body(response, "a packed answer")
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                return _without_body(response, f"an answer of more than {ANSWER_BYTES_MAX} bytes")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"the answer was not complete after {timeout_s:g} s", request=response.request)
        return _answer(response, body.decode("utf-8", "replace"))


def key_of(client: httpx.Client) -> str:
    """The API key that a client sends; empty if it sends none."""
    return str(client.headers.get("authorization", "")).removeprefix("Bearer ")


def value_of(said: object, limit: int = VALUE_CHARACTERS_MAX) -> str:
    """A text, a whole number or a truth value that a server states, clean and on one line; empty for all else."""
    if isinstance(said, str):
        return one_line(said, limit) if said.strip() else ""
    return str(said) if isinstance(said, bool | int) else ""


def _without_body(response: httpx.Response, what: str) -> Answer:
    return Answer(response.status_code, {}, what, software=_software(response))


def _answer(response: httpx.Response, body: str) -> Answer:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = {}
    content = content if isinstance(content, dict) else {}
    error = content.get("error")  # OpenAI's form: {"error": {"message": ...}}
    message = error.get("message") if isinstance(error, dict) else None
    text = message if isinstance(message, str) else body
    text = redacted(text, response.request.headers.get("authorization", "").removeprefix("Bearer "))
    words = " ".join(clean(text[:2000]).split())
    return Answer(response.status_code, content, words[:TEXT_CHARACTERS_MAX], body, _software(response))


def _software(response: httpx.Response) -> str:
    via = value_of(response.headers.get("via", ""))
    server = value_of(response.headers.get("server", ""))
    return f"{server or 'unknown'} via {via}" if via else server
