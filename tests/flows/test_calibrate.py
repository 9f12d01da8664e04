"""`redline calibrate` on this machine: a real client, a real stand-in, the truth from its log."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from flows import calibrate
from flows.workspace import Workspace, content_root
from redline.errors import InvalidMeasurementError, LoadError, RunnerBusyError, UsageError
from redline.load.worker import Window
from redline.model import Outcome, RequestRecord, StampSource
from redline.runner.fingerprint import read_fingerprint
from redline.runner.lock import runner_lock
from redline.simulator.process import _REQUEST_DTYPE, BinaryLog
from redline.store.calibrations import read_calibration
from tests.store.trial_examples import CLIENT


def window_and_log(error_ns=0, slip_ns=0):
    """Ten requests a second apart, three chunks each, every stamp late by `error_ns`, every sending by `slip_ns`."""
    start_ns = 5_000_000_000
    records: list[RequestRecord] = []
    rows: list[tuple[object, ...]] = []
    sent: list[int] = []
    for index in range(10):
        sched_ns = index * 1_000_000_000
        send_ns = sched_ns + slip_ns
        chunks = [send_ns + 50_000_000 + gap for gap in (0, 10_000_000, 20_000_000)]
        rows.append((f"calibrate-{index}", b"done", 0, start_ns + send_ns, 0, len(sent), 3))
        sent += [start_ns + chunk for chunk in chunks]
        records.append(
            RequestRecord(
                index=index,
                outcome=Outcome.OK,
                sched_ns=sched_ns,
                send_ns=send_ns,
                done_ns=chunks[-1],
                chunk_ns=tuple(chunk + error_ns for chunk in chunks),
                chunk_tokens=(1, 1, 1),
                prompt_tokens=4,
                output_tokens=3,
                output_text="",
                finish_reason="length",
            )
        )
    log = BinaryLog(np.array(rows, dtype=_REQUEST_DTYPE), np.array(sent), np.array(sent), 0)
    return Window("2026-11-21T10:00:00+00:00", start_ns, 10_000_000_000, tuple(records), CLIENT), log


def test_errors_are_stamps_minus_the_truth():
    """Stamps that are late by 3 ms are an error of 3 ms in TTFT and chunks; sendings late by 1 ms a slip of 1 ms."""
    rung = calibrate.rung_of(1.0, 3, *window_and_log(error_ns=3_000_000, slip_ns=1_000_000))
    assert rung.chunk_error_s_p50 == rung.chunk_error_s_p99 == pytest.approx(0.003)
    assert rung.ttft_error_s_p99 == pytest.approx(0.003)
    assert rung.slip_s_p99 == pytest.approx(0.001)
    assert rung.held


@pytest.mark.parametrize("slip_ns", [6_000_000, 400_000_000])
def test_a_late_client_has_not_held_the_rate(slip_ns):
    """Late by more than 5 ms at p99 is a rate that this machine's client is not calibrated for."""
    assert not calibrate.rung_of(1.0, 3, *window_and_log(slip_ns=slip_ns)).held


def test_a_failed_request_is_a_rate_not_held():
    """A rate at which requests get lost was not held, however exact the rest."""
    window, log = window_and_log()
    lost = replace(window.records[3], outcome=Outcome.TIMEOUT, chunk_ns=(), chunk_tokens=())
    rung = calibrate.rung_of(1.0, 3, replace(window, records=(*window.records[:3], lost, *window.records[4:])), log)
    assert not rung.held


def test_a_log_that_does_not_match_is_an_error():
    """Errors against another run's truth would be fiction."""
    window, log = window_and_log()
    with pytest.raises(LoadError, match="does not match"):
        calibrate.rung_of(1.0, 3, window, replace(log, requests=log.requests[1:]))


LATE_MS_MIN = 2.0
"""A refused first rung is late by more: by 5 ms at p99, or by a hundredth of its schedule of about half a second."""


def calibrated(state_dir):
    """(the lines, the stored calibration, the refusal) of a small ladder; of the last two one is None."""
    chosen = calibrate.options(state_dir, rates=[100.0, 50.0], seconds=0.5, wait_s=400.0, quiet=True)
    lines: list[str] = []
    refusal = None
    try:
        lines.extend(calibrate.calibrate(chosen))  # those before an error stay
    except InvalidMeasurementError as error:
        refusal = error
    directory = Workspace(content_root(), state_dir).calibrations_dir
    return lines, read_calibration(directory, read_fingerprint().fingerprint_id), refusal


def require_refusal(lines, refusal):
    """Refused because the client was late, by figures that the ladder shows too; nothing that was asked for is lost."""
    slip_ms = re.fullmatch(r"not held: lost or late requests, slip p99 ([0-9.]+) ms", refusal.found)
    assert slip_ms is not None, refusal.found
    assert float(slip_ms[1]) > LATE_MS_MIN
    assert refusal.expected == "50 requests a second held"
    head, first, second = lines
    assert head.startswith("req/s  chunks  held")
    rate, chunks, held, slips = first.split()[:4]
    assert (rate, chunks, held) == ("50", "32", "no")
    assert float(slips.partition("/")[2]) == pytest.approx(float(slip_ms[1]), abs=0.06)
    assert second.startswith("  100")


def test_this_machines_client_is_calibrated_for_real(tmp_path):
    """Client and stand-in in processes of their own: a ladder, errors above nought and below the ITL, a stored file.

    On a machine so busy that the client is late at the lowest rate, the honest answer is a refusal that says how late,
    and nothing is stored.
    """
    lines, stored, refusal = calibrated(tmp_path)
    if refusal is not None:
        require_refusal(lines, refusal)
        assert stored is None
        return
    assert stored is not None
    assert [rung.rate_per_s for rung in stored.rungs] == [50.0, 100.0]
    assert stored.rungs[0].held
    assert stored.stamps is StampSource.KERNEL
    for rung in stored.rungs:
        assert 0 < rung.chunk_error_s_p50 < 0.01
        assert 0 < rung.slip_s_p50 <= rung.slip_s_p99
        assert rung.slip_s_p99 <= 0.005 or not rung.held
        assert 0 < rung.cpu_share < 1
    assert any(line.startswith("   50") for line in lines)
    assert lines[-1].endswith(".json")


@pytest.mark.parametrize(("rates", "seconds"), [([0.5], 5), ([50.0, -1.0], 5), ([50.0], 0.1), ([float("nan")], 5)])
def test_a_ladder_that_makes_no_sense_is_refused(tmp_path, rates, seconds):
    """Before anything is started."""
    with pytest.raises(UsageError, match="cannot be calibrated"):
        calibrate.options(tmp_path, rates=rates, seconds=seconds, wait_s=1, quiet=True)


def test_it_waits_for_the_machine(tmp_path):
    """Two measurements at once would measure each other."""
    chosen = calibrate.options(tmp_path, rates=[50.0], seconds=0.5, wait_s=0.2, quiet=True)
    with runner_lock(400.0, lambda _: None), pytest.raises(RunnerBusyError):
        list(calibrate.calibrate(chosen))
