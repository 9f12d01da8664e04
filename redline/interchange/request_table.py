"""Every request of some trials as one flat Arrow table, with what it belongs to in columns of its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from redline.metrics import e2e_s, schedule_lag_s, tpot_s, ttft_s, ttft_sent_s
from redline.model import Repeat, RequestRecord, Trial

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()

_Value = Callable[[Trial, Repeat, RequestRecord], Any]


def _text(value: str) -> str:
    """The text with lone surrogates, which a server may stream and Parquet refuses, as visible escapes."""
    return value.encode("utf-8", "backslashreplace").decode()


# Column -> (type, value). Times are integer nanoseconds since the start of the repeat; `_s` columns are seconds.
_COLUMNS: dict[str, tuple[pa.DataType, _Value]] = {
    "run": (_TEXT, lambda trial, _repeat, _record: _text(trial.run_id)),
    "trial": (_TEXT, lambda trial, _repeat, _record: _text(trial.trial_id)),
    "arm": (_TEXT, lambda trial, _repeat, _record: trial.arm.value),
    "pair_index": (_INT, lambda trial, _repeat, _record: trial.pair_index),
    "status": (_TEXT, lambda trial, _repeat, _record: trial.status.value),
    "build": (_TEXT, lambda trial, _repeat, _record: _text(trial.sut.label)),
    "pin_id": (_TEXT, lambda trial, _repeat, _record: trial.sut.pin.pin_id),
    "wheel_sha256": (_TEXT, lambda trial, _repeat, _record: trial.sut.pin.wheel_sha256),
    "scenario": (_TEXT, lambda trial, _repeat, _record: _text(trial.scenario)),
    "scenario_hash": (_TEXT, lambda trial, _repeat, _record: _text(trial.scenario_hash)),
    "runner": (_TEXT, lambda trial, _repeat, _record: _text(trial.runner_class)),
    "fingerprint_id": (_TEXT, lambda trial, _repeat, _record: trial.fingerprint.fingerprint_id),
    "repeat": (_INT, lambda _trial, repeat, _record: repeat.index),
    "repeat_started_at": (_TEXT, lambda _trial, repeat, _record: _text(repeat.started_at)),
    "client_stamps": (_TEXT, lambda _trial, repeat, _record: repeat.client.stamps.value),
    "client_simulated": (pa.bool_(), lambda _trial, repeat, _record: repeat.client.simulated),
    "drop_reason": (_TEXT, lambda _trial, repeat, _record: _text(repeat.drop_reason)),
    "replica": (_INT, lambda _trial, _repeat, record: record.replica),
    "resent": (pa.bool_(), lambda _trial, _repeat, record: record.resent),
    "index": (_INT, lambda _trial, _repeat, record: record.index),
    "outcome": (_TEXT, lambda _trial, _repeat, record: record.outcome.value),
    "detail": (_TEXT, lambda _trial, _repeat, record: _text(record.detail)),
    "sched_ns": (_INT, lambda _trial, _repeat, record: record.sched_ns),
    "send_ns": (_INT, lambda _trial, _repeat, record: record.send_ns),
    "done_ns": (_INT, lambda _trial, _repeat, record: record.done_ns),
    "chunk_ns": (pa.list_(_INT), lambda _trial, _repeat, record: record.chunk_ns),
    "chunk_tokens": (pa.list_(_INT), lambda _trial, _repeat, record: record.chunk_tokens),
    "prompt_tokens": (_INT, lambda _trial, _repeat, record: record.prompt_tokens),
    "output_tokens": (_INT, lambda _trial, _repeat, record: record.output_tokens),
    "output_text": (_TEXT, lambda _trial, _repeat, record: _text(record.output_text)),
    "finish_reason": (_TEXT, lambda _trial, _repeat, record: _text(record.finish_reason)),
    "score": (_FLOAT, lambda _trial, _repeat, record: record.score),
    "schedule_lag_s": (_FLOAT, lambda _trial, _repeat, record: schedule_lag_s(record)),
    "ttft_s": (_FLOAT, lambda _trial, _repeat, record: ttft_s(record)),
    "ttft_sent_s": (_FLOAT, lambda _trial, _repeat, record: ttft_sent_s(record)),
    "tpot_s": (_FLOAT, lambda _trial, _repeat, record: tpot_s(record)),
    "e2e_s": (_FLOAT, lambda _trial, _repeat, record: e2e_s(record)),
}

SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in _COLUMNS.items()])


def request_table(trials: Iterable[Trial]) -> pa.Table:
    """One row per trial, repeat and request, dropped repeats and failed requests among them; see `SCHEMA`."""
    rows = [(trial, repeat, record) for trial in trials for repeat in trial.repeats for record in repeat.records]
    columns = [pa.array([value(*row) for row in rows], type=kind) for kind, value in _COLUMNS.values()]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def to_parquet(trials: Iterable[Trial]) -> bytes:
    """The table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(request_table(trials), sink, compression="zstd")
    return sink.getvalue()
