"""From the files that a user supplies to a set that can be asked: read, counted, told apart, hashed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from redline.datasets import cnn_dailymail, gpt_oss, librispeech, open_orca, shopify
from redline.datasets.fields import refuse_duplicates
from redline.datasets.item_table import digest_of
from redline.datasets.prepared import TEMPLATE_SOURCE, PreparedSet, definition_digest
from redline.datasets.reading import Read, Reading
from redline.datasets.sources import checked_hashes
from redline.datasets.templates import Templates
from redline.datasets.tokenization import PromptTokenizer
from redline.errors import ContentError
from redline.model import Dataset

READERS: Mapping[str, Callable[[Reading, Path], Read]] = {
    "cnn-dailymail": cnn_dailymail.read,
    "open-orca": open_orca.read,
    "librispeech": librispeech.read,
    "shopify": shopify.read,
    "gpt-oss": gpt_oss.read,
}


def prepared_from(
    definition: Dataset, source: Path, templates: Templates, tokenizer: PromptTokenizer | None
) -> PreparedSet:
    """The data set that the files under `source` hold, in their order.

    Raises ContentError if they are not the whole set that the definition describes: another number of items, columns
    that are missing, a row that cannot be used, an item named twice, a file with another SHA-256.
    """
    read = READERS[definition.form](Reading(definition, templates, tokenizer), source)
    if len(read.items) != definition.item_count:
        raise ContentError(
            f"{source}: not the whole of data set {definition.name}",
            expected=f"{definition.item_count} items",
            found=f"{len(read.items)} items",
            next_step=f"give the unchanged set: {definition.source}",
        )
    refuse_duplicates([item.key for item in read.items], str(source))
    source_files = checked_hashes(definition, read.paths)
    return PreparedSet(
        definition.name,
        read.items,
        digest_of(read.items),
        source_files | template_source(templates),
        tokenizer.sha256 if tokenizer else "",
        definition_digest(definition),
    )


def template_source(templates: Templates) -> dict[str, str]:
    """The wording of the prompt as one of the sources of a set, empty where there is none."""
    return {f"{TEMPLATE_SOURCE}{templates.family}": templates.digest} if templates.family else {}
