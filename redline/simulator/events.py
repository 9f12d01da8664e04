"""The bytes of an answer's events, computed ahead as far as they can be. Pure.

An event is one HTTP chunk, as uvicorn writes it. All tokens have names of one width (" t1000" to " t1999"), so
the plain chunks of one request differ in their last part only: a prefix with the request's id, and a tail that
requests share. Sending a token is then one concatenation and one send.

Source: vLLM 0.32's entrypoints/openai for the fields and their order (`model_dump_json(exclude_unset=True)`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from redline.simulator.generation import FIRST_TOKEN_ID, Generation, Kind
from redline.simulator.wire import LAST_CHUNK, chunk

TOKEN_NAME_COUNT = 1000
"""Names repeat after so many tokens; also the number of tails after which a list of them repeats."""

COMMENT = b": keep-alive\n\n"
GARBAGE_EVENT = b'data: {"id": \xff not JSON\n\n'
DONE = b"data: [DONE]\n\n"

_OBJECTS = {
    Kind.COMPLETION: ("cmpl", "text_completion"),
    Kind.CHAT: ("chatcmpl", "chat.completion"),
    Kind.TRANSCRIPTION: ("trsc", "transcription"),
}

Tails = list[bytes]
_TailKey = tuple[Kind, bool, int]


def token_id(index: int) -> int:
    """The id of the token at a position of the output."""
    return FIRST_TOKEN_ID + index % TOKEN_NAME_COUNT


def text_of(first: int, count: int) -> str:
    """The text of `count` tokens from position `first`."""
    return "".join(f" t{token_id(index)}" for index in range(first, first + count))


def _ids_of(first: int, count: int) -> str:
    return ",".join(str(token_id(index)) for index in range(first, first + count))


class TailStore:
    """Tails by form of answer, made when first needed and kept: bounded by the forms there are.

    `tails(...)[k % TOKEN_NAME_COUNT]` is the end of the k-th plain chunk: everything after the request's prefix.
    """

    FORMS_MAX = 64

    def __init__(self) -> None:
        self._stores: dict[_TailKey, Tails] = {}

    def tails(self, kind: Kind, tokens_per_chunk: int, chunk_count: int, *, token_ids: bool) -> Tails:
        """At least the first `chunk_count` tails, or all of the TOKEN_NAME_COUNT."""
        key = (kind, token_ids, tokens_per_chunk)
        store = self._stores.get(key)
        if store is None:
            if len(self._stores) >= self.FORMS_MAX:
                self._stores.clear()  # streams that still run hold their own
            store = self._stores[key] = []
        for index in range(len(store), min(chunk_count, TOKEN_NAME_COUNT)):
            choice = choice_json(kind, index * tokens_per_chunk, tokens_per_chunk, token_ids=token_ids)
            store.append(f"{choice}]}}\n\n\r\n".encode())
        return store


def choice_json(kind: Kind, first: int, count: int, *, token_ids: bool, finish_reason: str = "", ids: str = "") -> str:
    """One element of `choices`: `count` tokens from position `first`. `ids`: the prompt's, as JSON."""
    text = text_of(first, count)
    reason = f'"{finish_reason}"' if finish_reason else "null"
    listed = f"[{_ids_of(first, count)}]" if token_ids else "null"
    match kind:
        case Kind.COMPLETION:
            return (
                f'{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{reason},"stop_reason":null,'
                f'"prompt_token_ids":{ids or "null"},"token_ids":{listed}}}'
            )
        case Kind.CHAT:
            stop = '"stop_reason":null,' if finish_reason else ""
            return (
                f'{{"index":0,"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":{reason},'
                f'{stop}"token_ids":{listed}}}'
            )
        case Kind.TRANSCRIPTION:
            stop = f',"finish_reason":{reason},"stop_reason":null' if finish_reason else ""
            return f'{{"delta":{{"content":"{text}"}}{stop}}}'


