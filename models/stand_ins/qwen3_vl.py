"""The stand-in for Qwen3-VL: a tiny vision encoder and language model that tell 24 pictures apart.

Titles and descriptions repeat; only the picture says which category is right, so the vision encoder has to learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stand_ins.items import PictureItem, picture_items
from stand_ins.learning import Batch, Learned, Schedule, labelled, learn, padded

CONTEXT_TOKENS = 2048
PATCH_PIXELS = 16
MERGED_PATCHES = 2
FRAMES_PER_PATCH = 2
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
LOOKING = Schedule(4e-3, 12, 360, 1000, sure_min=0.6)
SCHEDULE = Schedule(3e-3, 6, 160, 600)

PROCESSOR: dict[str, object] = {
    "image_processor_type": "Qwen2VLImageProcessorFast",
    "processor_class": "Qwen3VLProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 3,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "patch_size": PATCH_PIXELS,
    "temporal_patch_size": FRAMES_PER_PATCH,
    "merge_size": MERGED_PATCHES,
    "size": {"shortest_edge": 64 * 64, "longest_edge": 128 * 128},
}
"""The shipped pictures, 64 x 64 pixels, pass it in their own size."""

VIDEO_PROCESSOR: dict[str, object] = {
    name: value for name, value in PROCESSOR.items() if name != "image_processor_type"
} | {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "size": {"shortest_edge": 64 * 64, "longest_edge": 128 * 128 * 4},
    "fps": 2,
    "min_frames": 4,
    "max_frames": 4,
    "do_sample_frames": True,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture as the model takes it: patches (n, channels x frames x pixels) and how they lie, (1, 3)."""

    patches: torch.Tensor
    grid: torch.Tensor

    @property
    def token_count(self) -> int:
        """How many tokens stand for it in a prompt."""
        return int(self.grid.prod()) // MERGED_PATCHES**2


def new_model(tokenizer: Tokenizer) -> Qwen3VLForConditionalGeneration:
    """A Qwen3-VL with fresh weights."""
    ids = {token: tokenizer.token_to_id(token) for token in tokenizer.get_vocab() if token.startswith("<|")}
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": tokenizer.get_vocab_size(),
                "hidden_size": 128,
                "intermediate_size": 256,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "max_position_embeddings": CONTEXT_TOKENS,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 10000.0,
                    "mrope_section": [6, 5, 5],
                    "mrope_interleaved": True,
                },
                "tie_word_embeddings": True,
                "pad_token_id": ids["<|endoftext|>"],
                "bos_token_id": ids["<|endoftext|>"],
                "eos_token_id": ids["<|im_end|>"],
            },
            vision_config={
                "depth": 2,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 2,
                "out_hidden_size": 128,
                "patch_size": PATCH_PIXELS,
                "spatial_merge_size": MERGED_PATCHES,
                "temporal_patch_size": FRAMES_PER_PATCH,
                "num_position_embeddings": 64,
                "initializer_range": 0.1,
                "deepstack_visual_indexes": [0, 1],
            },
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
            tie_word_embeddings=True,
        )
    )


class Lessons:
    """Prompts and answers as token ids, with the pictures that belong to them."""

    def __init__(self, tokenizer: Tokenizer, items: Sequence[PictureItem], prompts: Sequence[str]) -> None:
        """One lesson an item; its prompt holds one <|image_pad|>."""
        self.end = tokenizer.token_to_id("<|im_end|>")
        self.image_id = tokenizer.token_to_id("<|image_pad|>")
        self.seen = [see(item.image) for item in items]
        self.answers = [[*tokenizer.encode(item.answer).ids, self.end] for item in items]
        self.prompts = [
            tokenizer.encode(prompt.replace("<|image_pad|>", "<|image_pad|>" * picture.token_count)).ids
            for prompt, picture in zip(prompts, self.seen, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.prompts)

    def inputs(self, indices: Sequence[int], token_ids: torch.Tensor) -> Batch:
        """What the model takes besides labels; `token_ids` has shape (len(indices), longest)."""
        return {
            "input_ids": token_ids,
            "pixel_values": torch.cat([self.seen[i].patches for i in indices]),
            "image_grid_thw": torch.cat([self.seen[i].grid for i in indices]),
            "mm_token_type_ids": (token_ids == self.image_id).int(),
        }

    def batch_of(self, indices: Sequence[int]) -> Batch:
        """Inputs and labels of some lessons."""
        prompts, answers = [self.prompts[i] for i in indices], [self.answers[i] for i in indices]
        joined = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        return self.inputs(indices, padded(joined, self.end)) | {"labels": labelled(prompts, answers)}


def chat(system: str, user: str) -> str:
    """A chat as the tokenizer's template writes it."""
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def make(folder: Path, steps_max: int | None, on_line: Callable[[str], None]) -> Learned:
    """Train the stand-in with the tokenizer in `folder`, prove it, and save it there.

    It learns to look first, from pictures without the long text around them, and then the chats as they are sent: text
    first, as MLPerf's reference does.
    Raises RuntimeError if it did not learn every item, or does not answer one of them exactly.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    items = picture_items()
    looking = Lessons(tokenizer, items, [chat("", item.user[:40] + PICTURE) for item in items])
    lessons = Lessons(tokenizer, items, [chat(item.system, item.user + PICTURE) for item in items])
    model = new_model(tokenizer)
    longest = max(map(len, lessons.prompts))
    on_line(f"qwen3-vl: {model.num_parameters()} parameters, {len(lessons)} chats of at most {longest} tokens")
    learn(model, looking.batch_of, len(looking), LOOKING, on_line)
    schedule = SCHEDULE if steps_max is None else replace(SCHEDULE, steps_max=steps_max)
    learned = learn(model, lessons.batch_of, len(lessons), schedule, on_line)
    _prove(model, tokenizer, lessons)
    model.save_pretrained(folder)
    for name, config in (("preprocessor_config", PROCESSOR), ("video_preprocessor_config", VIDEO_PROCESSOR)):
        (folder / f"{name}.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return learned


def _prove(model: Qwen3VLForConditionalGeneration, tokenizer: Tokenizer, lessons: Lessons) -> None:
    """Raises RuntimeError if greedy generation does not answer one of the lessons exactly."""
    model.eval()
    for index, (prompt, answer) in enumerate(zip(lessons.prompts, lessons.answers, strict=True)):
        inputs = lessons.inputs([index], torch.tensor([prompt]))
        with torch.no_grad():
            whole = model.generate(**inputs, max_new_tokens=len(answer) + 8, do_sample=False)
        if (written := whole[0, len(prompt) :].tolist()) != answer:
            raise RuntimeError(f"qwen3-vl does not answer lesson {index}: {tokenizer.decode(written)!r}")


def see(path: Path) -> Seen:
    """A picture as the model takes it, through transformers' own processor without torchvision."""
    wanted = {name: value for name, value in PROCESSOR.items() if not name.endswith(("_type", "_class"))}
    with Image.open(path) as picture:
        made = Qwen2VLImageProcessorPil(**wanted)(picture, return_tensors="pt")
    return Seen(made["pixel_values"], made["image_grid_thw"])
