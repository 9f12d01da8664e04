"""Times are compared once more only where a hold-up was measured: nothing that is wrong is passed by trying again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from redline.load.worker import Window, load_worker
from redline.simulator.process import RunningSimulator, simulator
from tests.load.hold_ups import TRIES, TimesDifferError, hold_ups, in_quiet
from tests.load.test_loadgen_driver import PACED, SERVER, plan_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[RunningSimulator]:
    """A stand-in of a known pace."""
    with simulator(PACED) as running:
        yield running


def test_only_a_measured_hold_up_earns_another_try(server: RunningSimulator, tmp_path: Path) -> None:
    """Times that differ while nobody was late fail at once; where the client was late by its figures, at the last."""
    with load_worker() as worker:
        window = worker.run(plan_of(server.base_url, SERVER))
    prompt = replace(
        window,
        duration_ns=max(record.done_ns for record in window.records),
        records=tuple(replace(record, send_ns=record.sched_ns) for record in window.records),
        client=replace(window.client, coalesced_count=0),
    )
    late = replace(prompt.records[7], send_ns=prompt.records[7].sched_ns + 30_000_000)
    slipped = replace(prompt, records=(*prompt.records[:7], late, *prompt.records[8:]))
    clogged = replace(prompt, client=replace(window.client, coalesced_count=window.client.chunk_count))
    overdue = replace(prompt, duration_ns=prompt.duration_ns + 30_000_000)
    log = server.binary_log()
    quiet = replace(log, sent_ns=log.due_ns)
    assert hold_ups([prompt], quiet) == []
    assert hold_ups([prompt, slipped], quiet) == ["sending in window 1 (30 ms)"]
    assert hold_ups([clogged], quiet) == ["reading in window 0 (100 % of chunks)"]
    assert hold_ups([overdue], quiet) == ["the end of window 0 (30 ms)"]
    assert hold_ups([prompt], replace(quiet, sent_ns=log.due_ns + 30_000_000)) == ["the stand-in (30 ms)"]

    tried: list[Path] = []

    def differ(found: Window, logs: Path) -> None:
        tried.append(logs)
        raise TimesDifferError("so", found)

    for found, tries in ((prompt, 1), (slipped, TRIES)):
        tried.clear()
        with pytest.raises(TimesDifferError):
            in_quiet(server, partial(differ, found), tmp_path)
        assert len(tried) == len(set(tried)) == tries
