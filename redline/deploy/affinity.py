"""Keep server and client on CPUs of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def pin(pids: Iterable[int], cpu_ids: Iterable[int]) -> None:
    """Pin every thread of the processes to the CPUs; threads that end meanwhile are no error.

    A server is started on all CPUs and pinned when it is ready: its start is parallel, its service is not
    disturbed by the client's.
    """
    allowed = set(cpu_ids)
    for pid in pids:
        try:
            thread_ids = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            continue
        for thread_id in thread_ids:
            try:
                os.sched_setaffinity(thread_id, allowed)
            except ProcessLookupError:
                continue
