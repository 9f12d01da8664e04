"""Programs in answers: run on their tests where somebody asks for it, and nowhere but in the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from flows import code_judge
from flows.code_judge import JudgeLimits, judged
from flows.plan import Options, Wanted, make_plan
from flows.scored import scored
from flows.workspace import CHECKOUT, Workspace
from redline.cli import main
from redline.datasets.prepared import PreparedSet, write_prepared
from redline.errors import ContentError, SandboxError, UsageError
from redline.model import Arm, Outcome, Request, RequestRecord, TokenPrompt
from redline.sandbox import programs
from redline.sandbox.programs import ProgramLimits
from redline.scoring.final_answer import is_not_run
from redline.store.trials import list_trials, read_trial
from tests.datasets.made_files import json_lines, prepare
from tests.flows.answering_server import answering
from tests.flows.commands import redline
from tests.sandbox.walls import require_walls

PATIENT = JudgeLimits(ProgramLimits(time_s=60.0, output_bytes=10_000, processes=4))
QUICK = JudgeLimits(ProgramLimits(time_s=1.0, output_bytes=10_000, processes=4))
"""For programs that are never right: on a busy machine a right one may take longer to start."""
SUM = {"id": "sum", "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "20 -5\n", "output": "15"}]}
TWICE = {"id": "twice", "function": "twice", "tests": [{"input": "[1, 2]", "output": "[2, 4]"}]}
SUM_REFERENCE, TWICE_REFERENCE = (f"code:{json.dumps(task)}" for task in (SUM, TWICE))


def answer(program: str) -> str:
    """An answer of gpt-oss whose final channel holds this program."""
    return f"<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>So:\n```python\n{program}\n```\n"


RIGHT = answer("print(sum(map(int, input().split())))")
CALLED = answer("class Solution:\n    def twice(self, x: List[int]) -> List[int]:\n        return [2 * n for n in x]")
WRONG = answer("print(3)")
ENDLESS = answer("while True: pass")
CRASH = answer("raise ValueError('no\\x1b[31m <b>way</b>\\n' + 'x' * 999)")
FLOOD = answer("while True: print('3' * 999)")
NO_PROGRAM = "I cannot tell."


@pytest.fixture
def _walls():
    """Leave a test out where no program may be run."""
    require_walls()


@pytest.fixture
def _nowhere(monkeypatch, tmp_path):
    """A machine without bubblewrap."""
    monkeypatch.setenv("PATH", str(tmp_path))
    programs.sandbox.cache_clear()
    yield
    programs.sandbox.cache_clear()


needs_walls = pytest.mark.usefixtures("_walls")
without_bwrap = pytest.mark.usefixtures("_nowhere")


@needs_walls
def test_programs_are_judged_by_their_tests():
    """Right ones, whole and called; each failure by its kind, with the test that it failed and a harmless reason."""
    answers = [(RIGHT, SUM_REFERENCE), (CALLED, TWICE_REFERENCE)]
    answers += [(each, SUM_REFERENCE) for each in (WRONG, CRASH, FLOOD)]
    found = [*judged([*answers, (RIGHT, TWICE_REFERENCE)], PATIENT)]
    found[3:3] = judged([(ENDLESS, SUM_REFERENCE)], QUICK)
    assert [each.result.score for each in found] == [1, 1, 0, 0, 0, 0, 0]
    assert [each.result.problem for each in found] == [""] * 7
    failures = [[name for name, value in each.result.parts.items() if value == 1] for each in found]
    assert [names[1] for names in failures[2:]] == ["wrong", "timed_out", "crashed", "too_much_output", "crashed"]
    reasons = [each.reason for each in found]
    assert reasons[:4] == [
        "",
        "",
        "the program gave a wrong output: in test 2 of 2: '3' instead of '15'",
        "the program ran out of time: in test 1 of 2",
    ]
    assert reasons[5] == "the program wrote too much: in test 1 of 2"
    assert reasons[4].startswith("the program crashed: in test 1 of 2: xxx")
    assert all(reason.isprintable() and len(reason) < 300 for reason in reasons)


@needs_walls
def test_hostile_programs_reach_nothing_and_are_only_wrong(tmp_path):
    """Reading this machine, writing to it, killing us, lying to the judge: 0 each, and the next is judged."""
    target = tmp_path / "written"
    hostile = [
        f"print(open({__file__!r}).read())",
        f"open({str(target)!r}, 'w').write('x')\nprint(3)",
        f"import os\nos.kill({os.getpid()}, 9)\nprint(3)",
        "import os\nwhile True: os.fork()",
        "import os\nos.close(1)\nos._exit(0)",
        "import sys\nsys.stdout = None\nsys.exit(0)",
        "class Yes(str):\n    def __eq__(self, other): return True\nprint(Yes())",
    ]
    found = [*judged([(answer(each), SUM_REFERENCE) for each in hostile], QUICK)]
    found += judged([(RIGHT, SUM_REFERENCE)], PATIENT)
    assert [each.result.score for each in found] == [0] * len(hostile) + [1]
    assert not any(is_not_run(each.result) for each in found)
    assert not target.exists()


@needs_walls
def test_judging_has_bounds():
    """Of one answer's tests together it is the program that is too slow; of all answers it is nobody's fault."""
    many = {"id": "many", "tests": [{"input": "", "output": ""}] * 50}
    slow = answer("time = __import__('time')\ntime.sleep(0.2)")
    (found,) = judged([(slow, f"code:{json.dumps(many)}")], JudgeLimits(item_s_max=0.6))
    assert (found.result.score, found.result.parts["timed_out"]) == (0, 1)
    (late,) = judged([(RIGHT, SUM_REFERENCE)], JudgeLimits(total_s_max=0.0))
    assert is_not_run(late.result)
    assert "time for all programs was over" in late.reason


@needs_walls
def test_a_question_without_tests_is_not_run():
    """Counted, never wrong; half a reference is an error of the data set."""
    (found,) = judged([(RIGHT, "code:abc387_b")])
    assert is_not_run(found.result)
    assert "no tests" in found.reason
    with pytest.raises(ContentError):
        judged([(RIGHT, 'code:{"id":')])


@needs_walls
def test_a_sandbox_that_breaks_is_no_wrong_answer(monkeypatch):
    """bwrap is gone after the first look: what was answered is kept, and says that it was not run."""
    bwrap = shutil.which("bwrap")
    programs.sandbox.cache_clear()
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, "bwrap")
        link.symlink_to(bwrap)
        link.parent.chmod(0o755)  # root starts it as nobody
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        assert programs.sandbox().bwrap == str(link)
        link.unlink()
        (found,) = judged([(RIGHT, SUM_REFERENCE)])
    programs.sandbox.cache_clear()
    assert is_not_run(found.result)
    assert found.reason.startswith("the program was not run: ")


def records(*answers: str) -> tuple[list[Request], list[RequestRecord]]:
    """Requests with the references of SUM, but for the last, which is AIME's, and their records."""
    references = [SUM_REFERENCE] * (len(answers) - 1) + ["aime:204"]
    asked = [
        Request(n, TokenPrompt((1,)), 9, ignore_eos=False, offset_ns=0, cache_salt="s", expected=each)
        for n, each in enumerate(references)
    ]
    done = [RequestRecord(n, Outcome.OK, 0, 0, 9, (9,), (1,), 1, 1, each, "stop") for n, each in enumerate(answers)]
    return asked, done


