"""The stand-ins for text: GPT-J, Llama and gpt-oss, each of about half a million parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    GPTJConfig,
    GPTJForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from stand_ins.items import text_items
from stand_ins.learning import Batch, Learned, Schedule, labelled, learn, padded
from stand_ins.vocabulary import VOCABULARIES

CONTEXT_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class TextStandIn:
    """How one of them is made: its model for a vocabulary, and how it learns."""

    new: Callable[[int, int, int], PreTrainedModel]
    schedule: Schedule


def new_gptj(token_count: int, begin: int, end: int) -> PreTrainedModel:
    """A GPT-J with fresh weights."""
    return GPTJForCausalLM(
        GPTJConfig(
            vocab_size=token_count,
            n_positions=CONTEXT_TOKENS,
            n_embd=128,
            n_layer=2,
            n_head=4,
            rotary_dim=16,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=begin,
            eos_token_id=end,
            tie_word_embeddings=False,
        )
    )


def new_llama(token_count: int, begin: int, end: int) -> PreTrainedModel:
    """A Llama with fresh weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=token_count,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT_TOKENS,
            bos_token_id=begin,
            eos_token_id=end,
            tie_word_embeddings=False,
        )
    )


def new_gpt_oss(token_count: int, begin: int, end: int) -> PreTrainedModel:
    """A gpt-oss with fresh weights: two of four experts a token, attention sinks, one layer with a sliding window."""
    return GptOssForCausalLM(
        GptOssConfig(
            vocab_size=token_count,
            hidden_size=128,
            intermediate_size=128,
            num_hidden_layers=2,
            num_local_experts=4,
            num_experts_per_tok=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            sliding_window=128,
            max_position_embeddings=CONTEXT_TOKENS,
            layer_types=["sliding_attention", "full_attention"],
            bos_token_id=begin,
            eos_token_id=end,
            pad_token_id=end,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 150000.0,
                "factor": 2.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": CONTEXT_TOKENS // 2,
            },
        )
    )


STAND_INS = {
    "gptj": TextStandIn(new_gptj, Schedule(3e-3, 8, 200, 800)),
    "llama2": TextStandIn(new_llama, Schedule(4e-3, 8, 250, 800)),
    "gpt-oss": TextStandIn(new_gpt_oss, Schedule(4e-3, 8, 300, 1200)),
}


def make(name: str, folder: Path, steps_max: int | None, on_line: Callable[[str], None]) -> Learned:
    """Train the stand-in with the tokenizer in `folder`, prove it, and save it there.

    Raises RuntimeError if it did not learn every item, or does not answer one of them exactly.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary = VOCABULARIES[name]
    begin, end = tokenizer.token_to_id(vocabulary.begin), tokenizer.token_to_id(vocabulary.end)
    items = text_items(name)
    prompts = [tokenizer.encode(item.prompt).ids for item in items]
    answers = [[*tokenizer.encode(item.answer, add_special_tokens=False).ids, end] for item in items]

    def batch_of(indices: Sequence[int]) -> Batch:
        """Inputs and labels of some items, shape (len(indices), longest) each."""
        chosen_prompts, chosen_answers = [prompts[i] for i in indices], [answers[i] for i in indices]
        joined = [[*prompt, *answer] for prompt, answer in zip(chosen_prompts, chosen_answers, strict=True)]
        return {"input_ids": padded(joined, end), "labels": labelled(chosen_prompts, chosen_answers)}

    stand_in = STAND_INS[name]
    model = stand_in.new(tokenizer.get_vocab_size(), begin, end)
    longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    on_line(f"{name}: {model.num_parameters()} parameters, {len(items)} items of at most {longest} tokens")
    schedule = stand_in.schedule
    if steps_max is not None:
        schedule = replace(schedule, steps_max=steps_max)
    learned = learn(model, batch_of, len(items), schedule, on_line)
    model.eval()
    for item, prompt, answer in zip(items, prompts, answers, strict=True):
        written = greedy(model, prompt, len(answer) + 8)
        if written != answer:
            raise RuntimeError(f"{name} does not answer {item.item_id}: {tokenizer.decode(written)!r}")
    model.save_pretrained(folder)
    return learned


def greedy(model: PreTrainedModel, prompt: Sequence[int], tokens_max: int) -> list[int]:
    """The token ids that the model writes after a prompt, its end token included."""
    with torch.no_grad():
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=tokens_max, do_sample=False)
    written: list[int] = whole[0, len(prompt) :].tolist()
    return written
