"""What is asked of the server: each kind of prompt as an httpx request. Counted, salted, greedy unless asked otherwise.

Source: vLLM's OpenAI-compatible server, fields `ignore_eos`, `min_tokens`, `return_token_ids`, `cache_salt`,
`stream_options.continuous_usage_stats`; for transcription `stream_include_usage`.
"""

from __future__ import annotations

import json

import httpx

from redline.model import AudioPrompt, ChatPrompt, Request, TextPrompt, TokenPrompt

COMPLETIONS, CHAT, TRANSCRIPTIONS = "/v1/completions", "/v1/chat/completions", "/v1/audio/transcriptions"


def http_request(
    base_url: httpx.URL, request: Request, model: str, *, continuous_usage: bool = False, api_key: str | None = None
) -> httpx.Request:
    """One request as httpx builds it, body included.

    `continuous_usage`: ask for token counts in every chunk, for servers that do not return token ids.
    The header x-request-id names request and window; vLLM takes it into its own logs.
    """
    headers = {"accept": "text/event-stream" if request.stream else "application/json", "user-agent": "redline"}
    headers["x-request-id"] = f"{request.cache_salt}-{request.index}"
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    url = f"{str(base_url).rstrip('/')}{_path(request)}"
    if isinstance(request.prompt, AudioPrompt):
        audio = request.prompt
        upload = {"file": (audio.file_name, audio.content, audio.media_type)}
        form = _transcription_form(request, audio, model)
        built = httpx.Request("POST", url, headers=headers, data=form, files=upload)
        built.read()  # multipart is a stream until it is read
        return built
    body = _completion_body(request, model, continuous_usage=continuous_usage)
    content = json.dumps(body, separators=(",", ":")).encode()
    return httpx.Request("POST", url, headers=headers | {"content-type": "application/json"}, content=content)


def _path(request: Request) -> str:
    match request.prompt:
        case ChatPrompt():
            return CHAT
        case AudioPrompt():
            return TRANSCRIPTIONS
        case TokenPrompt() | TextPrompt():
            return COMPLETIONS


def _completion_body(request: Request, model: str, *, continuous_usage: bool) -> dict[str, object]:
    body: dict[str, object] = {"model": model, **_prompt_fields(request)}
    body |= {"temperature": request.temperature, "ignore_eos": request.ignore_eos, "return_token_ids": True}
    if request.top_p != 1:
        body["top_p"] = request.top_p
    if request.output_tokens_min:
        body["min_tokens"] = request.output_tokens_min
    if request.keep_special_tokens:
        body["skip_special_tokens"] = False
    if request.stream:
        options = {"include_usage": True} | ({"continuous_usage_stats": True} if continuous_usage else {})
        body |= {"stream": True, "stream_options": options}
    if request.cache_salt:
        body["cache_salt"] = request.cache_salt
    return body


def _prompt_fields(request: Request) -> dict[str, object]:
    match request.prompt:
        case TokenPrompt(token_ids=token_ids):
            return {"prompt": list(token_ids), "max_tokens": request.output_tokens}
        case TextPrompt(text=text):
            return {"prompt": text, "max_tokens": request.output_tokens}
        case ChatPrompt(turns=turns, image_urls=image_urls):
            messages: list[dict[str, object]] = [{"role": role, "content": text} for role, text in turns]
            if image_urls:
                images = [{"type": "image_url", "image_url": {"url": url}} for url in image_urls]
                messages[-1]["content"] = [{"type": "text", "text": turns[-1][1]}, *images]  # MLPerf's order
            return {"messages": messages, "max_completion_tokens": request.output_tokens}
        case AudioPrompt():
            raise TypeError("audio is uploaded as a form, not as JSON")


def _transcription_form(request: Request, audio: AudioPrompt, model: str) -> dict[str, str]:
    temperature = f"{request.temperature:g}"
    form = {"model": model, "language": audio.language, "temperature": temperature, "response_format": "json"}
    if request.stream:
        form |= {"stream": "true", "stream_include_usage": "true", "stream_continuous_usage_stats": "true"}
    if request.output_tokens:
        form["max_completion_tokens"] = str(request.output_tokens)
    return form
