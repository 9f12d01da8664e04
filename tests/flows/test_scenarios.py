"""`redline scenarios`: every scenario and suite in a line, one of them in full, and a clear word for anything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flows.scenarios import describe
from flows.workspace import CHECKOUT
from redline.cli import main
from redline.errors import ContentError, UsageError
from redline.load import loadgen
from redline.mlperf import ROUND_SEEDS


def told(state_dir: Path, *names: str) -> str:
    """What is said, as one text."""
    return "\n".join(describe(names, state_dir))


def test_every_scenario_and_suite_is_listed(tmp_path: Path) -> None:
    """A line each; a suite with the scenarios in it."""
    lines = told(tmp_path).splitlines()
    for folder, start in (("scenarios", ""), ("suites", "suite ")):
        names = [path.stem for path in (CHECKOUT / folder).glob("*.toml")]
        assert [name for name in names if not any(line.startswith(f"{start}{name}: ") for line in lines)] == []
    suite = next(index for index, line in enumerate(lines) if line.startswith("suite default: "))
    assert lines[suite + 1].split() == ["accuracy-tiny,", "offline-short,", "server-short"]


def test_a_scenario_is_shown_in_full(tmp_path: Path) -> None:
    """Identity, arrivals, items, target, rules with the seeds of the round, and what would be started."""
    shown = told(tmp_path, "show", "gptj-stand-in-accuracy")
    assert shown == told(tmp_path, "gptj-stand-in-accuracy")
    for part in (
        "  hash ",
        "Offline(in_flight_max=4",
        "24 requests, 0 + 1 windows",
        "data set gptj-stand-in: 24 items, scored by rouge; PSF-2.0",
        "    rouge1: 99 % of 100",
        "MLPerf-style, not verified by MLCommons: gptj-99.9, round v6.0, in samples/s",
        "qsl 2465351861681999779, sample_index 14276810075590677512, schedule 3936089224930324775",
        "shorter than MLPerf demands: a stand-in of GPT-J 6B",
        "deviation: Greedy decoding, not beam search",
        "recipe gptj-stand-in: A tiny GPT-J",
        "OMP_NUM_THREADS=1",
        "--enforce-eager",
    ):
        assert part in shown
    assert "not known yet" not in shown
    assert [line for line in shown.splitlines() if line != line.rstrip()] == []


def test_a_target_is_shown_with_both_its_bounds(tmp_path: Path) -> None:
    """Figures with a share of their own, and those that can be too good."""
    shown = told(tmp_path, "llama2-70b-accuracy")
    assert "    rouge1: 99.9 % of 44.4312" in shown
    assert "    tokens_per_sample: 90 % to 110 % of 294.45" in shown


def test_a_set_that_is_not_prepared_hides_nothing_else(tmp_path: Path) -> None:
    """Only the hash is not known yet, and the command that makes it known is named; limits and models are shown."""
    shown = told(tmp_path, "llama3.1-8b-server")
    assert "hash not known yet: data set cnn-dailymail-llama3 is not prepared" in shown
    assert "redline datasets prepare cnn-dailymail-llama3 --from PATH" in shown
    assert "p99 TTFT at most 2 s, TPOT at most 0.1 s" in shown
    revision = "be673f326cab4cd22ccfef76109faf68e41aa5f1"
    assert f"    model meta-llama/Llama-3.1-8B-Instruct, revision {revision}" in shown


def test_placements_are_shown_with_their_source(tmp_path: Path) -> None:
    """Replicas, tensor parallelism, whose values these are, and the checkpoint with its revision."""
    lines = told(tmp_path, "llama3.1-8b-offline").splitlines()
    place = next(index for index, line in enumerate(lines) if line.startswith("    H100, offline: 1 x TP1 ("))
    assert "MLPerf Inference v5.1, closed/RedHat" in lines[place]
    assert lines[place + 1].strip() == (
        "--model RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8 --revision main --max-num-seqs 1024 "
        "--max-num-batched-tokens 4096 --kv-cache-dtype fp8 at 43.64 requests/s"
    )


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped content as a team's own, with a runner class of eight MI300X and one of an unknown accelerator."""
    root = tmp_path / "content"
    for folder in ("scenarios", "recipes", "runners", "datasets", "checks/policies"):
        shutil.copytree(CHECKOUT / folder, root / folder)
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    for name, accelerator in (("amd", "MI300X"), ("other", "Z9000")):
        (root / "runners" / f"{name}.toml").write_text(
            f'description = "d"\nplatform = "rocm"\npolicy = "gpu"\narms_resident_max = 1\n'
            "foreign_cpu_share_max = 0.05\nretry_count_max = 6\nmemory_bytes_free_min = 1\n"
            f'accelerator = "{accelerator}"\naccelerator_count = 8\n'
        )
    return root


def test_a_runner_class_shows_what_would_run_there(team: Path, tmp_path: Path) -> None:
    """Its placement's rate, as many requests as LoadGen issues at it, and its servers only."""
    shown = "\n".join(describe(("show", "llama2-70b-server"), tmp_path, "amd"))
    (rated,) = (line for line in shown.splitlines() if line.startswith("  Server("))
    assert "rate_per_s=83.5, process='loadgen'" in rated
    seed = ROUND_SEEDS["v6.0"].schedule
    count = loadgen.server_query_count(83.5, 600.0, 24576, seed, 24576)
    assert f"  {count} requests, " in shown
    places = [line for line in shown.splitlines() if " x TP" in line]
    assert [line.partition(" (")[0].strip() for line in places] == ["MI300X, server: 8 x TP1"]
    (started,) = (line for line in shown.splitlines() if line.startswith("    rocm: "))
    assert "--max-num-seqs 1792" in started


def test_without_a_placement_a_runner_class_runs_the_scenario_as_it_is(team: Path, tmp_path: Path) -> None:
    """No rate is made up, and no other accelerator's servers are shown."""
    shown = "\n".join(describe(("llama2-70b-server",), tmp_path, "other"))
    assert "Server(rate_per_s=7.5" in shown
    assert "  24576 requests, " in shown
    assert " x TP" not in shown


def test_the_command_takes_a_runner_class(team: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown one is refused with the nearest."""
    state = ["--state-dir", str(tmp_path)]
    assert main(["scenarios", "llama2-70b-server", "--runner", "amd", *state]) == 0
    assert "rate_per_s=83.5" in capsys.readouterr().out
    assert main(["scenarios", "llama2-70b-server", "--runner", "amdd", *state]) == 2
    assert "'amd'" in capsys.readouterr().err


def test_old_scenarios_say_no_more_than_they_are(tmp_path: Path) -> None:
    """No rules, no target, no data set."""
    shown = told(tmp_path, "server-short")
    assert "hash 9c19e1a2902b0e05" in shown
    for absent in ("MLPerf", "data set", "answers must reach"):
        assert absent not in shown


def test_what_cannot_be_shown_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name with the nearest, two at once, and `show` alone, which is no scenario."""
    with pytest.raises(ContentError, match="no such file") as unknown:
        told(tmp_path, "show", "gptj-ofline")
    assert "'gptj-offline'" in unknown.value.expected
    with pytest.raises(UsageError, match="one scenario at a time") as two:
        told(tmp_path, "server-short", "offline-short")
    assert two.value.next_step
    assert main(["scenarios", "show", "--state-dir", str(tmp_path)]) == 2
    assert "scenarios/show.toml: no such file" in capsys.readouterr().err
