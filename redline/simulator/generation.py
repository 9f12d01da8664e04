"""What a request asks to be generated: completions, chats and transcriptions, checked as vLLM checks them. Pure.

Source: vLLM 0.32's entrypoints/openai (completion, chat_completion, speech_to_text) for names, defaults and
the form of errors.
"""

from __future__ import annotations

import enum
import io
import json
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from redline.simulator.multipart import Field, MultipartError, parse_form
from redline.simulator.settings import Serving
from redline.simulator.wire import HttpRequest

COMPLETION_TOKENS_DEFAULT = 16
"""Source: vLLM's and OpenAI's default `max_tokens` of /v1/completions."""

TOKENS_PER_IMAGE = 256
TOKENS_PER_AUDIO_S = 50
"""Source: Whisper encodes 30 s into 1,500 positions."""

FIRST_TOKEN_ID = 1000
"""Ids of made-up tokens start here, so that all have the same number of digits."""

MEDIA_PARTS = {"image_url": TOKENS_PER_IMAGE, "input_image": TOKENS_PER_IMAGE, "image": TOKENS_PER_IMAGE}
SOUND_PARTS = frozenset({"input_audio", "audio_url", "audio"})
_AUDIO_BYTES_PER_S = 32_000  # 16 kHz, 16 bits, one channel: for files that are no WAV


class Kind(enum.Enum):
    """Which endpoint answers."""

    COMPLETION = enum.auto()
    CHAT = enum.auto()
    TRANSCRIPTION = enum.auto()


class RequestRefusedError(Exception):
    """The request is understood and refused, in OpenAI's form of an error."""

    def __init__(self, message: str, *, status: int = 400, kind: str = "BadRequestError", param: str | None = None):
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param
        super().__init__(message)

    def content(self) -> dict[str, object]:
        """The JSON object that vLLM answers."""
        return error_content(self.message, self.kind, self.status, self.param)


@dataclass(frozen=True, slots=True)
class Generation:
    """One request's worth of work.

    `output_tokens` is what will be generated, `finish_reason` why it ends there. `prompt_ids_json` is the JSON
    list of the prompt's ids, "" unless the client asked for ids. `audio_s` is the length of an upload.
    """

    kind: Kind
    prompt_tokens: int
    output_tokens: int
    output_tokens_asked: int
    finish_reason: str
    stream: bool
    include_usage: bool = False
    continuous_usage: bool = False
    token_ids: bool = False
    prompt_ids_json: str = ""
    media_count: int = 0
    audio_s: float = 0.0


