"""What a server says about itself, and a server that somebody else started.

The same questions are asked of both: is it alive (/health), which version (/version), and does it answer a
real completion. An attached server is never stopped.
"""

from __future__ import annotations

import io
import time
import wave
from dataclasses import dataclass
from typing import Any

import httpx

from redline.access import API_KEY_VARIABLE, headers, redacted, trust
from redline.deploy.diagnosis import clean_line
from redline.errors import DeployError, UsageError
from redline.model import Endpoint

ANSWER_S_MAX = 10.0
"""How long /health, /version and /v1/models may take."""

COMPLETION_S_MAX = 120.0
"""How long the first completion of an attached server may take: it may still compile kernels."""

PROBE_TOKEN_IDS = (3,)
"""The prompt of the probe: one token that every vocabulary has, so that no tokenizer is needed."""

PROBE_SAMPLES_PER_S = 16_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: its status, its content where that is a JSON object, and its words, bounded and clean."""

    status: int
    content: dict[str, Any]
    text: str


def open_client(base_url: str, api_key: str | None = None) -> httpx.Client:
    """An HTTP client for one server; a proxy of the environment is never asked for the way to a server."""
    return httpx.Client(
        base_url=base_url, headers=headers(api_key), verify=trust(), trust_env=False, timeout=ANSWER_S_MAX
    )


def _answer_of(response: httpx.Response) -> Answer:
    try:
        content = response.json()
    except ValueError:
        content = {}
    content = content if isinstance(content, dict) else {}
    error = content.get("error")  # OpenAI's form: {"error": {"message": ...}}
    message = error.get("message") if isinstance(error, dict) else None
    text = message if isinstance(message, str) else response.text
    text = redacted(text, response.request.headers.get("authorization", "").removeprefix("Bearer "))
    return Answer(response.status_code, content, clean_line(" ".join(text[:2000].split())))


def is_healthy(client: httpx.Client, timeout_s: float = ANSWER_S_MAX) -> bool:
    """True if GET /health answers 200."""
    try:
        return client.get("/health", timeout=timeout_s).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def ask_version(client: httpx.Client) -> str:
    """What GET /version says. Raises httpx.HTTPError if unreachable, DeployError if this is not vLLM."""
    answer = _answer_of(client.get("/version"))
    version = answer.content.get("version")
    if answer.status != httpx.codes.OK or not isinstance(version, str):
        raise DeployError(
            f"{client.base_url} is no vLLM server",
            expected='GET /version answers {"version": ...}',
            found=f"{answer.status} {answer.text}".rstrip(),
            next_step="check the address; a gateway in front of vLLM must pass /version through",
        )
    return clean_line(version)


def ask_models(client: httpx.Client) -> tuple[str, ...]:
    """The names that GET /v1/models lists. Raises httpx.HTTPError if unreachable."""
    listed = _answer_of(client.get("/v1/models")).content.get("data")
    models = listed if isinstance(listed, list) else []
    return tuple(clean_line(str(model["id"])) for model in models if isinstance(model, dict) and "id" in model)


def ask_completion(client: httpx.Client, model: str, timeout_s: float) -> Answer:
    """The answer to a real completion of two tokens. Raises httpx.HTTPError if there is none in time."""
    body = {
        "model": model,
        "prompt": list(PROBE_TOKEN_IDS),
        "max_tokens": 2,
        "temperature": 0,
        "ignore_eos": True,
    }
    return _answer_of(client.post("/v1/completions", json=body, timeout=timeout_s))


def ask_transcription(client: httpx.Client, model: str, timeout_s: float) -> Answer:
    """The answer to a transcription of half a second of silence. Raises httpx.HTTPError if there is none in time."""
    sound = io.BytesIO()
    with wave.open(sound, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(PROBE_SAMPLES_PER_S)
        recording.writeframes(bytes(PROBE_SAMPLES_PER_S))
    form = {"model": model, "language": "en", "response_format": "json", "max_completion_tokens": "2"}
    files = {"file": ("silence.wav", sound.getvalue(), "audio/wav")}
    return _answer_of(client.post("/v1/audio/transcriptions", data=form, files=files, timeout=timeout_s))


def ask_first(client: httpx.Client, model: str, serves: str, timeout_s: float) -> Answer:
    """The answer to a first real request of the kind that the model serves. Raises httpx.HTTPError."""
    if serves == "transcriptions":
        return ask_transcription(client, model, timeout_s)
    return ask_completion(client, model, timeout_s)


def is_answered(answer: Answer, serves: str) -> bool:
    """True if the model did what it serves: generated tokens, or a transcription (its text may be empty)."""
    if serves == "transcriptions":
        return answer.status == httpx.codes.OK and isinstance(answer.content.get("text"), str)
    return generated_tokens(answer) > 0


def generated_tokens(answer: Answer) -> int:
    """How many tokens a completion says it generated; 0 for anything but a completion."""
    usage = answer.content.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if answer.status == httpx.codes.OK and isinstance(count, int) else 0


def attach(
    url: str,
    *,
    served_model_name: str,
    serves: str = "completions",
    api_key: str | None = None,
    completion_s_max: float = COMPLETION_S_MAX,
) -> Endpoint:
    """The endpoint at `url` after it named its version and model and answered a request; it is never stopped.

    `serves`: the kind of request, as a recipe says it.

    `start_s` is 0 and `installed_version` None: what somebody else started says nothing about either. `api_key`
    is sent to it and kept nowhere.

    Raises: UsageError if `url` is no HTTP address; DeployError if nobody answers there, it is not vLLM, it does
    not serve the model, or it answers no completion within `completion_s_max` seconds.
    """
    base_url = normal_url(url)
    with open_client(base_url, api_key) as client:
        try:
            version = ask_version(client)
            _require_access(client, has_key=api_key is not None)
            _require_model(client, served_model_name)
            start_ns = time.perf_counter_ns()
            answer = ask_first(client, served_model_name, serves, completion_s_max)
        except httpx.HTTPError as error:
            raise DeployError(
                f"no answer from {base_url}",
                expected=f"a vLLM server that answers /version, /v1/models and {serves}",
                found=f"{type(error).__name__}: {error}",
                next_step="start the server, or check address, port and firewall (proxies are not used)",
            ) from error
        if not is_answered(answer, serves):
            waited_s = (time.perf_counter_ns() - start_ns) / 1e9
            raise DeployError(
                f"{base_url} answers no {serves.removesuffix('s')}",
                expected="200 with generated tokens" if serves == "completions" else "200 with a text",
                found=f"{answer.status} {answer.text} after {waited_s:.1f} s",
                next_step="look at the server's own log",
            )
    return Endpoint(
        base_url=base_url,
        model=served_model_name,
        reported_version=version,
        installed_version=None,
        start_s=0.0,
        log_path="",
    )


def _require_access(client: httpx.Client, *, has_key: bool) -> None:
    """vLLM asks for its key under /v1 only: /version answers anybody."""
    if client.get("/v1/models").status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise DeployError(
            f"{client.base_url} asks for an API key",
            expected=f"its key in ${API_KEY_VARIABLE}",
            found="a key that it refuses" if has_key else "no key",
            next_step=f"export {API_KEY_VARIABLE} and run again; the key is sent to this address and stored nowhere",
        )


def _require_model(client: httpx.Client, served_model_name: str) -> None:
    models = ask_models(client)
    if served_model_name not in models:
        raise DeployError(
            f"{client.base_url} does not serve {served_model_name}",
            expected=served_model_name,
            found=", ".join(models) or "no model at all",
            next_step=f"start it with --served-model-name {served_model_name}, or use another recipe",
        )


def normal_url(url: str) -> str:
    """The address without a trailing slash or `/v1`. Raises UsageError if it is no HTTP address with a host."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise UsageError(f"not an address: {url}", expected="http://host:port", found=str(error)) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise UsageError(f"not an address: {url}", expected="http://host:port", found=url)
    return str(parsed).rstrip("/").removesuffix("/v1").rstrip("/")
