"""Records of nights as the nightly writes them: what it says comes from the functions that it calls itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from checks.night_findings import accepted, answered, settled_half, still_owed
from checks.night_series import series_of, whole
from checks.nightly import Suspicion, SuspicionKind
from redline.model import Comparison, Finding, LevelKind, Night, NightChange, NightFinding, NightReading
from tests.checks.policies import GPU

FIRST = date(2026, 11, 1)
THROUGHPUT = ("offline", "output_tokens_per_s")
TPOT = ("server", "tpot_s_median")
HASH = "0" * 16
NIGHTLY = "vllm 0.33.1rc1.dev{0}+g{1}.cu130"
BUILDS = tuple(NIGHTLY.format(100 + number, f"{number:02d}aaaaa{number:02d}") for number in range(40))


def day(number: int) -> str:
    """The date of a night by its number, from 0."""
    return (FIRST + timedelta(days=number)).isoformat()


def night(number: int, runner_class: str = "h100", **changed: object) -> Night:
    """A quiet night: both metrics read, at their level, of the build of that night."""
    readings = (NightReading(*_identity(THROUGHPUT), 100.0), NightReading(*_identity(TPOT), 0.02))
    made = Night(
        schema=1,
        run_id=f"{day(number).replace('-', '')}T020000-{runner_class}",
        date=day(number),
        runner_class=runner_class,
        series_id="s",
        sut_id=f"sut {number}",
        sut_label=BUILDS[number],
        pin_id=f"pin {number}",
        trial_ids=("t",),
        notes={"kernel": "6.1"},
        readings=readings,
        findings=(),
        changes=(),
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def nights(count: int, runner_class: str = "h100") -> list[Night]:
    """So many quiet nights."""
    return [night(number, runner_class) for number in range(count)]


def suspected(
    record: Sequence[Night],
    key: tuple[str, str],
    first_bad: int,
    found: Finding | None,
    size: float = 0.1,
    high: float | None = None,
    kind: SuspicionKind = SuspicionKind.STEP,
) -> Night:
    """The last night of the record, which suspects a step since night `first_bad` and had a gate find `found`.

    None: no gate could be run.
    """
    series = series_of(record, key, HASH)
    suspicion = Suspicion(kind, first_bad, (first_bad,), first_bad - 1, size, 9.0)
    comparison = None
    if found is not None:
        cost = size if found is Finding.REGRESSED else 0.0
        top = (cost + 0.01) if high is None else high
        comparison = Comparison(*key, found, True, 100, 90, cost, cost - 0.01, top, 0.02, 6, 1.0, 0.001, 0.02, "a gate")
    problem = "" if comparison else "the wheel is gone"
    said = answered(series, suspicion, comparison, against=record[first_bad - 1].sut_label, problem=problem)
    changes = (said.change,) if said.change is not None else ()
    last = record[-1]
    return replace(last, findings=(*last.findings, said.finding), changes=(*last.changes, *changes))


def owing(record: Sequence[Night], *keys: tuple[str, str]) -> Night:
    """The last night of the record with what the nightly says is still owed."""
    debts = [still_owed(series_of(record, key, HASH), GPU, None) for key in keys]
    last = record[-1]
    return replace(last, findings=(*last.findings, *(debt for debt in debts if debt is not None)))


def better(last: Night, key: tuple[str, str], size: float, kind: LevelKind = LevelKind.IMPROVEMENT) -> Night:
    """The night, which puts a better level on record, by `size` (oriented log)."""
    given_back = -size if kind is LevelKind.ENVIRONMENT else 0.0
    change = NightChange(*_identity(key), kind, last.run_id, -size, given_back)
    finding = NightFinding("improvement", *key, f"{key[1]} in {key[0]} is better since {last.date}")
    return replace(last, findings=(*last.findings, finding), changes=(*last.changes, change))


def accepting(record: Sequence[Night], key: tuple[str, str], number: int) -> Night:
    """The record of an acceptance, made on the day `number`."""
    series = series_of(record, key, HASH)
    run_id = f"{day(number).replace('-', '')}T120000-accepted"
    return accepted(series, None, run_id, "a fair price for the new scheduler", "ana", day(number))


def halves(record: Sequence[Night]) -> list[Night]:
    """The record as it is written: two halves of every night that measured something."""
    written: list[Night] = []
    for each in record:
        if not each.readings and not each.trial_ids:
            written.append(each)
            continue
        written.append(replace(each, findings=(), changes=()))
        written.append(settled_half(each, each.findings, each.changes))
    assert whole(written) == tuple(record)
    return written


def missing(last: Night, *keys: tuple[str, str]) -> Night:
    """The night without readings of these metrics, and what it says of that."""
    found = [NightFinding("missing", *key, f"{key[1]} in {key[0]} has no valid reading tonight") for key in keys]
    kept = tuple(each for each in last.readings if (each.scenario, each.metric) not in keys)
    return replace(last, readings=kept, findings=(*last.findings, *found))


def _identity(key: tuple[str, str]) -> tuple[str, str, str]:
    return key[0], HASH, key[1]
