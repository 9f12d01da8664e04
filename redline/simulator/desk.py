"""From a whole request to its answer or its stream: what the stand-in says, without a loop or a listener."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from random import Random

from redline.errors import ContentError
from redline.simulator.connection import Connection
from redline.simulator.engine import Engine
from redline.simulator.events import COMMENT, AnswerBytes, TailStore
from redline.simulator.generation import (
    Generation,
    RequestRefusedError,
    chat,
    completion,
    error_content,
    transcription,
)
from redline.simulator.metrics import Gauges, ServerMetrics
from redline.simulator.routes import NOT_READY, control_answer
from redline.simulator.send_log import ABORTED, SendLog, SendRecord
from redline.simulator.settings import Failures, Serving, Settings
from redline.simulator.stream import Plan, Stream
from redline.simulator.wire import HttpRequest, json_answer, stream_head
from redline.units import nanoseconds

CRASH_EXIT_CODE = 1
REQUEST_ID_LENGTH_MAX = 96
GARBAGE = b"\x00\xff\x16\x03 this is not HTTP\n" * 4

GENERATIONS: Mapping[str, Callable[[HttpRequest, Serving], Generation]] = {
    "/v1/completions": completion,
    "/v1/chat/completions": chat,
    "/v1/audio/transcriptions": transcription,
}

EARLY_FAILURES = frozenset({"crash", "lost", "reset_early", "hang", "http_error", "garbage"})
_ERROR_KINDS = {429: "RateLimitError", 500: "InternalServerError", 503: "ServiceUnavailableError"}
_STREAM_HEAD = stream_head(chunked=True, keep_alive=True)


class FrontDesk:
    """Answers requests. One for the life of the process."""

    def __init__(self, settings: Settings, *, api_key: str | None, log_requests_max: int) -> None:
        self.settings = settings
        self.metrics = ServerMetrics()
        self.log = SendLog(log_requests_max)
        self.started_at_s = int(time.time())
        self.connections: dict[int, Connection] = {}
        self.engine = Engine(settings.timing, self.metrics, self.log)
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._tails = TailStore()
        self._serial = 0
        self._failures_set(settings)

    def _failures_set(self, settings: Settings) -> None:
        self._chances = settings.failures.chances
        self._tried_count = 0
        self._ready_ns = time.monotonic_ns() + nanoseconds(settings.failures.not_ready_s)
        self._model_json = json.dumps(settings.serving.model)

    def gauges(self) -> Gauges:
        """What is under way."""
        return self.engine.gauges()

    def connection_count(self) -> int:
        """Open connections."""
        return len(self.connections)

    def change(self, settings: Settings) -> None:
        """Do this from now on. Raises ContentError if that is not possible now."""
        if settings.timing.lockstep != self.settings.timing.lockstep and not self.engine.idle:
            raise ContentError(
                "lockstep cannot change while requests run", expected="no request", next_step="wait until they ended"
            )
        if settings.failures.listen_after_s != self.settings.failures.listen_after_s:
            raise ContentError("listen_after_s is of use at the start only", next_step="give it with --settings")
        failures_changed = settings.failures != self.settings.failures
        self.settings = settings
        self.engine.apply(settings.timing)
        self._model_json = json.dumps(settings.serving.model)
        if failures_changed:
            self._failures_set(settings)

    # --- requests ---------------------------------------------------------------------------------------------

    def take(self, connection: Connection, request: HttpRequest, received_ns: int) -> None:
        """Answer the request, or begin to. It was read whole at `received_ns`."""
        own = request.path.startswith("/simulator/")
        if (own or request.path.startswith("/v1")) and not self._authorized(request):
            # As vLLM: an error without OpenAI's form, and only under /v1 (and for what is the stand-in's own).
            self._answer(connection, request, json_answer(401, {"error": "Unauthorized"}))
            return
        if received_ns < self._ready_ns and not own:
            self._answer(connection, request, json_answer(503, NOT_READY))
            return
        parse = GENERATIONS.get(request.path)
        if parse is None:
            self._answer(connection, request, control_answer(self, request))
        elif request.method != "POST":
            self._answer(connection, request, json_answer(405, {"detail": "Method Not Allowed"}))
        else:
            self._generate(connection, request, received_ns, parse)

    def _authorized(self, request: HttpRequest) -> bool:
        return self._authorization is None or request.headers.get("authorization") == self._authorization

    def _answer(self, connection: Connection, request: HttpRequest, data: bytes) -> None:
        connection.write(data)
        if not request.keep_alive:
            connection.close()

    def _generate(
        self,
        connection: Connection,
        request: HttpRequest,
        received_ns: int,
        parse: Callable[[HttpRequest, Serving], Generation],
    ) -> None:
        failure = self._drawn_failure()
        serial, self._serial = self._serial, self._serial + 1
        request_id = request.headers.get("x-request-id", "")[:REQUEST_ID_LENGTH_MAX] or str(serial)
        record = SendRecord(request_id, connection.first_byte_ns, received_ns)
        if failure in EARLY_FAILURES:
            self.log.open(record)
            self._fail_early(connection, request, failure)
            self.log.end(record, f"failed: {failure}", time.monotonic_ns())
            return
        try:
            generation = parse(request, self.settings.serving)
        except RequestRefusedError as error:
            self._answer(connection, request, json_answer(error.status, error.content()))
            return
        timing = self.settings.timing
        framed = request.chunked_answers
        keep_alive = request.keep_alive and framed
        answer = AnswerBytes(
            generation,
            request_id,
            created_s=int(time.time()),
            model_json=self._model_json,
            tokens_per_chunk=timing.tokens_per_chunk,
            framed=framed,
        )
        plan = Plan(
            generation=generation,
            answer=answer,
            record=record,
            serial=serial,
            failure=failure,
            tokens_per_chunk=timing.tokens_per_chunk,
            framed=framed,
            keep_alive=keep_alive if generation.stream else request.keep_alive,
            hit_share=self.settings.serving.prefix_cache_hit_share,
            draw=Random(f"jitter {timing.seed} {serial}").random if timing.jitter_share else None,
        )
        stream = Stream(plan, connection, self._tails)
        self.log.open(record)
        connection.stream = stream
        if generation.stream:
            plain = framed and keep_alive
            connection.write(_STREAM_HEAD if plain else stream_head(chunked=framed, keep_alive=keep_alive))
            if failure == "keep_alive_comments":
                connection.write(answer.event(COMMENT))
        if connection.closed:
            self.log.end(record, ABORTED, time.monotonic_ns())
        else:
            self.engine.submit(stream)

    # --- failures ---------------------------------------------------------------------------------------------

    def _drawn_failure(self) -> str:
        """The name of what happens to the next generation request, "" for nothing."""
        number, self._tried_count = self._tried_count, self._tried_count + 1
        for name, chance in self._chances:
            if number < chance.after_requests:
                continue
            if chance.share >= 1 or Random(f"{name} {self.settings.timing.seed} {number}").random() < chance.share:
                return name
        return ""

    def _fail_early(self, connection: Connection, request: HttpRequest, failure: str) -> None:
        """What happens instead of an answer."""
        failures: Failures = self.settings.failures
        match failure:
            case "crash":
                sys.stderr.write("redline simulate: crash, as it was told to\n")
                sys.stderr.flush()
                os._exit(CRASH_EXIT_CODE)
            case "lost":
                connection.close()
            case "reset_early":
                connection.reset()
            case "hang":
                connection.muted = True
            case "garbage":
                connection.write(GARBAGE)
                connection.close()
            case _:
                status = failures.http_error_status
                content = error_content("the stand-in was told to fail", _ERROR_KINDS[status], status)
                self._answer(connection, request, json_answer(status, content))
