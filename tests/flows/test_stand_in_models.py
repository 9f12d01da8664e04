"""Every architecture of MLPerf's on a real vLLM: requests, scores, targets and a verdict; and LoadGen's own driver."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.datasets import prepared_of
from flows.stand_ins import version
from flows.workload import work_of
from flows.workspace import Workspace
from redline.load.arrivals import offsets_ns
from redline.load.loadgen_logs import read_logs
from redline.model import Arm, Trial
from redline.store.trials import list_trials, read_trial
from tests.flows.commands import BUILD, ROOT, redline

pytestmark = pytest.mark.vllm

FIGURES = {
    "gptj": {"rouge1": 100, "rouge2": 100, "rougeL": 100},
    "llama2": {"rouge1": 100, "rouge2": 100, "rougeL": 100},
    "gpt-oss": {"exact_match": 100},
    "whisper": {"accuracy": 100, "wer": 0},
    "qwen3-vl": {"f1_hierarchical": 1},
}


def trials_of(environment: dict[str, str]) -> tuple[Trial, ...]:
    """Every trial of this test's own state."""
    return tuple(read_trial(path) for path in list_trials(Path(environment["REDLINE_STATE"]) / "trials"))


def damaged_copy(environment: dict[str, str], name: str, target: Path) -> Path:
    """A copy of a stand-in whose weights are as off as they vary: it answers at once, and wrong."""
    source = Path(environment["REDLINE_STATE"]) / "stand-ins" / f"{name}-{version()}"
    command = [sys.executable, "models/damage.py", str(source), str(target), "--noise", "1.0", "--seed", "1"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return target


def make_stand_ins(environment: dict[str, str], vllm_build: Any, names: Sequence[str]) -> None:
    """Make stand-ins, two at a time, before a test needs a damaged copy; whoever comes later finds them made."""
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from flows import stand_ins
from flows.workspace import CHECKOUT, Workspace
workspace = Workspace(CHECKOUT, Path({environment["REDLINE_STATE"]!r}))
recipes = [workspace.recipe(name + "-stand-in") for name in {list(names)!r}]
with ThreadPoolExecutor(2) as both:
    list(both.map(lambda recipe: stand_ins.make(workspace, recipe, Path({str(vllm_build.python)!r})), recipes))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, timeout=600)


EVERY_TIME = ("whisper",)
"""Audio, whose requests are furthest from plain text. The other architectures go the same way through Redline:
`make test-long`, every week in CI."""


@pytest.mark.parametrize(
    "name", [name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.long) for name in FIGURES]
)
def test_an_architecture_answers_is_scored_and_judged(
    name: str, environment: dict[str, str], vllm_build: Any, tmp_path: Path
) -> None:
    """The whole build reaches every target; one with damaged weights is regressed, by its answers and its targets."""
    make_stand_ins(environment, vllm_build, EVERY_TIME if name in EVERY_TIME else tuple(FIGURES))
    damaged = damaged_copy(environment, name, tmp_path / "damaged")
    code, printed = redline(
        environment,
        *("gate", "--runner", "cpu-stand-ins", "--baseline", BUILD, "--candidate", BUILD),
        *("--candidate-model", f"{name}-stand-in={damaged}", "--scenario", f"{name}-stand-in-accuracy"),
        *("--json", "--quiet"),
    )
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (1, "regressed"), printed
    arms = {trial.arm: trial for trial in trials_of(environment)}
    whole, broken = arms[Arm.BASELINE], arms[Arm.CANDIDATE]
    assert {trial.status.value for trial in arms.values()} == {"valid"}, [trial.detail for trial in arms.values()]
    assert {figure: whole.figures[figure] for figure in FIGURES[name]} == FIGURES[name]
    (records,) = (repeat.records for repeat in whole.counted_repeats)
    assert all(record.score == 1.0 and record.chunk_ns and record.output_tokens for record in records)
    main = next(iter(FIGURES[name]))
    assert broken.figures[main] < 0.99 * whole.figures[main]
    page = Path(answer["report"]).read_text()
    assert "NOT REACHED" in page
    assert answer["accuracy"][0]["lost_count"] > 0


@pytest.mark.long
def test_the_official_loadgen_drives_the_same_run(environment: dict[str, str], content: Path) -> None:
    """`--driver loadgen`: the samples of the scenario at its instants, every answer exact, LoadGen's logs kept."""
    names = ("gptj-stand-in-offline", "gptj-stand-in-server")
    code, printed = redline(
        environment,
        *("run", "--runner", "cpu-stand-ins", "--driver", "loadgen", "--quiet"),
        *(word for name in names for word in ("--scenario", name)),
    )
    assert code == 6, printed
    trials = {trial.scenario: trial for trial in trials_of(environment)}
    workspace = Workspace(content, Path(environment["REDLINE_STATE"]))
    learned = {item.prompt: item.reference for item in prepared_of(workspace, "gptj-stand-in").items}
    for name in names:
        trial = trials[name]
        assert (trial.status.value, len(trial.counted_repeats)) == ("valid", 3), trial.detail
        work = work_of(workspace, workspace.scenario(name))
        for repeat in trial.counted_repeats:
            assert tuple(record.sched_ns for record in repeat.records) == offsets_ns(work.scenario)
            assert [record.output_text.strip() for record in repeat.records] == [
                learned[item.prompt].strip() for item in work.items
            ]
    logs = sorted((Path(environment["REDLINE_STATE"]) / "logs").glob("*/loadgen/*/*"))
    assert len(logs) == 2 * 4  # two scenarios, a warm-up and three windows each
    assert all(read_logs(folder).errors == () for folder in logs)


@pytest.mark.long
def test_a_model_that_refuses_pictures_is_invalid_and_says_why(environment: dict[str, str], content: Path) -> None:
    """Pictures sent to a text model: every request failed, nothing is scored as if it had been answered, exit 4."""
    text = (content / "scenarios" / "qwen3-vl-stand-in-accuracy.toml").read_text()
    wrong = text.replace('recipe = "qwen3-vl-stand-in"', 'recipe = "llama2-stand-in"')
    assert wrong != text
    (content / "scenarios" / "pictures-to-a-text-model.toml").write_text(wrong)
    code, printed = redline(
        environment,
        *("run", "--runner", "cpu-stand-ins", "--scenario", "pictures-to-a-text-model", "--json", "--quiet"),
    )
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (4, "invalid"), printed
    assert "24 http-error of 24" in answer["reason"]
    assert "not a multimodal model" in answer["reason"]
    (trial,) = trials_of(environment)
    assert trial.status.value == "invalid"
    assert {record.detail[:8] for repeat in trial.repeats for record in repeat.records} == {"HTTP 400"}
