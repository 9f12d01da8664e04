"""Requests are a function of the scenario: same seed, same bytes; another repeat, other prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from redline import content
from redline.datasets import materialise, skill_tasks
from redline.load.arrivals import offsets_ns
from redline.model import (
    AccuracyTarget,
    AudioPrompt,
    ChatPrompt,
    DatasetItems,
    Item,
    Offline,
    Prompt,
    RandomTokens,
    Scenario,
    TextPrompt,
    TokenPrompt,
)

ROOT = Path(__file__).parents[2]
SERVER = content.scenario(ROOT / "scenarios" / "server-short.toml")
ACCURACY = content.scenario(ROOT / "scenarios" / "accuracy-tiny.toml")


def test_the_same_seed_gives_the_same_requests() -> None:
    """Both arms of a comparison get byte-identical work."""
    due = offsets_ns(SERVER)
    assert materialise.requests(SERVER, 1, due, "a") == materialise.requests(SERVER, 1, due, "a")


def test_repeats_and_warm_up_share_no_prompt() -> None:
    """No window can be answered from what an earlier one left in the prefix cache."""
    due = offsets_ns(SERVER)
    windows = [materialise.requests(SERVER, index, due, "a") for index in range(3)]
    windows.append(materialise.requests(SERVER, 0, due, "a", warm_up=True))
    prompts = [request.prompt.token_ids for window in windows for request in window]
    assert len(set(prompts)) == len(prompts)


def test_the_workload_is_what_the_scenario_says() -> None:
    """Counts, lengths and vocabulary are the declared ones."""
    workload = SERVER.workload
    assert isinstance(workload, RandomTokens)
    made = materialise.requests(SERVER, 0, offsets_ns(SERVER), "a")
    assert len(made) == SERVER.request_count
    for request in made:
        assert len(request.prompt.token_ids) == workload.prompt_tokens
        assert min(request.prompt.token_ids) >= workload.vocabulary_first
        assert max(request.prompt.token_ids) <= workload.vocabulary_last


def test_the_hash_follows_every_part_of_the_work_but_no_salt() -> None:
    """Any change of seed, count, length or rate is another scenario; a run's salt is not."""

    def hash_of(scenario: Scenario) -> str:
        return materialise.scenario_hash(scenario, [offsets_ns(scenario)] * 2)

    changed = [
        replace(SERVER, seed=1),
        replace(SERVER, request_count=23),
        replace(SERVER, workload=replace(SERVER.workload, output_tokens=17)),
        replace(SERVER, arrivals=replace(SERVER.arrivals, rate_per_s=11.0)),
    ]
    hashes = [hash_of(scenario) for scenario in (SERVER, *changed)]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(replace(SERVER, description="other words")) == hashes[0]


def test_poisson_gaps_have_the_rate_of_the_scenario() -> None:
    """The mean of many exponential gaps is 1 / rate within four standard errors; the first gap is one too."""
    many = replace(SERVER, request_count=20_000)
    due = offsets_ns(many)
    assert list(due) == sorted(due)
    mean_s = due[-1] / 1e9 / many.request_count
    assert mean_s == pytest.approx(1 / 12, abs=4 / 12 / 20_000**0.5)
    assert due[0] > 0


def test_the_skill_test_set_is_the_published_one() -> None:
    """First items of the shipped model's test set, frozen: an edit of the generator would be another test."""
    items = skill_tasks.test_set(2)
    assert [item.prompt[:2] for item in items] == ["R:", "R:", "S:", "S:", "C:", "C:", "U:", "U:", "A:", "A:"]
    assert items[0].answer == items[0].prompt[2:-1][::-1]
    assert items[2].answer == "".join(sorted(items[2].prompt[2:-1]))
    first, second = items[8].prompt[2:-1].split("+")
    assert int(items[8].answer[::-1]) == int(first) + int(second)


