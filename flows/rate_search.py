"""Flow `rate`: the highest rate of a server scenario whose p99 TTFT and TPOT stay within limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from prefect import flow

from checks.fingerprints import why_incomparable
from checks.rate_search import (
    Bracket,
    Probe,
    RateEstimate,
    RateLimits,
    bracket,
    estimate,
    next_rate,
    on_one_machine,
)
from checks.replicas import ALL_ANSWER
from checks.validity import ALL_ANSWERED, FULL_OUTPUTS, REAL_SERVER, is_spoilt
from flows import steps
from flows.bench import ArmSetup
from flows.measure import measuring
from flows.plan import SearchShape, Wanted
from flows.progress import Narrator
from flows.request import Session
from redline.errors import InvalidMeasurementError, RedlineError
from redline.metrics import CATALOGUE
from redline.model import Arm, Outcome, RunnerFingerprint, Scenario, Server, Trial

RETRY_COUNT_MAX = 2
REQUEST_COUNT_MIN = 200
"""A p99 of a hundred requests or fewer is the worst of them."""

RATE_RULES = frozenset({ALL_ANSWERED, FULL_OUTPUTS, ALL_ANSWER})
"""Rules that a rate breaks which is too high for the server: an answer. Any other broken rule is none."""

SIMULATED = "no measurement: the answers came from `redline simulate`"
CEILING_PER_S = 20_000.0


@dataclass(frozen=True, slots=True)
class Search:
    """One search: its probes in order, and the machine that served its one deployment."""

    probes: tuple[Probe, ...]
    machine: RunnerFingerprint


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A search that another machine served, by its number from 1, and what differs in words."""

    search: int
    why: str


@dataclass(frozen=True, slots=True)
class RateAnswer:
    """Every probe of every search, their brackets and machines, and the estimate (None: a side was never found).

    The estimate is over the searches that one machine served; `left_out` are the others. `simulated`: `redline
    simulate` answered, so this says nothing about any build. `problem`: what ended the searches early (those that were
    finished are kept), or left only one of several.
    """

    scenario: str
    limits: RateLimits
    probes: tuple[tuple[Probe, ...], ...]
    brackets: tuple[Bracket, ...]
    estimate: RateEstimate | None
    machines: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    simulated: bool = False
    problem: str = ""

    @property
    def counted_brackets(self) -> tuple[Bracket, ...]:
        """Those of the searches that the estimate is over."""
        out = {each.search for each in self.left_out}
        return tuple(found for number, found in enumerate(self.brackets, 1) if number not in out)


@flow(name="rate", validate_parameters=False, persist_result=False)
def rate_flow(wanted: Wanted, limits: RateLimits, shape: SearchShape, session: Session) -> RateAnswer:
    """One search per fresh deployment; every window is kept as a trial.

    Raises InvalidMeasurementError if the machine or the client does not let a window count.
    """
    plan, narrator = session.plan, session.narrator
    group = plan.groups[0]
    scenario = group.scenarios[0]
    arrivals = scenario.arrivals
    assert isinstance(arrivals, Server)  # the command line has checked
    sut = steps.resolve(wanted, plan, narrator)
    build = steps.install(sut.pin, plan.workspace, narrator)
    session.seen.candidate = sut
    searches: list[Search] = []
    problem: RedlineError | None = None
    for index in range(shape.search_count):
        round_ = plan.round_of(group, (ArmSetup(Arm.PROBE, sut, build),), index, session.seen.add)
        # Each search on a grid of its own: on one grid they would share the error of their bracket.
        first = arrivals.rate_per_s * (1 + shape.resolution) ** (index / shape.search_count)
        try:
            with measuring(round_, round_.arms, narrator) as measure:
                probes = _search(scenario, first, limits, shape, 1000 * index, measure, narrator)
                searches.append(Search(probes, session.seen.trials[-1].fingerprint))  # one deployment, one machine
        except RedlineError as error:
            problem = error
            break
    steps.ingest_trials(plan.workspace, narrator)
    if problem is not None and not searches:
        raise problem
    early = "" if problem is None else f"search {len(searches) + 1} of {shape.search_count} ended early: {problem}"
    simulated = any(repeat.client.simulated for trial in session.seen.trials for repeat in trial.repeats)
    return answer_of(scenario.name, limits, searches, early=early, simulated=simulated)


def answer_of(
    scenario: str, limits: RateLimits, searches: Sequence[Search], *, early: str = "", simulated: bool = False
) -> RateAnswer:
    """What the searches (at least one) say together; `early`: what ended them early.

    Only those of machines that may be compared are put together: in a cluster each deployment may land on other nodes,
    and on a host a power cap may be changed between two.
    """
    counted = on_one_machine([each.machine for each in searches])
    own = searches[counted[0]].machine
    left_out = tuple(
        LeftOut(number, f"another machine served it: {why_incomparable(own, each.machine)}")
        for number, each in enumerate(searches, 1)
        if number - 1 not in counted
    )
    alone = "no two searches were served by machines that may be compared" if left_out and len(counted) == 1 else ""
    brackets = tuple(bracket(each.probes, limits) for each in searches)
    return RateAnswer(
        scenario=scenario,
        limits=limits,
        probes=tuple(each.probes for each in searches),
        brackets=brackets,
        estimate=estimate([brackets[index] for index in counted]),
        machines=tuple(each.machine.fingerprint_id for each in searches),
        left_out=left_out,
        simulated=simulated,
        problem="\n".join(filter(None, (alone, early))),
    )


