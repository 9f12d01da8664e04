"""The log of send times: its bounds, and that damage to its binary form is noticed."""

from __future__ import annotations

import json

import pytest

from redline.errors import DeployError
from redline.simulator.process import read_binary_log
from redline.simulator.send_log import CHUNKS_PER_REQUEST_MAX, SendLog, SendRecord


def ended(log: SendLog, name: str, chunk_count: int = 1) -> None:
    """A request that came and ended."""
    record = SendRecord(name, 1, 2)
    log.open(record)
    for index in range(chunk_count):
        record.due_ns.append(10 + index)
        record.sent_ns.append(20 + index)
    log.end(record, "finished", 30)


def names(log: SendLog) -> list[str]:
    """Who is in it."""
    return [request["id"] for request in json.loads(log.to_json())["requests"]]


def test_the_oldest_requests_go_first():
    """At its bound the log drops what ended first, and counts it."""
    log = SendLog(3)
    for name in "abcde":
        ended(log, name)
    assert names(log) == ["c", "d", "e"]
    assert read_binary_log(log.to_binary()).dropped == 2


def test_chunks_are_bounded_too():
    """Long answers push out more than one short one."""
    log = SendLog(3)
    ended(log, "a")
    ended(log, "b")
    ended(log, "c", 3 * CHUNKS_PER_REQUEST_MAX - 1)
    assert names(log) == ["b", "c"]


def test_open_requests_are_shown_and_stay():
    """A reset forgets what ended; what is open is shown as such until it ends, once."""
    log = SendLog(3)
    record = SendRecord("open", 1, 2)
    log.open(record)
    ended(log, "a")
    log.reset()
    [request] = json.loads(log.to_json())["requests"]
    assert (request["id"], request["end"], request["end_ns"]) == ("open", "open", 0)
    log.end(record, "aborted", 5)
    log.end(record, "finished", 6)
    [request] = json.loads(log.to_json())["requests"]
    assert (request["end"], request["end_ns"]) == ("aborted", 5)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:], lambda data: data[:10]])
def test_a_damaged_log_is_refused(damage):
    """A cut or changed log is no log."""
    log = SendLog(3)
    ended(log, "a", 5)
    whole = read_binary_log(log.to_binary())
    assert (whole.due_ns.tolist(), whole.sent_ns.tolist()) == ([10, 11, 12, 13, 14], [20, 21, 22, 23, 24])
    with pytest.raises(DeployError, match="binary log"):
        read_binary_log(damage(log.to_binary()))
