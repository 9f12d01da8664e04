"""Every answer that generates nothing: health, version, models, metrics, tokens, and the stand-in's own."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from redline.errors import ContentError
from redline.simulator.generation import (
    FIRST_TOKEN_ID,
    RequestRefusedError,
    count_text_tokens,
    error_content,
    parse_json_object,
)
from redline.simulator.metrics import Gauges, ServerMetrics
from redline.simulator.send_log import SendLog
from redline.simulator.settings import Settings, parse_settings_text, settings_json
from redline.simulator.wire import HttpRequest, answer, json_answer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NOT_READY = {"detail": "The stand-in was told not to be ready yet"}


class Desk(Protocol):
    """What the answers are made from."""

    @property
    def settings(self) -> Settings:
        """What it does now."""

    @property
    def metrics(self) -> ServerMetrics:
        """What it counted."""

    @property
    def log(self) -> SendLog:
        """When it sent."""

    @property
    def started_at_s(self) -> int:
        """Unix time of its start."""

    def gauges(self) -> Gauges:
        """What is under way."""

    def change(self, settings: Settings) -> None:
        """Do this from now on. Raises ContentError if that is not possible now."""

    def connection_count(self) -> int:
        """Open connections."""


Handler = Callable[[Desk, HttpRequest], bytes]


def control_answer(desk: Desk, request: HttpRequest) -> bytes:
    """The whole answer to a request that is not a generation; 404 and 405 as FastAPI writes them."""
    methods = ROUTES.get(request.path)
    keep_alive = request.keep_alive
    if methods is None:
        return json_answer(404, {"detail": "Not Found"}, keep_alive=keep_alive)
    handler = methods.get(request.method)
    if handler is None:
        allowed = f"allow: {', '.join(sorted(methods))}\r\n"
        return json_answer(405, {"detail": "Method Not Allowed"}, keep_alive=keep_alive, extra=allowed)
    try:
        return handler(desk, request)
    except RequestRefusedError as error:
        return json_answer(error.status, error.content(), keep_alive=keep_alive)
    except ContentError as error:
        refused = error_content(str(error), "BadRequestError", 400)
        return json_answer(400, refused, keep_alive=keep_alive)


def _health(_: Desk, request: HttpRequest) -> bytes:
    return answer(200, keep_alive=request.keep_alive)


def _version(desk: Desk, request: HttpRequest) -> bytes:
    version = desk.settings.failures.wrong_version or desk.settings.serving.version
    return json_answer(200, {"version": version, "simulator": "redline"}, keep_alive=request.keep_alive)


def _models(desk: Desk, request: HttpRequest) -> bytes:
    serving = desk.settings.serving
    model = {
        "id": serving.model,
        "object": "model",
        "created": desk.started_at_s,
        "owned_by": "redline-simulate",
        "root": serving.model,
        "parent": None,
        "max_model_len": serving.context_tokens_max,
        "permission": [],
    }
    return json_answer(200, {"object": "list", "data": [model]}, keep_alive=request.keep_alive)


def _metrics(desk: Desk, request: HttpRequest) -> bytes:
    text = desk.metrics.text(desk.settings.serving.model, desk.gauges())
    return answer(200, text.encode(), content_type=METRICS_TYPE, keep_alive=request.keep_alive)


def _tokenize(desk: Desk, request: HttpRequest) -> bytes:
    body = parse_json_object(request.body)
    text = body.get("prompt")
    if not isinstance(text, str):
        raise RequestRefusedError("prompt must be a text", param="prompt")
    count = count_text_tokens(text)
    content = {
        "count": count,
        "max_model_len": desk.settings.serving.context_tokens_max,
        "tokens": [FIRST_TOKEN_ID + index % FIRST_TOKEN_ID for index in range(count)],
        "token_strs": None,
    }
    return json_answer(200, content, keep_alive=request.keep_alive)


def _get_log(desk: Desk, request: HttpRequest) -> bytes:
    form = request.query_value("format") or "json"
    if form not in {"json", "binary"}:
        raise RequestRefusedError("format must be json or binary", param="format")
    body = desk.log.to_binary() if form == "binary" else desk.log.to_json()
    if request.query_value("reset") == "1":
        desk.log.reset()
    content_type = "application/octet-stream" if form == "binary" else "application/json"
    return answer(200, body, content_type=content_type, keep_alive=request.keep_alive)


def _get_settings(desk: Desk, request: HttpRequest) -> bytes:
    return answer(200, settings_json(desk.settings).encode(), keep_alive=request.keep_alive)


def _post_settings(desk: Desk, request: HttpRequest) -> bytes:
    desk.change(parse_settings_text(request.body, desk.settings))
    return _get_settings(desk, request)


def _state(desk: Desk, request: HttpRequest) -> bytes:
    """What it costs: CPU seconds of the process since its start, at an instant of CLOCK_MONOTONIC."""
    usage, gauges = resource.getrusage(resource.RUSAGE_SELF), desk.gauges()
    content = {
        "monotonic_ns": time.monotonic_ns(),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_bytes_max": _memory_bytes_max(),
        "running": gauges.running,
        "waiting": gauges.waiting,
        "connections": desk.connection_count(),
    }
    return json_answer(200, content, keep_alive=request.keep_alive)


ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/health": {"GET": _health},
    "/ping": {"GET": _health, "POST": _health},
    "/version": {"GET": _version},
    "/v1/models": {"GET": _models},
    "/metrics": {"GET": _metrics},
    "/tokenize": {"POST": _tokenize},
    "/simulator/log": {"GET": _get_log},
    "/simulator/settings": {"GET": _get_settings, "POST": _post_settings},
    "/simulator/state": {"GET": _state},
}


def _memory_bytes_max() -> int:
    """The most memory this process has held, bytes. Source: proc_pid_status(5); getrusage's figure starts with
    what the process that started this one held.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
