"""From a driven window to its records, and to what the client must say about its own stamps."""

from __future__ import annotations

from dataclasses import replace

from redline.access import redacted
from redline.load.client import DriveResult
from redline.load.exchange import Exchange, answer_of, stamps_of
from redline.load.timing import RawAnswer, understand
from redline.model import ClientReport, Outcome, Request, RequestRecord, StampSource, TokenCounts

SIMULATOR_HEADER = b"x-redline-simulator"
"""`redline simulate` says so in every answer: no measurement."""

_TRUST = (TokenCounts.IDS, TokenCounts.USAGE, TokenCounts.ASSUMED)


class Reporter:
    """Reads the answers of a window one by one and adds up what they say about the client."""

    def __init__(self, result: DriveResult, *, sent_key: str | None = None) -> None:
        """`sent_key`: the API key that went out, should an answer repeat it."""
        self._result = result
        self._key = sent_key
        self._reads = self._kernel_reads = 0
        self._chunks = self._coalesced = self._resent = 0
        self._counts = TokenCounts.IDS
        self._simulated = False

    def record_of(self, request: Request, exchange: Exchange) -> RequestRecord:
        """The record of one exchange; its bytes are let go."""
        result = self._result
        if result.spool is not None:
            result.spool.take_back(exchange)
        # Complete or not: an answer that lasts until the connection closes was ended by the connection's code.
        answer = answer_of(exchange.reads, list(stamps_of(exchange, result.offset)), closed=exchange.failure is None)
        exchange.let_go()
        start_ns = result.start_ns
        raw = RawAnswer(
            index=exchange.index,
            send_ns=(exchange.send_ns or exchange.done_ns) - start_ns,
            done_ns=self._done_ns(exchange, answer.body[-1][0] if answer.body else 0) - start_ns,
            answer=answer,
            failure=exchange.failure,
            detail=redacted(exchange.failure_detail, self._key),
            replica=exchange.replica,
            resent=exchange.resent,
        )
        due = replace(request, offset_ns=exchange.due_ns - start_ns)  # in a closed loop: when its place was free
        found = understand(due, raw, start_ns=start_ns)
        self._reads += answer.read_count
        self._kernel_reads += answer.kernel_count
        self._chunks += len(found.record.chunk_ns)
        self._coalesced += found.coalesced_count
        self._resent += exchange.resent
        if found.record.outcome is Outcome.OK:
            self._counts = max(self._counts, found.token_counts, key=_TRUST.index)
        self._simulated = self._simulated or (
            answer.head is not None and answer.head.header(SIMULATOR_HEADER) is not None
        )
        return replace(found.record, detail=redacted(found.record.detail, self._key))

    def _done_ns(self, exchange: Exchange, last_stamp_ns: int) -> int:
        """When the answer was complete: by the best stamp if all went well, else when it was given up."""
        return last_stamp_ns if exchange.failure is None and last_stamp_ns else exchange.done_ns

    def report(self) -> ClientReport:
        """What the client says about this window, after all its records were read."""
        result = self._result
        if self._kernel_reads == self._reads and self._reads:
            stamps = StampSource.KERNEL
        else:
            stamps = StampSource.MIXED if self._kernel_reads else StampSource.USER
        return ClientReport(
            cpu_s=result.cpu_s,
            stamps=stamps,
            token_counts=self._counts,
            chunk_count=self._chunks,
            coalesced_count=self._coalesced,
            connection_count=result.connection_count,
            resent_count=self._resent,
            clock_step_ns=result.offset.step_ns,
            tls=result.tls,
            simulated=self._simulated,
        )
