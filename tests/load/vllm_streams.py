"""Streams as vLLM 0.32's OpenAI-compatible server writes them: fields, order, events and HTTP chunks.

Source: vLLM's entrypoints/openai (`model_dump_json(exclude_unset=True)` per event) behind uvicorn, which writes
one HTTP chunk per event.
"""

from __future__ import annotations

from dataclasses import dataclass

from redline.model import AudioPrompt, ChatPrompt, Prompt, Request, TextPrompt, TokenCounts, TokenPrompt

HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 13:12:01 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\nx-request-id: salt-0\r\ntransfer-encoding: chunked\r\n\r\n"
)
DONE = b"data: [DONE]\n\n"


def chunked(*events: bytes) -> bytes:
    """The events as HTTP chunks, each its own, and the end of the body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"


def usage_json(output_tokens: int, prompt_tokens: int = 3) -> str:
    """The `usage` member of an event."""
    total = prompt_tokens + output_tokens
    return f'"usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{total},"completion_tokens":{output_tokens}}}'


def event(kind: str, choices: str, usage: str = "") -> bytes:
    """One event of an answer; `kind` is its `object`."""
    members = f'"choices":[{choices}]' + (f",{usage}" if usage else "")
    return f'data: {{"id":"cmpl-7f","object":"{kind}","created":1795266721,"model":"tiny",{members}}}\n\n'.encode()


def completion_event(ids: str, text: str, reason: str = "null", usage: str = "") -> bytes:
    """A chunk of a completion: `ids` and `reason` as JSON."""
    choice = (
        f'{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{reason},"stop_reason":null,'
        f'"prompt_token_ids":null,"token_ids":{ids}}}'
    )
    return event("text_completion", choice, usage)


def chat_event(delta: str, reason: str = "null", ids: str = "null", usage: str = "") -> bytes:
    """A chunk of a chat: `delta`, `reason` and `ids` as JSON."""
    stop = '"stop_reason":null,' if reason != "null" else ""
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason},{stop}"token_ids":{ids}}}'
    return event("chat.completion.chunk", choice, usage)


def transcription_event(text: str, reason: str = "", usage: str = "") -> bytes:
    """A chunk of a transcription."""
    stop = f',"finish_reason":{reason},"stop_reason":null' if reason else ""
    return event("transcription.chunk", f'{{"delta":{{"content":"{text}"}}{stop}}}', usage)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A stream and what it says: how many tokens each chunk holds, the text, the reason, and how counts are known."""

    name: str
    prompt: Prompt
    ignore_eos: bool
    output_tokens: int
    stream: bytes
    chunk_tokens: tuple[int, ...]
    text: str
    finish_reason: str
    counts: TokenCounts

    @property
    def request(self) -> Request:
        """The request that it answers."""
        return Request(0, self.prompt, self.output_tokens, self.ignore_eos, 1_000, "salt")


_TEXT = "a\\u00e9\\u2028b"  # in JSON; one line break of Unicode that ends no line of SSE

STREAMS = (
    Recorded(
        "completion-token-ids",
        TokenPrompt((11, 12, 13)),
        True,
        4,
        HEAD
        + chunked(
            completion_event("[101]", " a"),
            completion_event("[102,103]", " bc"),
            completion_event("[]", ""),
            completion_event("[104]", " d", '"length"'),
            event("text_completion", "", usage_json(4)),
            DONE,
        ),
        (1, 2, 1),
        " a bc d",
        "length",
        TokenCounts.IDS,
    ),
    Recorded(
        "completion-continuous-usage",
        TextPrompt("hello"),
        True,
        3,
        HEAD
        + chunked(
            completion_event("null", "", usage=usage_json(0)),
            completion_event("null", _TEXT, usage=usage_json(1)),
            completion_event("null", "\u2028\\f\u0085", usage=usage_json(2)),
            completion_event("null", "", '"length"', usage=usage_json(3)),
            event("text_completion", "", usage_json(3)),
            DONE,
        ),
        (1, 1, 1),
        "a\u00e9\u2028b\u2028\f\u0085",
        "length",
        TokenCounts.USAGE,
    ),
    Recorded(
        "chat-token-ids",
        ChatPrompt((("user", "hello"),)),
        True,
        3,
        HEAD
        + chunked(
            chat_event('{"role":"assistant","content":""}'),
            chat_event('{"reasoning":"hm"}', ids="[7]"),
            b": keep-alive\n\n",
            chat_event('{"content":"hi"}', ids="[8]"),
            chat_event('{"content":"!"}', '"length"', ids="[9]"),
            event("chat.completion.chunk", "", usage_json(3)),
            DONE,
        ),
        (1, 1, 1),
        "hmhi!",
        "length",
        TokenCounts.IDS,
    ),
    Recorded(
        "chat-continuous-usage",
        ChatPrompt((("system", "short"), ("user", "hello"))),
        False,
        9,
        HEAD
        + chunked(
            chat_event('{"role":"assistant","content":""}', usage=usage_json(0)),
            chat_event('{"content":"one"}', usage=usage_json(2)),
            chat_event('{"content":" two"}', usage=usage_json(3)),
            chat_event("{}", '"stop"', usage=usage_json(4)),
            event("chat.completion.chunk", "", usage_json(4)),
            DONE,
        ),
        (2, 1, 1),
        "one two",
        "stop",
        TokenCounts.USAGE,
    ),
    Recorded(
        "chat-text-only",
        ChatPrompt((("user", "hello"),)),
        False,
        9,
        HEAD
        + chunked(
            event("chat.completion.chunk", '{"index":0,"delta":{"role":"assistant","content":""}}'),
            event("chat.completion.chunk", '{"index":0,"delta":{"content":"one"},"finish_reason":null}'),
            event("chat.completion.chunk", '{"index":0,"delta":{"content":" two"},"finish_reason":"stop"}'),
            event("chat.completion.chunk", "", usage_json(5)),
            DONE,
        ),
        (1, 1),
        "one two",
        "stop",
        TokenCounts.ASSUMED,
    ),
    Recorded(
        "transcription",
        AudioPrompt(b"RIFF"),
        False,
        0,
        HEAD
        + chunked(
            transcription_event(" so", usage=usage_json(1)),
            transcription_event(" it goes", usage=usage_json(3)),
            transcription_event("", '"stop"', usage=usage_json(4)),
            event("transcription.chunk", "", usage_json(4)),
            DONE,
        ),
        (1, 2, 1),
        " so it goes",
        "stop",
        TokenCounts.USAGE,
    ),
)
