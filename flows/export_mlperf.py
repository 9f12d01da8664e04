"""Stored runs as a results folder in MLPerf Inference's submission layout: MLPerf-style, no submission."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from checks.requirements import JUDGED
from flows.exchange import LEFT_OUT, chosen_trials
from flows.export_mlperf_page import page_of
from flows.export_mlperf_trials import Measured, Performance, measured_trials, performances
from flows.export_mlperf_window import logs_of, verdict_of, without_folder
from flows.workspace import Workspace, content_root
from redline import content
from redline.errors import UsageError
from redline.interchange import mlperf_pages as pages
from redline.interchange.mlperf_accuracy import accuracy_text, cut_log
from redline.interchange.mlperf_folder import Submitter, require_free, submitter, write_tree
from redline.interchange.mlperf_system import SystemFacts, system_description
from redline.load.loadgen_logs import ACCURACY, DETAIL, SUMMARY
from redline.model import Arm, BuildKind, DatasetItems, Trial, digest

INPUTS = {
    "open-orca": "int32 token ids",
    "cnn-dailymail": "int32 token ids",
    "gpt-oss": "int32 token ids",
    "librispeech": "16 kHz speech, uploaded as WAV files",
    "shopify": "text and images",
}
"""What a data set's requests carry, by its form."""

SUFFIX_DIGITS = 8

Files = dict[PurePosixPath, bytes]
Systems: TypeAlias = Mapping[tuple[str, str, str], SystemFacts]
"""What is known of each system, by `Measured.system`; no two have one name."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command says. `system_file`: fields of the system's description that Redline cannot capture."""

    arm: str | None = None
    submitter: str | None = None
    division: str | None = None
    system_file: Path | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The options that whoever exports again must give again."""
        return (
            *(("--submitter", self.submitter) if self.submitter else ()),
            *(("--division", self.division) if self.division else ()),
            *(("--system", self.system_file.name) if self.system_file else ()),
        )


@dataclass(frozen=True, slots=True)
class _Export:
    """What every file of one export needs. `overrides`: fields of the system's description that were typed."""

    workspace: Workspace
    who: Submitter
    systems: Systems
    overrides: Mapping[str, Any]
    words: tuple[str, ...]


def export_mlperf(state_dir: Path, run_ids: Sequence[str], directory: Path, options: Options) -> tuple[str, ...]:
    """Write the folder; lines that say where it is, what was left out and why, and which systems share a name.

    Raises UsageError for a run without a result under MLPerf's rules, a folder that holds anything, or a submitter's
    name that cannot be one; ContentError for a wrong file of the system's fields; LoadError for LoadGen's logs damaged.
    """
    require_free(directory)
    who = submitter(options.submitter, options.division)
    overrides = content.read_json(options.system_file) if options.system_file is not None else {}
    workspace = Workspace(content_root(), state_dir)
    arms = (Arm(options.arm),) if options.arm else JUDGED
    trials = [t for t in chosen_trials(workspace.trials_dir, run_ids) if t.arm in arms]
    left_out: list[str] = []
    found = performances(measured_trials(workspace, trials, left_out), left_out)
    if not found:
        raise _nothing(trials, left_out)
    systems = _systems(who, [each.measured for each in found])
    export = _Export(workspace, who, systems, overrides, options.words)
    files: Files = {}
    for performance in found:
        files |= _scenario_files(export, performance)
    files |= _source_files(export, [each.measured for each in found])
    files[who.root / "documentation" / "calibration.md"] = pages.calibration_page().encode()
    files[PurePosixPath("README.md")] = pages.top_page(left_out).encode()
    write_tree(directory, files)
    return (
        *(f"{LEFT_OUT}{' '.join(sentence.split())}" for sentence in left_out),
        *(
            f"{facts.name}: another system has the same name but for its end"
            for facts in systems.values()
            if facts.suffix
        ),
        f"wrote {directory}: {len(files)} files",
    )


def _nothing(trials: Sequence[Trial], left_out: Sequence[str]) -> UsageError:
    names = sorted({f"{trial.scenario} ({trial.arm.value})" for trial in trials})
    return UsageError(
        "this run has no result under MLPerf's rules",
        expected="a valid trial of a scenario with [mlperf] that measures speed, such as llama2-70b-offline",
        found="; ".join([f"scenarios {', '.join(names)}" if names else "no trial of that arm", *left_out]),
        next_step="measure one: redline run --suite mlperf-llama2-70b; `redline scenarios` lists them",
    )


# --- what is written ------------------------------------------------------------------------------------------


def _scenario_files(export: _Export, performance: Performance) -> Files:
    """Everything of one scenario, and the description of its system."""
    workspace, who = export.workspace, export.who
    measured, result = performance.measured, performance.result
    facts = export.systems[measured.system]
    folder = who.scenario_folder(facts.name, result.benchmark, result.scenario)
    verdict = verdict_of(result, measured.rules, performance.repeat)
    logs = logs_of(workspace, measured.trial, performance.repeat, measured.settings, verdict)
    run = folder / "performance" / "run_1"
    description = json.dumps(system_description(facts, export.overrides), indent=2)
    files: Files = {
        run / SUMMARY: logs.summary,
        run / DETAIL: logs.detail,
        folder / "measurements.json": pages.measurements(_served(export, measured)).encode(),
        folder / "user.conf": pages.user_conf(measured.settings).encode(),
        who.system_file(facts.name): f"{description}\n".encode(),
    }
    page = page_of(performance, facts.name, logs.said_by, export.words)
    files[folder / "README.md"] = pages.scenario_readme(page).encode()
    accuracy = performance.accuracy
    return files | (_accuracy_files(workspace, folder / "accuracy", accuracy) if accuracy is not None else {})


