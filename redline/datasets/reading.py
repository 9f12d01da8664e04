"""What every reader is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from redline.datasets.fields import Row
from redline.datasets.rows import rows_of
from redline.datasets.sources import files_of
from redline.datasets.templates import Templates
from redline.datasets.tokenization import PromptTokenizer
from redline.errors import ContentError
from redline.model import Dataset, Item, Prompt, TokenPrompt


@dataclass(frozen=True, slots=True)
class Reading:
    """A definition with what reads it: its prompt templates, and a tokenizer if there is one."""

    definition: Dataset
    templates: Templates
    tokenizer: PromptTokenizer | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """Items in the order of their files, and every file that they were made of."""

    items: tuple[Item, ...]
    paths: tuple[Path, ...]


def read_rows(
    reading: Reading,
    source: Path,
    patterns: Sequence[str],
    *,
    prompt_of: Callable[[Reading, Row], Prompt],
    reference_names: Sequence[str],
) -> Read:
    """An item per row of the files: its `id` if it has one, its prompt, and the text under the first of these names.

    Raises ContentError; it names the first bad row.
    """
    paths = files_of(source, patterns)
    rows = [row for path in paths for row in rows_of(path)]
    items = tuple(
        Item(
            key=row.key("id", f"{index:05d}"),
            prompt=prompt_of(reading, row),
            reference=row.text(*reference_names, empty=False),
        )
        for index, row in enumerate(rows)
    )
    return Read(items, paths)


def within_bound(row: Row, definition: Dataset, token_ids: Sequence[int]) -> TokenPrompt:
    """The prompt of these token ids. Raises ContentError if it is empty or longer than the definition allows."""
    bound = definition.prompt_tokens_max
    if not token_ids:
        raise row.wrong("the prompt is empty", "at least one token", "no tokens")
    if bound and len(token_ids) > bound:
        raise row.wrong("the prompt is too long", f"at most {bound} tokens", f"{len(token_ids)} tokens")
    return TokenPrompt(tuple(token_ids))


def needs_tokenizer(definition: Dataset, why: str) -> ContentError:
    """The error of a data set whose text cannot become token ids."""
    return ContentError(
        f"data set {definition.name} needs its model's tokenizer: {why}",
        expected="the tokenizer.json that lies with the model's weights",
        found="no tokenizer",
        next_step=f"redline datasets prepare {definition.name} --from PATH --tokenizer PATH",
    )
