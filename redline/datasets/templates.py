"""Prompt templates: `datasets/prompts.json`, a text for each key in which {name} stands for a field of the item."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redline.errors import ContentError
from redline.model import digest

PLACE = re.compile(r"\{(\w+)\}")


def filled(template: str, fields: Mapping[str, str]) -> str:
    """The template with each {name} replaced once; what is put in is not looked at again. Raises KeyError."""
    return PLACE.sub(lambda match: fields[match[1]], template)


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates of one family: `gptj`, or `qwen3-vl` with `qwen3-vl-system` and `qwen3-vl-user`.

    `texts`: by key, values that are no text (a schema) as indented JSON.
    """

    family: str
    texts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """16 hex digits over all of them: another wording makes another data set."""
        return digest(dict(self.texts))

    def text(self, part: str = "") -> str:
        """The family's template, or its part: `system`, `no-system`. Raises ContentError if there is none."""
        key = f"{self.family}-{part}" if part else self.family
        if key in self.texts:
            return self.texts[key]
        raise ContentError(
            f"there is no prompt template {key!r}",
            expected="a key of datasets/prompts.json",
            found=", ".join(sorted(self.texts)) or "none of that family",
            next_step="correct 'prompt' in the data set's definition",
        )

    def fill(self, fields: Mapping[str, str], part: str = "") -> str:
        """A template with an item's fields in it. Raises ContentError if it asks for another field."""
        try:
            return filled(self.text(part), fields)
        except KeyError as error:
            raise ContentError(
                f"the prompt template of {self.family!r} asks for a field that its data does not have",
                expected=f"fields {', '.join(sorted(fields))}",
                found=f"{{{error.args[0]}}}",
                next_step="correct datasets/prompts.json, or 'prompt' in the data set's definition",
            ) from error


def read_templates(path: Path, family: str) -> Templates:
    """The templates of a family from datasets/prompts.json; none if `family` is empty. Raises ContentError."""
    if not family:
        return Templates("", {})
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        found = {key: value for key, value in raw.items() if key == family or key.startswith(f"{family}-")}
    except (OSError, ValueError, AttributeError) as error:
        raise ContentError(
            f"{path}: no prompt templates", expected="a JSON object", found=str(error)[:200], next_step="mend the file"
        ) from error
    texts = {key: value if isinstance(value, str) else json.dumps(value, indent=2) for key, value in found.items()}
    return Templates(family, texts)
