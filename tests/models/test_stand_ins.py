"""What the stand-ins learn: the committed sets are whole, say whose they are, and their references are right."""

from __future__ import annotations

import json
import re
import struct
import wave
from collections import defaultdict
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.stand_ins import items
from redline import content
from redline.datasets.picture_file import data_url
from redline.datasets.prepare import prepared_from
from redline.datasets.prepared import PreparedSet
from redline.datasets.templates import filled, read_templates
from redline.datasets.tokenization import read_tokenizer
from redline.model import ChatPrompt, TokenPrompt

CHECKOUT = Path(__file__).resolve().parents[2]
STAND_IN = CHECKOUT / "datasets" / "stand-in"
NAMES = ("gptj", "llama2", "gpt-oss", "whisper", "qwen3-vl")
TEXT_NAMES = ("gptj", "llama2", "gpt-oss")


def _words(text: str) -> int:
    return len(text.split())


def test_articles_have_the_lengths_that_were_asked_for():
    """24 passages of 60 to 150 words, each with a summary of 8 to 30 that no other one has."""
    rows = items.rows("articles.jsonl")
    assert len(rows) == len({row["id"] for row in rows}) == len({row["highlights"] for row in rows}) == 24
    assert all(60 <= _words(row["article"]) <= 150 and 8 <= _words(row["highlights"]) <= 30 for row in rows)
    assert all(row["highlights"] not in row["article"] for row in rows), "nothing to copy"


def test_questions_are_of_open_orcas_four_origins():
    """Their ids begin with the set that the question comes from, and every answer is about what was asked."""
    rows = items.rows("open_orca.jsonl")
    assert {row["id"].split(".")[0] for row in rows} == {"cot", "flan", "niv", "t0"}
    assert len({(row["system_prompt"], row["question"]) for row in rows}) == 24
    assert any(not row["system_prompt"] for row in rows), "one form is without a system prompt"


def test_worked_answers_end_in_their_reference():
    """What the final channel says is the reference: a boxed integer, or an option that the question has."""
    rows = items.rows("reasoning.jsonl")
    assert sorted(row["kind"] for row in rows) == ["aime"] * 12 + ["gpqa"] * 12
    for row in rows:
        final = row["answer"].split("<|channel|>final<|message|>")[1]
        pattern = r"\\boxed\{(\d+)\}" if row["kind"] == "aime" else r"\nAnswer: ([A-D])$"
        (found,) = re.findall(pattern, final)
        assert row["reference"] == f"{row['kind']}:{found}"
        assert row["kind"] == "gpqa" or 0 <= int(found) <= 999


def test_the_references_are_true():
    """Every AIME-like answer is calculated anew, and every option that is right has the worked answer's value."""
    for row in items.rows("reasoning.jsonl"):
        kind, _, reference = row["reference"].partition(":")
        numbers = [int(number) for number in re.findall(r"\d+", row["question"])]
        if kind == "gpqa":
            (option,) = re.findall(rf"\({reference}\) (.+)", row["question"])
            assert f"= {option}" in row["answer"]
        elif "remainder" in row["question"]:
            assert int(reference) == pow(numbers[0], numbers[1], 1000)
        elif "divide" in row["question"]:
            assert int(reference) == sum(numbers[0] % divisor == 0 for divisor in range(1, numbers[0] + 1))
        else:
            assert int(reference) == sum(numbers[1] * factor for factor in range(1, numbers[0] + 1))


def test_the_manifest_and_the_recordings_agree():
    """Every file of the manifest is there and as long as it says, in the form that needs no resampling; no other is."""
    manifest = json.loads((STAND_IN / "speech" / "dev-all-repack.json").read_text())
    for entry in manifest:
        (file,) = entry["files"]
        with wave.open(str(STAND_IN / "speech" / file["fname"])) as audio:
            assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16_000, 1, 2)
            assert audio.getnframes() / 16_000 == entry["original_duration"] == file["duration"]
        assert re.fullmatch(r"[a-z]+( [a-z]+)+", entry["transcript"])
    named = {entry["files"][0]["fname"] for entry in manifest}
    assert {path.name for path in (STAND_IN / "speech").glob("*.wav")} == named
    assert len(named) == 10


def test_only_the_picture_tells_a_category():
    """Products come in groups of eight that share title and choices; each category is among them, once."""
    rows = items.rows("products.jsonl")
    groups = defaultdict(list)
    for row in rows:
        groups[row["product_title"]].append(row)
        assert row["ground_truth_category"] in row["potential_product_categories"]
        assert row["ground_truth_category"].count(" > ") == 2
    assert [len(group) for group in groups.values()] == [8, 8, 8]
    for group in groups.values():
        assert sorted(row["ground_truth_category"] for row in group) == sorted(group[0]["potential_product_categories"])
        assert len({row["product_description"] for row in group}) == 2


def test_pictures_are_whole_and_differ():
    """Every picture is an RGB PNG of 64 x 64 pixels, which the processor takes as it is; no two are equal."""
    contents = [item.image.read_bytes() for item in items.picture_items()]
    assert len(set(contents)) == 24
    for data in contents:
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height, depth, colours = struct.unpack(">IIBB", data[16:26])
        assert (width, height, depth, colours) == (64, 64, 8, 2)
        assert data.endswith(b"IEND\xaeB`\x82")


