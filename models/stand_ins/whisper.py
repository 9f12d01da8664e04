"""The stand-in for Whisper: a random encoder that stays as it is, and a decoder that learns what it makes of the audio.

A random encoder keeps utterances apart, which is all that knowing ten of them by heart takes; its outputs are computed
once, so that a step of learning costs the decoder only.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from stand_ins.items import SpeechItem, speech_items
from stand_ins.learning import Batch, Learned, Schedule, labelled, learn, padded
from stand_ins.vocabulary import VOCABULARIES, WHISPER_LANGUAGES

MEL_BINS = 80
SAMPLES_PER_S = 16_000
TEXT_TOKENS_MAX = 448
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
SCHEDULE = Schedule(3e-3, 10, 300, 1200)


def samples(path: Path) -> npt.NDArray[np.float32]:
    """The samples of a 16 kHz mono WAV file of 16 bits, in [-1, 1). Raises ValueError for any other."""
    with wave.open(str(path)) as audio:
        if (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) != (SAMPLES_PER_S, 1, 2):
            raise ValueError(f"{path}: not 16 kHz, mono, 16 bits")
        raw = audio.readframes(audio.getnframes())
    return np.frombuffer(raw, dtype="<i2").astype(np.float32) / 32768


def new_model(tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    """A Whisper with fresh weights whose encoder does not learn."""
    end = tokenizer.token_to_id(VOCABULARIES["whisper"].end)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=128,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=256,
            decoder_ffn_dim=256,
            num_mel_bins=MEL_BINS,
            max_source_positions=1500,
            max_target_positions=TEXT_TOKENS_MAX,
            decoder_start_token_id=tokenizer.token_to_id(PROMPT[0]),
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    model.generation_config.update(
        lang_to_id={f"<|{name}|>": tokenizer.token_to_id(f"<|{name}|>") for name in WHISPER_LANGUAGES},
        task_to_id={name: tokenizer.token_to_id(f"<|{name}|>") for name in ("transcribe", "translate")},
        no_timestamps_token_id=tokenizer.token_to_id(PROMPT[3]),
        is_multilingual=True,
    )
    model.model.encoder.requires_grad_(requires_grad=False)
    return model


class Decoding(torch.nn.Module):
    """The decoder over encoder outputs that are known already."""

    def __init__(self, model: WhisperForConditionalGeneration, heard: torch.Tensor) -> None:
        """`heard`: the encoder's outputs, shape (items, 1500, d_model)."""
        super().__init__()
        self.whole = model
        self.heard = heard

    def forward(self, item: torch.Tensor, decoder_input_ids: torch.Tensor) -> object:
        """The model's output for some items' token ids, shape (len(item), tokens)."""
        heard = BaseModelOutput(last_hidden_state=self.heard[item])
        return self.whole(encoder_outputs=heard, decoder_input_ids=decoder_input_ids, use_cache=False)


def make(folder: Path, steps_max: int | None, on_line: Callable[[str], None]) -> Learned:
    """Train the stand-in with the tokenizer in `folder`, prove it, and save it there.

    Raises RuntimeError if it did not learn every item, or does not answer one of them exactly.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id(VOCABULARIES["whisper"].end)
    items = speech_items()
    prompt = [tokenizer.token_to_id(token) for token in PROMPT]
    # Whisper's own tokenizer begins a transcript with a space, which every reader of it strips.
    answers = [[*tokenizer.encode(item.answer).ids, end] for item in items]
    model = new_model(tokenizer)
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS)
    features = _features(extractor, items)
    model.eval()
    with torch.no_grad():
        heard = model.model.encoder(features).last_hidden_state

    def batch_of(indices: Sequence[int]) -> Batch:
        """Inputs and labels of some items, shape (len(indices), longest) each."""
        chosen = [answers[i] for i in indices]
        prompts = [prompt] * len(chosen)
        return {
            "item": torch.tensor(list(indices)),
            "decoder_input_ids": padded([[*prompt, *answer] for answer in chosen], end),
            "labels": labelled(prompts, chosen),
        }

    on_line(f"whisper: {model.num_parameters()} parameters, {len(items)} utterances")
    schedule = SCHEDULE if steps_max is None else replace(SCHEDULE, steps_max=steps_max)
    learned = learn(Decoding(model, heard), batch_of, len(items), schedule, on_line)
    model.eval()
    for item, feature, answer in zip(items, features, answers, strict=True):
        written = _greedy(model, feature, prompt, end)
        if written != answer:
            raise RuntimeError(f"whisper does not transcribe {item.item_id}: {tokenizer.decode(written)!r}")
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return learned


def _features(extractor: WhisperFeatureExtractor, items: Sequence[SpeechItem]) -> torch.Tensor:
    """Log-mel spectrograms of 30 s each, shape (items, MEL_BINS, 3000)."""
    spoken = [samples(item.audio) for item in items]
    features: torch.Tensor = extractor(spoken, sampling_rate=SAMPLES_PER_S, return_tensors="pt").input_features
    return features


def _greedy(model: WhisperForConditionalGeneration, feature: torch.Tensor, prompt: list[int], end: int) -> list[int]:
    """The token ids that the whole model writes after the prompt for one utterance, its end token included."""
    written: list[int] = []
    with torch.no_grad():
        heard = BaseModelOutput(last_hidden_state=model.model.encoder(feature[None]).last_hidden_state)
        while len(written) < TEXT_TOKENS_MAX - len(prompt) and end not in written:
            ids = torch.tensor([[*prompt, *written]])
            logits = model(encoder_outputs=heard, decoder_input_ids=ids, use_cache=False).logits
            written.append(int(logits[0, -1].argmax()))
    return written
