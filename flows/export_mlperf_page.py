"""What the page of one exported scenario says in words, and the commands that measure it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from checks.mlperf_demands import scenario_name
from flows import code_judge
from flows.export_mlperf_trials import Measured, Performance
from flows.export_mlperf_window import label_of, without_folder
from redline.interchange.mlperf_pages import ScenarioPage
from redline.model import BuildKind, TargetReading


def page_of(performance: Performance, system: str, logs: str, export_options: Sequence[str]) -> ScenarioPage:
    """The page of one scenario. `system`: its folder; `logs`: who wrote them; `export_options`: of this export."""
    measured, result, accuracy = performance.measured, performance.result, performance.accuracy
    trial = measured.trial
    return ScenarioPage(
        system=system,
        benchmark=result.benchmark,
        round=result.round,
        scenario=result.scenario,
        redline_scenario=measured.scenario.name,
        scenario_hash=trial.scenario_hash,
        trial_id=trial.trial_id,
        run_id=trial.run_id,
        window=f"window {performance.repeat.index + 1}",
        measured_at=performance.repeat.started_at,
        build=f"{label_of(trial.sut)}, reported by the server as {trial.reported_version}",
        valid=result.valid,
        result="none: undefined" if result.value is None else f"{result.value:.6g} {result.unit}",
        readings=result.readings,
        shorter=result.shorter,
        deviations=(*measured.rules.deviations, *_own_deviations(measured, accuracy)),
        accuracy=_accuracy_sentence(accuracy),
        logs=logs,
        commands=commands(performance, export_options),
    )


def commands(performance: Performance, export_options: Sequence[str]) -> tuple[str, ...]:
    """What a shell must be told to measure it again: one run, or two where LoadGen drove only one of them.

    Addresses, and the folders of files on the machine that measured, are left for the reader to fill in.
    """
    measured = [performance.measured, *([performance.accuracy] if performance.accuracy is not None else [])]
    runs = [
        _run([each for each in measured if each.official is official])
        for official in dict.fromkeys(each.official for each in measured)
    ]
    chosen = ["latest"] if len(runs) == 1 else ["RUN"] * len(runs)
    export = ["redline", "export", *chosen, "--format", "mlperf", *export_options, "--output", "DIR"]
    return tuple(shlex.join(words) for words in (*runs, export))


def _run(measured: Sequence[Measured]) -> list[str]:
    """The words that measure these scenarios of one system with one driver."""
    first = measured[0]
    sut = first.trial.sut
    words = ["redline", "run"]
    if sut.pin.kind is BuildKind.ENDPOINT:
        count = len(sut.pin.spec.split(","))
        words += ["--endpoint", "URL" if count == 1 else ",".join(f"URL{place + 1}" for place in range(count))]
    else:
        words += ["--build", without_folder(sut.pin.spec)]
    if sut.extra_args:
        words.append(f"--server-args={shlex.join(sut.extra_args)}")
    for recipe, model in sut.models:
        words += ["--model", f"{recipe}={without_folder(model)}"]
    words += ["--driver", "loadgen"] if first.official else []
    words += ["--run-code"] if any(each.run_code for each in measured) else []
    words += ["--runner", first.trial.runner_class]
    for name in dict.fromkeys(each.scenario.name for each in measured):
        words += ["--scenario", name]
    return words


def _own_deviations(measured: Measured, accuracy: Measured | None) -> list[str]:
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
        found += [
            f"accuracy.txt has no {figure}: it is not known of all answers" for figure in accuracy.unknown_figures
        ]
    if measured.unverified:
        found.append(f"whether the scenario is still as it was measured could not be seen: {measured.unverified}")
    return found


def _accuracy_sentence(accuracy: Measured | None) -> str:
    if accuracy is None:
        return "not measured in what was exported, so there is no accuracy folder (MLCommons' checker stops there)"
    trial = accuracy.trial
    said = "; ".join(f"{reading.sentence}: {_standing(reading)}" for reading in accuracy.targets)
    remarks = " ".join(code_judge.remarks_of(trial.figures))
    return f"trial {trial.trial_id}, {len(trial.counted_repeats[0].records)} items; {said}. {remarks}".strip()


def _standing(reading: TargetReading) -> str:
    if reading.value is None:
        return "cannot be told"
    return "reached" if reading.ok else "MISSED"
