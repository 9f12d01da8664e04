"""Programs as answers: their tests in a reference, equal outputs, and what the figures say of those that were run."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.scoring.code_answer import CodeTask, CodeTest, Failure, same_output, same_value, task_of
from redline.scoring.final_answer import NOT_RUN, corpus, is_not_run, item, not_run, ran

TESTS = {"id": "q1", "tests": [{"input": "a b\n", "output": "2\n"}, {"input": "", "output": "0"}]}


def test_tests_are_read_from_the_reference():
    """Their texts as they are; an id alone has none."""
    task = task_of("code:" + json.dumps(TESTS))
    assert task == CodeTask("q1", (CodeTest("a b\n", "2\n"), CodeTest("", "0")))
    assert task_of("code:" + json.dumps(TESTS | {"function": "f"})).function == "f"
    assert task_of("code:abc387_b") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "q1", "tests": [',
        '{"id": "q1", "tests": []}',
        '{"id": "q1"}',
        '{"tests": [{"input": "", "output": ""}]}',
        '{"id": "q1", "tests": [{"input": ""}]}',
        '{"id": "q1", "tests": [{"input": 1, "output": ""}]}',
        '{"id": "q1", "tests": "all"}',
        "{" * 100_000,
    ],
)
def test_a_reference_that_is_not_whole_is_the_data_sets_fault(text):
    """Half a reference would make every program wrong, or right."""
    with pytest.raises(ContentError, match="tests of a program"):
        task_of(f"code:{text}")


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("  1 2 \r\n 3 \n\n", "1 2\n3", True),
        ("1 2\n\n3", "1 2\n3", False),
        ("1\n2", "1", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("YES", "yes", False),
        ("2.50 1", "2.5 1.0", True),
        ("0.30000000000000004", "0.3", False),
        ("50000000000000000", "50000000000000001", False),
        ("1e3", "1000", True),
        ("1e999999999999999999", "1", False),
        ("1 2", "1 2 3", False),
        ("nan", "nan", True),
        ("nan", "NaN", False),
        ("sNaN", "1", False),
        ("inf", "Infinity", True),
        ("", "", True),
        ("", "0", False),
        ("9" * 10_000, "9" * 10_000 + ".0", True),
    ],
)
def test_outputs_are_compared_as_livecodebench_does(output, expected, same):
    """Line by line, without the spaces around; numbers by their value and without tolerance."""
    assert same_output(output, expected) is same


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("[1, 2]", "[1,2]", True),
        ("[1.0, true]", "[1, true]", True),
        ('{"a": [1]}', '{"a":[1]}', True),
        ("[2, 1]", "[1, 2]", False),
        ('"1"', "1", False),
        ("null", "null", True),
        ("NaN", "NaN", False),
        ("9" * 10_000, "9" * 10_000, True),
        ("9" * 10_000, "9" * 9_999, False),
        ("", "null", False),
        ("1 1", "1", False),
        ("[" * 100_000, "[]", False),
    ],
)
def test_values_are_compared_as_values(output, expected, same):
    """What a function returned, as JSON."""
    assert same_value(output, expected) is same


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_can_be_compared(output, expected):
    """No output makes the comparison fail, and every output equals itself."""
    assert same_output(output, expected) in {True, False}
    assert same_value(output, expected) in {True, False}
    assert same_output(output, output) is True


def test_an_answer_to_a_question_with_tests_is_not_run_here():
    """The pure scorer runs nothing, whatever the reference holds."""
    result = item("```python\nprint(1)\n```", "code:" + json.dumps(TESTS, indent=1))
    assert (result.problem, result.score, is_not_run(result)) == (NOT_RUN, 0, True)
    assert item("no program", "code:" + json.dumps(TESTS)).problem == "no closed block of code in the answer"


def test_programs_that_failed_are_counted_by_how():
    """A failure is a wrong answer, not an unreadable one."""
    results = [ran(), *(ran(failure) for failure in Failure), ran(Failure.WRONG)]
    figures = corpus(results, [1] * len(results))
    assert figures["exact_match_code"] == pytest.approx(100 / 6)
    assert figures["exact_match"] == pytest.approx(100 / 6)
    assert figures["unreadable"] == figures["not_run"] == 0
    assert {name: value for name, value in figures.items() if name.startswith("code_")} == {
        "code_wrong": 2,
        "code_crashed": 1,
        "code_timed_out": 1,
        "code_too_much_output": 1,
    }
    assert not any(name.startswith("code_") for name in corpus([item("B", "gpqa:B"), not_run("off")], (1, 1)))


def test_a_kind_of_which_any_was_not_run_has_no_percentage():
    """Of the programs that were run alone it would be a figure of other questions; the other kinds keep theirs."""
    results = [ran(), ran(), not_run("no time was left"), item("B", "gpqa:B"), item("C", "gpqa:B")]
    figures = corpus(results, [1] * len(results))
    assert "exact_match_code" not in figures
    assert figures["exact_match_gpqa"] == figures["exact_match"] == 50
    assert (figures["not_run"], figures["unreadable"]) == (1, 1)
    alone = corpus(results[:3], [1] * 3)
    assert not any(name.startswith("exact_match") for name in alone)
    assert alone["not_run"] == 1
