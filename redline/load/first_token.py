"""Whether an answer has brought its first generated token yet, looked at as it comes.

Only a driver that must say so at once needs this: the native one reads answers after the run.
"""

from __future__ import annotations

from collections.abc import Callable

from redline.load.exchange import Answer, Exchange
from redline.load.http1 import MalformedError, ResponseReader
from redline.load.timing import RawAnswer, understand
from redline.model import Request

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class FirstToken:
    """Follows one streamed answer up to its first token; `redline.load.timing` says what a token is."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reader = ResponseReader("POST")
        self._body = b""

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes of the answer; True once they hold a generated token.

        A role alone, a comment or an empty chunk is none. An answer that is not streamed has its tokens at its end,
        which is not looked for here. Never raises: who reads the whole answer finds out what is wrong with it.
        """
        try:
            self._body += self._reader.feed(piece)
        except MalformedError:
            return False
        if self._reader.head is None or not self._request.stream or not self._body:
            return False
        body = ((0, self._body),)
        answer = Answer(self._reader.head, body, complete=False, kernel_count=0, read_count=1, problem="")
        if understand(self._request, RawAnswer(self._request.index, 0, 0, answer)).record.chunk_ns:
            return True
        if self._body.endswith(_EVENT_ENDS):
            self._body = b""  # whole events without a token: not to be read again
        return False


class FirstTokenReads(list[bytes]):
    """The reads of an exchange that calls back once, within the read that brings the first token.

    From then on the exchange has a plain list: what follows costs nothing.
    """

    def __init__(self, request: Request, exchange: Exchange, on_first_token: Callable[[], None]) -> None:
        super().__init__()
        self._watch = FirstToken(request)
        self._exchange = exchange
        self._on_first_token = on_first_token

    def append(self, piece: bytes) -> None:
        """One more read."""
        super().append(piece)
        if self._watch.feed(piece):
            self._exchange.reads = list(self)
            self._on_first_token()
