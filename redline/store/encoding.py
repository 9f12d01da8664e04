"""A trial as it is stored, and back, exactly: a manifest of scalar facts and four Arrow tables.

Pure. Two things a plain encoding would lose are kept here: text that is not valid Unicode (a server may
stream half a surrogate pair, and Parquet refuses it) goes to the table in a readable escaped form and to
the manifest exactly; and the pin's `spec`, which is how somebody asked for a build and no part of its
identity, stays with the trial while the pin itself is stored once.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    ClientReport,
    Outcome,
    Repeat,
    Replica,
    RequestRecord,
    RouterPin,
    RunnerFingerprint,
    StampSource,
    SystemUnderTest,
    TelemetrySample,
    TokenCounts,
    Trial,
    TrialStatus,
    ValidityReading,
    digest,
    require,
)
from redline.store.table_schemas import SCHEMAS

SCHEMA_VERSION = 2
"""What a manifest of version 2 from before lacks (figures, replicas, telemetry) is read as a trial without."""

PIN_SCHEMA_VERSION = 1

TRIAL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A trial id is a directory name and nothing else: no separators, no leading dot, at most 128 characters."""

_CLIENT_FIELDS = tuple(ClientReport.__dataclass_fields__)
_CLIENT = "client_"


@dataclass(frozen=True, slots=True)
class EncodedTrial:
    """A trial ready to be written: `manifest` is JSON-ready, `tables` follow `SCHEMAS`."""

    manifest: Mapping[str, Any]
    tables: Mapping[str, pa.Table]

    def canonical(self) -> str:
        """One text per content: equal exactly when two trials say the same, NaN included."""
        rows = {name: table.to_pylist() for name, table in self.tables.items()}
        return json.dumps([self.manifest, rows], sort_keys=True)


