"""Writes models/speed-llama: a Llama of 14 M parameters without weights, for speed only.

    python models/make_speed_llama.py [TARGET]

The server fills the weights with random numbers itself (`--load-format dummy`): what they are does not change how
long a step takes. Wide enough that the matrices outweigh the overhead of a step on one CPU core, small enough
that a server starts in half a minute. Prompts are sent as token ids; the tokenizer is there because servers want one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

HIDDEN_SIZE = 512
INTERMEDIATE_SIZE = 1408
LAYER_COUNT = 4
HEAD_SIZE = 64
VOCABULARY_SIZE = 1024
CONTEXT_TOKENS_MAX = 1024
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
DEFAULT_TARGET = Path(__file__).parent / "speed-llama"


def model_config() -> dict[str, object]:
    """config.json, in the form that transformers 5 and vLLM 0.32 read."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "dtype": "bfloat16",
        "eos_token_id": 2,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "hidden_size": HIDDEN_SIZE,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE_SIZE,
        "max_position_embeddings": CONTEXT_TOKENS_MAX,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HIDDEN_SIZE // HEAD_SIZE,
        "num_hidden_layers": LAYER_COUNT,
        "num_key_value_heads": HIDDEN_SIZE // HEAD_SIZE,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": VOCABULARY_SIZE,
    }


def tokenizer() -> dict[str, object]:
    """tokenizer.json: three special tokens, then one word per id, `w0003 ` to `w1023 `."""
    vocabulary = {token: token_id for token_id, token in enumerate(SPECIAL_TOKENS)}
    vocabulary |= {f"w{token_id:04d} ": token_id for token_id in range(len(SPECIAL_TOKENS), VOCABULARY_SIZE)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "w[0-9]{4} "},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<pad>"},
    }


def tokenizer_config() -> dict[str, object]:
    """tokenizer_config.json."""
    return {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": CONTEXT_TOKENS_MAX,
        "pad_token": "<pad>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def write(target: Path) -> tuple[Path, ...]:
    """The files written under `target`, which is made if need be."""
    files = {
        "config.json": model_config(),
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": tokenizer_config(),
    }
    target.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (target / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return tuple(target / name for name in files)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model directory and name its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, nargs="?", default=DEFAULT_TARGET, help="default: %(default)s")
    for path in write(parser.parse_args(arguments).target):
        print(path)


if __name__ == "__main__":
    main()
