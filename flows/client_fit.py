"""Does the load client have room for a scenario? Estimated from its prompts, before anything is installed or started.

The client counts again when a window begins, with every byte at hand and the servers running: this only refuses early
what could not fit then either.
"""

from __future__ import annotations

import resource
import shutil
import tempfile

from flows.workload import Work
from redline.errors import LoadError, UsageError
from redline.load import bounds
from redline.model import (
    AudioPrompt,
    ChatPrompt,
    DatasetItems,
    Item,
    Prompt,
    RandomTokens,
    SkillTasks,
    TextPrompt,
    TokenPrompt,
    in_flight_max,
)

TOKEN_ID_BYTES = 6
"""A token id in JSON with its comma; vocabularies of today have ids of up to six digits."""

SKILL_TASK_TOKENS = 32


def client_needs(work: Work) -> bounds.Needs:
    """What one window of a scenario takes of the client: prompts as they are sent, answers as long as they may be."""
    scenario = work.scenario
    payload_bytes, output_tokens = _sizes(work)
    bound = in_flight_max(scenario.arrivals)
    return bounds.needs_of(payload_bytes, scenario.request_count, output_tokens * scenario.request_count, bound)


def require_room(work: Work) -> None:
    """Refuse a scenario for which the client has no room here. Raises UsageError: what it takes, and what helps."""
    scenario = work.scenario
    _, descriptor_limit = resource.getrlimit(resource.RLIMIT_NOFILE)  # the client raises its own to the hard one
    try:
        bounds.require_fit(
            client_needs(work),
            memory_bytes=bounds.memory_available_bytes(),
            disk_bytes=shutil.disk_usage(tempfile.gettempdir()).free,
            descriptor_limit=descriptor_limit,
            in_flight_max=in_flight_max(scenario.arrivals),
        )
    except LoadError as error:
        raise UsageError(
            f"scenario {scenario.name} does not fit this machine: {error.problem}",
            expected=error.expected,
            found=f"{error.found}, estimated from {scenario.request_count} requests",
            next_step=f"measure a shorter form of it (`redline scenarios` lists them), or {error.next_step}",
        ) from error


def _sizes(work: Work) -> tuple[int, int]:
    """(bytes of all prompts of a window, the most tokens of an answer)."""
    count, workload = work.scenario.request_count, work.scenario.workload
    match workload:
        case RandomTokens():
            return count * workload.prompt_tokens * TOKEN_ID_BYTES, workload.output_tokens
        case SkillTasks():
            return count * SKILL_TASK_TOKENS * TOKEN_ID_BYTES, workload.output_tokens_max
        case DatasetItems():
            return _items_bytes(work.items), workload.output_tokens_max


def _items_bytes(items: tuple[Item, ...]) -> int:
    """Bytes of all prompts as they are sent; an item that is asked often is looked at once."""
    known: dict[int, int] = {}
    total = 0
    for item in items:
        place = id(item)
        if place not in known:
            known[place] = _prompt_bytes(item.prompt)
        total += known[place]
    return total


def _prompt_bytes(prompt: Prompt) -> int:
    match prompt:
        case TokenPrompt(token_ids=token_ids):
            return len(token_ids) * TOKEN_ID_BYTES
        case TextPrompt(text=text):
            return len(text.encode())
        case ChatPrompt(turns=turns, image_urls=image_urls):
            return sum(len(text.encode()) for _, text in turns) + sum(map(len, image_urls))
        case AudioPrompt(content=content):
            return len(content)