def error_content(message: str, kind: str, code: int, param: str | None = None) -> dict[str, object]:
    """`{"error": {...}}` as vLLM writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def parse_json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises RequestRefusedError."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        _refuse("the body is not JSON")
    if not isinstance(content, dict):
        _refuse("the body is not a JSON object")
    return content


def completion(request: HttpRequest, serving: Serving) -> Generation:
    """What `POST /v1/completions` asks for. Raises RequestRefusedError."""
    body = parse_json_object(request.body)
    _check_model(body.get("model"), serving)
    prompt = _prompt(body.get("prompt"))
    prompt_tokens = prompt if isinstance(prompt, int) else len(prompt)
    ids: list[int] = []
    if _flag(body, "return_token_ids"):
        ids = _made_up_ids(prompt) if isinstance(prompt, int) else prompt
    asked = _token_limit(body, ("max_tokens",), COMPLETION_TOKENS_DEFAULT)
    return _generation(
        Kind.COMPLETION,
        body,
        serving,
        prompt_tokens=prompt_tokens,
        asked=asked,
        prompt_ids_json=_ids_json(ids),
    )


def chat(request: HttpRequest, serving: Serving) -> Generation:
    """What `POST /v1/chat/completions` asks for; image and audio parts are counted. Raises RequestRefusedError."""
    body = parse_json_object(request.body)
    _check_model(body.get("model"), serving)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        _refuse("messages must be a list with at least one message", "messages")
    tokens = media_count = 0
    for message in messages:
        message_tokens, message_media = _message_tokens(message)
        tokens += message_tokens
        media_count += message_media
    asked = _token_limit(body, ("max_completion_tokens", "max_tokens"), serving.output_tokens_default)
    ids = _made_up_ids(tokens) if _flag(body, "return_token_ids") else []
    return _generation(
        Kind.CHAT,
        body,
        serving,
        prompt_tokens=tokens,
        asked=asked,
        prompt_ids_json=_ids_json(ids),
        media_count=media_count,
    )


def transcription(request: HttpRequest, serving: Serving) -> Generation:
    """What `POST /v1/audio/transcriptions` asks for. Raises RequestRefusedError."""
    try:
        form = parse_form(request.headers.get("content-type", ""), request.body)
    except MultipartError as error:
        _refuse(str(error))
    _check_model(form["model"].text if "model" in form else None, serving)
    upload = form.get("file")
    if upload is None or not upload.content:
        _refuse("file must be an audio file", "file")
    audio_s = _audio_s(upload.content)
    body: dict[str, Any] = {
        "stream": _form_flag(form, "stream"),
        "stream_options": {
            "include_usage": _form_flag(form, "stream_include_usage"),
            "continuous_usage_stats": _form_flag(form, "stream_continuous_usage_stats"),
        },
    }
    asked = serving.output_tokens_default
    if "max_completion_tokens" in form:
        text = form["max_completion_tokens"].text
        asked = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 10 else 0
    if asked < 1:
        _refuse("max_completion_tokens must be at least 1", "max_completion_tokens")
    if not body["stream"]:
        del body["stream_options"]
    tokens = max(1, round(audio_s * TOKENS_PER_AUDIO_S))
    return _generation(
        Kind.TRANSCRIPTION, body, serving, prompt_tokens=tokens, asked=asked, media_count=1, audio_s=audio_s
    )


def count_text_tokens(text: str) -> int:
    """Tokens of a text: one a word, at least one."""
    return max(1, len(text.split()))


def _generation(
    kind: Kind,
    body: Mapping[str, Any],
    serving: Serving,
    *,
    prompt_tokens: int,
    asked: int,
    prompt_ids_json: str = "",
    media_count: int = 0,
    audio_s: float = 0.0,
) -> Generation:
    """The checks that all three share."""
    if prompt_tokens + asked > serving.context_tokens_max and kind is not Kind.TRANSCRIPTION:
        _refuse(
            f"This model's maximum context length is {serving.context_tokens_max} tokens. However, you requested"
            f" {asked} output tokens and your prompt contains at least {prompt_tokens} input tokens.",
            "input_tokens",
        )
    if body.get("n", 1) not in (1, None):
        _refuse("the stand-in generates one choice a request: n must be 1", "n")
    stream = _flag(body, "stream")
    options = body.get("stream_options")
    if options is not None and not stream:
        _refuse("Stream options can only be defined when `stream=True`.", "stream_options")
    if options is not None and not isinstance(options, dict):
        _refuse("stream_options must be an object", "stream_options")
    options = options or {}
    include_usage = _flag(options, "include_usage")
    output_tokens, finish_reason = min(asked, serving.context_tokens_max), "length"
    if 0 < serving.eos_after_tokens < output_tokens and not _flag(body, "ignore_eos"):
        output_tokens, finish_reason = serving.eos_after_tokens, "stop"
    return Generation(
        kind=kind,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        output_tokens_asked=asked,
        finish_reason=finish_reason,
        stream=stream,
        include_usage=include_usage,
        continuous_usage=include_usage and _flag(options, "continuous_usage_stats"),
        token_ids=_flag(body, "return_token_ids"),
        prompt_ids_json=prompt_ids_json,
        media_count=media_count,
        audio_s=audio_s,
    )


def _refuse(message: str, param: str | None = None) -> NoReturn:
    raise RequestRefusedError(message, param=param)


def _check_model(name: object, serving: Serving) -> None:
    """As vLLM, a request without a model gets the one there is."""
    if name is not None and name != serving.model:
        raise RequestRefusedError(
            f"The model `{name}` does not exist.", status=404, kind="NotFoundError", param="model"
        )


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        _refuse(f"{name} must be true or false", name)
    return value


def _form_flag(form: Mapping[str, Field], name: str) -> bool:
    return name in form and form[name].text.lower() in {"true", "1", "yes", "on"}


def _token_limit(body: Mapping[str, Any], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            _refuse(f"{name} must be at least 1, got {value!r:.60}", name)
        return value
    return default


def _prompt(prompt: object) -> int | list[int]:
    """The number of tokens of a text, or the ids that were given; a list may hold one of either."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return count_text_tokens(prompt)
    if not isinstance(prompt, list) or not prompt:
        _refuse("prompt must be a text or a list of token ids that is not empty", "prompt")
    if set(map(type, prompt)) != {int} or min(prompt) < 0:
        _refuse("prompt must be one text or one list of token ids: the stand-in takes no batches", "prompt")
    return prompt


def _ids_json(ids: list[int]) -> str:
    return json.dumps(ids, separators=(",", ":")) if ids else ""


def _made_up_ids(count: int) -> list[int]:
    return [FIRST_TOKEN_ID + index % FIRST_TOKEN_ID for index in range(count)]


def _message_tokens(message: object) -> tuple[int, int]:
    """(Tokens, image and audio parts) of one chat message."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        _refuse("each message must be an object with a role", "messages")
    if content is None or isinstance(content, str):
        return count_text_tokens(content or ""), 0
    if not isinstance(content, list):
        _refuse("a message's content must be a text or a list of parts", "messages")
    tokens = media_count = 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in MEDIA_PARTS or kind in SOUND_PARTS:
            media_count += 1
            tokens += MEDIA_PARTS.get(str(kind), TOKENS_PER_AUDIO_S)
        elif kind == "text" and isinstance(part.get("text"), str):
            tokens += count_text_tokens(part["text"])
        else:
            _refuse(f"a part of the content has an unknown type: {kind!r:.60}", "messages")
    return max(1, tokens), media_count


def _audio_s(content: bytes) -> float:
    """Seconds of a WAV file; of anything else what 16 kHz PCM of that size would last."""
    try:
        with wave.open(io.BytesIO(content)) as audio:
            return float(audio.getnframes() / max(1, audio.getframerate()))
    except (wave.Error, EOFError):
        return len(content) / _AUDIO_BYTES_PER_S
