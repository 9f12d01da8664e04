"""Training a tiny model until it knows its items by heart, and the proof that it does.

A random model's next tokens are nearly tied: another batch size, another kernel, and its answer is another one. An
item counts as known only if every token of its answer has at least SURE_MIN of the probability.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

IGNORED = -100  # cross_entropy's: positions that are no answer
SURE_MIN = 0.8
CHECK_EVERY_STEPS = 10
WARM_UP_STEPS = 20
RATE_SHARE_MIN = 0.1
CLIP_NORM = 1.0

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn: `batch_size` items a step, drawn without replacement.

    The learning rate falls to RATE_SHARE_MIN within `falling_steps`; learning ends as soon as every token of every
    answer has a probability of `sure_min`, and fails after `steps_max`, which leaves room for another type of CPU.
    """

    learning_rate: float
    batch_size: int
    falling_steps: int
    steps_max: int
    sure_min: float = SURE_MIN
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """How the learning went: the least probability of any answer's token at the end, in `steps` steps."""

    steps: int
    seconds: float
    sure_min: float


def padded(sequences: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Token ids, shape (len(sequences), longest), filled up on the right."""
    longest = max(map(len, sequences))
    return torch.tensor([[*sequence, *[filler] * (longest - len(sequence))] for sequence in sequences])


def labelled(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> torch.Tensor:
    """Labels of prompt + answer, shape as `padded` gives it: IGNORED but for the answers."""
    joined = [[*[IGNORED] * len(prompt), *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return padded(joined, IGNORED)


def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens. logits (n, t, vocabulary), labels (n, t): each token is its own."""
    kept = labels[:, 1:] != IGNORED
    return torch.nn.functional.cross_entropy(logits[:, :-1][kept].float(), labels[:, 1:][kept])


def least_sure(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The least probability that any token of the answers has."""
    kept = labels[:, 1:] != IGNORED
    shares = logits[:, :-1][kept].float().softmax(-1)
    return float(shares.gather(1, labels[:, 1:][kept][:, None]).min())


def learn(
    model: torch.nn.Module,
    batch_of: Callable[[Sequence[int]], Batch],
    item_count: int,
    schedule: Schedule,
    on_line: Callable[[str], None],
) -> Learned:
    """Train in place until every answer is sure; `batch_of(indices)` gives the model's inputs and `labels`.

    Raises RuntimeError if `steps_max` steps are not enough.
    """
    started_s = time.monotonic()
    generator = torch.Generator().manual_seed(schedule.seed)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    order: list[int] = []
    sure = 0.0
    for step in range(1, schedule.steps_max + 1):
        share = max(RATE_SHARE_MIN, 1 - step / schedule.falling_steps)
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate * min(step / WARM_UP_STEPS, share)
        if len(order) < schedule.batch_size:
            order += torch.randperm(item_count, generator=generator).tolist()
        chosen, order = order[: schedule.batch_size], order[schedule.batch_size :]
        loss = _step(model, batch_of(chosen), optimiser, parameters)
        if step % CHECK_EVERY_STEPS == 0:
            on_line(f"step {step}: loss {loss:.4f}, {time.monotonic() - started_s:.1f} s")
            sure = surest(model, batch_of, item_count, schedule)
            if sure >= schedule.sure_min:
                return Learned(step, time.monotonic() - started_s, sure)
    raise RuntimeError(f"not learned in {schedule.steps_max} steps: an answer's token has a probability of {sure:.3f}")


def _step(
    model: torch.nn.Module,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
) -> float:
    """The loss of one step."""
    labels = batch.pop("labels")
    loss = answer_loss(model(**batch).logits, labels)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
    optimiser.step()
    return loss.item()


def surest(
    model: torch.nn.Module, batch_of: Callable[[Sequence[int]], Batch], item_count: int, schedule: Schedule
) -> float:
    """The least probability of any answer's token over all items; stops at the first batch that is not sure."""
    least = 1.0
    model.eval()
    with torch.no_grad():
        for first in range(0, item_count, schedule.batch_size):
            batch = batch_of(range(first, min(first + schedule.batch_size, item_count)))
            labels = batch.pop("labels")
            least = min(least, least_sure(model(**batch).logits, labels))
            if least < schedule.sure_min:
                break
    model.train()
    return least
