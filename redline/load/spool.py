"""Answers that would not fit in memory go to a file while the run goes on, so that memory stays flat.

Short windows never touch it: `redline.load.bounds` decides. Writing happens between requests, in pieces.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from pathlib import Path
from typing import IO

from redline.load.exchange import Exchange

FLUSH_BYTES = 1 << 20


class Spool:
    """Ended exchanges in a temporary file; `take_back` fills one in again, later.

    The file has no name: it is gone with the process, whatever ends it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, prefix="redline-answers-")  # noqa: SIM115
        self._places: dict[int, tuple[int, int]] = {}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._end = 0

    @property
    def is_due(self) -> bool:
        """True if enough waits to be worth a write."""
        return self._waiting_bytes >= FLUSH_BYTES

    def keep(self, exchange: Exchange) -> None:
        """Take over what was read; the exchange keeps its times."""
        stamps = [[data for _, _, data in ancillary] for ancillary in exchange.ancillary]
        kinds = [[(level, kind) for level, kind, _ in ancillary] for ancillary in exchange.ancillary]
        record = marshal.dumps((exchange.reads, exchange.user_ns, stamps, kinds))
        self._places[exchange.index] = (self._end, len(record))
        self._end += len(record)
        self._waiting.append(record)
        self._waiting_bytes += len(record)
        exchange.let_go()

    def flush(self) -> None:
        """Write what waits, behind what was written before. Raises OSError if the disk refuses."""
        self._file.seek(0, os.SEEK_END)
        self._file.writelines(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def take_back(self, exchange: Exchange) -> None:
        """Fill in what `keep` took. Raises OSError as `flush` does."""
        if self._waiting:
            self.flush()
        start, length = self._places[exchange.index]
        self._file.seek(start)
        exchange.reads, exchange.user_ns, stamps, kinds = marshal.loads(self._file.read(length))  # noqa: S302 - ours
        exchange.ancillary = [
            [(level, kind, data) for (level, kind), data in zip(of_kinds, of_data, strict=True)]
            for of_kinds, of_data in zip(kinds, stamps, strict=True)
        ]

    def close(self) -> None:
        """Give the space back."""
        self._file.close()
