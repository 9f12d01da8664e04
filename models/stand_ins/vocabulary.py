"""The stand-ins' tokenizers: byte-level BPE of a thousand tokens, trained on the very texts they are used for.

They are committed (models/stand-in-<name>), so that a prompt's token ids do not change with the library that trains
them; `make_stand_ins.py --tokenizer-only` makes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stand_ins.items import picture_items, speech_items, text_items

TOKEN_COUNT = 1024
WHISPER_LANGUAGES = ("en", "de", "es", "fr")

PLAIN_CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
PICTURE_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The special tokens of one stand-in. `first` is put before every text, `begin` if empty before none."""

    special: tuple[str, ...]
    begin: str
    end: str
    chat_template: str = PLAIN_CHAT
    first: str = ""


_HARMONY = ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>")
_WHISPER = (
    *("<|endoftext|>", "<|startoftranscript|>"),
    *(f"<|{language}|>" for language in WHISPER_LANGUAGES),
    *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
)
_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")

VOCABULARIES = {
    "gptj": Vocabulary(("<|endoftext|>",), "<|endoftext|>", "<|endoftext|>"),
    "llama2": Vocabulary(("<unk>", "<s>", "</s>"), "<s>", "</s>", first="<s>"),
    "gpt-oss": Vocabulary(_HARMONY, "<|startoftext|>", "<|return|>"),
    "whisper": Vocabulary(_WHISPER, "<|endoftext|>", "<|endoftext|>"),
    "qwen3-vl": Vocabulary(
        (*_QWEN, "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"), "<|endoftext|>", "<|im_end|>", PICTURE_CHAT
    ),
}


def texts(name: str) -> list[str]:
    """Everything that a stand-in reads or writes."""
    match name:
        case "whisper":
            return [item.answer for item in speech_items()]
        case "qwen3-vl":
            return [text for item in picture_items() for text in (item.system, item.user, item.answer)]
        case _:
            return [text for item in text_items(name) for text in (item.prompt, item.answer)]


def train(name: str, corpus: Iterable[str]) -> Tokenizer:
    """A tokenizer of at most TOKEN_COUNT tokens; the special ones come first."""
    vocabulary = VOCABULARIES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKEN_COUNT,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in vocabulary.special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    if vocabulary.first:
        token_id = tokenizer.token_to_id(vocabulary.first)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{vocabulary.first} $A", special_tokens=[(vocabulary.first, token_id)]
        )
    return tokenizer


def write(name: str, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers and vLLM read them."""
    vocabulary = VOCABULARIES[name]
    folder.mkdir(parents=True, exist_ok=True)
    train(name, texts(name)).save(str(folder / "tokenizer.json"), pretty=False)
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.begin,
        "eos_token": vocabulary.end,
        "pad_token": vocabulary.end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "chat_template": vocabulary.chat_template,
    }
    if name == "qwen3-vl":
        config |= {"processor_class": "Qwen3VLProcessor", "pad_token": "<|endoftext|>"}
        config["extra_special_tokens"] = {
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_start_token": "<|vision_start|>",
            "vision_end_token": "<|vision_end|>",
        }
    if name == "whisper":
        config |= {"tokenizer_class": "WhisperTokenizer", "processor_class": "WhisperProcessor"}
        config |= {"unk_token": vocabulary.end}
    text = json.dumps(config, indent=1, sort_keys=True) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
