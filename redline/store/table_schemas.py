"""The tables that are stored with a trial: their columns, in order."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

_TEXT = pa.string()
_INT = pa.int64()
_FLOAT = pa.float64()


def _schema(columns: Mapping[str, pa.DataType], nullable: frozenset[str] = frozenset()) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=name in nullable) for name, kind in columns.items()])


SCHEMAS: Mapping[str, pa.Schema] = {
    "requests": _schema(
        {
            "trial_id": _TEXT,
            "repeat": _INT,
            "index": _INT,
            "outcome": _TEXT,
            "sched_ns": _INT,
            "send_ns": _INT,
            "done_ns": _INT,
            "chunk_ns": pa.list_(_INT),
            "chunk_tokens": pa.list_(pa.int32()),
            "prompt_tokens": _INT,
            "output_tokens": _INT,
            "output_text": _TEXT,
            "finish_reason": _TEXT,
            "detail": _TEXT,
            "score": _FLOAT,
            "replica": pa.int32(),
            "resent": pa.bool_(),
        },
        frozenset({"score"}),
    ),
    "repeats": _schema(
        {
            "trial_id": _TEXT,
            "index": _INT,
            "started_at": _TEXT,
            "duration_ns": _INT,
            "foreign_cpu_share": _FLOAT,
            "steal_share": _FLOAT,
            "drop_reason": _TEXT,
            "client_cpu_s": _FLOAT,
            "client_stamps": _TEXT,
            "client_token_counts": _TEXT,
            "client_chunk_count": _INT,
            "client_coalesced_count": _INT,
            "client_connection_count": _INT,
            "client_resent_count": _INT,
            "client_clock_step_ns": _INT,
            "client_tls": pa.bool_(),
            "client_simulated": pa.bool_(),
        },
        frozenset({"foreign_cpu_share"}),
    ),
    "server_counters": _schema({"trial_id": _TEXT, "repeat": _INT, "name": _TEXT, "value": _FLOAT}),
    "telemetry": _schema(
        {"trial_id": _TEXT, "repeat": _INT, "at_ns": _INT, "source": _TEXT, "name": _TEXT, "value": _FLOAT}
    ),
}
"""Table name -> Arrow schema. The file of a table is `<name>.parquet`."""

ADDED = frozenset({"telemetry"})
"""Tables that trials of earlier times lack: where the manifest does not name their file, they are empty."""