def _accuracy_files(workspace: Workspace, folder: PurePosixPath, accuracy: Measured) -> Files:
    trial = accuracy.trial
    (repeat,) = trial.counted_repeats
    logs = logs_of(workspace, trial, repeat, accuracy.settings, None)
    said_by = f"Scored by Redline: trial {trial.trial_id}, scenario {accuracy.scenario.name}"
    text = accuracy_text(trial.figures, len(repeat.records), logs.accuracy, said_by, accuracy.unknown_figures)
    return {
        folder / SUMMARY: logs.summary,
        folder / DETAIL: logs.detail,
        folder / ACCURACY: cut_log(logs.accuracy),
        folder / "accuracy.txt": text.encode(),
    }


def _source_files(export: _Export, measured: Sequence[Measured]) -> Files:
    """What was served, once for each benchmark, with the locks of its packages."""
    by_benchmark: dict[str, list[Measured]] = {}
    for each in measured:
        by_benchmark.setdefault(each.rules.benchmark, []).append(each)
    files: Files = {}
    for benchmark, group in by_benchmark.items():
        folder = export.who.source_folder(benchmark)
        locks = dict.fromkeys(each.trial.sut.pin.lock for each in group if each.trial.sut.pin.lock)
        names = {lock: "vllm.lock" if place == 0 else f"vllm-{place + 1}.lock" for place, lock in enumerate(locks)}
        served = [replace(_served(export, each), lock=names.get(each.trial.sut.pin.lock, "")) for each in group]
        files[folder / "README.md"] = pages.source_readme(benchmark, list(dict.fromkeys(served))).encode()
        files |= {folder / name: lock.encode() for lock, name in names.items()}
    return files


def _systems(who: Submitter, measured: Sequence[Measured]) -> Systems:
    """What is known of each system. Those that would share a name, and so a folder, get a suffix of their identity."""
    found = {each.system: _facts(who, each) for each in measured}
    names = Counter(facts.name for facts in found.values())
    return {
        system: replace(facts, suffix=digest(list(system))[:SUFFIX_DIGITS]) if names[facts.name] > 1 else facts
        for system, facts in found.items()
    }


def _facts(who: Submitter, measured: Measured) -> SystemFacts:
    trial, runner_class = measured.trial, measured.runner_class
    pin, machine = trial.sut.pin, trial.fingerprint.facts
    elsewhere = pin.kind is BuildKind.ENDPOINT or "served_by" in machine
    on_cpu = runner_class.platform == "cpu"  # such a class may name the CPU as what its replicas share
    return SystemFacts(
        division=who.division,
        submitter=who.name,
        machine={} if elsewhere else machine,
        notes={} if elsewhere else trial.fingerprint.notes,
        accelerator="" if on_cpu else runner_class.accelerator or machine.get("gpu_model", ""),
        accelerator_count=0 if on_cpu else runner_class.accelerator_count or int(machine.get("gpu_count", "0")),
        framework=f"vllm {trial.reported_version}" if elsewhere else pin.label,
        python_version="" if elsewhere else pin.python_version,
    )


def _served(export: _Export, measured: Measured) -> pages.Served:
    trial, recipe = measured.trial, measured.recipe
    server_args, environment = recipe.for_platform(measured.runner_class.platform)
    arguments = (*server_args, *trial.sut.extra_args)
    replaced = dict(trial.sut.models).get(recipe.name)
    weights = (
        f"{recipe.model}, revision {recipe.revision}" if replaced is None else f"{without_folder(replaced)} (replaced)"
    )
    spread = "; ".join(
        f"{each.replicas} servers of {each.tensor_parallel} x {each.accelerator} each" for each in recipe.placements
    )
    if trial.sut.pin.kind is BuildKind.ENDPOINT:  # what it was really started with, nobody here knows
        arguments, environment, spread = (), {}, ""
        weights = f"unknown: an endpoint that somebody else started; the recipe names {recipe.model}"
    workload = measured.scenario.workload
    inputs = "int32 token ids, made up"
    if isinstance(workload, DatasetItems):
        inputs = INPUTS[export.workspace.dataset(workload.dataset).form]
    return pages.Served(
        system=export.systems[measured.system].name,
        recipe=recipe.name,
        weights=weights,
        spread=spread,
        server_args=arguments,
        environment=tuple(sorted(environment.items())),
        dtype=", ".join(_values(arguments, ("--dtype", "--quantization", "--kv-cache-dtype"))),
        inputs=inputs,
        build=trial.sut.pin.label,
        pin_id=trial.sut.pin.pin_id,
    )


def _values(arguments: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """`--dtype float16` of the arguments named, in either form that a command line has."""
    found = []
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in names:
            found.append(f"{name} {value or ' '.join(arguments[place + 1 : place + 2])}")
    return tuple(found)