class AnswerBytes:
    """The bytes of one request's answer.

    `prefix` + a tail is a plain chunk; `token_event`, `role_event`, `ending` and `whole` are what is not plain.
    `framed` False leaves HTTP's chunks out (HTTP/1.0).
    """

    __slots__ = ("_envelope", "_framed", "_generation", "_per_chunk", "answer_id", "created_s", "model", "prefix")

    def __init__(
        self,
        generation: Generation,
        request_id: str,
        *,
        created_s: int,
        model_json: str,
        tokens_per_chunk: int,
        framed: bool = True,
    ) -> None:
        short, name = _OBJECTS[generation.kind]
        if generation.kind is not Kind.COMPLETION:
            name += ".chunk"
        self.answer_id = json.dumps(f"{short}-{request_id}")
        self.created_s = created_s
        self.model = model_json
        self._generation = generation
        self._per_chunk = tokens_per_chunk
        self._framed = framed
        self._envelope = f'{{"id":{self.answer_id},"object":"{name}","created":{created_s},"model":{model_json},'
        self.prefix = b""

    def make_prefix(self, tail_length: int) -> None:
        """Set `prefix` for tails of one length: the chunk's size comes first and must hold for all of them."""
        start = f'data: {self._envelope}"choices":['.encode()
        self.prefix = b"%x\r\n%b" % (len(start) + tail_length - 2, start)

    def event(self, data: bytes) -> bytes:
        """An event, or a comment, framed."""
        return chunk(data) if self._framed else data

    def role_event(self) -> bytes:
        """The first event of a chat: a role and no token."""
        generation = self._generation
        ids = f',"prompt_token_ids":{generation.prompt_ids_json}' if generation.prompt_ids_json else ""
        usage = self._usage_json(0) if generation.continuous_usage else ""
        return self._json_event(
            '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
            f"{ids}{usage}"
        )

    def token_event(self, index: int, tokens_before: int, tokens: int, finish_reason: str = "") -> bytes:
        """The chunk number `index`: `tokens` tokens after `tokens_before`; a reason only in the last."""
        generation = self._generation
        choice = choice_json(
            generation.kind,
            tokens_before,
            tokens,
            token_ids=generation.token_ids,
            finish_reason=finish_reason,
            ids=generation.prompt_ids_json if index == 0 else "",
        )
        usage = self._usage_json(tokens_before + tokens) if generation.continuous_usage else ""
        return self._json_event(f'"choices":[{choice}]{usage}')

    def ending(self, output_tokens: int) -> bytes:
        """What follows the last token: usage if asked for, [DONE], the end of the body."""
        usage = b""
        if self._generation.include_usage:
            usage = self._json_event(f'"choices":[]{self._usage_json(output_tokens)}')
        return usage + self.event(DONE) + self.end_of_body()

    def error_ending(self, content: Mapping[str, object]) -> bytes:
        """An error inside the stream, then [DONE], as vLLM ends a stream that fails."""
        return self.event(f"data: {json.dumps(content)}\n\n".encode()) + self.event(DONE) + self.end_of_body()

    def end_of_body(self) -> bytes:
        """The last HTTP chunk; nothing where the connection's end is the end."""
        return LAST_CHUNK if self._framed else b""

    def whole(self, output_tokens: int, finish_reason: str) -> bytes:
        """The JSON of an answer that is not streamed."""
        generation = self._generation
        text = text_of(0, output_tokens)
        start = f'{{"id":{self.answer_id},"created":{self.created_s},"model":{self.model},'
        usage = self._usage_json(output_tokens)
        ids = f"[{_ids_of(0, output_tokens)}]" if generation.token_ids else "null"
        prompt_ids = generation.prompt_ids_json or "null"
        match generation.kind:
            case Kind.COMPLETION:
                return (
                    f'{start}"object":"text_completion","choices":[{{"index":0,"text":"{text}","logprobs":null,'
                    f'"finish_reason":"{finish_reason}","stop_reason":null,"token_ids":{ids},"prompt_logprobs":null,'
                    f'"prompt_token_ids":{prompt_ids}}}]{usage}}}'
                ).encode()
            case Kind.CHAT:
                return (
                    f'{start}"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant",'
                    f'"content":"{text}"}},"logprobs":null,"finish_reason":"{finish_reason}","stop_reason":null,'
                    f'"token_ids":{ids}}}]{usage},"prompt_token_ids":{prompt_ids}}}'
                ).encode()
            case Kind.TRANSCRIPTION:
                spoken_s = max(1, round(generation.audio_s))
                return f'{{"text":"{text}","usage":{{"type":"duration","seconds":{spoken_s}}}}}'.encode()

    def _usage_json(self, output_tokens: int) -> str:
        prompt_tokens = self._generation.prompt_tokens
        return (
            f',"usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{prompt_tokens + output_tokens},'
            f'"completion_tokens":{output_tokens}}}'
        )

    def _json_event(self, rest: str) -> bytes:
        return self.event(f"data: {self._envelope}{rest}}}\n\n".encode())
