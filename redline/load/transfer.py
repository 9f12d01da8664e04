"""Plans and records as JSON, between the caller and the worker process. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any

from redline.load.client import LoadPlan
from redline.model import (
    AudioPrompt,
    ChatPrompt,
    ClientReport,
    Outcome,
    Prompt,
    Request,
    RequestRecord,
    StampSource,
    TextPrompt,
    TokenCounts,
    TokenPrompt,
)

_FIELDS = tuple(field for field in RequestRecord.__dataclass_fields__ if field not in ("outcome", "score"))


def encode_plan(plan: LoadPlan) -> bytes:
    """A plan as one JSON line, without its newline."""
    values = {name: getattr(plan, name) for name in LoadPlan.__dataclass_fields__ if name != "requests"}
    requests = [
        [
            request.index,
            _encode_prompt(request.prompt),
            request.output_tokens,
            request.ignore_eos,
            request.offset_ns,
            request.cache_salt,
            request.stream,
            request.output_tokens_min,
            request.temperature,
            request.top_p,
            request.keep_special_tokens,
        ]
        for request in plan.requests
    ]
    return json.dumps(values | {"requests": requests}, separators=(",", ":")).encode()


def decode_plan(text: str) -> LoadPlan:
    """The plan of such a line. What the engine does not need (an expected answer) stays with the caller."""
    values = json.loads(text)
    requests = tuple(_decode_request(*fields) for fields in values["requests"])
    return LoadPlan(**{**values, "base_urls": tuple(values["base_urls"]), "requests": requests})


def _decode_request(index: int, prompt: list[Any], output_tokens: int, ignore_eos: bool, *others: Any) -> Request:
    offset_ns, cache_salt, stream, output_tokens_min, temperature, top_p, keep_special_tokens = others
    return Request(
        index,
        _decode_prompt(prompt),
        output_tokens,
        ignore_eos,
        offset_ns,
        cache_salt,
        stream=stream,
        output_tokens_min=output_tokens_min,
        temperature=temperature,
        top_p=top_p,
        keep_special_tokens=keep_special_tokens,
    )


def _encode_prompt(prompt: Prompt) -> list[Any]:
    match prompt:
        case TokenPrompt(token_ids=token_ids):
            return ["tokens", token_ids]
        case TextPrompt(text=text):
            return ["text", text]
        case ChatPrompt(turns=turns, image_urls=image_urls):
            return ["chat", turns, image_urls]
        case AudioPrompt():
            content = base64.b64encode(prompt.content).decode("ascii")
            return ["audio", content, prompt.file_name, prompt.media_type, prompt.language]


def _decode_prompt(values: list[Any]) -> Prompt:
    match values:
        case ["tokens", token_ids]:
            return TokenPrompt(tuple(token_ids))
        case ["text", text]:
            return TextPrompt(text)
        case ["chat", turns, image_urls]:
            return ChatPrompt(tuple((role, text) for role, text in turns), tuple(image_urls))
        case ["audio", content, file_name, media_type, language]:
            return AudioPrompt(base64.b64decode(content), file_name, media_type, language)
        case _:
            raise ValueError(f"no prompt: {values!r:.80}")


def encode_record(record: RequestRecord) -> dict[str, Any]:
    """A record, not yet scored, ready for JSON."""
    return {name: getattr(record, name) for name in _FIELDS} | {"outcome": record.outcome.value}


def decode_record(values: dict[str, Any]) -> RequestRecord:
    """The record of such an object."""
    chunks = {"chunk_ns": tuple(values["chunk_ns"]), "chunk_tokens": tuple(values["chunk_tokens"])}
    return RequestRecord(**{**values, **chunks, "outcome": Outcome(values["outcome"])})


def encode_report(report: ClientReport) -> dict[str, Any]:
    """A report, ready for JSON."""
    return asdict(report)


def decode_report(values: dict[str, Any]) -> ClientReport:
    """The report of such an object."""
    kinds = {"stamps": StampSource(values["stamps"]), "token_counts": TokenCounts(values["token_counts"])}
    return ClientReport(**{**values, **kinds})