def _search(
    scenario: Scenario,
    first_per_s: float,
    limits: RateLimits,
    shape: SearchShape,
    seed: int,
    measure: Callable[[Scenario], list[Trial]],
    narrator: Narrator,
) -> tuple[Probe, ...]:
    """The probes of one search on one deployment, in order."""
    probes: list[Probe] = []
    while True:
        rate = next_rate(
            probes, limits, first_per_s=first_per_s, resolution=shape.resolution, ceiling_per_s=CEILING_PER_S
        )
        if rate is None:
            return tuple(probes)
        at_rate = probe_scenario(
            scenario, rate, shape.window_s, seed=scenario.seed + seed + len(probes), warm_up=not probes
        )
        probes.append(probe_at(at_rate, rate, measure))
        verdict = "within the limits" if probes[-1].within(limits) else "beyond them"
        narrator.say(f"{rate:.2f} requests a second: {verdict}")


def probe_scenario(scenario: Scenario, rate_per_s: float, window_s: float, *, seed: int, warm_up: bool) -> Scenario:
    """The scenario at another rate: as many requests as fall due in `window_s`, one window, its own seed."""
    count = max(round(rate_per_s * window_s), REQUEST_COUNT_MIN)
    arrivals = scenario.arrivals
    assert isinstance(arrivals, Server)
    limits = replace(scenario.limits, window_s_max=min(count / rate_per_s + scenario.limits.window_s_max, 7200.0))
    return replace(
        scenario,
        name=f"{scenario.name}@{rate_per_s:.2f}",
        arrivals=replace(arrivals, rate_per_s=rate_per_s),
        request_count=count,
        repeat_count=1,
        discard_count=int(warm_up),
        seed=seed,
        limits=limits,
    )


def probe_at(scenario: Scenario, rate_per_s: float, measure: Callable[[Scenario], list[Trial]]) -> Probe:
    """One window; one that the machine or the client spoilt is measured again. Failed requests are an answer.

    Raises InvalidMeasurementError where no window was left alone, or another rule than `RATE_RULES` is broken: a window
    that is evidence of nothing is no probe. A stand-in's answers go on: the whole search says that they are.
    """
    (trial,) = measure(scenario)
    for _ in range(RETRY_COUNT_MAX):
        if not is_spoilt(trial):
            break
        (trial,) = measure(scenario)
    broken = [reading for reading in trial.validity if not reading.ok and reading.rule != REAL_SERVER]
    found = "; ".join(f"{reading.rule}: {reading.reading}" for reading in broken)
    if is_spoilt(trial):
        raise InvalidMeasurementError(
            f"no valid window at {rate_per_s:.2f} requests a second",
            expected="a client on schedule and a machine of its own that runs at its full speed",
            found=found,
            next_step="free or mend it (see `redline doctor`), or search on one with more cores for the client",
        )
    wrong = [reading for reading in broken if reading.rule not in RATE_RULES]
    if wrong:
        raise InvalidMeasurementError(
            "this is no measurement of the build asked for",
            expected=f"{wrong[0].rule}: {wrong[0].limit}",
            found=found,
            next_step="look at the server that answered",
        )
    repeat = trial.counted_repeats[-1]
    failed = sum(record.outcome is not Outcome.OK for record in repeat.records)
    readings = [CATALOGUE[name].formula(repeat) for name in ("ttft_s_p99", "tpot_s_p99")]
    return Probe(rate_per_s, readings[0], readings[1], failed)


def lines_of(answer: RateAnswer) -> tuple[str, ...]:
    """The answer for people."""
    limits = answer.limits
    lines = [SIMULATED] if answer.simulated else []
    lines += [
        f"{answer.scenario}: limits TTFT p99 {limits.ttft_s_p99:g} s, TPOT p99 {limits.tpot_s_p99:g} s",
        "search   req/s  TTFT p99 ms  TPOT p99 ms  failed  within",
    ]
    for index, probes in enumerate(answer.probes, 1):
        lines += [
            f"{index:6d} {probe.rate_per_s:7.2f}  {_ms(probe.ttft_s_p99):>11s}  {_ms(probe.tpot_s_p99):>11s}"
            f"  {probe.failed_count:6d}  {'yes' if probe.within(limits) else 'no'}"
            for probe in probes
        ]
    lines += [f"search {each.search} is left out: {each.why}" for each in answer.left_out]
    found = answer.estimate
    if found is None:
        lines.append("no rate could be bracketed: " + "; ".join(_said(each) for each in answer.counted_brackets))
    elif found.low_per_s is None:
        each = answer.counted_brackets[0]
        lines.append(f"held {each.held_per_s:.2f}, broken at {each.broken_per_s:.2f} requests a second; one search")
    else:
        interval = f"95 % interval {found.low_per_s:.2f} to {found.high_per_s:.2f}"
        lines.append(f"{found.rate_per_s:.2f} requests a second ({interval}, {found.search_count} deployments)")
    lines += answer.problem.splitlines()
    return tuple(lines)


def _said(found: Bracket) -> str:
    if found.held_per_s > 0 and math.isfinite(found.broken_per_s):
        return f"held {found.held_per_s:.3g}, broken at {found.broken_per_s:.3g} requests a second"
    if found.held_per_s == 0:
        return f"beyond the limits even at {found.broken_per_s:.3g} requests a second"
    return f"within the limits even at {found.held_per_s:.3g} requests a second"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.2f}"


def as_json(answer: RateAnswer) -> str:
    """The answer for machines: rates in requests a second, times in seconds; an infinite rate is null."""
    content = asdict(answer)
    for found in content["brackets"]:
        found["broken_per_s"] = found["broken_per_s"] if found["broken_per_s"] < float("inf") else None
    return json.dumps(content, indent=1)
