"""Stored runs as a results folder in MLPerf Inference's submission layout: MLPerf-style, no submission."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from checks.accuracy_target import target_readings
from checks.mlperf_demands import scenario_name
from checks.mlperf_rules import MlperfResult, has_result
from flows.exchange import LEFT_OUT, chosen_trials
from flows.export_mlperf_window import WindowLogs, log_settings, logs_of, verdict_of
from flows.plan import groups, identity_of
from flows.requirements import JUDGED, judged_window
from flows.workspace import Workspace, content_root
from redline import content
from redline.errors import ContentError, UsageError
from redline.interchange import mlperf_pages as pages
from redline.interchange.mlperf_accuracy import accuracy_text, cut_log
from redline.interchange.mlperf_folder import Submitter, require_free, submitter, write_tree
from redline.interchange.mlperf_run import LogSettings
from redline.interchange.mlperf_system import SystemFacts, system_description
from redline.load.loadgen_logs import ACCURACY, DETAIL, SUMMARY
from redline.model import Arm, BuildKind, DatasetItems, MlperfRules, Recipe, Repeat, Scenario, Trial, TrialStatus

INPUTS = {
    "open-orca": "int32 token ids",
    "cnn-dailymail": "int32 token ids",
    "gpt-oss": "int32 token ids",
    "librispeech": "16 kHz speech, uploaded as WAV files",
    "shopify": "text and images",
}
"""What a data set's requests carry, by its form."""

Files = dict[PurePosixPath, bytes]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command says. `system_file`: fields of the system's description that Redline cannot capture."""

    arm: str | None = None
    submitter: str | None = None
    division: str | None = None
    system_file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Measured:
    """One trial with its scenario as it was measured. `unverified`: why nobody can tell that it is still the same."""

    trial: Trial
    scenario: Scenario
    rules: MlperfRules
    settings: LogSettings
    recipe: Recipe
    accelerator: str
    accelerator_count: int
    platform: str
    unverified: str

    @property
    def system(self) -> tuple[str, str, str]:
        """What a performance and an accuracy run must share to stand in one folder."""
        return self.trial.sut.sut_id, self.trial.fingerprint.fingerprint_id, self.trial.runner_class

    @property
    def size(self) -> tuple[bool, int]:
        """Of two scenarios for one folder, the larger of this stands there."""
        return not self.rules.shortened, self.scenario.request_count


@dataclass(frozen=True, slots=True)
class _Performance:
    """A measured trial with the window that is exported, and its result."""

    measured: _Measured
    repeat: Repeat
    result: MlperfResult


def export_mlperf(state_dir: Path, run_ids: Sequence[str], directory: Path, options: Options) -> tuple[str, ...]:
    """Write the folder; lines that say where it is, and what was left out and why.

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
    measured = _measured(workspace, trials, left_out)
    performances = _performances(measured, left_out)
    if not performances:
        raise _nothing(trials, left_out)
    accuracies = _fullest([each for each in measured if each.scenario.accuracy and each.trial.figures], left_out)
    files: Files = {}
    for performance in performances:
        key = (*performance.measured.system, performance.measured.rules.benchmark)
        accuracy = next((each for each in accuracies if (*each.system, each.rules.benchmark) == key), None)
        files |= _scenario_files(workspace, who, performance, accuracy, overrides)
    files |= _source_files(workspace, who, [each.measured for each in performances])
    files[who.root / "documentation" / "calibration.md"] = pages.calibration_page().encode()
    files[PurePosixPath("README.md")] = pages.top_page(left_out).encode()
    write_tree(directory, files)
    return (*(f"{LEFT_OUT}{sentence}" for sentence in left_out), f"wrote {directory}: {len(files)} files")


# --- what there is --------------------------------------------------------------------------------------------


def _measured(workspace: Workspace, trials: Sequence[Trial], left_out: list[str]) -> tuple[_Measured, ...]:
    """Every valid trial under MLPerf's rules whose scenario is still what was measured; `left_out` says of the rest."""
    found = []
    for trial in trials:
        if trial.status is not TrialStatus.VALID:
            left_out.append(f"trial {trial.trial_id} of {trial.scenario} is {trial.status.value}: {trial.detail}")
            continue
        try:
            each = _as_measured(workspace, trial)
        except UsageError as error:
            left_out.append(f"trial {trial.trial_id} of {trial.scenario}: {error.problem} ({error.found})")
            continue
        if each is None:
            left_out.append(f"trial {trial.trial_id} of {trial.scenario}: the scenario follows no rules of MLPerf")
        else:
            found.append(each)
    return tuple(found)


