"""What each stand-in has to know: prompts in the form in which Redline sends them, and the answers to them.

Read from datasets/prompts.json and datasets/stand-in; no PyTorch is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
STAND_IN = DATASETS / "stand-in"
REASONING_EFFORT = "high"
"""MLPerf's for accuracy. Source: its reference implementation of gpt-oss-120b, README."""


@dataclass(frozen=True, slots=True)
class TextItem:
    """A completion: the prompt's text, and the answer's."""

    item_id: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class PictureItem:
    """A chat about a picture: the system's turn, the user's, and the answer."""

    item_id: str
    system: str
    user: str
    image: Path
    answer: str


@dataclass(frozen=True, slots=True)
class SpeechItem:
    """An utterance, 16 kHz mono WAV, and what is said in it."""

    item_id: str
    audio: Path
    answer: str


def render(template: str, fields: Mapping[str, object]) -> str:
    """The template with each {name} replaced once; what is put in is not looked at again."""
    return re.sub(r"\{(\w+)\}", lambda match: str(fields[match[1]]), template)


def prompts() -> dict[str, Any]:
    """The templates of datasets/prompts.json."""
    templates: dict[str, Any] = json.loads((DATASETS / "prompts.json").read_text(encoding="utf-8"))
    return templates


def rows(name: str) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file of datasets/stand-in."""
    return [json.loads(line) for line in (STAND_IN / name).read_text(encoding="utf-8").splitlines()]


def text_items(name: str) -> list[TextItem]:
    """What a stand-in for text (`gptj`, `llama2`, `gpt-oss`) has to know."""
    match name:
        case "gptj":
            return _summaries(prompts()["gptj"])
        case "llama2":
            return _summaries(prompts()["llama3.1-8b"]) + _questions()
        case "gpt-oss":
            return _reasoning()
        case _:
            raise ValueError(f"no text items for {name!r}")


def _summaries(template: str) -> list[TextItem]:
    return [TextItem(row["id"], render(template, row), row["highlights"]) for row in rows("articles.jsonl")]


def _questions() -> list[TextItem]:
    templates = prompts()
    found = []
    for row in rows("open_orca.jsonl"):
        template = templates["llama2-70b" if row["system_prompt"] else "llama2-70b-no-system"]
        found.append(TextItem(row["id"], render(template, row), row["response"]))
    return found


def _reasoning() -> list[TextItem]:
    template = prompts()["gpt-oss"]
    return [
        TextItem(row["id"], render(template, row | {"reasoning_effort": REASONING_EFFORT}), row["answer"])
        for row in rows("reasoning.jsonl")
    ]


def picture_items() -> list[PictureItem]:
    """What the stand-in for Qwen3-VL has to know: the JSON object that MLPerf's reference prompt asks for."""
    templates = prompts()
    schema = json.dumps(templates["qwen3-vl-schema"], indent=2)
    system = render(templates["qwen3-vl-system"], {"schema": schema})
    found = []
    for row in rows("products.jsonl"):
        answer = {name: row[f"ground_truth_{name}"] for name in ("category", "brand", "is_secondhand")}
        user = render(templates["qwen3-vl-user"], row)
        found.append(PictureItem(row["id"], system, user, STAND_IN / row["image"], json.dumps(answer)))
    return found


def speech_items() -> list[SpeechItem]:
    """What the stand-in for Whisper has to know."""
    folder = STAND_IN / "speech"
    manifest = json.loads((folder / "dev-all-repack.json").read_text(encoding="utf-8"))
    found = []
    for entry in manifest:
        name = entry["files"][0]["fname"]
        found.append(SpeechItem(name, folder / name, entry["transcript"]))
    return found
