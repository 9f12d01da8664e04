"""The C client: what a client on this machine could reach at most."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.load.compiler import compiled, compiler_version
from benchmarks.load.driver import Command, Place, Task, WallClock
from benchmarks.load.report import ClientReport, from_stamps

SOURCE = Path(__file__).resolve().parents[1] / "c_client.c"
WARM_FACTOR = 1.5
_HEAD_FIELDS = 4
_HEAD_BYTES = _HEAD_FIELDS * 8


class CEpoll:
    """`benchmarks/load/c_client.c`, compiled with gcc -O2."""

    name = "c"
    comparable = "Everything: it stamps its schedule, sends and reads itself, in user space. It parses nothing."

    def prepare(self, place: Place) -> str:
        """Compile it. Raises DriverError where there is no compiler."""
        compiled(SOURCE, place.work)
        return compiler_version()

    def command(self, task: Task) -> Command:
        """The program with a binary schedule and connections opened beforehand: rate x answer time x 1.5."""
        schedule = task.directory / "schedule.bin"
        schedule.write_bytes(task.due_s.astype(np.float64).tobytes())
        count, workload = len(task.due_s), task.cell.workload
        warm = min(count, round(task.cell.rate_per_s * workload.answer_s * WARM_FACTOR) + 8)
        arguments = (task.port, schedule, count, workload.chunk_count, warm, _output(task))
        return Command((str(compiled(SOURCE, task.place.work)), *map(str, arguments)))

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its log; an event gets the stamp of the read that ended it."""
        del clock
        return read_log(_output(task), task.cell.workload.chunk_count)


def _output(task: Task) -> Path:
    return task.directory / "c_client.bin"


def read_log(path: Path, chunk_count: int) -> ClientReport:
    """The report in the client's log; the events after the last chunk (usage, [DONE]) are no chunks."""
    content, position = path.read_bytes(), 0
    due_ns, send_ns, chunk_ns = [], [], []
    while position < len(content):
        due, send, _done, reads = (int(value) for value in np.frombuffer(content, np.uint64, _HEAD_FIELDS, position))
        position += _HEAD_BYTES
        stamps = np.frombuffer(content, np.int64, reads, position)
        events = np.frombuffer(content, np.uint32, reads, position + 8 * reads)
        position += 12 * reads
        due_ns.append(due)
        send_ns.append(send)
        chunk_ns.append(np.repeat(stamps, events)[:chunk_count])
    return from_stamps(
        keys=[f"r{index}" for index in range(len(due_ns))],
        due_ns=np.array(due_ns, dtype=np.int64),
        send_ns=np.array(send_ns, dtype=np.int64),
        chunk_ns=chunk_ns,
        failed_count=0,
    )