def _as_measured(workspace: Workspace, trial: Trial) -> _Measured | None:
    """A trial with its scenario; None for one without MLPerf's rules. Raises UsageError if the scenario has changed."""
    runner_class = workspace.runner_class(trial.runner_class)
    (group,) = groups(workspace, (trial.scenario,), runner_class, ())
    (scenario,) = group.scenarios
    if scenario.mlperf is None:
        return None
    settings = log_settings(scenario)
    unverified = ""
    try:
        _, identity = identity_of(workspace, trial.scenario, runner_class)
    except ContentError as error:
        identity, unverified = trial.scenario_hash, error.problem
    counts = {len(repeat.records) for repeat in trial.counted_repeats}
    if identity != trial.scenario_hash or counts != {scenario.request_count}:
        raise UsageError(
            "the scenario has changed since it was measured",
            found=f"hash {trial.scenario_hash} then, {identity} now",
        )
    return _Measured(
        trial=trial,
        scenario=scenario,
        rules=scenario.mlperf,
        settings=settings,
        recipe=group.recipe,
        accelerator=runner_class.accelerator,
        accelerator_count=runner_class.accelerator_count,
        platform=runner_class.platform,
        unverified=unverified,
    )


def _performances(measured: Sequence[_Measured], left_out: list[str]) -> tuple[_Performance, ...]:
    """The window of each folder: of the fullest scenario the last trial, of that the middle window by its result."""
    found = []
    for each in _fullest([each for each in measured if has_result(each.scenario)], left_out):
        # The arm that was asked for is the build under test here, whatever side it was on then.
        window = judged_window(each.scenario, [replace(each.trial, arm=Arm.SINGLE)])
        if window is not None:
            found.append(_Performance(each, window[1], window[2]))
    return tuple(found)


def _fullest(measured: Sequence[_Measured], left_out: list[str]) -> tuple[_Measured, ...]:
    """One for each folder: the scenario nearest to MLPerf's size, and of that the last trial."""
    found: dict[tuple[str, ...], _Measured] = {}
    for each in measured:
        name = "accuracy" if each.scenario.accuracy else scenario_name(each.scenario)
        key = (*each.system, each.rules.benchmark, name)
        before = found.get(key)
        if before is not None:
            lesser = each if each.size < before.size else before
            whose = f"trial {lesser.trial.trial_id} of {lesser.trial.scenario}"
            left_out.append(f"{whose}: another one of this run stands in its folder")
        if before is None or each.size >= before.size:
            found[key] = each
    return tuple(found.values())


def _nothing(trials: Sequence[Trial], left_out: Sequence[str]) -> UsageError:
    names = sorted({f"{trial.scenario} ({trial.arm.value})" for trial in trials})
    return UsageError(
        "this run has no result under MLPerf's rules",
        expected="a valid trial of a scenario with [mlperf] that measures speed, such as llama2-70b-offline",
        found="; ".join([f"scenarios {', '.join(names)}" if names else "no trial of that arm", *left_out]),
        next_step="measure one: redline run --suite mlperf-llama2-70b; `redline scenarios` lists them",
    )


# --- what is written ------------------------------------------------------------------------------------------


