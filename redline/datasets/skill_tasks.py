"""The tiny skilled model's tasks: reverse, sort, copy, shift and add; every answer is a function of its prompt."""

from __future__ import annotations

import random
from dataclasses import dataclass

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ("<pad>", "<s>", "</s>", *LETTERS, *"0123456789", *"=+:", *"RSCAU")
TOKEN_IDS = {token: index for index, token in enumerate(VOCABULARY)}
BEGIN_TOKEN_ID = TOKEN_IDS["<s>"]
TASKS = "RSCUA"
WORD_LENGTH_MIN, WORD_LENGTH_MAX = 3, 8
ADDEND_DIGITS_MAX = 4
TEST_SET_SEED = 12345


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its only right answer; `key` is stable across builds and runs."""

    key: str
    prompt: str
    answer: str


def sample(rng: random.Random, task: str | None = None) -> tuple[str, str]:
    """(prompt, answer) of one task: R reverse, S sort, C copy, U shift each letter by one, A add.

    Sums are written least digit first, the order in which a causal model can compute them. The order of
    random calls is part of the test set's identity: changing it changes every item.
    """
    chosen = task or rng.choice(TASKS)
    if chosen == "A":
        digits = rng.randint(1, ADDEND_DIGITS_MAX)
        low = 10 ** (digits - 1) if digits > 1 else 0
        first, second = (rng.randrange(low, 10**digits) for _ in range(2))
        return f"A:{first}+{second}=", str(first + second)[::-1]
    word = "".join(rng.choice(LETTERS) for _ in range(rng.randint(WORD_LENGTH_MIN, WORD_LENGTH_MAX)))
    match chosen:
        case "R":
            answer = word[::-1]
        case "S":
            answer = "".join(sorted(word))
        case "C":
            answer = word
        case "U":
            answer = "".join(LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)] for letter in word)
        case _:
            raise ValueError(f"unknown task {chosen!r}, expected one of {', '.join(TASKS)}")
    return f"{chosen}:{word}=", answer


def test_set(items_per_task: int, seed: int = TEST_SET_SEED) -> tuple[Item, ...]:  # noqa: PT028 - not a pytest test
    """`items_per_task` items of each task, task by task; the same seed gives the same items."""
    rng = random.Random(seed)
    drawn = [sample(rng, task) for task in TASKS for _ in range(items_per_task)]
    return tuple(
        Item(key=f"{index:05d} {prompt}", prompt=prompt, answer=answer) for index, (prompt, answer) in enumerate(drawn)
    )


def encode(text: str) -> tuple[int, ...]:
    """Token ids of a text, one per character, without the begin token. Raises KeyError for a foreign character."""
    return tuple(TOKEN_IDS[character] for character in text)
