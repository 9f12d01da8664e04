"""The one place of this package that meets files: export trials to them, import other tools' results from them."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from redline.errors import ContentError, RedlineError, UsageError
from redline.interchange import guidellm, vllm_bench_import
from redline.interchange.github_action_benchmark import to_github_action_benchmark
from redline.interchange.history import CellError, HistoryRow, read_history, repeated
from redline.interchange.pytorch_hud import HudJob, to_pytorch_hud
from redline.interchange.readings import ImportedRun, history_rows
from redline.interchange.request_table import to_parquet
from redline.interchange.vllm_bench import ServeSettings, to_vllm_bench
from redline.interchange.whole_file import read_whole, write_whole
from redline.model import Trial

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EXPECTED = (
    "JSON of vllm bench serve --save-result (or --append-result), a GuideLLM report of version 2, "
    "or a history of Redline (.csv, .parquet)"
)


# --- export -------------------------------------------------------------------------------------------------


class ExportFormat(enum.StrEnum):
    """What trials can be exported to."""

    VLLM_BENCH = "vllm-bench"
    PYTORCH_HUD = "pytorch-hud"
    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What the formats hold and trials do not.

    `serve`: scenario -> the load as vLLM names it; `job`: None is no CI job, at the time the last trial began.
    """

    serve: Mapping[str, ServeSettings] = field(default_factory=dict)
    job: HudJob | None = None


def export(
    trials: Sequence[Trial], export_format: ExportFormat, directory: Path, settings: ExportSettings | None = None
) -> tuple[Path, ...]:
    """The files written to `directory`, each whole; an older file of the same name is replaced.

    vllm-bench: `<trial>-repeat<index>.json` for every counted repeat; pytorch-hud: `pytorch-hud.json`;
    github-action-benchmark: `custom-smaller-is-better.json` and `custom-bigger-is-better.json`, whichever has
    entries; parquet: `requests.parquet`. Raises UsageError if there is nothing to export, StoreError if the
    disk refuses.
    """
    if not trials:
        raise UsageError("there is no trial to export", expected="at least one trial", found="none")
    contents = _contents(trials, export_format, settings or ExportSettings())
    if not contents:
        raise UsageError("there is no repeat to export", expected="at least one counted repeat", found="none")
    for name in contents:
        if not _FILE_NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a file's name", expected="letters, digits, dots, dashes")
    for name, content in contents.items():
        write_whole(directory / name, content)
    return tuple(directory / name for name in contents)


def _contents(trials: Sequence[Trial], export_format: ExportFormat, settings: ExportSettings) -> dict[str, bytes]:
    """File name -> content."""
    match export_format:
        case ExportFormat.VLLM_BENCH:
            return {
                f"{trial.trial_id}-repeat{repeat.index}.json": _json(
                    to_vllm_bench(trial, repeat, settings.serve.get(trial.scenario))
                )
                for trial in trials
                for repeat in trial.counted_repeats
            }
        case ExportFormat.PYTORCH_HUD:
            return {"pytorch-hud.json": _json(to_pytorch_hud(trials, settings.job or HudJob(_last_start_s(trials))))}
        case ExportFormat.GITHUB_ACTION_BENCHMARK:
            smaller, bigger = to_github_action_benchmark(trials)
            lists = {"custom-smaller-is-better.json": smaller, "custom-bigger-is-better.json": bigger}
            return {name: _json(entries) for name, entries in lists.items() if entries}
        case ExportFormat.PARQUET:
            return {"requests.parquet": to_parquet(trials)}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _last_start_s(trials: Sequence[Trial]) -> int:
    try:
        return max(int(datetime.fromisoformat(trial.started_at).timestamp()) for trial in trials)
    except ValueError as error:
        raise ContentError("a trial's started_at is no date", expected="ISO 8601", found=str(error)) from error


