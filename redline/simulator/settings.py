"""What the stand-in does and when: timing, failures and what it serves. Frozen, validated, changeable at run time.

As JSON it is an object of three objects, each of them and each key optional:

    {"timing": {"ttft_s": 0.02, "jitter_share": 0.1},
     "failures": {"stall": 0.01, "crash": {"after_requests": 500}},
     "serving": {"model": "tiny", "version": "0.32.0"}}

A failure is a `Chance`: a bare number is its share; `after_requests` lets that many requests go by first.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redline.errors import ContentError

DURATION_S_MAX = 3600.0
COUNT_MAX = 1_000_000_000
HTTP_ERROR_STATUSES = (429, 500, 503)
TEXT_LENGTH_MAX = 200
KEEP_ALIVE_S = 5.0
"""Source: uvicorn's `--timeout-keep-alive`, which vLLM leaves at 5 s."""

_Part = TypeVar("_Part")


def _check_share(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ContentError(f"{name} is not a share", expected="a number in [0, 1]", found=str(value))


def _check_duration(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= DURATION_S_MAX):
        raise ContentError(
            f"{name} is no possible duration", expected=f"seconds in [0, {DURATION_S_MAX:.0f}]", found=str(value)
        )


def _check_count(name: str, value: int, least: int, most: int = COUNT_MAX) -> None:
    if not least <= value <= most:
        raise ContentError(f"{name} is out of range", expected=f"an integer in [{least}, {most}]", found=str(value))


def _check_text(name: str, value: str, least: int) -> None:
    if not (least <= len(value) <= TEXT_LENGTH_MAX and value.isprintable()):
        raise ContentError(
            f"{name} is no possible text",
            expected=f"{least} to {TEXT_LENGTH_MAX} printable characters",
            found=repr(value[: TEXT_LENGTH_MAX + 1]),
        )


@dataclass(frozen=True, slots=True)
class Chance:
    """Which generation requests a failure happens to: a share in [0, 1] of those after the first `after_requests`.

    Requests are counted from the last change of the failures. `Chance(after_requests=100)` is every request
    after the first hundred.
    """

    share: float = 1.0
    after_requests: int = 0

    def __post_init__(self) -> None:
        _check_share("share", self.share)
        _check_count("after_requests", self.after_requests, 0)


NEVER = Chance(share=0.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """When chunks are due. The defaults are fixed timers: the first after 50 ms, the others 10 ms apart.

    Source of the names: TTFT and ITL as in docs/glossary.md, counted from the last byte of the request.

    ttft_s: first chunk after the request was read and a place was free.
    itl_s: from one chunk to the next.
    ttft_s_per_prompt_token: added to the first chunk for each token of the prompt.
    itl_s_per_running: added to each gap for each running request: more load, slower tokens.
    running_max: further requests wait for a place (vLLM's --max-num-seqs); 0 is no limit.
    lockstep: all running requests step together, as an engine does; a request joins at the first step
        that starts after its TTFT.
    tokens_per_chunk: tokens in one chunk, as with speculative decoding or --stream-interval.
    jitter_share: each wait is multiplied by a uniform draw from [1 - share, 1 + share]; in lockstep the step is.
    seed: of the jitter and of the failures' draws.
    """

    ttft_s: float = 0.05
    itl_s: float = 0.01
    ttft_s_per_prompt_token: float = 0.0
    itl_s_per_running: float = 0.0
    running_max: int = 0
    lockstep: bool = False
    tokens_per_chunk: int = 1
    jitter_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s", "ttft_s_per_prompt_token", "itl_s_per_running"):
            _check_duration(name, getattr(self, name))
        _check_count("running_max", self.running_max, 0)
        _check_count("tokens_per_chunk", self.tokens_per_chunk, 1, 1000)
        _check_share("jitter_share", self.jitter_share)
        _check_count("seed", self.seed, 0)
        if self.lockstep and self.itl_s + self.itl_s_per_running <= 0:
            raise ContentError("a lockstep engine needs a step", expected="itl_s above 0", found=f"{self.itl_s}")


@dataclass(frozen=True, slots=True)
class Failures:
    """What goes wrong, and for which requests. Nothing by default. The first that applies, in this order, is it.

    crash: the process ends with exit code 1 when the request has been read.
    lost: the connection is closed without an answer.
    reset_early: the connection is reset (RST) without an answer.
    hang: the request is read and never answered; the connection stays open.
    http_error: answered with `http_error_status` (429, 500 or 503).
    garbage: answered with bytes that are not HTTP, then closed.
    reset: the connection is reset (RST) in the middle of the answer.
    truncate: the connection is closed in the middle of the stream, without [DONE].
    stall: the stream stops in the middle; the connection stays open.
    error_chunk: an `{"error": ...}` event in the middle of the 200 stream, then [DONE].
    garbage_chunk: one event in the middle of the stream is not JSON; the rest follows.
    short_output: half of the tokens asked for, finish_reason "stop".
    keep_alive_comments: `: keep-alive` comments before the first chunk and in the middle; the answer is whole.

    not_ready_s: /health and everything else answer 503 for so long after the failures were set.
    listen_after_s: connections are refused for so long after the start; only at the start.
    wrong_version: what /version says instead of the truth, "" for the truth.
    """

    crash: Chance = NEVER
    lost: Chance = NEVER
    reset_early: Chance = NEVER
    hang: Chance = NEVER
    http_error: Chance = NEVER
    garbage: Chance = NEVER
    reset: Chance = NEVER
    truncate: Chance = NEVER
    stall: Chance = NEVER
    error_chunk: Chance = NEVER
    garbage_chunk: Chance = NEVER
    short_output: Chance = NEVER
    keep_alive_comments: Chance = NEVER
    http_error_status: int = 500
    not_ready_s: float = 0.0
    listen_after_s: float = 0.0
    wrong_version: str = ""

    def __post_init__(self) -> None:
        _check_duration("not_ready_s", self.not_ready_s)
        _check_duration("listen_after_s", self.listen_after_s)
        _check_text("wrong_version", self.wrong_version, 0)
        if self.http_error_status not in HTTP_ERROR_STATUSES:
            expected = ", ".join(map(str, HTTP_ERROR_STATUSES))
            raise ContentError(
                "http_error_status is not one of those offered", expected=expected, found=str(self.http_error_status)
            )

    @property
    def chances(self) -> tuple[tuple[str, Chance], ...]:
        """(name, chance) of every failure that can happen, in the order in which they are tried."""
        pairs = ((entry.name, getattr(self, entry.name)) for entry in dataclasses.fields(self))
        return tuple((name, value) for name, value in pairs if isinstance(value, Chance) and value.share > 0)


@dataclass(frozen=True, slots=True)
class Serving:
    """What it says it serves.

    eos_after_tokens: a request without `ignore_eos` ends with "stop" after so many tokens; 0 is never.
    output_tokens_default: of a chat or transcription that names no maximum (vLLM would fill the context).
    prefix_cache_hit_share: of each prompt's tokens, counted as hits in /metrics; nothing becomes faster.
    keep_alive_s: an idle connection is closed after so long.
    """

    model: str = "tiny"
    version: str = "0.32.0"
    context_tokens_max: int = 32768
    output_tokens_default: int = 32
    eos_after_tokens: int = 0
    prefix_cache_hit_share: float = 0.0
    keep_alive_s: float = KEEP_ALIVE_S

    def __post_init__(self) -> None:
        _check_text("model", self.model, 1)
        _check_text("version", self.version, 1)
        _check_count("context_tokens_max", self.context_tokens_max, 2, 10_000_000)
        _check_count("output_tokens_default", self.output_tokens_default, 1)
        _check_count("eos_after_tokens", self.eos_after_tokens, 0)
        _check_share("prefix_cache_hit_share", self.prefix_cache_hit_share)
        _check_duration("keep_alive_s", self.keep_alive_s)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, at the start or by `POST /simulator/settings`."""

    timing: Timing = field(default_factory=Timing)
    failures: Failures = field(default_factory=Failures)
    serving: Serving = field(default_factory=Serving)


def parse_settings(content: object, base: Settings | None = None) -> Settings:
    """`base` with what a JSON object names replaced. Raises ContentError, which names the key and the known ones."""
    start = base or Settings()
    sections = _object("the settings", content)
    _check_keys("the settings", sections, start)
    parts = {name: _replaced(name, getattr(start, name), values) for name, values in sections.items()}
    return dataclasses.replace(start, **parts)


def parse_settings_text(text: str | bytes, base: Settings | None = None) -> Settings:
    """The same of JSON text. Raises ContentError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ContentError("the settings are not JSON", expected='{"timing": {...}}', found=str(error)) from error
    return parse_settings(content, base)


def settings_json(settings: Settings) -> str:
    """JSON that `parse_settings_text` reads back as the same settings."""
    return json.dumps(dataclasses.asdict(settings))


def _replaced(section: str, part: _Part, content: object) -> _Part:
    """A section with some of its values replaced."""
    values = _object(section, content)
    _check_keys(section, values, part)
    converted = {name: _converted(f"{section}.{name}", getattr(part, name), value) for name, value in values.items()}
    try:
        return dataclasses.replace(part, **converted)  # type: ignore[type-var] # always one of the dataclasses above
    except ContentError as error:
        error.problem = f"{section}: {error.problem}"
        raise


def _converted(name: str, present: object, value: object) -> object:
    """A JSON value as the type that the present value has."""
    if isinstance(present, Chance):
        return _chance(name, value)
    wanted = type(present)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ContentError(f"{name} has the wrong type", expected=wanted.__name__, found=json.dumps(value)[:80])
    return value


def _chance(name: str, value: object) -> Chance:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Chance(share=float(value))
    return _replaced(name, Chance(), value)


def _object(name: str, content: object) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ContentError(f"{name}: not a JSON object", expected="{...}", found=json.dumps(content)[:80])
    return content


def _check_keys(name: str, content: Mapping[str, object], part: Any) -> None:
    known = [entry.name for entry in dataclasses.fields(part)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ContentError(
            f"{name}: unknown key", expected=f"one of {', '.join(known)}", found=", ".join(unknown)[:200]
        )