def printable(text: str) -> str:
    """The text with everything that is not valid Unicode written as an escape, so that UTF-8 can hold it."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- trial -> rows ------------------------------------------------------------------------------------------


def encode(trial: Trial) -> EncodedTrial:
    """A trial's manifest and tables.

    Raises ValueError for what the store cannot hold (an id that is no directory name, two repeats with one
    index, two requests of a repeat with one index, telemetry that is not finite) and OverflowError beyond 64-bit
    integers.
    """
    require(
        TRIAL_ID.fullmatch(trial.trial_id) is not None,
        f"trial_id must match {TRIAL_ID.pattern}, found {trial.trial_id!r}",
    )
    _require_distinct("repeat index", [repeat.index for repeat in trial.repeats])
    for repeat in trial.repeats:
        _require_distinct(f"request index of repeat {repeat.index}", [record.index for record in repeat.records])
    rows: dict[str, list[tuple[Any, ...]]] = {
        "requests": [_request_row(trial, repeat, record) for repeat in trial.repeats for record in repeat.records],
        "repeats": [_repeat_row(trial, repeat) for repeat in trial.repeats],
        "server_counters": [
            (trial.trial_id, repeat.index, name, float(value))
            for repeat in trial.repeats
            for name, value in sorted(repeat.server_counters.items())
        ],
        "telemetry": [_telemetry_row(trial, repeat, sample) for repeat in trial.repeats for sample in repeat.telemetry],
    }
    not_utf8: list[list[Any]] = []
    tables = {name: _table(name, values, not_utf8) for name, values in rows.items()}
    return EncodedTrial(_manifest(trial) | {"not_utf8": not_utf8}, tables)


def _require_distinct(what: str, values: Sequence[int]) -> None:
    require(len(set(values)) == len(values), f"every {what} must occur once, found {sorted(values)}")


def _request_row(trial: Trial, repeat: Repeat, record: RequestRecord) -> tuple[Any, ...]:
    return (
        trial.trial_id,
        repeat.index,
        record.index,
        record.outcome.value,
        record.sched_ns,
        record.send_ns,
        record.done_ns,
        record.chunk_ns,
        record.chunk_tokens,
        record.prompt_tokens,
        record.output_tokens,
        record.output_text,
        record.finish_reason,
        record.detail,
        record.score,
        record.replica,
        record.resent,
    )


def _repeat_row(trial: Trial, repeat: Repeat) -> tuple[Any, ...]:
    return (
        trial.trial_id,
        repeat.index,
        repeat.started_at,
        repeat.duration_ns,
        repeat.foreign_cpu_share,
        repeat.steal_share,
        repeat.drop_reason,
        *(getattr(repeat.client, name) for name in _CLIENT_FIELDS),
    )


def _telemetry_row(trial: Trial, repeat: Repeat, sample: TelemetrySample) -> tuple[Any, ...]:
    require(
        math.isfinite(sample.value),
        f"{sample.name} of {sample.source} in repeat {repeat.index} must be finite, found {sample.value}",
    )
    return (trial.trial_id, repeat.index, sample.at_ns, sample.source, sample.name, float(sample.value))


def _table(name: str, rows: Sequence[tuple[Any, ...]], not_utf8: list[list[Any]]) -> pa.Table:
    """The rows as an Arrow table; text UTF-8 cannot hold is appended to `not_utf8` exactly."""
    schema = SCHEMAS[name]
    arrays = []
    for position, column in enumerate(schema):
        values = [row[position] for row in rows]
        if pa.types.is_string(column.type):
            values = [_escaped(name, column.name, row, text, not_utf8) for row, text in enumerate(values)]
        arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _escaped(table: str, column: str, row: int, text: str, not_utf8: list[list[Any]]) -> str:
    shown = printable(text)
    if shown != text:
        not_utf8.append([table, column, row, text])
    return shown


def _manifest(trial: Trial) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "trial_id": trial.trial_id,
        "run_id": trial.run_id,
        "arm": trial.arm.value,
        "pair_index": trial.pair_index,
        "sut": {
            "pin_id": trial.sut.pin.pin_id,
            "spec": trial.sut.pin.spec,
            "extra_args": list(trial.sut.extra_args),
            "models": [list(pair) for pair in trial.sut.models],
            **({} if trial.sut.router is None else {"router": asdict(trial.sut.router)}),
        },
        "scenario": trial.scenario,
        "scenario_hash": trial.scenario_hash,
        "runner_class": trial.runner_class,
        "fingerprint": {"facts": dict(trial.fingerprint.facts), "notes": dict(trial.fingerprint.notes)},
        "started_at": trial.started_at,
        "status": trial.status.value,
        "reported_version": trial.reported_version,
        "start_s": float(trial.start_s),
        "detail": trial.detail,
        "validity": [asdict(reading) for reading in trial.validity],
        "figures": {name: float(value) for name, value in sorted(trial.figures.items())},
        "replicas": [asdict(replica) for replica in trial.replicas],
    }


# --- rows -> trial ------------------------------------------------------------------------------------------


def decode(manifest: Mapping[str, Any], tables: Mapping[str, pa.Table], pin: BuildPin) -> Trial:
    """The trial these say, of the pin that `decode_pin` found under the manifest's `pin_id`.

    Raises ValueError, KeyError, TypeError or IndexError if they contradict each other.
    """
    trial_id = manifest["trial_id"]
    columns = {name: _columns(name, tables[name], manifest["not_utf8"]) for name in SCHEMAS}
    for name, of_table in columns.items():
        require(set(of_table["trial_id"]) <= {trial_id}, f"{name} holds rows of another trial")
    fingerprint = manifest["fingerprint"]
    return Trial(
        trial_id=trial_id,
        run_id=manifest["run_id"],
        arm=Arm(manifest["arm"]),
        pair_index=manifest["pair_index"],
        sut=SystemUnderTest(
            pin=pin,
            extra_args=tuple(manifest["sut"]["extra_args"]),
            models=tuple((recipe, model) for recipe, model in manifest["sut"]["models"]),
            router=RouterPin(**manifest["sut"]["router"]) if "router" in manifest["sut"] else None,
        ),
        scenario=manifest["scenario"],
        scenario_hash=manifest["scenario_hash"],
        runner_class=manifest["runner_class"],
        fingerprint=RunnerFingerprint(dict(fingerprint["facts"]), dict(fingerprint["notes"])),
        started_at=manifest["started_at"],
        status=TrialStatus(manifest["status"]),
        reported_version=manifest["reported_version"],
        start_s=manifest["start_s"],
        repeats=_repeats(columns),
        validity=tuple(ValidityReading(**reading) for reading in manifest["validity"]),
        detail=manifest["detail"],
        figures=dict(manifest.get("figures", {})),
        replicas=tuple(_replica(values) for values in manifest.get("replicas", [])),
    )


def _replica(values: Mapping[str, Any]) -> Replica:
    return Replica(values["name"], tuple(values["device_uuids"]), values["start_s"])


def _columns(name: str, table: pa.Table, not_utf8: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    require(table.schema.equals(SCHEMAS[name]), f"{name} must have the columns {SCHEMAS[name].names}")
    columns = {
        field.name: _tuples(table.column(field.name)) if pa.types.is_list(field.type) else table[field.name].to_pylist()
        for field in table.schema
    }
    for of_table, column, row, text in not_utf8:
        if of_table == name:
            columns[column][row] = text
    return columns


def _tuples(column: pa.ChunkedArray) -> list[tuple[int, ...]]:
    """A list column as tuples: flattened once, since Arrow's own conversion makes an object per element."""
    found: list[tuple[int, ...]] = []
    for chunk in column.chunks:
        values = chunk.values.to_numpy(zero_copy_only=False).tolist()
        offsets = chunk.offsets.to_pylist()
        found += [tuple(values[start:end]) for start, end in itertools.pairwise(offsets)]
    return found


