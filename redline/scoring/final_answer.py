"""Final answers of gpt-oss's sets: AIME's integers, GPQA's option letters, LiveCodeBench's programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from redline.errors import ContentError
from redline.scoring.code_answer import Failure, code_of
from redline.scoring.harmony import final_text
from redline.scoring.items import EMPTY_ANSWER, PERCENT, ItemResult, Scorer, counted, total

# How often MLPerf asks each question; an answer weighs 1 / that, so that each question weighs the same.
# Source: DATASET_REPEATS of MLPerf's gpt-oss-120b eval_mlperf_accuracy.py (AIME 2025, GPQA Diamond, LiveCodeBench v6).
REPEATS = {"aime": 8, "gpqa": 5, "code": 3}
AIME_MAX = 999
CODE = "code:"
"""How the references of programs begin."""

NOT_RUN = "the program was not run: running programs is off"

_BOXED_INTEGER = re.compile(r"\\boxed\{\s*+(\d++)\s*+\}")
_ANSWER_INTEGER = re.compile(r"answer:\s*+(\d++)(?![.\w])", re.IGNORECASE)
_BOLD = re.compile(r"\*\*([^*]++)\*\*")
_LETTER_FIRST = re.compile(r"[^a-z]*+([A-D])(?![a-z])", re.IGNORECASE)
_ANSWER_LETTER = re.compile(r"\banswer\s*+[:.]?\s*+([A-D])\b", re.IGNORECASE)
_ANSWER_IN_BRACKETS = re.compile(r"\banswer\b\s*+[:=]?\s*+\(?\s*+([A-D])(?![a-z])", re.IGNORECASE)


def aime_answer(text: str) -> str | None:
    r"""The last integer in \boxed{}, else the last after "Answer:", without leading zeros; None if there is none.

    None too if it is above 999, which no AIME answer is. "Answer: 204." with its full stop is not read, as
    MLPerf does not read it; 204 in \boxed{} is, wherever it stands.
    Source: parse_aime_answer of MLPerf's gpt-oss-120b eval_accuracy.py.
    """
    found = _BOXED_INTEGER.findall(text) or _ANSWER_INTEGER.findall(text)
    if not found or len(digits := found[-1].lstrip("0")) > len(str(AIME_MAX)):
        return None
    return str(int(digits or "0"))


def gpqa_answer(text: str) -> str | None:
    """The option letter A to D that the text gives, as a capital; None if it gives none.

    In this order: a letter that stands alone as the first of all letters; the first "Answer: C"; the last
    "Answer = (C)". So a text that begins with the article "A" is read as option A, as MLPerf reads it.
    Source: parse_multiple_choice of MLPerf's gpt-oss-120b eval_accuracy.py.
    """
    plain = _BOLD.sub(r"\1", text).replace("\\n", "\n").strip()
    if match := _LETTER_FIRST.match(plain) or _ANSWER_LETTER.search(plain):
        return match[1].upper()
    bracketed = _ANSWER_IN_BRACKETS.findall(text.replace("\\n", "\n"))
    return bracketed[-1].upper() if bracketed else None


def item(answer: str, reference: str) -> ItemResult:
    """One answer against `aime:204`, `gpqa:C`, `code:<id>` or `code:{...}`; the score is 1 if it is right, else 0.

    Only the final channel is read where the answer has channels. An answer without an answer in it is a
    problem. So is every program, for nothing is run here: `ran` and `not_run` score it where a sandbox is asked.
    Raises ContentError if the reference is none of the three.
    """
    kind, expected = _reference(reference)
    if not answer.strip():
        return _result(kind, problem=EMPTY_ANSWER)
    text = final_text(answer)
    if text is None:
        return _result(kind, problem="the answer has no final channel: it was cut off while reasoning")
    given = _READERS[kind](text)
    if given is None:
        return _result(kind, problem=f"no {_SOUGHT[kind]} in the answer")
    if kind == "code":
        return not_run(NOT_RUN)
    return _result(kind, right=given == expected)


def program_of(answer: str) -> str | None:
    """The program of a LiveCodeBench answer, from its final channel; None if it has none."""
    text = final_text(answer)
    return None if text is None else code_of(text)


def ran(failure: Failure | None = None) -> ItemResult:
    """The result of a program that was run: 1 if it passed all its tests, 0 with what it failed by."""
    failed = {failure.value: 1.0} if failure else {}
    return _result("code", right=failure is None, parts={"ran": 1.0, **failed})


def not_run(why: str) -> ItemResult:
    """The result of a program that was not run: a problem, and in no percentage."""
    return _result("code", problem=why, parts={"not_run": 1.0})


def is_not_run(result: ItemResult) -> bool:
    """True for the result of a program that was not run."""
    return bool(result.parts.get("not_run"))


def corpus(results: Sequence[ItemResult], output_tokens: Sequence[int]) -> Mapping[str, float]:
    """`exact_match` of all answers and `exact_match_<kind>` of each kind, in percent, and `not_run`.

    Where programs were run, also how many of them failed by what: `code_wrong`, `code_crashed`, `code_timed_out`,
    `code_too_much_output`.

    In exact_match each answer weighs 1 / REPEATS of its kind, as in MLPerf's final score. Programs that were
    not run are counted as `not_run` (and unreadable); a kind of which any was not run is in no percentage, and
    a percentage of nothing is left out, so a set of programs only has none while running is off.
    Source: eval_mlperf_accuracy.py of MLPerf's gpt-oss-120b, which prints the weighed sum; taken over its
    highest possible value, for none of the six percentages that Red Hat published in v6.0 is a whole number of
    right answers among the 4,395.
    """
    figures = {**counted(results, output_tokens), "not_run": total(results, "not_run")}
    right_weighed = asked_weighed = 0.0
    for kind, repeats in REPEATS.items():
        of_kind = [result for result in results if result.parts[kind]]
        if of_kind and not any(map(is_not_run, of_kind)):
            right = total(of_kind, "right")
            figures[f"exact_match_{kind}"] = PERCENT * right / len(of_kind)
            right_weighed += right / repeats
            asked_weighed += len(of_kind) / repeats
    if total(results, "ran"):
        figures |= {f"code_{failure}": total(results, failure) for failure in Failure}
    if asked_weighed:
        figures["exact_match"] = PERCENT * right_weighed / asked_weighed
    return figures


SCORER = Scorer("final-answer", item, corpus)

_READERS: Mapping[str, Callable[[str], str | None]] = {"aime": aime_answer, "gpqa": gpqa_answer, "code": code_of}
_SOUGHT = {
    "aime": f"integer of 0 to {AIME_MAX} in \\boxed{{}}",
    "gpqa": "option letter",
    "code": "closed block of code",
}
_REFERENCES = {
    "aime": re.compile(r"0*\d{1,3}", re.ASCII),
    "gpqa": re.compile(r"[A-D]"),
    "code": re.compile(r"\S+|\{.*\}", re.DOTALL),
}


def _reference(reference: str) -> tuple[str, str]:
    """(kind, right answer in the form that its reader gives)."""
    kind, _, expected = reference.strip().partition(":")
    if kind not in _REFERENCES or not _REFERENCES[kind].fullmatch(expected):
        raise ContentError(
            "a reference answer cannot be scored against",
            expected="aime:<integer of 0 to 999>, gpqa:<letter of A to D> or code:<question id or its tests>",
            found=repr(reference[:80]),
            next_step="prepare the data set again: it writes each reference with its kind",
        )
    return kind, str(int(expected)) if kind == "aime" else expected


def _result(
    kind: str, *, right: bool = False, problem: str = "", parts: Mapping[str, float] | None = None
) -> ItemResult:
    nothing = dict.fromkeys(("not_run", "ran", *Failure), 0.0)
    kinds = {name: float(name == kind) for name in REPEATS}
    return ItemResult(float(right), {**nothing, **kinds, "right": float(right), **(parts or {})}, problem)