def test_an_accuracy_request_carries_its_answer() -> None:
    """Scored requests start with the begin token, may stop by themselves and know the right answer."""
    made = materialise.requests(ACCURACY, 0, offsets_ns(ACCURACY), "a")
    assert made[0].prompt.token_ids[0] == skill_tasks.BEGIN_TOKEN_ID
    assert not made[0].ignore_eos
    assert made[0].expected
    with pytest.raises(ValueError, match="makes 1000 items"):
        materialise.requests(replace(ACCURACY, request_count=3), 0, (0, 0, 0), "a")


# --- items of a data set ----------------------------------------------------------------------------------------

PROMPTS: tuple[Prompt, ...] = (
    TokenPrompt((1, 2)),
    TextPrompt("one"),
    ChatPrompt((("user", "one"),), ("data:,A",)),
    AudioPrompt(b"RIFF"),
)
ITEMS = tuple(Item(f"item {index}", prompt, f"answer {index}") for index, prompt in enumerate(PROMPTS))
ASKED = replace(
    SERVER,
    arrivals=Offline(2),
    workload=DatasetItems("set", 4, 16, order="sequential"),
    request_count=4,
    repeat_count=1,
    discard_count=0,
)
SCORED = replace(ASKED, accuracy=AccuracyTarget({"rouge1": 1.0}, 0.99, "a test"))
DUE = (0,) * 4


def hash_with(prompt: Prompt, scenario: Scenario = ASKED) -> str:
    """The hash of the work with another prompt in the first place."""
    return materialise.scenario_hash(scenario, [DUE], (replace(ITEMS[0], prompt=prompt), *ITEMS[1:]))


def test_items_are_asked_in_the_order_in_which_they_are_given() -> None:
    """Warm-up windows ask the same; an answer that is not scored is not sent along."""
    for warm_up in (False, True):
        made = materialise.requests(ASKED, 0, DUE, "salt", warm_up=warm_up, items=ITEMS)
        assert [request.prompt for request in made] == list(PROMPTS)
        assert {request.expected for request in made} == {None}
    scored = materialise.requests(SCORED, 0, DUE, "salt", items=ITEMS)
    assert [request.expected for request in scored] == ["answer 0", "answer 1", "answer 2", "answer 3"]


@pytest.mark.parametrize("items", [(), ITEMS[:3]], ids=["none", "too few"])
def test_there_is_one_item_for_each_request(items: tuple[Item, ...]) -> None:
    """Else a request would have no prompt."""
    with pytest.raises(ValueError, match=f"{len(items)} items of data set set for 4 requests"):
        materialise.requests(ASKED, 0, DUE, "salt", items=items)
    with pytest.raises(ValueError, match="items of data set set"):
        materialise.scenario_hash(ASKED, [DUE], items)


def test_the_hash_tells_prompts_apart_by_kind_and_content() -> None:
    """A text, a chat of that text, speech in another language, another picture: each is other work."""
    prompts: list[Prompt] = [
        TokenPrompt((1, 2)),
        TokenPrompt((2, 1)),
        TextPrompt("one"),
        TextPrompt("[1, 2]"),
        ChatPrompt((("user", "one"),)),
        ChatPrompt((("system", "one"),)),
        ChatPrompt((("user", "one"),), ("data:,A",)),
        ChatPrompt((("user", "one"),), ("data:,B",)),
        AudioPrompt(b"one"),
        AudioPrompt(b"two"),
        AudioPrompt(b"one", language="de"),
    ]
    assert len({hash_with(prompt) for prompt in prompts}) == len(prompts)


def test_the_hash_follows_references_only_where_they_are_scored() -> None:
    """Names of items never count."""
    renamed = tuple(replace(item, key=f"{item.key}!") for item in ITEMS)
    other = tuple(replace(item, reference="x") for item in ITEMS)
    asked, scored = (
        [materialise.scenario_hash(scenario, [DUE], items) for items in (ITEMS, renamed, other)]
        for scenario in (ASKED, SCORED)
    )
    assert len(set(asked)) == 1
    assert scored[0] == scored[1] != scored[2]
