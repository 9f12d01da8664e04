"""A report whose every outside string can be chosen: what attackers, odd names and broken logs would put there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    Finding,
    Reading,
    RunnerFingerprint,
    Sample,
    SystemUnderTest,
    TargetReading,
    TrialStatus,
    ValidityReading,
    Verdict,
)
from reports.data import DroppedRepeats, NextStep, ReportData, ReportKind, ScenarioSection, TrialValidity
from reports.mlperf import MlperfSection, PublishedRow
from tests.reports.comparisons import ACCURACY, SPEED

HOSTILE = (
    "a|b `c` ``d`` <script>alert(1)</script> <!-- x --> @octocat #123 GH-7 [l](https://evil.example) ![i](//e.test)\n"
    "# heading\n| t |\n|---|\n```\n</details>\x1b[31mred\x1b[0m \u202etxt.exe\u2066 *b* __u__ ~~s~~ $x$ :tada:\n"
    "www.evil.example me@evil.example &lt; \\| \\"
)


def _pin(fill: Callable[[str], str]) -> BuildPin:
    return BuildPin(
        BuildKind.ENDPOINT,
        fill("spec"),
        fill("distribution"),
        fill("version"),
        fill("platform"),
        fill("python_version"),
        None,
        "",
        fill("url"),
    )


def _mlperf(fill: Callable[[str], str]) -> MlperfSection:
    row = PublishedRow(
        fill("published round"),
        fill("division"),
        fill("submitter"),
        fill("published system"),
        fill("published benchmark"),
        fill("software"),
        1.0,
        "tokens/s",
        1.0,
        fill("published source"),
    )
    return MlperfSection(
        benchmark=fill("benchmark"),
        round=fill("round"),
        scenario="Server",
        valid=False,
        value=1.0,
        unit="tokens/s",
        readings=(ValidityReading(fill("mlperf rule"), fill("mlperf reading"), fill("mlperf limit"), ok=False),),
        shorter=(fill("shorter"),),
        deviations=(fill("deviation"),),
        published=(row,),
        whose=fill("whose"),
    )


def _section(fill: Callable[[str], str]) -> ScenarioSection:
    scenario = fill("scenario")
    sample = Sample(scenario, "e2e_s_median", (Reading("e2e_s_median", 0.5, "t"),))
    read = TargetReading(scenario, Arm.SINGLE, fill("figure"), 40.0, 44.0, 43.0, 45.0, fill("whose reference"))
    return ScenarioSection(
        scenario,
        fill("description"),
        fill("scenario hash"),
        ((Arm.BASELINE, 1),),
        (sample,),
        (fill("remark"),),
        (read, replace(read, value=None)),
        (_mlperf(fill),),
    )


def filled(fill: Callable[[str], str]) -> ReportData:
    """A report with every part present, whose every outside string is `fill(its name)`."""
    sut = SystemUnderTest(_pin(fill), (fill("extra_arg"),), ((fill("model recipe"), fill("model")),))
    scenario = fill("scenario")
    speed = tuple(
        replace(found, scenario=scenario, method=fill("method"), warnings=(fill("warning"),)) for found in SPEED[:2]
    )
    unknown = replace(speed[0], metric="unknown_" + fill("metric"), warnings=())
    accuracy = replace(
        ACCURACY,
        scenario=scenario,
        examples=((fill("item"), fill("expected"), fill("answer before"), fill("answer after")),),
        warnings=(fill("accuracy warning"),),
    )
    rules = (
        ValidityReading(fill("rule"), fill("reading"), fill("limit"), ok=False),
        ValidityReading(fill("rule"), fill("reading"), fill("limit"), ok=True),
    )
    return ReportData(
        kind=ReportKind.GATE,
        verdict=Verdict(
            Finding.REGRESSED,
            fill("reason"),
            (*speed, unknown),
            (accuracy,),
            (fill("evidence"),),
            (fill("verdict warning"),),
        ),
        scenarios=(_section(fill),),
        validity=(TrialValidity(Arm.CANDIDATE, scenario, fill("trial"), TrialStatus.INVALID, rules, fill("detail")),),
        baseline=sut,
        candidate=sut,
        fingerprint=RunnerFingerprint(
            {"f" + fill("fact"): fill("fact value")}, {"n" + fill("note"): fill("note value")}
        ),
        runner_class=fill("runner class"),
        policy=fill("policy"),
        repeat_command=f"redline {fill('command')}",
        generated_at=fill("generated at"),
        started_at=fill("started at"),
        duration_s=61.0,
        data_location=fill("data location"),
        trial_ids=(fill("trial"),),
        dropped=(DroppedRepeats(Arm.BASELINE, scenario, fill("drop reason"), 1),),
        next_steps=(NextStep(fill("step"), fill("step command")),),
        error=fill("error"),
    )


def hostile() -> ReportData:
    """Every outside string is an attack."""
    return filled(lambda _: HOSTILE)
