"""`redline replay`: a recorded history, judged as the nightly or the gate would have. Measures nothing."""

from __future__ import annotations

import difflib
import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from checks.policy import PRIMARY_COUNT_MAX, Policy
from checks.replay import Choice, Recording, recording
from checks.replay_gaps import Gap, cadence_days, missing_legs, missing_nights
from checks.replay_gate import ReplayedGate, replay_gates
from checks.replay_nightly import NightFinding, ReplayedSeries, Said, replay_nights, unsettled
from flows import replay_page
from flows.request import Answer
from flows.workspace import Workspace, content_root
from redline.errors import ContentError, ExitCode, UsageError
from redline.interchange.history import HistoryRow, read_history
from redline.interchange.whole_file import write_whole
from redline.model import Finding
from reports import replay as pages

PAGE_NAME = "replay.md"
FINDINGS_NAME = "replay-findings.csv"
NAMES_SHOWN_MAX = 10


class JudgeAs(enum.StrEnum):
    """Whose rules judge the past."""

    NIGHTLY = "nightly"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A history file, how it is judged, and where the page goes. `every_days`: None learns it from the dates."""

    file: Path
    state_dir: Path
    output: Path
    judge_as: JudgeAs = JudgeAs.NIGHTLY
    policy: str = "cpu"
    choice: Choice = field(default_factory=Choice)
    release: str = ""
    every_days: int | None = None
    as_json: bool = False


def replay(request: ReplayRequest) -> Answer:
    """What Redline would have said, as lines and an exit code; the page and its findings are written.

    Exit codes: 1 a regression is confirmed; 3 something was suspected (or a gate undecided) that the recording
    cannot settle; 6 no series has enough nights to be judged; 0 otherwise.

    Raises:
        UsageError: a name that the file does not have, or nothing that can be judged.
        ContentError: the file is no history, or the policy is wrong.
        StoreError: the disk refuses.
    """
    policy = Workspace(content_root(), request.state_dir).policy(request.policy)
    rows = read_history(request.file)
    _require_names(request, rows)
    nightly = request.judge_as is JudgeAs.NIGHTLY
    past = recording(rows, request.choice, policy, primaries_only=nightly)
    _require_series(request, past)
    judge = _nightly if nightly else _gate
    shown = judge(request, past, policy)
    page_path, findings_path = request.output / PAGE_NAME, request.output / FINDINGS_NAME
    write_whole(page_path, pages.markdown(shown.page, FINDINGS_NAME).encode())
    write_whole(findings_path, pages.findings_csv(shown.csv_head, shown.csv_rows).encode())
    written = (str(page_path), str(findings_path))
    if request.as_json:
        value = {**shown.value, "exit_code": int(shown.exit_code), "page": written[0], "findings_file": written[1]}
        return Answer((json.dumps(value, indent=1, allow_nan=False),), shown.exit_code)
    return Answer(pages.terminal_lines(shown.page, written), shown.exit_code)


# --- the nightly --------------------------------------------------------------------------------------------


def _nightly(request: ReplayRequest, past: Recording, policy: Policy) -> replay_page.Shown:
    findings: list[NightFinding] = []
    series: list[ReplayedSeries] = []
    gaps: list[Gap] = []
    notes: list[str] = []
    for runner in past.builds:
        nights = replay_nights(past, runner, policy, release=request.release)
        findings += nights.findings
        series += nights.series
        dates = past.dates(runner)
        every = request.every_days or cadence_days(dates)
        if every is None:
            notes.append(f"{runner}: its nights ({len(dates)}) keep to no cadence: missing ones are not looked for")
        else:
            gaps += missing_nights(runner, dates, every)
        gaps += missing_legs(past, runner)
    open_ = unsettled(findings)
    longest = max(len(each.readings) for each in series)
    exit_code = ExitCode.NO_WORSE if longest > policy.nightly.nights_min else ExitCode.NO_BASELINE
    if open_:
        exit_code = ExitCode.INCONCLUSIVE
    if any(each.said is Said.REGRESSED for each in findings):
        exit_code = ExitCode.REGRESSED
    judged = replay_page.Judged(
        file=request.file.name,
        policy=policy,
        past=past,
        since=request.choice.since,
        release=request.release,
        notes=tuple(notes),
    )
    return replay_page.of_nights(judged, findings, series, gaps, open_, exit_code)


# --- the gate -----------------------------------------------------------------------------------------------


def _gate(request: ReplayRequest, past: Recording, policy: Policy) -> replay_page.Shown:
    if request.release or request.every_days is not None:
        raise UsageError(
            "--release and --every-days are the nightly's",
            expected="neither of them with --as gate",
            next_step="leave them out, or replay --as nightly",
        )
    gates: list[ReplayedGate] = []
    for runner in past.builds:
        found, too_many = replay_gates(past, runner, policy)
        if too_many is not None:
            named = ", ".join(f"{scenario} {metric}" for scenario, metric in too_many.primaries[:NAMES_SHOWN_MAX])
            raise UsageError(
                f"{runner}, {too_many.date}: a gate judges at most {PRIMARY_COUNT_MAX} primary metrics",
                expected=f"at most {PRIMARY_COUNT_MAX} (scenario, metric) keys, for which error rates are stated",
                found=f"{len(too_many.primaries)}: {named}",
                next_step="choose: --scenario NAME, --metric ID",
            )
        gates += found
    if not gates:
        raise UsageError(
            f"{request.file}: no night holds what a gate compares",
            expected=f"two builds with {policy.pair_count_min} deployments or more each, on one night of one "
            "runner, of a metric that can block",
            found=f"{sum(map(len, past.builds.values()))} builds on {len(past.builds)} runners, never so",
            next_step="replay it --as nightly, or name each deployment in the column deployment",
        )
    exit_code = ExitCode.NO_WORSE
    if any(each.finding in (Finding.INCONCLUSIVE, Finding.INVALID) for each in gates):
        exit_code = ExitCode.INCONCLUSIVE
    if any(each.finding is Finding.REGRESSED for each in gates):
        exit_code = ExitCode.REGRESSED
    judged = replay_page.Judged(request.file.name, policy, past, request.choice.since)
    return replay_page.of_gates(judged, gates, exit_code)


# --- what must be there -------------------------------------------------------------------------------------


def _require_names(request: ReplayRequest, rows: Sequence[HistoryRow]) -> None:
    """Every name that the command line gives must be in the file."""
    choice = request.choice
    asked = (
        ("--runner", choice.runners, {row.runner for row in rows}),
        ("--scenario", choice.scenarios, {row.scenario for row in rows}),
        ("--metric", choice.metrics, {row.metric for row in rows}),
        ("--release", (request.release,) if request.release else (), {row.build for row in rows}),
    )
    for option, names, known in asked:
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1) or sorted(known)[:NAMES_SHOWN_MAX]
                raise UsageError(
                    f"{option} {name}: {request.file} has none",
                    expected=f"a name that it has: {', '.join(near)}",
                    found=name,
                    next_step=f"correct {option}",
                )


def _require_series(request: ReplayRequest, past: Recording) -> None:
    if past.series:
        return
    if past.dropped_count:
        raise UsageError(
            f"{request.file}: nothing is left without the first repeats",
            expected="deployments with a repeat after repeat 0",
            found=f"{past.dropped_count} readings, all of repeat 0",
            next_step="leave out --drop-first-repeat",
        )
    left_out = "; ".join(f"{metric}: {why}" for metric, why in past.left_out.items())
    raise ContentError(
        f"{request.file}: nothing to judge",
        expected="readings of metrics that the policy judges",
        found=left_out or "no row that fits --runner, --scenario, --metric and --since together",
        next_step="choose other rows, or another --policy",
    )
