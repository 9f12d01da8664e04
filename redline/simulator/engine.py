"""When chunks are due, and sending those that are: the path that 32,000 chunks a second take.

Places are given in the order of arrival. A stream's first chunk is due TTFT after the request was received (after it
got its place, if it had to wait), the others one gap apart; in lockstep the engine steps and all that are ready
are due at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

from redline.simulator.events import COMMENT, GARBAGE_EVENT, TOKEN_NAME_COUNT
from redline.simulator.generation import Kind, error_content
from redline.simulator.metrics import Gauges, Served, ServerMetrics
from redline.simulator.send_log import ABORTED, FINISHED, SendLog
from redline.simulator.settings import Timing
from redline.simulator.stream import NOWHERE, Stream
from redline.simulator.wire import answer, json_answer
from redline.units import nanoseconds

BATCH_MAX = 64
"""Chunks sent before the sockets are looked at again."""

IDLE = 0
"""What `send_due` returns when nothing is due ever."""

STEP = -1
_NEVER_NS = 2**62
"""When a stalled stream is ready again."""


class Engine:
    """Streams, their places and their due times."""

    def __init__(self, timing: Timing, metrics: ServerMetrics, log: SendLog) -> None:
        self._metrics = metrics
        self._log = log
        self._heap: list[tuple[int, int, Stream | None]] = []  # the serial decides between equal times
        self._running: dict[int, Stream] = {}  # in the order in which they got their places
        self._waiting: deque[Stream] = deque()
        self._step_ns = 0  # when the engine's next step in lockstep ends
        self.apply(timing)

    def apply(self, timing: Timing) -> None:
        """Use this timing from the next wait on. In lockstep or out of it only while nothing runs."""
        self.timing = timing
        self._ttft_ns = nanoseconds(timing.ttft_s)
        self._itl_ns = nanoseconds(timing.itl_s)
        self._per_running_ns = nanoseconds(timing.itl_s_per_running)
        self._plain_gap = timing.itl_s_per_running == 0 and timing.jitter_share == 0
        self._give_places()

    @property
    def idle(self) -> bool:
        """True if no stream has or waits for a place."""
        return not self._running and not self._waiting

    def gauges(self) -> Gauges:
        """What is under way now."""
        tokens = sum(stream.tokens_sent for stream in self._running.values())
        return Gauges(len(self._running), len(self._waiting), tokens)

    # --- places -----------------------------------------------------------------------------------------------

    def submit(self, stream: Stream) -> None:
        """Give the stream a place, or let it wait for one."""
        if self.timing.running_max and len(self._running) >= self.timing.running_max:
            self._waiting.append(stream)
        else:
            self._admit(stream, stream.record.received_ns)

    def _admit(self, stream: Stream, now_ns: int) -> None:
        generation = stream.plan.generation
        self._running[stream.plan.serial] = stream
        stream.scheduled_ns = now_ns
        wait_ns = self._ttft_ns + nanoseconds(self.timing.ttft_s_per_prompt_token * generation.prompt_tokens)
        stream.ready_ns = now_ns + self._jittered(wait_ns, stream.plan.draw)
        hits = round(generation.prompt_tokens * stream.plan.hit_share)
        self._metrics.scheduled(generation.prompt_tokens, hits, generation.media_count)
        if not self.timing.lockstep:
            heappush(self._heap, (stream.ready_ns, stream.plan.serial, stream))
        elif self._step_ns == 0 or (stream.ready_ns < self._step_ns and not self._decoding()):
            self._schedule_step(stream.ready_ns)

    def _leave(self, stream: Stream) -> None:
        """Free the place, or the place in the queue, of a stream that has ended."""
        stream.connection = None
        if self._running.pop(stream.plan.serial, None) is None:
            self._waiting.remove(stream)
        self._give_places()

    def _give_places(self) -> None:
        while self._waiting and (self.timing.running_max == 0 or len(self._running) < self.timing.running_max):
            self._admit(self._waiting.popleft(), time.monotonic_ns())

    def abort(self, stream: Stream, end: str = ABORTED) -> None:
        """The stream ends before its end: its client left, or it was made to fail."""
        if stream.connection is None:
            return
        self._log.end(stream.record, end, time.monotonic_ns())
        self._metrics.ended("abort" if end == ABORTED else "error", stream.tokens_sent)
        self._leave(stream)

    def _finish(self, stream: Stream) -> None:
        connection, generation = stream.connection, stream.plan.generation
        self._log.end(stream.record, FINISHED, stream.last_ns)
        self._metrics.served(
            Served(
                received_ns=stream.record.received_ns,
                scheduled_ns=stream.scheduled_ns,
                first_ns=stream.first_ns,
                last_ns=stream.last_ns,
                prompt_tokens=generation.prompt_tokens,
                output_tokens=stream.output_tokens,
                chunk_count=stream.chunk_last + 1,
                finish_reason=stream.finish_reason,
            )
        )
        self._leave(stream)
        if connection is not None:
            connection.answered(keep_alive=stream.plan.keep_alive)

    # --- sending ----------------------------------------------------------------------------------------------

    def send_due(self) -> int:
        """Send what is due, at most a batch; returns when the next is due (it may have passed), IDLE without one."""
        heap, clock = self._heap, time.monotonic_ns
        now_ns = clock()
        for _ in range(BATCH_MAX):
            if not heap:
                return IDLE
            entry = heap[0]
            due_ns, serial, stream = entry
            if due_ns > now_ns:
                now_ns = clock()
                if due_ns > now_ns:
                    return due_ns
            if stream is None:
                heappop(heap)
                if due_ns == self._step_ns:  # else a step that was put forward
                    self._step(due_ns)
            elif self._send_chunk(stream, due_ns):
                gap_ns = self._itl_ns if self._plain_gap else self._gap_ns(stream.plan.draw)
                heapreplace(heap, (due_ns + gap_ns, serial, stream))
            elif heap[0] is entry:  # else its end gave its place away: the entry comes up again and goes then
                heappop(heap)
        return heap[0][0] if heap else IDLE

    def _send_chunk(self, stream: Stream, due_ns: int) -> bool:
        """Send the next chunk of a stream; False if no further one will come."""
        index = stream.index
        if not 0 < index < stream.plain_end:
            return self._send_special(stream, due_ns)
        connection = stream.connection
        if connection is None:
            return False
        data = stream.prefix + stream.tails[index % TOKEN_NAME_COUNT]
        stream.index = index + 1
        record = stream.record
        record.due_ns.append(due_ns)
        record.sent_ns.append(time.monotonic_ns())
        connection.write(data)
        return stream.connection is not None

    def _send_special(self, stream: Stream, due_ns: int) -> bool:
        """The same for the chunks that are not plain: the first, the last, those after a failure."""
        connection, plan = stream.connection, stream.plan
        if connection is None or (stream.index == stream.failure_index and not self._fail(stream)):
            return False
        first, last = stream.index == 0, stream.index == stream.chunk_last
        if first:
            self._metrics.prompt_tokens += plan.generation.prompt_tokens
            if plan.generation.stream and plan.generation.kind is Kind.CHAT:
                connection.write(plan.answer.role_event())
        data = stream.next_event() if plan.generation.stream else self._whole(stream) if last else b""
        stream.last_ns = time.monotonic_ns()
        if first:
            stream.first_ns = stream.last_ns
        stream.index += 1
        if data:
            stream.record.due_ns.append(due_ns)
            stream.record.sent_ns.append(stream.last_ns)
            connection.write(data)
        if last and stream.connection is not None:
            if plan.generation.stream:
                connection.write(plan.answer.ending(stream.output_tokens))
            self._finish(stream)
        return stream.connection is not None

    def _whole(self, stream: Stream) -> bytes:
        plan = stream.plan
        return answer(200, plan.answer.whole(stream.output_tokens, stream.finish_reason), keep_alive=plan.keep_alive)

    def _fail(self, stream: Stream) -> bool:
        """Let happen what was drawn for the stream; True if it goes on afterwards."""
        connection, plan = stream.connection, stream.plan
        if connection is None:
            return False
        stream.failure_index = NOWHERE
        streamed = plan.generation.stream
        if plan.failure == "keep_alive_comments" or (plan.failure == "garbage_chunk" and streamed):
            if streamed:
                connection.write(plan.answer.event(COMMENT if plan.failure == "keep_alive_comments" else GARBAGE_EVENT))
            return stream.connection is not None
        if plan.failure == "stall":
            stream.ready_ns = _NEVER_NS
            return False  # it keeps its place and its connection until the client leaves
        self.abort(stream, f"failed: {plan.failure}")
        if plan.failure == "reset":
            connection.reset()
        elif plan.failure == "error_chunk":
            content = error_content("the stand-in was told to fail", "InternalServerError", 500)
            ending = plan.answer.error_ending(content) if streamed else json_answer(500, content)
            connection.write(ending)
            connection.answered(keep_alive=plan.keep_alive)
        else:
            whole = self._whole(stream)
            if not streamed:
                connection.write(whole.replace(b'"', b"!") if plan.failure == "garbage_chunk" else whole[:-40])
            connection.close()
        return False

    # --- waits ------------------------------------------------------------------------------------------------

    def _gap_ns(self, draw: Callable[[], float] | None) -> int:
        return self._jittered(self._itl_ns + self._per_running_ns * len(self._running), draw)

    def _jittered(self, wait_ns: int, draw: Callable[[], float] | None) -> int:
        if draw is None or self.timing.jitter_share == 0:
            return wait_ns
        return round(wait_ns * (1 + self.timing.jitter_share * (2 * draw() - 1)))

    def _decoding(self) -> list[Stream]:
        return [stream for stream in self._running.values() if stream.index > 0 and stream.ready_ns != _NEVER_NS]

    def _schedule_step(self, due_ns: int) -> None:
        self._step_ns = due_ns
        heappush(self._heap, (due_ns, STEP, None))

    def _step(self, due_ns: int) -> None:
        """One step in lockstep: every stream that is ready gets its chunk; then the next step, if any is left."""
        self._step_ns = 0
        draw = None
        for stream in [stream for stream in self._running.values() if stream.ready_ns <= due_ns]:
            draw = stream.plan.draw
            self._send_chunk(stream, due_ns)
        batch = len(self._decoding())
        if batch:
            gap_ns = self._jittered(self._itl_ns + self._per_running_ns * batch, draw)
            self._schedule_step(due_ns + max(1, gap_ns))
            return
        ready_ns = min((stream.ready_ns for stream in self._running.values()), default=_NEVER_NS)
        if ready_ns != _NEVER_NS:
            self._schedule_step(max(due_ns + 1, ready_ns))
