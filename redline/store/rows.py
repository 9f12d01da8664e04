"""A trial as rows of the database's tables, those that are no copies of the tables stored with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from redline.metrics import CATALOGUE, reading_of
from redline.model import BuildPin, SystemUnderTest, Trial
from redline.store.encoding import printable
from redline.store.trials import LoadedTrial


def _text_columns(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, pa.string()) for name in names]


_TEXTS = pa.map_(pa.string(), pa.string())
COLUMNS: Mapping[str, pa.Schema] = {
    "pins": pa.schema(
        _text_columns(
            "pin_id", "kind", "distribution", "version", "platform", "python_version", "wheel_sha256", "url", "lock"
        )
        + _text_columns("commit")
    ),
    "systems": pa.schema(
        [
            *_text_columns("sut_id", "pin_id", "label", "router_image", "router_config"),
            ("extra_args", pa.list_(pa.string())),
            ("models", pa.list_(pa.struct(_text_columns("recipe", "model")))),
        ]
    ),
    "trials": pa.schema(
        [
            *_text_columns("trial_id", "digest", "run_id", "arm", "sut_id", "spec", "scenario", "scenario_hash"),
            *_text_columns("runner_class", "fingerprint_id", "started_at", "status", "reported_version", "detail"),
            ("fingerprint_facts", _TEXTS),
            ("fingerprint_notes", _TEXTS),
            ("pair_index", pa.int64()),
            ("start_s", pa.float64()),
        ]
    ),
    "replicas": pa.schema(
        [
            *_text_columns("trial_id", "name"),
            ("replica", pa.int32()),
            ("device_uuids", pa.list_(pa.string())),
            ("start_s", pa.float64()),
        ]
    ),
    "validity": pa.schema(
        [
            *_text_columns("trial_id", "rule", "reading", "rule_limit"),
            ("position", pa.int64()),
            ("ok", pa.bool_()),
        ]
    ),
    "readings": pa.schema([*_text_columns("trial_id", "metric"), ("value", pa.float64())]),
    "figures": pa.schema([*_text_columns("trial_id", "figure"), ("value", pa.float64())]),
}
"""Table name -> the columns of its rows, in any order."""


def table_of(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of one of `COLUMNS`, their text fit for UTF-8."""
    return pa.Table.from_pylist([_printable(row) for row in rows], COLUMNS[name])


def trial_rows(loaded: LoadedTrial, sut_id: str) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The rows of one trial by table: all of `COLUMNS` but its pin and system, which other trials share."""
    trial = loaded.trial
    return {
        "trials": [_trial_row(loaded, sut_id)],
        "replicas": _replica_rows(trial),
        "validity": [
            {"trial_id": trial.trial_id, "position": position, "rule_limit": reading.limit}
            | {"rule": reading.rule, "reading": reading.reading, "ok": reading.ok}
            for position, reading in enumerate(trial.validity)
        ],
        "readings": _reading_rows(trial),
        "figures": [
            {"trial_id": trial.trial_id, "figure": name, "value": value}
            for name, value in sorted(trial.figures.items())
        ],
    }


def _printable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}


def _pairs(values: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted({printable(key): printable(value) for key, value in values.items()}.items())


def pin_row(pin: BuildPin, pin_id: str) -> dict[str, Any]:
    """The row of `pins`; `pin_id` is the pin's, which takes long to compute."""
    row = asdict(pin) | {"pin_id": pin_id, "kind": pin.kind.value}
    del row["spec"]  # how somebody asked for the build: it stands with the trial
    return row


def system_row(sut: SystemUnderTest, sut_id: str, pin_id: str) -> dict[str, Any]:
    """The row of `systems`; the ids are the system's and its pin's, which take long to compute."""
    return {
        "sut_id": sut_id,
        "pin_id": pin_id,
        "label": sut.label,
        "extra_args": [printable(argument) for argument in sut.extra_args],
        "models": [{"recipe": printable(recipe), "model": printable(model)} for recipe, model in sut.models],
        "router_image": sut.router.image if sut.router is not None else "",
        "router_config": printable(sut.router.config) if sut.router is not None else "",
    }


def _trial_row(loaded: LoadedTrial, sut_id: str) -> dict[str, Any]:
    trial = loaded.trial
    return {
        "trial_id": trial.trial_id,
        "digest": loaded.digest,
        "run_id": trial.run_id,
        "arm": trial.arm.value,
        "pair_index": trial.pair_index,
        "sut_id": sut_id,
        "spec": trial.sut.pin.spec,
        "scenario": trial.scenario,
        "scenario_hash": trial.scenario_hash,
        "runner_class": trial.runner_class,
        "fingerprint_id": trial.fingerprint.fingerprint_id,
        "fingerprint_facts": _pairs(trial.fingerprint.facts),
        "fingerprint_notes": _pairs(trial.fingerprint.notes),
        "started_at": trial.started_at,
        "status": trial.status.value,
        "reported_version": trial.reported_version,
        "start_s": trial.start_s,
        "detail": trial.detail,
    }


def _replica_rows(trial: Trial) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial.trial_id,
            "replica": index,
            "name": replica.name,
            "device_uuids": [printable(uuid) for uuid in replica.device_uuids],
            "start_s": replica.start_s,
        }
        for index, replica in enumerate(trial.replicas)
    ]


def _reading_rows(trial: Trial) -> list[dict[str, Any]]:
    """The defined readings. One that is not finite (a score of NaN, say) is undefined like any other."""
    rows = []
    for metric in CATALOGUE:
        try:
            reading = reading_of(trial, metric)
        except (ValueError, ArithmeticError):
            continue
        if reading is not None:
            rows.append({"trial_id": trial.trial_id, "metric": metric, "value": reading.value})
    return rows
