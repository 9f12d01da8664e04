"""A server as vLLM's from outside that gives known answers: the first token id of a prompt says which."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.load.vllm_streams import DONE, event, usage_json


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: Sequence[str] = ()
    model = ""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        said: dict[str, Any] = {
            "/version": {"version": "0.32.0"},
            "/v1/models": {"object": "list", "data": [{"id": self.model, "object": "model"}]},
        }
        self._send(b"" if self.path == "/metrics" else json.dumps(said.get(self.path, {})).encode(), "text/plain")

    def do_POST(self) -> None:
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
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def answering(model: str, answers: Sequence[str]) -> Iterator[str]:
    """The base URL of such a server on a free local port."""
    handler = type("Handler", (_Handler,), {"model": model, "answers": tuple(answers)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