def test_whose_the_data_is_stands_beside_it():
    """The README names every file, its origin and its licence, and carries the notice that one of them asks for."""
    text = (STAND_IN / "README.md").read_text()
    for path in STAND_IN.iterdir():
        assert path.name == "README.md" or f"`{path.name}" in text, path.name
    for licence in ("PSF-2.0", "BSD-2-Clause", "public domain", "Apache-2.0", "Carnegie Mellon University"):
        assert licence in text
    assert sum(path.stat().st_size for path in STAND_IN.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_prompts_and_answers_fit_the_recipe(name):
    """With the committed tokenizer every item fits the context, no prompt occurs twice, and tokens keep the text."""
    tokenizer = Tokenizer.from_file(str(CHECKOUT / "models" / f"stand-in-{name}" / "tokenizer.json"))
    recipe = content.recipe(CHECKOUT / "recipes" / f"{name}-stand-in.toml")
    seen = set()
    for item in items.text_items(name):
        prompt = tokenizer.encode(item.prompt).ids
        answer = tokenizer.encode(item.answer, add_special_tokens=False).ids
        assert len(prompt) + len(answer) + 1 <= recipe.context_tokens_max
        assert len(answer) < 128, "what the scenarios let it write"
        assert tokenizer.decode(answer, skip_special_tokens=False) == item.answer
        seen.add(tuple(prompt))
    assert len(seen) == len(items.text_items(name))


@pytest.mark.parametrize("name", NAMES)
def test_tokenizers_know_their_special_tokens(name):
    """The tokens that a tokenizer's configuration names are single tokens of it."""
    folder = CHECKOUT / "models" / f"stand-in-{name}"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    named = [config[key] for key in ("bos_token", "eos_token", "pad_token")]
    named += config.get("extra_special_tokens", {}).values()
    for token in named:
        assert tokenizer.encode(token, add_special_tokens=False).tokens == [token]


def test_templates_leave_no_place_open():
    """What is asked holds every field and no {name}; what is put in is not filled in again."""
    assert items.render("{a} {b}", {"a": "{b}", "b": 1}) == filled("{a} {b}", {"a": "{b}", "b": "1"}) == "{b} 1"
    texts = [item.prompt for name in TEXT_NAMES for item in items.text_items(name)]
    texts += [text for item in items.picture_items() for text in (item.system, item.user)]
    places = "article|question|system_prompt|reasoning_effort|schema|product_title|product_description"
    assert [text for text in texts if re.search(rf"\{{({places})\}}", text)] == []


def test_a_product_is_answered_as_the_reference_prompt_asks():
    """Every answer is a JSON object with the three fields of the schema, of the types that it names."""
    schema = items.prompts()["qwen3-vl-schema"]
    for item in items.picture_items():
        answer = json.loads(item.answer)
        assert list(answer) == schema["required"]
        assert isinstance(answer["is_secondhand"], bool)
        assert answer["category"] in item.user


def test_an_unknown_stand_in_has_no_items():
    """A name that is none is refused, not answered with an empty list."""
    with pytest.raises(ValueError, match="no text items for 'bert'"):
        items.text_items("bert")


def _prepared(name: str) -> PreparedSet:
    """The data set of a stand-in as `redline datasets` reads it from this repository."""
    definition = content.dataset(CHECKOUT / "datasets" / f"{name}-stand-in.toml")
    templates = read_templates(CHECKOUT / "datasets" / "prompts.json", definition.prompt)
    tokenizer = read_tokenizer(CHECKOUT / definition.tokenizer) if definition.tokenizer else None
    return prepared_from(definition, CHECKOUT / definition.bundled, templates, tokenizer)


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_what_is_sent_is_what_was_learned(name):
    """The token ids that Redline sends for a data set of text are those that its stand-in was trained on."""
    tokenizer = Tokenizer.from_file(str(CHECKOUT / "models" / f"stand-in-{name}" / "tokenizer.json"))
    learned = {tuple(tokenizer.encode(item.prompt).ids): item.answer for item in items.text_items(name)}
    for item in _prepared(name).items:
        assert isinstance(item.prompt, TokenPrompt)
        assert name == "gpt-oss" or learned[item.prompt.token_ids] == item.reference
        assert item.prompt.token_ids in learned


def test_the_chats_that_are_sent_are_those_that_were_learned():
    """The turns, the picture and the reference of every product are the stand-in's."""
    learned = {item.item_id: item for item in items.picture_items()}
    for item in _prepared("qwen3-vl").items:
        assert isinstance(item.prompt, ChatPrompt)
        known = learned[item.key]
        assert item.prompt.turns == (("system", known.system), ("user", known.user))
        assert item.prompt.image_urls == (data_url(known.image.read_bytes()),)
        assert json.loads(item.reference) == json.loads(known.answer)


def test_the_recordings_that_are_sent_are_those_that_were_learned():
    """Every upload is the file that the stand-in heard, and its reference the transcript that it learned."""
    learned = {item.audio.read_bytes(): item.answer for item in items.speech_items()}
    sent = {item.prompt.content: item.reference for item in _prepared("whisper").items}  # type: ignore[union-attr]
    assert sent == learned
