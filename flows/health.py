"""`redline health`: measure A/A rounds if asked to, read all there are, and say whether they support the policy."""

from __future__ import annotations

import json
import secrets
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from checks.gate import Key
from checks.health import ROUNDS_MIN, SUITE_COUNT, SuiteHealth, Support, suite_health, together
from checks.policy import Policy
from flows import aa_series, session
from flows.aa_series import Recorded, Series
from flows.health_tables import EXIT_CODES, section
from flows.machine import fingerprint_of, is_this_machine
from flows.plan import Options, Wanted, identity_of, make_plan
from flows.prefect_api import prefect_api
from flows.query import table
from flows.request import Answer, GateRequest
from flows.workspace import Workspace, content_root
from redline.errors import ContentError, ExitCode, InfrastructureError, UsageError
from redline.model import Arm, RunnerClass, Scenario
from redline.store.database import ingest
from reports.health import HealthPage, HealthSection, render

SEED = 20261121
ROUNDS_MAX = 100
JSON_SCHEMA = 1
UNKNOWN_MACHINE = "unknown"
MEASURED = (ExitCode.NO_WORSE, ExitCode.REGRESSED, ExitCode.INCONCLUSIVE, ExitCode.INVALID)


@dataclass(frozen=True, slots=True)
class HealthRequest:
    """What `redline health` is told.

    `round_count`: A/A gates of `build` to measure first; `every_series`: not only this machine's rounds of the
    scenarios as they are today; `suite_count`: resampled suites.
    """

    state_dir: Path
    runner: str
    scenarios: tuple[str, ...]
    round_count: int
    build: str
    every_series: bool
    wait_s: float
    as_json: bool
    quiet: bool
    program: str
    command: str
    suite_count: int = SUITE_COUNT


@dataclass(frozen=True, slots=True)
class _Judged:
    """One series with its answer."""

    series: Series
    policy: Policy
    found: SuiteHealth
    shown: HealthSection

    @property
    def question(self) -> tuple[str, frozenset[tuple[str, str]]]:
        """What series of several machines have in common if they can answer together: runner class and suite."""
        return self.series.runner_class, frozenset(self.series.scenario_hashes.items())


