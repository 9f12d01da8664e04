"""From a scenario to the exact requests of one repeat. Pure: seeds in, values out, hashed before the run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from redline.datasets import skill_tasks
from redline.model import (
    AudioPrompt,
    ChatPrompt,
    DatasetItems,
    Item,
    Prompt,
    RandomTokens,
    Request,
    Scenario,
    SkillTasks,
    TextPrompt,
    TokenPrompt,
    digest,
    in_flight_max,
)


def _stream(scenario: Scenario, purpose: str, repeat_index: int) -> random.Random:
    """An independent generator per purpose and repeat, from the scenario's one root seed.

    Source: hashing the purpose into the seed keeps the streams apart when one of them draws more numbers.
    """
    text = f"{scenario.seed}/{purpose}/{repeat_index}"
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def requests(
    scenario: Scenario,
    repeat_index: int,
    offsets_ns: Sequence[int],
    salt: str,
    *,
    warm_up: bool = False,
    items: Sequence[Item] = (),
) -> tuple[Request, ...]:
    """The requests of one repeat, shape (request_count,), in order of their due times.

    Warm-up requests have the same shape and different prompts; those of a data set have its own prompts, in the
    same order in every repeat. The salt of a repeat keeps its prompts out of the server's prefix cache of every
    other repeat. `items`: of a data set, one per request, in the order in which they are asked.
    Raises ValueError if there is not one offset, and one item of a data set, per request.
    """
    if len(offsets_ns) != scenario.request_count:
        raise ValueError(f"{len(offsets_ns)} offsets for {scenario.request_count} requests")
    match scenario.workload:
        case RandomTokens() as workload:
            purpose = "warm-up prompts" if warm_up else "prompts"
            return _random_tokens(workload, _stream(scenario, purpose, repeat_index), offsets_ns, salt)
        case SkillTasks() as workload:
            return _skill_tasks(workload, scenario, offsets_ns, salt)
        case DatasetItems() as workload:
            return _dataset_items(workload, scenario, offsets_ns, salt, items)


def _random_tokens(
    workload: RandomTokens, rng: random.Random, offsets_ns: Sequence[int], salt: str
) -> tuple[Request, ...]:
    return tuple(
        Request(
            index=index,
            prompt=TokenPrompt(
                tuple(
                    rng.randint(workload.vocabulary_first, workload.vocabulary_last)
                    for _ in range(workload.prompt_tokens)
                )
            ),
            output_tokens=workload.output_tokens,
            ignore_eos=True,
            offset_ns=offset_ns,
            cache_salt=salt,
        )
        for index, offset_ns in enumerate(offsets_ns)
    )


def _skill_tasks(workload: SkillTasks, scenario: Scenario, offsets_ns: Sequence[int], salt: str) -> tuple[Request, ...]:
    items = skill_tasks.test_set(workload.items_per_task)
    if len(items) != scenario.request_count:
        raise ValueError(
            f"request_count is {scenario.request_count}, but items_per_task = {workload.items_per_task} "
            f"makes {len(items)} items"
        )
    return tuple(
        Request(
            index=index,
            prompt=TokenPrompt((skill_tasks.BEGIN_TOKEN_ID, *skill_tasks.encode(item.prompt))),
            output_tokens=workload.output_tokens_max,
            ignore_eos=False,
            offset_ns=offset_ns,
            cache_salt=salt,
            expected=item.answer,
        )
        for index, (item, offset_ns) in enumerate(zip(items, offsets_ns, strict=True))
    )


def _dataset_items(
    workload: DatasetItems, scenario: Scenario, offsets_ns: Sequence[int], salt: str, items: Sequence[Item]
) -> tuple[Request, ...]:
    if len(items) != len(offsets_ns):
        raise ValueError(f"{len(items)} items of data set {workload.dataset} for {len(offsets_ns)} requests")
    return tuple(
        Request(
            index=index,
            prompt=item.prompt,
            output_tokens=workload.output_tokens_max,
            ignore_eos=False,
            offset_ns=offset_ns,
            cache_salt=salt,
            expected=item.reference if scenario.measures_accuracy else None,
            output_tokens_min=workload.output_tokens_min,
            temperature=workload.temperature,
            top_p=workload.top_p,
            keep_special_tokens=workload.keep_special_tokens,
        )
        for index, (item, offset_ns) in enumerate(zip(items, offsets_ns, strict=True))
    )


def item_key(request: Request) -> str:
    """What a report calls a skill task: its place and its prompt."""
    assert isinstance(request.prompt, TokenPrompt)  # skill tasks are sent as token ids
    prompt = "".join(skill_tasks.VOCABULARY[token_id] for token_id in request.prompt.token_ids[1:])
    return f"{request.index:05d} {prompt}"


def scenario_hash(scenario: Scenario, offsets_ns_by_repeat: Sequence[Sequence[int]], items: Sequence[Item] = ()) -> str:
    """The scenario's identity, 16 hex digits: its materialised prompts, lengths and due times, no salts.

    `items`: as in `requests`. They are the same in every repeat, and so are taken once.
    """
    prompts = [_material(item.prompt) for item in items]
    material = [
        [
            [
                prompts[index] if prompts else _material(request.prompt),
                request.output_tokens,
                request.ignore_eos,
                request.offset_ns,
                request.expected,
            ]
            for index, request in enumerate(requests(scenario, repeat_index, offsets_ns, salt="", items=items))
        ]
        for repeat_index, offsets_ns in enumerate(offsets_ns_by_repeat)
    ]
    drawn: list[object] = []
    if isinstance(scenario.workload, DatasetItems):
        drawn = [scenario.workload.output_tokens_min, scenario.workload.temperature, scenario.workload.top_p]
        drawn += ["special tokens kept"] if scenario.workload.keep_special_tokens else []
    return digest([scenario.arrivals.kind, in_flight_max(scenario.arrivals), material, *drawn])


def _material(prompt: Prompt) -> object:
    """A prompt as JSON: token ids as they are, anything else with its kind, uploads by their SHA-256."""
    match prompt:
        case TokenPrompt(token_ids=token_ids):
            return token_ids
        case AudioPrompt(content=content, language=language):
            return ["audio", hashlib.sha256(content).hexdigest(), language]
        case TextPrompt(text=text):
            return ["text", text]
        case ChatPrompt(turns=turns, image_urls=image_urls):
            return ["chat", turns, [hashlib.sha256(url.encode()).hexdigest() for url in image_urls]]