def _scenario_files(
    workspace: Workspace,
    who: Submitter,
    performance: _Performance,
    accuracy: _Measured | None,
    overrides: Mapping[str, Any],
) -> Files:
    """Everything of one scenario, and the description of its system."""
    measured, result = performance.measured, performance.result
    facts = _facts(who, measured)
    folder = who.scenario_folder(facts.name, result.benchmark, result.scenario)
    verdict = verdict_of(result, measured.rules, performance.repeat)
    logs = logs_of(workspace, measured.trial, performance.repeat, measured.settings, verdict)
    run = folder / "performance" / "run_1"
    description = json.dumps(system_description(facts, overrides), indent=2)
    files: Files = {
        run / SUMMARY: logs.summary,
        run / DETAIL: logs.detail,
        folder / "measurements.json": pages.measurements(_served(workspace, measured)).encode(),
        folder / "user.conf": pages.user_conf(measured.settings).encode(),
        who.system_file(facts.name): f"{description}\n".encode(),
    }
    files[folder / "README.md"] = pages.scenario_readme(_page(performance, accuracy, logs.said_by)).encode()
    return files | (_accuracy_files(workspace, folder / "accuracy", accuracy) if accuracy is not None else {})


def _accuracy_files(workspace: Workspace, folder: PurePosixPath, accuracy: _Measured) -> Files:
    (repeat,) = accuracy.trial.counted_repeats
    logs: WindowLogs = logs_of(workspace, accuracy.trial, repeat, accuracy.settings, None)
    said_by = f"Scored by Redline: trial {accuracy.trial.trial_id}, scenario {accuracy.scenario.name}"
    text = accuracy_text(accuracy.trial.figures, len(repeat.records), logs.accuracy, said_by)
    return {
        folder / SUMMARY: logs.summary,
        folder / DETAIL: logs.detail,
        folder / ACCURACY: cut_log(logs.accuracy),
        folder / "accuracy.txt": text.encode(),
    }


def _source_files(workspace: Workspace, who: Submitter, measured: Iterable[_Measured]) -> Files:
    """What was served, once for each benchmark, with the lock of its packages."""
    by_benchmark: dict[str, list[_Measured]] = {}
    for each in measured:
        by_benchmark.setdefault(each.rules.benchmark, []).append(each)
    files: Files = {}
    for benchmark, group in by_benchmark.items():
        folder = who.source_folder(benchmark)
        served = dict.fromkeys(_served(workspace, each) for each in group)
        files[folder / "README.md"] = pages.source_readme(benchmark, list(served)).encode()
        locks = dict.fromkeys(each.trial.sut.pin.lock for each in group if each.trial.sut.pin.lock)
        for place, lock in enumerate(locks):
            files[folder / ("vllm.lock" if place == 0 else f"vllm-{place + 1}.lock")] = lock.encode()
    return files


def _facts(who: Submitter, measured: _Measured) -> SystemFacts:
    trial = measured.trial
    pin, elsewhere = trial.sut.pin, trial.sut.pin.kind is BuildKind.ENDPOINT
    return SystemFacts(
        division=who.division,
        submitter=who.name,
        machine={} if elsewhere else trial.fingerprint.facts,
        notes={} if elsewhere else trial.fingerprint.notes,
        accelerator=measured.accelerator,
        accelerator_count=measured.accelerator_count,
        framework=f"vllm {trial.reported_version}" if elsewhere else pin.label,
        python_version="" if elsewhere else pin.python_version,
    )


