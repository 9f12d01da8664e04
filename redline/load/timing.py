"""From stamped bytes to a request record: events, tokens and outcome, after the run. Pure.

A chunk gets the stamp of the read that completed it, an upper bound of its arrival.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from redline.load.exchange import Answer
from redline.load.sse import sse_events
from redline.model import AudioPrompt, Outcome, Request, RequestRecord, TokenCounts, TokenPrompt

DETAIL_CHARS_MAX = 300
_BROKEN_FINISHES = frozenset({"abort", "error"})
"""Finish reasons with which vLLM says that it gave up."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What the client saw of one exchange; times are nanoseconds since the start of the window.

    `failure` is None unless the exchange itself broke.
    """

    index: int
    send_ns: int
    done_ns: int
    answer: Answer
    failure: Outcome | None = None
    detail: str = ""
    replica: int = 0
    resent: bool = False


@dataclass(frozen=True, slots=True)
class Understood:
    """A record with what else was learned from its answer."""

    record: RequestRecord
    token_counts: TokenCounts
    coalesced_count: int


@dataclass(slots=True)
class _Stream:
    """What the events of one answer add up to."""

    chunk_ns: list[int] = field(default_factory=list)
    chunk_tokens: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    finish_reason: str = ""
    prompt_tokens: int = 0
    usage_tokens: int | None = None
    counts: TokenCounts = TokenCounts.IDS
    coalesced_count: int = 0
    error: str = ""
    finished: bool = False


# --- reading answers ----------------------------------------------------------------------------------------


def _read_stream(body: Iterable[tuple[int, bytes]], offset_ns: int) -> _Stream:
    stream = _Stream()
    for event in sse_events(body):
        if event.data == "[DONE]":
            stream.finished = True
            continue
        content = _object_of(event.data)
        if isinstance(content, str):
            stream.error = stream.error or content
            continue
        _read_event(stream, event.stamp_ns - offset_ns, content, coalesced=not event.last_of_read)
    return stream


def _read_whole(body: tuple[tuple[int, bytes], ...], offset_ns: int) -> _Stream:
    """An answer that was not streamed: all its tokens came with its last byte."""
    stream = _Stream()
    content = _object_of(b"".join(piece for _, piece in body).decode("utf-8", errors="replace"))
    if isinstance(content, str):
        stream.error = content
        return stream
    _read_event(stream, body[-1][0] - offset_ns, content, coalesced=False)
    stream.finished = True
    if isinstance(content.get("text"), str):  # a transcription
        stream.text.append(content["text"])
        stream.chunk_ns.append(body[-1][0] - offset_ns)
        stream.chunk_tokens.append(1)
        stream.counts = TokenCounts.ASSUMED
    elif stream.chunk_tokens and stream.counts is TokenCounts.ASSUMED and stream.usage_tokens:
        stream.chunk_tokens, stream.counts = [stream.usage_tokens], TokenCounts.USAGE
    return stream


def _object_of(text: str) -> dict[str, Any] | str:
    """The JSON object of an event, or what is wrong with it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return f"not JSON: {text}"
    if not isinstance(content, dict):
        return f"not an object: {text}"
    if content.get("error") is not None:
        return json.dumps(content["error"])
    return content


def _read_event(stream: _Stream, stamp_ns: int, content: dict[str, Any], *, coalesced: bool) -> None:
    choices = content.get("choices")
    usage = content.get("usage")
    used = _count_of(usage, "completion_tokens")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            _read_choice(stream, stamp_ns, choice, used, coalesced=coalesced)
    if used is not None:
        stream.usage_tokens = used
        stream.prompt_tokens = _count_of(usage, "prompt_tokens") or stream.prompt_tokens


