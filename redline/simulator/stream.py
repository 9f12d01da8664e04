"""One generation under way: which chunk is next, and its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redline.simulator.events import AnswerBytes, TailStore
from redline.simulator.generation import Generation
from redline.simulator.send_log import SendRecord

if TYPE_CHECKING:
    from redline.simulator.connection import Connection

NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stream is made of: decided when the request was received.

    `hit_share`: of the prompt's tokens, to be counted as prefix cache hits; `draw` gives uniform numbers in
    [0, 1) for the jitter, None without one.
    """

    generation: Generation
    answer: AnswerBytes
    record: SendRecord
    serial: int
    failure: str
    tokens_per_chunk: int
    framed: bool
    keep_alive: bool
    hit_share: float
    draw: Callable[[], float] | None


class Stream:
    """A request between its receipt and its end. Chunks 1 to `plain_end` - 1 are prefix + tail.

    `failure_index` is the chunk at which something goes wrong, NOWHERE if nothing does; `connection` is None once
    the stream has ended, however it ended.
    """

    __slots__ = (
        "chunk_last", "connection", "failure_index", "finish_reason", "first_ns", "index", "last_ns", "output_tokens",
        "plain_end", "plan", "prefix", "ready_ns", "record", "scheduled_ns", "tails",
    )  # fmt: skip

    def __init__(self, plan: Plan, connection: Connection, tail_store: TailStore) -> None:
        generation = plan.generation
        self.plan = plan
        self.connection: Connection | None = connection
        self.record = plan.record
        self.output_tokens, self.finish_reason = generation.output_tokens, generation.finish_reason
        if plan.failure == "short_output":
            self.output_tokens, self.finish_reason = max(1, generation.output_tokens // 2), "stop"
        chunk_count = -(-self.output_tokens // plan.tokens_per_chunk)
        self.index = 0
        self.chunk_last = chunk_count - 1
        self.failure_index = NOWHERE if plan.failure in {"", "short_output"} else chunk_count // 2
        self.scheduled_ns = self.ready_ns = self.first_ns = self.last_ns = 0
        self.prefix = b""
        self.tails: list[bytes] = []
        self.plain_end = 0
        if generation.stream and plan.framed and not generation.continuous_usage:
            self._prepare_plain(tail_store)

    def _prepare_plain(self, tail_store: TailStore) -> None:
        """Everything that can be computed before the first chunk is due."""
        plan, generation = self.plan, self.plan.generation
        self.tails = tail_store.tails(
            generation.kind, plan.tokens_per_chunk, self.chunk_last + 1, token_ids=generation.token_ids
        )
        plan.answer.make_prefix(len(self.tails[0]))
        self.prefix = plan.answer.prefix
        self.plain_end = self.chunk_last if self.failure_index == NOWHERE else min(self.failure_index, self.chunk_last)

    @property
    def tokens_sent(self) -> int:
        """Tokens of the chunks that are behind it."""
        return min(self.index * self.plan.tokens_per_chunk, self.output_tokens)

    def next_event(self) -> bytes:
        """The event of the next chunk."""
        before = self.tokens_sent
        count = min(self.plan.tokens_per_chunk, self.output_tokens - before)
        reason = self.finish_reason if self.index == self.chunk_last else ""
        return self.plan.answer.token_event(self.index, before, count, reason)
