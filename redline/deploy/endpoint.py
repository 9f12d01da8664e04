"""What a server says about itself, and a server that somebody else started.

The same questions are asked of both: is it alive (/health), which version (/version), and does it answer a
real completion. An attached server is never stopped.
"""

from __future__ import annotations

import io
import time
import wave
from collections.abc import Sequence

import httpx

from redline.access import API_KEY_VARIABLE, headers, redacted, trust
from redline.deploy.endpoint_answer import ANSWER_S_MAX, Answer, ask, key_of, value_of
from redline.deploy.endpoint_command import is_loopback
from redline.deploy.endpoint_evidence import (
    Evidence,
    facts_of,
    gather,
    notes_of,
    process_start,
    require_alike,
    require_same_processes,
)
from redline.errors import DeployError, UsageError
from redline.model import Endpoint, Replica

COMPLETION_S_MAX = 120.0
"""How long the first completion of an attached server may take: it may still compile kernels."""

PROBE_TOKEN_IDS = (3,)
"""The prompt of the probe: one token that every vocabulary has, so that no tokenizer is needed."""

PROBE_SAMPLES_PER_S = 16_000
MODELS_SHOWN_MAX = 20


def open_client(base_url: str, api_key: str | None = None) -> httpx.Client:
    """An HTTP client for one server; a proxy of the environment is never asked for the way to a server."""
    return httpx.Client(
        base_url=base_url, headers=headers(api_key), verify=trust(), trust_env=False, timeout=ANSWER_S_MAX
    )


def is_healthy(client: httpx.Client, timeout_s: float = ANSWER_S_MAX) -> bool:
    """True if GET /health answers 200."""
    try:
        return ask(client, "/health", timeout_s=timeout_s).is_ok
    except httpx.HTTPError:
        return False


def ask_version(client: httpx.Client) -> str:
    """What GET /version says. Raises httpx.HTTPError if unreachable, DeployError if this is not vLLM."""
    answer = ask(client, "/version")
    said = answer.content.get("version")
    version = value_of(said) if isinstance(said, str) else ""
    if not answer.is_ok or not version:
        raise DeployError(
            f"{client.base_url} is no vLLM server",
            expected='GET /version answers {"version": ...}',
            found=f"{answer.status} {answer.text}".rstrip(),
            next_step="check the address; a gateway in front of vLLM must pass /version through",
        )
    return version


def _model_names(answer: Answer) -> tuple[str, ...]:
    listed = answer.content.get("data")
    models = listed if isinstance(listed, list) else []
    return tuple(name for model in models if isinstance(model, dict) and (name := value_of(model.get("id"))))


def ask_completion(client: httpx.Client, model: str, timeout_s: float) -> Answer:
    """The answer to a real completion of two tokens. Raises httpx.HTTPError if there is none in time."""
    body = {
        "model": model,
        "prompt": list(PROBE_TOKEN_IDS),
        "max_tokens": 2,
        "temperature": 0,
        "ignore_eos": True,
    }
    return ask(client, "/v1/completions", method="POST", timeout_s=timeout_s, json=body)


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
    return ask(client, "/v1/audio/transcriptions", method="POST", timeout_s=timeout_s, data=form, files=files)


def ask_first(client: httpx.Client, model: str, serves: str, timeout_s: float) -> Answer:
    """The answer to a first real request of the kind that the model serves. Raises httpx.HTTPError."""
    if serves == "transcriptions":
        return ask_transcription(client, model, timeout_s)
    return ask_completion(client, model, timeout_s)


def is_answered(answer: Answer, serves: str) -> bool:
    """True if the model did what it serves: generated tokens, or a transcription (its text may be empty)."""
    if serves == "transcriptions":
        return answer.is_ok and isinstance(answer.content.get("text"), str)
    return generated_tokens(answer) > 0


def generated_tokens(answer: Answer) -> int:
    """How many tokens a completion says it generated; 0 for anything but a completion."""
    usage = answer.content.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if answer.is_ok and isinstance(count, int) else 0


def attach(
    url: str,
    *,
    served_model_name: str,
    serves: str = "completions",
    api_key: str | None = None,
    completion_s_max: float = COMPLETION_S_MAX,
) -> Endpoint:
    """`attach_all` for one address."""
    return attach_all(
        (url,),
        served_model_name=served_model_name,
        serves=serves,
        api_key=api_key,
        completion_s_max=completion_s_max,
    )