def _read_choice(stream: _Stream, stamp_ns: int, choice: dict[str, Any], used: int | None, *, coalesced: bool) -> None:
    delta = choice.get("delta", choice.get("message", choice))
    delta = delta if isinstance(delta, dict) else {}
    text = _text_of(delta)
    token_ids = choice.get("token_ids")
    if isinstance(token_ids, list):
        count = len(token_ids)
    elif used is not None:  # continuous usage: what was added since the last chunk
        count = used - (stream.usage_tokens or 0)
        stream.counts = TokenCounts.USAGE if stream.counts is not TokenCounts.ASSUMED else TokenCounts.ASSUMED
    else:
        count = int(bool(text) or bool(delta.get("tool_calls")))
        if count:
            stream.counts = TokenCounts.ASSUMED
    if count > 0:
        stream.chunk_ns.append(stamp_ns)
        stream.chunk_tokens.append(count)
        stream.coalesced_count += coalesced
    stream.text.append(text)
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason:
        stream.finish_reason = reason


def _text_of(delta: dict[str, Any]) -> str:
    """Generated text of a completion chunk or chat delta, reasoning included; a role alone is none."""
    parts = (delta.get(key) for key in ("reasoning", "reasoning_content", "text", "content"))
    return "".join(part for part in parts if isinstance(part, str))


def _count_of(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


# --- records ------------------------------------------------------------------------------------------------


def understand(request: Request, raw: RawAnswer, *, start_ns: int = 0) -> Understood:
    """The record of one request: outcome classified, every event time kept, whatever became of it.

    `start_ns`: the window's zero on the clock of the answer's stamps.
    """
    head, body = raw.answer.head, raw.answer.body
    stream = _Stream()
    if head is not None and head.status == 200 and body:
        streamed = b"text/event-stream" in (head.header(b"content-type") or b"").lower()
        stream = _read_stream(body, start_ns) if streamed or request.stream else _read_whole(body, start_ns)
    counted = sum(stream.chunk_tokens)
    output_tokens = counted if stream.usage_tokens is None else stream.usage_tokens
    outcome, detail = _classify(request, raw, stream, counted, output_tokens)
    record = RequestRecord(
        index=request.index,
        outcome=outcome,
        sched_ns=request.offset_ns,
        send_ns=raw.send_ns,
        done_ns=raw.done_ns,
        chunk_ns=tuple(stream.chunk_ns),
        chunk_tokens=tuple(stream.chunk_tokens),
        prompt_tokens=stream.prompt_tokens or _prompt_length(request),
        output_tokens=output_tokens,
        output_text=_whole_characters("".join(stream.text)),
        finish_reason=_whole_characters(stream.finish_reason),
        detail=_whole_characters(detail[:DETAIL_CHARS_MAX]),
        replica=raw.replica,
        resent=raw.resent,
    )
    return Understood(record, stream.counts, stream.coalesced_count)


def _whole_characters(text: str) -> str:
    """The text with surrogates joined: JSON may split a character over two chunks, and half a one is no UTF-8."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _prompt_length(request: Request) -> int:
    """Tokens of a prompt whose length the server did not say; 0 is unknown."""
    return len(request.prompt.token_ids) if isinstance(request.prompt, TokenPrompt) else 0


def _classify(  # noqa: PLR0911 - one outcome after another, the first that applies
    request: Request, raw: RawAnswer, stream: _Stream, counted: int, output_tokens: int
) -> tuple[Outcome, str]:
    if raw.failure is not None:
        return raw.failure, raw.detail
    answer = raw.answer
    if answer.problem or answer.head is None:
        return Outcome.PROTOCOL_ERROR, answer.problem or "no answer"
    if answer.head.status != 200:
        body = answer.content[: 4 * DETAIL_CHARS_MAX].decode("utf-8", errors="replace")
        return Outcome.HTTP_ERROR, f"HTTP {answer.head.status}: {body}"
    if stream.error:
        return Outcome.STREAM_ERROR, stream.error
    if not stream.finished:
        return Outcome.TRUNCATED, "the stream ended without [DONE]"
    if stream.finish_reason in _BROKEN_FINISHES:
        return Outcome.STREAM_ERROR, f"the server ended the answer with finish_reason {stream.finish_reason}"
    if stream.counts is not TokenCounts.ASSUMED and output_tokens != counted:
        return Outcome.STREAM_ERROR, f"usage says {output_tokens} tokens, the chunks hold {counted}"
    if request.ignore_eos and not isinstance(request.prompt, AudioPrompt) and output_tokens != request.output_tokens:
        return Outcome.SHORT, f"{output_tokens} of {request.output_tokens} tokens"
    return Outcome.OK, ""