@needs_walls
def test_scores_and_figures_with_programs_run():
    """Every program counts; an answer without one is wrong and says so."""
    kept, figures = scored("final-answer", *records(RIGHT, WRONG, NO_PROGRAM, "\\boxed{204}"), run_code=True)
    assert [record.score for record in kept] == [1, 0, 0, 1]
    assert [record.detail.split(":")[0] for record in kept] == [
        "",
        "the program gave a wrong output",
        "the answer could not be read",
        "",
    ]
    assert figures["exact_match_code"] == pytest.approx(100 / 3)
    assert figures["exact_match"] == pytest.approx(100 * (1 / 3 + 1 / 8) / (3 / 3 + 1 / 8))
    assert (figures["not_run"], figures["unreadable"], figures["code_wrong"]) == (0, 1, 1)


@without_bwrap
def test_without_being_asked_nothing_is_run():
    """Off by default: programs are counted as not run and have no score; exact_match is over the others."""
    kept, figures = scored("final-answer", *records(RIGHT, WRONG, "\\boxed{204}"))
    assert [record.score for record in kept] == [None, None, 1]
    assert {record.detail for record in kept[:2]} == {"the program was not run: running programs is off"}
    assert (figures["not_run"], figures["exact_match"], figures["exact_match_aime"]) == (2, 100, 100)
    assert "exact_match_code" not in figures
    without, _ = scored("final-answer", *records(NO_PROGRAM, "\\boxed{204}"))
    assert [record.score for record in without] == [None, 1], "not wrong while the others are not judged"
    with pytest.raises(SandboxError):
        scored("final-answer", *records(RIGHT, WRONG, "\\boxed{204}"), run_code=True)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"exact_match": 1.0}, []),
        ({"not_run": 0.0}, []),
        ({"not_run": 2.0}, ["not run, and are in no percentage: 2 "]),
        ({"not_run": 1.0, "code_wrong": 3.0, "code_timed_out": 1.0}, ["percentage: 1 ", "3 wrong, 1 timed out"]),
    ],
)
def test_a_reader_is_told_of_programs(figures, said):
    """How many were not run, and how those that were run failed."""
    remarks = code_judge.remarks_of(figures)
    assert len(remarks) == len(said)
    assert all(text in remark for text, remark in zip(said, remarks, strict=True))


# --- whole commands ---------------------------------------------------------------------------------------------------

