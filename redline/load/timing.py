"""From stamped bytes to a request record: SSE parsing and event arithmetic, after the run. Pure.

Nothing is parsed while requests are in flight: the client keeps each read's bytes with its stamp, and a
chunk gets the stamp of the read that completed it, an upper bound of its arrival.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redline.model import Outcome, Request, RequestRecord

DETAIL_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What the client saw of one answer; stamps are nanoseconds since the start of the repeat.

    `failure` is None unless the exchange itself broke; `status` is 0 when no response head came.
    """

    index: int
    send_ns: int
    done_ns: int
    status: int
    reads: tuple[tuple[int, bytes], ...]
    failure: Outcome | None = None
    detail: str = ""


def sse_events(reads: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
    """(stamp, data) of each server-sent event, in order, however the stream was split into reads.

    Comments and other fields are skipped; several `data:` lines of one event are joined by newlines.
    An event that the stream did not finish is not yielded. Source: WHATWG HTML, section 9.2.
    """
    pending = b""
    data: list[str] = []
    for stamp_ns, piece in reads:
        pending += piece
        while (end := _line_end(pending, final=False)) is not None:
            line, pending = pending[: end[0]], pending[end[1] :]
            if not line:
                if data:
                    yield stamp_ns, "\n".join(data)
                data = []
            elif line.startswith(b"data:"):
                text = line[5:].decode("utf-8", errors="replace")
                data.append(text.removeprefix(" "))


def _line_end(buffer: bytes, *, final: bool) -> tuple[int, int] | None:
    """(end of line, start of next line), or None while the line is unfinished. Line ends: LF, CRLF, CR."""
    newline, carriage = buffer.find(b"\n"), buffer.find(b"\r")
    if carriage != -1 and (newline == -1 or carriage < newline):
        if carriage + 1 == len(buffer) and not final:
            return None  # the LF of a CRLF may still come
        return carriage, carriage + (2 if buffer[carriage + 1 : carriage + 2] == b"\n" else 1)
    return (newline, newline + 1) if newline != -1 else None


@dataclass(slots=True)
class _Stream:
    """What the events of one answer add up to."""

    chunk_ns: list[int]
    chunk_tokens: list[int]
    text: list[str]
    finish_reason: str = ""
    prompt_tokens: int = 0
    usage_tokens: int | None = None
    error: str = ""
    finished: bool = False


def _read_stream(reads: Sequence[tuple[int, bytes]]) -> _Stream:
    stream = _Stream([], [], [])
    for stamp_ns, data in sse_events(reads):
        if data == "[DONE]":
            stream.finished = True
            continue
        try:
            event = json.loads(data)
        except json.JSONDecodeError:
            stream.error = f"not JSON: {data}"
            continue
        if not isinstance(event, dict):
            stream.error = f"not an object: {data}"
        elif "error" in event:
            stream.error = json.dumps(event["error"])
        else:
            _read_event(stream, stamp_ns, event)
    return stream


def _read_event(stream: _Stream, stamp_ns: int, event: dict[str, Any]) -> None:
    for choice in event.get("choices") or ():
        tokens = choice.get("token_ids")
        text = choice.get("text") or ""
        count = len(tokens) if tokens is not None else int(bool(text))
        if count:
            stream.chunk_ns.append(stamp_ns)
            stream.chunk_tokens.append(count)
        stream.text.append(text)
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
    usage = event.get("usage")
    if usage:
        stream.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        stream.usage_tokens = int(usage.get("completion_tokens") or 0)


def record_of(request: Request, raw: RawAnswer) -> RequestRecord:
    """The record of one request: outcome classified, every event time kept, whatever became of it."""
    stream = _read_stream(raw.reads) if raw.status == 200 else _Stream([], [], [])
    counted = sum(stream.chunk_tokens)
    outcome, detail = _classify(request, raw, stream, counted)
    return RequestRecord(
        index=request.index,
        outcome=outcome,
        sched_ns=request.offset_ns,
        send_ns=raw.send_ns,
        done_ns=raw.done_ns,
        chunk_ns=tuple(stream.chunk_ns),
        chunk_tokens=tuple(stream.chunk_tokens),
        prompt_tokens=stream.prompt_tokens or len(request.prompt_token_ids),
        output_tokens=counted if stream.usage_tokens is None else stream.usage_tokens,
        output_text="".join(stream.text),
        finish_reason=stream.finish_reason,
        detail=detail[:DETAIL_CHARS_MAX],
    )


def _classify(request: Request, raw: RawAnswer, stream: _Stream, counted: int) -> tuple[Outcome, str]:
    if raw.failure is not None:
        return raw.failure, raw.detail
    if raw.status != 200:
        body = b"".join(piece for _, piece in raw.reads).decode("utf-8", errors="replace")
        return Outcome.HTTP_ERROR, f"HTTP {raw.status}: {body}"
    if stream.error:
        return Outcome.STREAM_ERROR, stream.error
    if not stream.finished:
        return Outcome.TRUNCATED, "the stream ended without [DONE]"
    if stream.usage_tokens is not None and stream.usage_tokens != counted:
        return Outcome.STREAM_ERROR, f"usage says {stream.usage_tokens} tokens, the chunks hold {counted}"
    if request.ignore_eos and counted != request.output_tokens:
        return Outcome.SHORT, f"{counted} of {request.output_tokens} tokens"
    return Outcome.OK, ""