def _served(workspace: Workspace, measured: _Measured) -> pages.Served:
    trial, recipe = measured.trial, measured.recipe
    server_args, environment = recipe.for_platform(measured.platform)
    arguments = (*server_args, *trial.sut.extra_args)
    replaced = dict(trial.sut.models).get(recipe.name)
    weights = f"{recipe.model}, revision {recipe.revision}" if replaced is None else f"{Path(replaced).name} (replaced)"
    spread = "; ".join(
        f"{each.replicas} servers of {each.tensor_parallel} x {each.accelerator} each" for each in recipe.placements
    )
    if trial.sut.pin.kind is BuildKind.ENDPOINT:  # what it was really started with, nobody here knows
        arguments, environment, spread = (), {}, ""
        weights = f"unknown: an endpoint that somebody else started; the recipe names {recipe.model}"
    workload = measured.scenario.workload
    inputs = "int32 token ids, made up"
    if isinstance(workload, DatasetItems):
        inputs = INPUTS[workspace.dataset(workload.dataset).form]
    return pages.Served(
        recipe=recipe.name,
        weights=weights,
        spread=spread,
        server_args=arguments,
        environment=tuple(sorted(environment.items())),
        dtype=", ".join(_values(arguments, ("--dtype", "--quantization", "--kv-cache-dtype"))),
        inputs=inputs,
        build=trial.sut.pin.label,
        pin_id=trial.sut.pin.pin_id,
        reinstallable=trial.sut.pin.reinstallable,
    )


def _values(arguments: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """`--dtype float16` of the arguments named, in either form that a command line has."""
    found = []
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in names:
            found.append(f"{name} {value or ' '.join(arguments[place + 1 : place + 2])}")
    return tuple(found)


# --- in words -------------------------------------------------------------------------------------------------


def _page(performance: _Performance, accuracy: _Measured | None, logs: str) -> pages.ScenarioPage:
    measured, repeat, result = performance.measured, performance.repeat, performance.result
    trial, rules = measured.trial, measured.rules
    deviations = [*rules.deviations, *_own_deviations(measured, accuracy)]
    names = dict.fromkeys([measured.scenario.name, *([accuracy.scenario.name] if accuracy is not None else [])])
    asked = " ".join(f"--scenario {name}" for name in names)
    source = "--endpoint URL" if trial.sut.pin.kind is BuildKind.ENDPOINT else f"--build '{trial.sut.pin.spec}'"
    return pages.ScenarioPage(
        benchmark=result.benchmark,
        round=result.round,
        scenario=result.scenario,
        redline_scenario=measured.scenario.name,
        scenario_hash=trial.scenario_hash,
        trial_id=trial.trial_id,
        run_id=trial.run_id,
        window=f"window {repeat.index}",
        measured_at=repeat.started_at,
        build=f"{trial.sut.label}, reported by the server as {trial.reported_version}",
        valid=result.valid,
        result="none: undefined" if result.value is None else f"{result.value:.6g} {result.unit}",
        readings=result.readings,
        shorter=result.shorter,
        deviations=tuple(deviations),
        accuracy=_accuracy_sentence(accuracy),
        logs=logs,
        commands=(
            f"redline run {source} --runner {trial.runner_class} {asked}",
            "redline export latest --format mlperf --output DIR",
        ),
    )


def _own_deviations(measured: _Measured, accuracy: _Measured | None) -> list[str]:
    """What the scenario's file cannot know of this export."""
    found = []
    if accuracy is None:
        found.append("no accuracy run: MLPerf wants one in every scenario")
    elif (asked := scenario_name(accuracy.scenario)) != (own := scenario_name(measured.scenario)):
        found.append(f"accuracy was measured in {asked}, not in {own}; its logs say so")
    if accuracy is not None and accuracy.rules.shortened:
        found.append(f"the accuracy run was shortened: {accuracy.rules.shortened}")
    if accuracy is not None:
        found.append("the accuracy log holds answers as UTF-8 text in hex digits, not token ids")
    if measured.unverified:
        found.append(f"whether the scenario is still as it was measured could not be seen: {measured.unverified}")
    return found


def _accuracy_sentence(accuracy: _Measured | None) -> str:
    if accuracy is None or accuracy.scenario.accuracy is None:
        return "not measured in what was exported, so there is no accuracy folder (MLCommons' checker stops there)"
    target, trial = accuracy.scenario.accuracy, accuracy.trial
    readings = target_readings(accuracy.scenario.name, target, trial.figures, trial.arm)
    said = "; ".join(f"{reading.sentence}: {'reached' if reading.ok else 'MISSED'}" for reading in readings)
    return f"trial {trial.trial_id}, {len(trial.counted_repeats[0].records)} items; {said}"
