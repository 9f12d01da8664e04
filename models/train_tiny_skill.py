"""Trains models/tiny-skill: a Llama of 0.65 M parameters that reverses, sorts, copies, shifts and adds.

    PYTHON_OF_A_VLLM_BUILD models/train_tiny_skill.py --out /tmp/tiny-skill

Needs PyTorch and transformers, which every vLLM build brings (its environment lies under .redline/builds); takes about
8 minutes on one core. The defaults are the arguments with which the shipped model was made (models/tiny-skill/
train.json): same seed, same PyTorch and same CPU type give the same weights; elsewhere, the same skill.
The items of the test set never occur in training.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# The build's interpreter knows nothing of Redline; the task generator is the scenario's own.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from redline.datasets import skill_tasks

HELD_OUT_PER_TASK = 400
SEQUENCE_TOKENS = 2 + skill_tasks.WORD_LENGTH_MAX + 1 + skill_tasks.WORD_LENGTH_MAX + 2
BEGIN, END, PADDING = 1, 2, 0
IGNORED = -100  # cross_entropy's: positions that are no answer
WARM_UP_STEPS = 100
RATE_SHARE_MIN = 0.02
REPORT_EVERY_STEPS = 200
PROGRESS_ITEMS_PER_TASK = 100
EVALUATION_BATCH = 250

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the weights. `seconds_max` ends a training that takes too long, with what it has."""

    steps: int = 3500
    batch_size: int = 96
    learning_rate: float = 2e-3
    hidden_size: int = 128
    layers: int = 3
    threads: int = 1
    seed: int = 0
    seconds_max: float = 900.0


def new_model(settings: Settings) -> LlamaForCausalLM:
    """A model with fresh weights, drawn from PyTorch's global seed."""
    heads = settings.hidden_size // 32
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(skill_tasks.VOCABULARY),
            hidden_size=settings.hidden_size,
            intermediate_size=settings.hidden_size * 3,
            num_hidden_layers=settings.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=128,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=PADDING,
            rope_theta=10000.0,
            tie_word_embeddings=False,
            attn_implementation="sdpa",
        )
    )


def draw(rng: random.Random, count: int, held_out: frozenset[str]) -> list[Pair]:
    """`count` items that are not in the test set."""
    drawn: list[Pair] = []
    while len(drawn) < count:  # ends: held-out prompts are a vanishing share of all prompts
        prompt, answer = skill_tasks.sample(rng)
        if prompt not in held_out:
            drawn.append((prompt, answer))
    return drawn


def tensors(items: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """(token ids, labels), shape (len(items), SEQUENCE_TOKENS) each; only answers and their end are labelled."""
    tokens = torch.zeros(len(items), SEQUENCE_TOKENS, dtype=torch.long)
    labels = torch.full((len(items), SEQUENCE_TOKENS), IGNORED)
    for row, (prompt, answer) in enumerate(items):
        question = [BEGIN, *skill_tasks.encode(prompt)]
        reply = [*skill_tasks.encode(answer), END]
        tokens[row, : len(question) + len(reply)] = torch.tensor(question + reply)
        labels[row, len(question) : len(question) + len(reply)] = torch.tensor(reply)
    return tokens, labels


def accuracy(model: LlamaForCausalLM, items_per_task: int) -> dict[str, float]:
    """Share of the first `items_per_task` test items per task that are answered right throughout."""
    held_out = skill_tasks.test_set(HELD_OUT_PER_TASK)
    model.eval()
    shares: dict[str, float] = {}
    with torch.no_grad():
        for index, task in enumerate(skill_tasks.TASKS):
            first = index * HELD_OUT_PER_TASK
            items = [(item.prompt, item.answer) for item in held_out[first : first + items_per_task]]
            right = 0
            for start in range(0, len(items), EVALUATION_BATCH):
                tokens, labels = tensors(items[start : start + EVALUATION_BATCH])
                predicted = model(tokens).logits[:, :-1].argmax(-1)
                wanted = labels[:, 1:]
                right += int(((predicted == wanted) | (wanted == IGNORED)).all(1).sum())
            shares[task] = right / len(items)
    model.train()
    return shares


def rate_share(step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to RATE_SHARE_MIN."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))
    return min(1, (step + 1) / WARM_UP_STEPS) * (cosine * (1 - RATE_SHARE_MIN) + RATE_SHARE_MIN)


def train(model: LlamaForCausalLM, settings: Settings) -> None:
    """Train in place; prints the loss and the accuracy on the way."""
    rng = random.Random(settings.seed)
    held_out = frozenset(item.prompt for item in skill_tasks.test_set(HELD_OUT_PER_TASK))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    started = time.monotonic()
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate_share(step, settings.steps)
        tokens, labels = tensors(draw(rng, settings.batch_size, held_out))
        hidden = model.model(tokens).last_hidden_state
        labelled = labels[:, 1:] != IGNORED
        logits = model.lm_head(hidden[:, :-1][labelled]).float()
        loss = torch.nn.functional.cross_entropy(logits, labels[:, 1:][labelled])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        elapsed_s = time.monotonic() - started
        if (step + 1) % REPORT_EVERY_STEPS == 0 or step + 1 == settings.steps:
            shares = accuracy(model, PROGRESS_ITEMS_PER_TASK)
            print(f"step {step + 1}: loss {loss.item():.4f}, right {shares}, {elapsed_s:.0f} s", flush=True)
        if elapsed_s > settings.seconds_max:
            print(f"stopped after step {step + 1}: over {settings.seconds_max:g} s", flush=True)
            break


def save_tokenizer(out: Path) -> None:
    """Write the tokenizer: one token per character, a begin token in front, spaces nowhere."""
    tokenizer = Tokenizer(models.WordLevel(skill_tasks.TOKEN_IDS, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    fast.save_pretrained(out)


def make(settings: Settings, out: Path) -> None:
    """Train a model and write everything that a server needs, and train.json with how it was made."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    started, cpu_started = time.monotonic(), time.process_time()
    model = new_model(settings)
    train(model, settings)
    model = model.to(torch.bfloat16)
    model.generation_config.pad_token_id = PADDING
    model.save_pretrained(out)
    save_tokenizer(out)
    record = {
        "accuracy": accuracy(model, HELD_OUT_PER_TASK),
        "settings": asdict(settings),
        "torch": torch.__version__,
        "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu_started,
    }
    (out / "train.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: right {record['accuracy']} as bfloat16")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory of the new model")
    for name, value in asdict(defaults).items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=type(value), default=value, help="default: %(default)s")
    options = vars(parser.parse_args(arguments))
    make(Settings(**{name: options[name] for name in asdict(defaults)}), options["out"])


if __name__ == "__main__":
    main()
