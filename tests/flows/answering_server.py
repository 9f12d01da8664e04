"""A server as vLLM's from outside that gives known answers: the first token id of a prompt says which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.fakes.local_server import LocalHandler, LocalServer
from tests.load.vllm_streams import DONE, event, usage_json


class _Handler(LocalHandler):
    answers: Sequence[str] = ()
    model = ""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        said: dict[str, Any] = {
            "/version": {"version": "0.32.0"},
            "/v1/models": {"object": "list", "data": [{"id": self.model, "object": "model"}]},
        }
        self._send(b"" if self.path == "/metrics" else json.dumps(said.get(self.path, {})).encode(), "text/plain")

    def do_POST(self) -> None:  # noqa: N802 - as above
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not request.get("stream"):
            usage = {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1}
            choice = {"index": 0, "text": "x", "finish_reason": "length"}
            self._send(json.dumps({"choices": [choice], "usage": usage}).encode(), "application/json")
            return
        text = json.dumps(self.answers[request["prompt"][0]])
        choice_text = f'{{"index":0,"text":{text},"finish_reason":"stop","token_ids":[7]}}'
        prompt_tokens = len(request["prompt"])
        events = event("text_completion", choice_text, usage_json(1, prompt_tokens))
        events += event("text_completion", "", usage_json(1, prompt_tokens))
        self._send(events + DONE, "text/event-stream")

    def _send(self, body: bytes, kind: str) -> None:
        self.reply(200, body, {"Content-Type": kind})


@contextmanager
def answering(model: str, answers: Sequence[str]) -> Iterator[str]:
    """The base URL of such a server on a free local port."""
    with LocalServer(_Handler, model=model, answers=tuple(answers)) as server:
        yield server.url