DEFINITION = """
description = "Two programs and a number"
form = "gpt-oss"
scorer = "final-answer"
item_count = 3
licence = "ours"
source = "this test"
"""
ROWS = [
    {"tok_input": [0, 1], "dataset": "livecodebench", "ground_truth": "sum"},
    {"tok_input": [1, 1], "dataset": "livecodebench", "ground_truth": "twice"},
    {"tok_input": [2, 1], "dataset": "aime", "ground_truth": "204"},
]


@pytest.fixture
def workspace(tmp_path):
    """Content with a scenario of two programs and a number, `code-answers`, whose set is prepared with its tests."""
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners", "datasets"):
        shutil.copytree(CHECKOUT / name, root / name)
    shutil.copytree(CHECKOUT / "checks" / "policies", root / "checks" / "policies")
    text = (root / "scenarios" / "gpt-oss-stand-in-accuracy.toml").read_text()
    text = text.replace("= 24", "= 3").replace('dataset = "gpt-oss-stand-in"', 'dataset = "code-answers"')
    text = text.replace("exact_match = 100.0", "exact_match = 1.0")
    (root / "scenarios" / "code-answers.toml").write_text(text)
    (root / "datasets" / "code-answers.toml").write_text(DEFINITION)
    return Workspace(root, tmp_path / "state")


def prepared(workspace: Workspace, *tests: object) -> PreparedSet:
    """The set, prepared with these rows of code_tests.jsonl."""
    folder = workspace.root / "given"
    folder.mkdir(exist_ok=True)
    if tests:
        json_lines(folder / "code_tests.jsonl", tests)
    made = prepare(workspace.dataset("code-answers"), json_lines(folder / "rows.jsonl", ROWS))
    write_prepared(workspace.datasets_dir, made)
    return made


def plan_of(workspace: Workspace, *, run_code: bool):
    """The plan of a run of `code-answers` on an endpoint, as the command line would ask for it."""
    options = Options(
        workspace.state_dir, ("code-answers",), "cpu", 1.0, False, True, "redline", "redline run", run_code=run_code
    )
    return make_plan("run", workspace, options, [Wanted(Arm.SINGLE, "http://127.0.0.1:9")])


@needs_walls
def test_the_plan_says_whether_programs_are_run(workspace):
    """Scores with programs run are of another scenario: they are never compared with scores without."""
    prepared(workspace, SUM, TWICE)
    with_code, without = plan_of(workspace, run_code=True), plan_of(workspace, run_code=False)
    assert with_code.scenario_hashes != without.scenario_hashes
    (group,) = with_code.groups
    assert with_code.round_of(group, (), 0, print).run_code is True
    assert without.round_of(group, (), 0, print).run_code is False


def test_a_scenario_without_tests_has_nothing_to_run(workspace):
    """Asking for it is a mistake that is named before anything is started."""
    prepared(workspace)
    with pytest.raises(UsageError, match="nothing to run") as caught:
        plan_of(workspace, run_code=True)
    assert "code_tests.jsonl" in caught.value.next_step
    works = plan_of(workspace, run_code=False).works
    assert code_judge.identity_of("0" * 16, works["code-answers"], is_run=True) == "0" * 16


@without_bwrap
def test_a_machine_without_a_sandbox_is_refused_first(workspace, monkeypatch, capsys):
    """Exit code 5, what to install, and nothing was started or kept."""
    prepared(workspace, SUM, TWICE)
    monkeypatch.setenv("REDLINE_CONTENT", str(workspace.root))
    state = str(workspace.state_dir)
    arguments = ("run", "--endpoint", "http://127.0.0.1:9", "--scenario", "code-answers", "--run-code")
    assert main([*arguments, "--state-dir", state, "--quiet"]) == 5
    said = "".join(capsys.readouterr())
    assert "there is no sandbox" in said
    assert "install the package bubblewrap" in said
    assert not (workspace.state_dir / "trials").exists()


@needs_walls
@pytest.mark.slow
def test_a_whole_run_scores_programs(workspace):
    """From the command line to the stored trial: a right program, a wrong one and a number, over HTTP."""
    prepared(workspace, SUM, TWICE)
    wrong = answer("def twice(x):\n    return x")
    environment = {**os.environ, "REDLINE_CONTENT": str(workspace.root), "REDLINE_STATE": str(workspace.state_dir)}
    with answering("gpt-oss-stand-in", (RIGHT, wrong, "\\boxed{204}")) as url:
        arguments = ("run", "--endpoint", url, "--scenario", "code-answers", "--wait", "300", "--run-code")
        _, said = redline(environment, *arguments)
    trials = [read_trial(path) for path in list_trials(workspace.trials_dir)]
    assert len(trials) == 1, said
    scores = {record.output_text: (record.score, record.detail) for record in trials[0].repeats[0].records}
    assert scores == {
        RIGHT: (1, ""),
        wrong: (0, "the program gave a wrong output: in test 1 of 1: '[1, 2]' instead of '[2, 4]'"),
        "\\boxed{204}": (1, ""),
    }
    assert trials[0].figures["exact_match_code"] == 50
    assert trials[0].figures["not_run"] == 0
