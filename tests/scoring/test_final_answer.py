"""Final answers: what is read out of an answer, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.errors import ContentError
from redline.scoring.code_answer import Failure, code_of
from redline.scoring.final_answer import aime_answer, corpus, gpqa_answer, item, program_of, ran
from redline.scoring.harmony import final_text

THINKING = "<|channel|>analysis<|message|>Is it \\boxed{17}? Answer: A<|end|><|start|>assistant"
PROGRAM = "So:\n```python\nprint(1)\n```\n"


def harmony(final: str) -> str:
    """An answer of gpt-oss as it is on the wire: reasoning, then the final channel."""
    return f"{THINKING}<|channel|>final<|message|>{final}<|return|>"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("so \\boxed{204}", "204"),
        ("\\boxed{ 007 }", "7"),
        ("\\boxed{000}", "0"),
        ("\\boxed{3} no, \\boxed{204} it is", "204"),
        ("\\boxed{204} and \\boxed{x + 1}", "204"),
        ("Answer: 3, in short \\boxed{204}, Answer: 5", "204"),
        ("answer: 17\nANSWER:  204\n", "204"),
        ("Answer: 204.", None),
        ("Answer: 2.5", None),
        ("\\boxed{1000}", None),
        ("\\boxed{-3}", None),
        ("\\boxed{x}", None),
        ("\\boxed{" + "9" * 100_000 + "}", None),
        ("\\boxed{" * 100_000, None),
        ("204", None),
        ("", None),
    ],
)
def test_aime_integers(text, given):
    """The last integer in a box, else the last after "Answer:", if AIME could have it."""
    assert aime_answer(text) == given


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("C", "C"),
        ("**c**", "C"),
        ("(B) because of the mass", "B"),
        ("The answer is clear.\n\nAnswer: D", "D"),
        ("Answer: A, or rather Answer: B", "A"),
        ("It follows that the answer = (C).", "C"),
        ("FINAL ANSWER (A) no, final answer = (B)", "B"),
        ("**Answer: B**", "B"),
        ("A careful look shows D", "A"),  # MLPerf reads the article as the option
        ("Because of E", None),
        ("It is the third", None),
        ("E", None),
        ("answer" + " " * 100_000, None),
        ("", None),
    ],
)
def test_gpqa_letters(text, given):
    """A letter that stands first and alone, else what follows "answer"."""
    assert gpqa_answer(text) == given


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (PROGRAM, "print(1)"),
        ("```python\nfirst\n```\n```python\nlast\n```\n```\nplain\n```", "last"),
        ("```\nfirst\n```\n```\nlast\n```", "last"),
        ("```py\nx\n```", "x"),
        ("```Python3\nx\n```", "x"),
        ("```python\nclosed\n```\n```python\ncut off", "closed"),
        ("```python\ncut off", None),
        ("```python\n```", None),
        ("print(1)", None),
        ("```" * 100_001, None),
        ("", None),
    ],
)
def test_the_program_is_the_last_closed_block(text, code):
    """Blocks marked as Python first; what was never closed was cut off."""
    assert code_of(text) == code


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (harmony("It is C."), "It is C."),
        (f"{THINKING}<|channel|>final 537<|message|>damaged", "damaged"),
        (f"{harmony('one')}<|channel|>final<|message|>two<|end|>rest", "two"),
        (THINKING, None),
        ("plain text ", "plain text"),
        ("<|channel|>final" * 50_000, None),
    ],
)
def test_only_the_final_channel_speaks(answer, text):
    """Reasoning is no answer; without channels the whole text is."""
    assert final_text(answer) == text


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        (harmony("\\boxed{204}"), "aime:204", 1),
        (harmony("\\boxed{204}"), "aime:0204", 1),
        (harmony("\\boxed{204}"), "aime:17", 0),
        ("Answer: 0", "aime:000", 1),
        (harmony("**D**"), "gpqa:D", 1),
        (harmony("**D**"), "gpqa:A", 0),
    ],
)
def test_items_are_right_or_wrong(answer, reference, score):
    """The reference says of what kind the answer is."""
    result = item(answer, reference)
    assert (result.score, result.problem) == (score, "")


@pytest.mark.parametrize(
    ("answer", "reference", "problem"),
    [
        ("", "aime:204", "empty"),
        ("204", "aime:204", "no integer"),
        (THINKING, "aime:17", "no final channel"),
        (harmony("I cannot tell."), "aime:17", "no integer"),
        (harmony("I cannot tell."), "gpqa:A", "no option letter"),
        (harmony("print(1)"), "code:q1", "no closed block"),
        (harmony(PROGRAM), "code:q1", "not run"),
    ],
)
def test_what_cannot_be_read_is_counted(answer, reference, problem):
    """No answer in the answer, an answer in the reasoning only, a program that nobody ran: a reason each."""
    result = item(answer, reference)
    assert problem in result.problem
    assert result.score == 0


@given(st.text(max_size=200), st.sampled_from(("aime:1", "gpqa:B", "code:x")))
def test_any_text_gets_a_result(answer, reference):
    """Whatever the text, it is right, wrong or a problem."""
    result = item(answer, reference)
    assert result.score in {0, 1}


def test_each_question_weighs_the_same():
    """MLPerf asks AIME 8, GPQA 5 and LiveCodeBench 3 times: an answer weighs one 8th, one 5th, one 3rd."""
    results = [item("\\boxed{1}", "aime:1")] * 8 + [item("B", "gpqa:C")] * 5
    results += [ran()] * 2 + [ran(Failure.WRONG)]
    figures = corpus(results, [100] * 16)
    assert figures["exact_match"] == pytest.approx(100 * (8 / 8 + 0 / 5 + 2 / 3) / 3)
    assert figures["exact_match_aime"] == 100
    assert figures["exact_match_gpqa"] == 0
    assert figures["exact_match_code"] == pytest.approx(200 / 3)
    assert figures["not_run"] == figures["unreadable"] == 0


def test_programs_that_were_not_run_are_in_no_percentage():
    """They are counted twice over, as not run and as unreadable, and never as wrong."""
    assert program_of(harmony(PROGRAM)) == "print(1)"
    assert program_of(THINKING) is None
    not_run = item(harmony(PROGRAM), "code:q1")
    without_code = item(harmony("sorry"), "code:q2")
    figures = corpus([item("B", "gpqa:B"), not_run], (1, 1))
    assert figures["exact_match"] == 100
    assert figures["not_run"] == figures["unreadable"] == 1
    assert "exact_match_code" not in figures
    assert "exact_match" not in corpus([not_run], (1,))
    assert corpus([without_code], (1,))["exact_match_code"] == 0


@pytest.mark.parametrize(
    "reference", ["", "204", "aime:", "aime:1000", "aime:x", "gpqa:E", "gpqa:c", "code:", "math:1"]
)
def test_a_bad_reference_is_the_data_sets_fault(reference):
    """A reference of no known kind is an error of the content."""
    with pytest.raises(ContentError, match="reference answer"):
        item("B", reference)