def _repeats(columns: Mapping[str, Mapping[str, list[Any]]]) -> tuple[Repeat, ...]:
    indices = columns["repeats"]["index"]
    _require_distinct("repeat index", indices)
    records: dict[int, list[RequestRecord]] = {index: [] for index in indices}
    for values in _rows(columns["requests"]):
        values.pop("trial_id")
        values["outcome"] = Outcome(values["outcome"])
        records[values.pop("repeat")].append(RequestRecord(**values))
    counters: dict[int, dict[str, float]] = {index: {} for index in indices}
    for values in _rows(columns["server_counters"]):
        counters[values["repeat"]][values["name"]] = values["value"]
    telemetry: dict[int, list[TelemetrySample]] = {index: [] for index in indices}
    for values in _rows(columns["telemetry"]):
        values.pop("trial_id")
        telemetry[values.pop("repeat")].append(TelemetrySample(**values))
    repeats = []
    for values in _rows(columns["repeats"]):
        values.pop("trial_id")
        index = values["index"]
        client = {name: values.pop(f"{_CLIENT}{name}") for name in _CLIENT_FIELDS}
        client |= {
            "stamps": StampSource(client["stamps"]),
            "token_counts": TokenCounts(client["token_counts"]),
        }
        _require_distinct(f"request index of repeat {index}", [record.index for record in records[index]])
        repeats.append(
            Repeat(
                records=tuple(records[index]),
                server_counters=counters[index],
                client=ClientReport(**client),
                telemetry=tuple(telemetry[index]),
                **values,
            )
        )
    return tuple(repeats)


def _rows(columns: Mapping[str, list[Any]]) -> Iterable[dict[str, Any]]:
    names = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(names, values, strict=True))


# --- pins ---------------------------------------------------------------------------------------------------


def encode_pin(pin: BuildPin) -> str:
    """The pin as JSON text without its `spec`; pins with one `pin_id` give one text."""
    return json.dumps(pin.content | {"spec": "", "schema_version": PIN_SCHEMA_VERSION}, indent=1, sort_keys=True) + "\n"


@functools.lru_cache(maxsize=32)  # most trials share a few pins, and checking 350 KB takes longer than the rest
def decode_pin(text: str, *, pin_id: str, spec: str) -> BuildPin:
    """The pin of a text, asked for as `spec`. Raises ValueError if its content is not that of `pin_id`."""
    values = json.loads(text)
    version = values.pop("schema_version")
    require(version == PIN_SCHEMA_VERSION, f"schema_version must be {PIN_SCHEMA_VERSION}, found {version}")
    pin = BuildPin(**values | {"kind": BuildKind(values["kind"]), "spec": spec})
    require(pin.pin_id == pin_id, f"the content must be that of pin {pin_id}, found {pin.pin_id}")
    return pin


def digest_of(manifest: Mapping[str, Any]) -> str:
    """16 hex digits over a manifest without its own `digest`."""
    return digest({key: value for key, value in manifest.items() if key != "digest"})