def attach_all(
    urls: Sequence[str],
    *,
    served_model_name: str,
    serves: str = "completions",
    api_key: str | None = None,
    completion_s_max: float = COMPLETION_S_MAX,
) -> Endpoint:
    """The endpoint behind one or more addresses, each of which named its version and model and answered a request.

    Nothing is ever stopped. `serves`: the kind of request, as a recipe says it. `api_key` is sent to the servers and
    kept nowhere. `facts` and `notes` hold what the servers state and what this machine shows of them, and the word
    unknown; `replicas` are named by their addresses. `start_s` is 0 and `installed_version` None: what somebody else
    started says nothing about either.

    Raises: UsageError if an address is no HTTP address, holds a password, or is given twice; DeployError if nobody
    answers there, it is not vLLM, it does not serve the model, it answers no request within `completion_s_max`
    seconds, or the servers are not alike.
    """
    base_urls = _different([normal_url(url) for url in urls])
    servers = [_evidence(base_url, served_model_name, serves, api_key, completion_s_max) for base_url in base_urls]
    require_alike(servers)
    return Endpoint(
        base_url=base_urls[0],
        model=served_model_name,
        reported_version=servers[0].of("version"),
        installed_version=None,
        start_s=0.0,
        log_path="",
        replica_urls=tuple(base_urls[1:]),
        replicas=tuple(Replica(each.name) for each in servers),
        facts=facts_of(servers),
        notes=notes_of(servers),
    )


def process_starts(endpoint: Endpoint, api_key: str | None = None) -> tuple[float | None, ...]:
    """When the process behind each address started, seconds since 1970; None where it does not say. Never raises."""
    starts = []
    for base_url in endpoint.base_urls:
        with open_client(base_url, api_key) as client:
            starts.append(process_start(client))
    return tuple(starts)


def require_not_restarted(
    endpoint: Endpoint, before: Sequence[float | None], api_key: str | None = None
) -> tuple[float | None, ...]:
    """`process_starts` now, if they are those of before. Raises ServerDiedError, of several ReplicaDiedError."""
    now = process_starts(endpoint, api_key)
    require_same_processes([each.name for each in endpoint.replicas], before, now)
    return now


def _evidence(
    base_url: str, served_model_name: str, serves: str, api_key: str | None, completion_s_max: float
) -> Evidence:
    with open_client(base_url, api_key) as client:
        try:
            version = ask_version(client)
            _require_model(client, served_model_name, has_key=api_key is not None)
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
        return gather(client, served_model_name, version)


def _require_model(client: httpx.Client, served_model_name: str, *, has_key: bool) -> None:
    """Refuse a server without the model. vLLM asks for its key under /v1 only: /version answers anybody."""
    answer = ask(client, "/v1/models")
    if answer.status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise DeployError(
            f"{client.base_url} asks for an API key",
            expected=f"its key in ${API_KEY_VARIABLE}",
            found="a key that it refuses" if has_key else "no key",
            next_step=f"export {API_KEY_VARIABLE} and run again; the key is sent to this address and stored nowhere",
        )
    models = _model_names(answer)
    if served_model_name not in models:
        raise DeployError(
            f"{client.base_url} does not serve {served_model_name}",
            expected=served_model_name,
            found=redacted(", ".join(models[:MODELS_SHOWN_MAX]), key_of(client)) or "no model at all",
            next_step=f"start it with --served-model-name {served_model_name}, or use another recipe",
        )


def _different(base_urls: list[str]) -> list[str]:
    """The addresses, if no two of them are one: a server counted twice would look like an even spread."""
    places: dict[tuple[str, int | None, str], str] = {}
    for base_url in base_urls:
        url = httpx.URL(base_url)
        host = "loopback" if is_loopback(url.host) else url.host
        port = url.port or (443 if url.scheme == "https" else 80)
        first = places.setdefault((host, port, url.path.rstrip("/")), base_url)
        if first is not base_url:
            raise UsageError(
                "one server is named twice",
                expected="a different server behind every address",
                found=f"{first} and {base_url}",
                next_step="name it once, or correct the port",
            )
    return base_urls


def normal_url(url: str) -> str:
    """The address without a trailing slash or `/v1`. Raises UsageError if it is no HTTP address with a host."""
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise UsageError(f"not an address: {url}", expected="http://host:port", found=str(error)) from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise UsageError(f"not an address: {url}", expected="http://host:port", found=url)
    if parsed.userinfo:
        raise UsageError(
            "an address must not hold a user or a password: addresses are stored with the results",
            expected="http://host:port",
            found=f"{parsed.scheme}://[hidden]@{parsed.host}",
            next_step=f"give a server's key in ${API_KEY_VARIABLE}, which is stored nowhere",
        )
    return str(parsed).rstrip("/").removesuffix("/v1").rstrip("/")