# --- import -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportProblem:
    """A file that could not be imported, and why, with what was expected and found."""

    path: Path
    message: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What importing some files gave: rows, the files that gave none, and what a reader should know."""

    rows: tuple[HistoryRow, ...]
    problems: tuple[ImportProblem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    """What the caller says of all files; it goes before what a file says of itself."""

    build: str | None
    scenario: str | None
    runner: str | None
    deployment: str


def import_files(
    paths: Sequence[Path], *, build: str | None = None, scenario: str | None = None, runner: str | None = None
) -> ImportReport:
    """The rows of every file that can be read, file by file; one bad file stops no other and gives no rows.

    A file of results is one deployment, named after the file unless its metadata names one; results of one load
    in it are its repeats. Of a history, rows stay as they are. Never raises for what is in a file.
    """
    rows: list[HistoryRow] = []
    problems: list[ImportProblem] = []
    notes: list[str] = []
    owners: dict[tuple[str, ...], Path] = {}
    contents: dict[str, Path] = {}
    stems = Counter(path.stem for path in dict.fromkeys(paths))
    for path in paths:
        names = _Names(build, scenario, runner, path.stem if stems[path.stem] == 1 else path.as_posix())
        try:
            found, said = _import_file(path, names, contents)
            _require_new(found, owners)
        except RedlineError as error:
            problems.append(ImportProblem(path, str(error)))
            continue
        owners |= {row.key: path for row in found}
        rows += found
        notes += [f"{path}: {note}" for note in said]
    return ImportReport(tuple(rows), tuple(problems), tuple(notes))


def _import_file(
    path: Path, names: _Names, contents: dict[str, Path]
) -> tuple[tuple[HistoryRow, ...], tuple[str, ...]]:
    """(rows, notes) of one file. Raises ContentError or UsageError."""
    content = read_whole(path)
    first = contents.setdefault(hashlib.sha256(content).hexdigest(), path)
    if first != path:
        raise ContentError("the same file twice", found=f"the content of {first}", next_step="give it once")
    if path.suffix in {".csv", ".parquet"}:
        return read_history(path), ()
    runs = [run for document in _documents(content) for run in _runs(document)]
    rows = _rows(runs, names)
    notes = tuple(f"{run.workload}: {note}" for run in runs for note in run.notes)
    if not rows:
        raise ContentError("no reading in it", expected="at least one completed request", found="; ".join(notes))
    return rows, notes


def _documents(content: bytes) -> Iterator[object]:
    """The JSON values in a file: one, or one per line as `vllm bench serve --append-result` writes them."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unknown(f"no text: {error}") from error
    try:
        yield json.loads(text)
        return
    except (ValueError, RecursionError) as error:
        whole = error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(lines) < 2 or not lines[0][1].lstrip().startswith("{"):
        raise _unknown(f"no JSON: {whole}")
    for number, line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _unknown(f"no JSON at line {number}: {error}") from error


def _unknown(found: str) -> ContentError:
    return ContentError("a file of no known format", expected=_EXPECTED, found=found[:300])


def _runs(document: object) -> tuple[ImportedRun, ...]:
    """The runs of one JSON value, by the format that it looks like."""
    if guidellm.recognises(document):
        return guidellm.from_guidellm(document)
    if vllm_bench_import.recognises(document):
        return (vllm_bench_import.from_vllm_bench(document),)
    if isinstance(document, dict):
        raise _unknown(f"a JSON object with the keys {', '.join(sorted(map(str, document))) or '(none)'}")
    raise _unknown(f"JSON that is no object but {type(document).__name__}")


def _rows(runs: Sequence[ImportedRun], names: _Names) -> tuple[HistoryRow, ...]:
    several = len({run.workload for run in runs}) > 1
    counts: Counter[tuple[str, str]] = Counter()
    rows: list[HistoryRow] = []
    for run in runs:
        given = f"{names.scenario} ({run.workload})" if names.scenario and several else names.scenario
        scenario = given or run.scenario or run.workload
        deployment = run.deployment or names.deployment
        repeat = counts[scenario, deployment] if run.repeat is None else run.repeat
        counts[scenario, deployment] += 1
        try:
            rows += history_rows(
                run,
                build=_named("build", names.build, run.build),
                runner=_named("runner", names.runner, run.runner),
                scenario=scenario,
                deployment=deployment,
                repeat=repeat,
            )
        except CellError as error:
            problem = f"{error.column} cannot be taken over"
            raise ContentError(problem, expected=error.expected, found=error.found) from error
    if twice := repeated(rows):
        raise ContentError(
            "two readings of the same thing",
            expected="results that differ in date or load",
            found=", ".join(rows[twice[0]].key),
        )
    return tuple(rows)


def _named(what: str, given: str | None, found: str) -> str:
    """The name the caller gave or the file says. Raises UsageError if neither does."""
    if name := given or found:
        return name
    raise UsageError(
        f"which {what}?",
        expected=f"--{what} NAME, or --metadata {what}=NAME when vllm bench serve was run",
        found="neither",
        next_step=f"import files of one {what} at a time and name it",
    )


def _require_new(rows: Sequence[HistoryRow], owners: Mapping[tuple[str, ...], Path]) -> None:
    for row in rows:
        if row.key in owners:
            raise ContentError(
                f"it says the same as {owners[row.key]}", found=", ".join(row.key), next_step="import one of them"
            )