def health(request: HealthRequest) -> Answer:
    """The answer: exit code 0 if the policy is supported, 3 without enough data, 4 if it is not.

    Series are shown newest first, and all that is said of several is said by `_deciding`.

    Raises:
        UsageError: a wrong option or content, before anything is started; a build that cannot be resolved.
        InfrastructureError: a round could not be measured; those before it are kept.
    """
    workspace = Workspace(content_root(), request.state_dir)
    scenarios = _speed_scenarios(workspace, request)
    measured = _measure(workspace, request, tuple(scenarios)) if request.round_count else ()
    workspace.trials_dir.mkdir(parents=True, exist_ok=True)
    report = ingest(workspace.trials_dir, workspace.database_path)
    notes = [f"damaged trial, left out: {each.path.name}: {each.problem}" for each in report.damaged]
    recorded = aa_series.read(workspace.database_path, None if request.every_series else request.runner)
    if request.every_series:
        judged = list(_every_series(workspace, request, recorded, notes))
    else:
        judged = list(_of_today(workspace, request, recorded, scenarios, notes))
    deciding = _deciding(judged)
    exit_code = EXIT_CODES[deciding.found.support] if deciding else ExitCode.INCONCLUSIVE
    sections = tuple(each.shown for each in judged) or (_nothing(request),)
    page = HealthPage(
        answer=deciding.shown.answer if deciding else sections[0].answer,
        rests_on=_rests_on(judged, deciding) if deciding and len(judged) > 1 else "",
        sections=sections,
        generated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        data_location=str(workspace.trials_dir),
        notes=tuple(notes),
    )
    path = workspace.report_path(f"health-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(page), encoding="utf-8")
    if request.as_json:
        return Answer((_as_json(judged, page, path, exit_code),), exit_code)
    return Answer((*_lines(page), *measured, f"report: {path}"), exit_code)


# --- measuring ----------------------------------------------------------------------------------------------


def _measure(workspace: Workspace, request: HealthRequest, scenarios: tuple[str, ...]) -> tuple[str, ...]:
    """A line per A/A gate measured now. Each is a session of its own: its own pairs, priors and report."""
    if not 0 < request.round_count <= ROUNDS_MAX:
        raise UsageError(
            "this number of rounds makes no sense",
            expected=f"--rounds of 1 to {ROUNDS_MAX}",
            found=str(request.round_count),
            next_step="correct --rounds",
        )
    options = Options(
        state_dir=request.state_dir,
        scenarios=scenarios,
        runner=request.runner,
        wait_s=request.wait_s,
        as_json=False,
        quiet=request.quiet,
        program=request.program,
        command=request.command,
    )
    gate = GateRequest(Wanted(Arm.BASELINE, request.build), Wanted(Arm.CANDIDATE, request.build), options)
    make_plan("health", workspace, options, (gate.baseline, gate.candidate))  # refused before anything is started
    log_dir = workspace.log_dir("health")
    log_dir.mkdir(parents=True, exist_ok=True)
    lines = []
    # One API for all rounds: Prefect reads its address once, so a second one in this process would not be found.
    with prefect_api(request.state_dir, log_dir / "prefect.log"):
        for number in range(1, request.round_count + 1):
            answer = session.gate(gate)
            if answer.exit_code not in MEASURED:
                error = UsageError if answer.exit_code is ExitCode.USAGE else InfrastructureError
                raise error(
                    f"A/A round {number} of {request.round_count} could not be measured",
                    found="; ".join(answer.lines[-2:]),
                    next_step="mend what its report names; the rounds before it are kept: redline health reads them",
                )
            lines.append(f"measured now, round {number} of {request.round_count}: {answer.lines[-1]}")
    return tuple(lines)


# --- reading ------------------------------------------------------------------------------------------------


def _speed_scenarios(workspace: Workspace, request: HealthRequest) -> dict[str, tuple[Scenario, str]]:
    """Scenario and hash of each scenario asked for that measures speed, by name. Raises UsageError without one."""
    runner_class = workspace.runner_class(request.runner)
    found = {
        name: identity_of(workspace, name, runner_class)
        for name in dict.fromkeys(request.scenarios)
        if not workspace.scenario(name).measures_accuracy
    }
    if not found:
        raise UsageError(
            "there is no noise to look at",
            expected="a scenario that measures speed",
            found=", ".join(request.scenarios),
            next_step="name one: redline health --scenario server-short",
        )
    return found


def _of_today(
    workspace: Workspace,
    request: HealthRequest,
    recorded: Recorded,
    scenarios: dict[str, tuple[Scenario, str]],
    notes: list[str],
) -> Iterator[_Judged]:
    """The series of the scenarios as they are today: this machine's, or of each set of nodes of a cluster.

    Raises ContentError if no policy fits.
    """
    hashes = {name: scenario_hash for name, (_, scenario_hash) in scenarios.items()}
    runner_class = workspace.runner_class(request.runner)
    policy = workspace.policy(runner_class.policy)
    keys = tuple((name, metric) for name, (scenario, _) in scenarios.items() for metric in scenario.metrics)
    problem = _problem(keys, policy)
    if problem:
        raise ContentError(
            f"policy {policy.name} cannot judge these scenarios",
            expected="an entry for every metric, and 1 to 6 primary ones",
            found=problem,
            next_step="choose other scenarios",
        )
    machines = _machines(runner_class, recorded, hashes)
    found = _newest_first([Series(request.runner, machine, hashes) for machine in machines], recorded)
    others = sum(row.scenario in hashes and not any(each.holds(row) for each in found) for row in recorded.rounds)
    if others:
        notes.append(f"{others} rounds of another machine or version of a scenario: --all shows them")
    for series in found:
        yield _judge(series, keys, policy, recorded, request, notes)


def _machines(runner_class: RunnerClass, recorded: Recorded, hashes: dict[str, str]) -> tuple[str, ...]:
    """The fingerprints whose rounds are judged: this machine's. In a cluster all on record, or UNKNOWN_MACHINE.

    Which nodes serve there is known only once they have served, and this machine is the client.
    """
    if runner_class.deployer == "host":
        return (fingerprint_of(runner_class).fingerprint_id,)
    served = (row.fingerprint_id for row in recorded.rounds if hashes.get(row.scenario) == row.scenario_hash)
    return tuple(dict.fromkeys(served)) or (UNKNOWN_MACHINE,)


def _newest_first(found: Sequence[Series], recorded: Recorded) -> list[Series]:
    """The series by their last round: what serves today comes before what served once."""

    def last(series: Series) -> str:
        return max((row.started_at for row in recorded.rounds if series.holds(row)), default="")

    return sorted(found, key=last, reverse=True)


def _every_series(
    workspace: Workspace, request: HealthRequest, recorded: Recorded, notes: list[str]
) -> Iterator[_Judged]:
    """Every series in the store that some policy can judge; the others are noted."""
    for series in _newest_first(aa_series.every_series(recorded), recorded):
        name = f"{series.runner_class}, machine {series.fingerprint_id}, {', '.join(series.scenario_hashes)}"
        try:
            policy = workspace.policy(workspace.runner_class(series.runner_class).policy)
        except ContentError as error:
            notes.append(f"{name}: not judged: {error.problem}")
            continue
        keys = tuple(
            (scenario, metric)
            for scenario in series.scenario_hashes
            for metric in _metrics(workspace, scenario, policy)
        )
        problem = _problem(keys, policy)
        if problem:
            notes.append(f"{name}: not judged: {problem}")
            continue
        yield _judge(series, keys, policy, recorded, request, notes)


def _metrics(workspace: Workspace, name: str, policy: Policy) -> tuple[str, ...]:
    """The metrics of a scenario as it is today; the policy's primaries where there is no such scenario any more."""
    try:
        return workspace.scenario(name).metrics
    except ContentError:
        return tuple(item.metric for item in policy.metrics if item.primary)


def _deciding(judged: Sequence[_Judged]) -> _Judged | None:
    """The series whose answer is the answer of all; None without a series.

    Series of one runner class and suite, on several machines, answer together. Those of several runner classes or
    suites, which only --all brings, say nothing of each other: of their answers the worst is given, so that nothing
    passes for supported that is not. Of series that say what is given the newest, which comes first, is taken.
    """
    questions: dict[object, list[Support]] = {}
    for each in judged:
        questions.setdefault(each.question, []).append(each.found.support)
    answers = {question: together(found) for question, found in questions.items()}
    worst = max(answers.values(), key=EXIT_CODES.__getitem__, default=None)
    return next(
        (each for each in judged if each.found.support is worst and answers[each.question] is worst),
        None,
    )


def _problem(keys: Sequence[Key], policy: Policy) -> str:
    missing = policy.missing(metric for _, metric in keys)
    if missing:
        return f"no entry for {', '.join(missing)}"
    try:
        policy.primaries(keys)
    except ValueError as error:
        return str(error)
    return ""


def _judge(
    series: Series, keys: Sequence[Key], policy: Policy, recorded: Recorded, request: HealthRequest, notes: list[str]
) -> _Judged:
    data = aa_series.data_of(series, keys, recorded)
    if data.empty_count:
        notes.append(f"{data.empty_count} A/A rounds without one whole valid pair")
    found = suite_health(
        data.rounds, data.windows, keys, data.priors, policy, seed=SEED, suite_count=request.suite_count
    )
    about = (
        f"runner class {series.runner_class}, machine {series.fingerprint_id}",
        "scenarios " + ", ".join(f"{name} ({value})" for name, value in series.scenario_hashes.items()),
    )
    return _Judged(series, policy, found, section(found, policy, about, _next_step(found, series, policy, request)))


def _next_step(found: SuiteHealth, series: Series, policy: Policy, request: HealthRequest) -> str:
    match found.support:
        case Support.SUPPORTED:
            return ""
        case Support.NOT_SUPPORTED:
            return (
                f"quieten the machine, or widen the margins in checks/policies/{policy.name}.toml to what it supports"
            )
        case Support.NOT_ENOUGH:
            if found.rounds_wanted is None:
                return f"quieten the machine: more rounds would hardly decide it ({ROUNDS_MIN} are the least)"
            words = [request.program, "health", "--rounds", str(max(1, found.rounds_wanted))]
            words += ["--runner", series.runner_class, "--build", request.build]
            words += [word for name in series.scenario_hashes for word in ("--scenario", name)]
            if request.state_dir != content_root() / ".redline":
                words += ["--state-dir", str(request.state_dir)]
            return _where(series, request) + shlex.join(words)


def _where(series: Series, request: HealthRequest) -> str:
    """Where more rounds of a series are to be measured, as the beginning of a sentence; '' for here."""
    workspace = Workspace(content_root(), request.state_dir)
    if series.fingerprint_id == UNKNOWN_MACHINE:
        return ""
    if workspace.runner_class(series.runner_class).deployer != "host":
        return "while the same nodes serve: "
    return "" if is_this_machine(workspace, series.runner_class, series.fingerprint_id) else "on that machine: "


# --- showing ------------------------------------------------------------------------------------------------


def _nothing(request: HealthRequest) -> HealthSection:
    """What is shown of a store without any A/A round."""
    step = shlex.join([request.program, "health", "--rounds", str(ROUNDS_MIN)])
    reason = f"no A/A round, at least {ROUNDS_MIN} needed"
    return HealthSection(f"{Support.NOT_ENOUGH.value}: {reason}", (reason,), step, (), (), (), ())


def _rests_on(judged: Sequence[_Judged], deciding: _Judged) -> str:
    """How many series say what, and which of them is quoted."""
    counts = Counter(each.found.support for each in judged)
    said = ", ".join(f"{counts[each]} {each.value}" for each in Support if counts[each])
    return (
        f"{len(judged)} series: {said}; the answer is that of runner class {deciding.series.runner_class}, "
        f"machine {deciding.series.fingerprint_id}"
    )


def _lines(page: HealthPage) -> Iterator[str]:
    if page.rests_on:
        yield from (page.answer, f"  {page.rests_on}", "")
    for shown in page.sections:
        yield shown.answer
        yield from (f"  {reason}" for reason in shown.reasons[1:])
        if shown.next_step:
            yield f"next step: {shown.next_step}"
        yield from shown.series
        for each in shown.tables:
            yield ""
            yield f"{each.title}:"
            yield from table(each.head, each.rows)
            yield from (f"  {note}" for note in each.notes)
        yield ""
        yield from shown.false_alarms
        yield from (f"warning: {warning}" for warning in shown.warnings)
        yield ""
    yield from (f"note: {note}" for note in page.notes)


def _as_json(judged: Sequence[_Judged], page: HealthPage, path: Path, exit_code: ExitCode) -> str:
    value = {
        "schema": JSON_SCHEMA,
        "exit_code": int(exit_code),
        "answer": page.answer,
        "report": str(path),
        "notes": list(page.notes),
        "series": [
            {
                "runner_class": each.series.runner_class,
                "fingerprint_id": each.series.fingerprint_id,
                "scenario_hashes": dict(each.series.scenario_hashes),
                "policy": each.policy.name,
                "next_step": each.shown.next_step,
                **asdict(each.found),
            }
            for each in judged
        ],
    }
    return json.dumps(value, indent=2, allow_nan=False)
