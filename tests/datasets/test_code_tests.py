"""`code_tests.jsonl` beside a set: whose tests go where, and what is refused."""

from __future__ import annotations

import json

import pytest

from redline.datasets import code_tests
from redline.datasets.prepared import read_prepared, write_prepared
from redline.errors import ContentError
from tests.datasets.made_files import definition, json_lines, parquet, prepare, refused

SET = definition("gpt-oss", 3, scorer="final-answer")
ROWS = [
    {"tok_input": [3], "dataset": "livecodebench_v6", "ground_truth": "abc387_b"},
    {"tok_input": [4], "dataset": "aime25", "ground_truth": "204"},
    {"tok_input": [5], "dataset": "livecodebench_v6", "ground_truth": "3701"},
]
WHOLE = {"id": "abc387_b", "tests": [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}], "title": "Sum"}
CALLED = {
    "id": 3701,
    "function": "add",
    "tests": [{"input": "[1]\n2", "output": "[3]"}, {"input": "", "output": "null"}],
}
OTHER = {"id": "unasked", "tests": [{"input": "", "output": "é\u2028"}]}


def test_the_tests_become_part_of_the_references(tmp_path):
    """Compact, by the question's id; what the file says besides is left out, and the file is a source of the set."""
    path = parquet(tmp_path / "acc_eval_ref.parquet", ROWS)
    json_lines(tmp_path / "code_tests.jsonl", [OTHER, WHOLE, CALLED])
    prepared = prepare(SET, path)
    references = [item.reference for item in prepared.items]
    assert references == [
        'code:{"id":"abc387_b","tests":[{"input":"1 2\\n","output":"3\\n"}]}',
        "aime:204",
        'code:{"id":"3701","tests":[{"input":"[1]\\n2","output":"[3]"},{"input":"","output":"null"}],"function":"add"}',
    ]
    assert set(prepared.source_files) == {"acc_eval_ref.parquet", "code_tests.jsonl"}
    write_prepared(tmp_path / "kept", prepared)
    assert [item.reference for item in read_prepared(tmp_path / "kept", SET.name, SET).items] == references


def test_without_programs_or_without_the_file_nothing_changes(tmp_path):
    """Ids alone; in a folder of JSON lines the file is not taken for the set."""
    path = parquet(tmp_path / "bare" / "acc_eval_ref.parquet", ROWS)
    assert prepare(SET, path).items[0].reference == "code:abc387_b"
    plain = parquet(tmp_path / "plain" / "acc_eval_ref.parquet", [ROWS[1]] * 3)
    json_lines(plain.parent / "code_tests.jsonl", [WHOLE])
    assert set(prepare(SET, plain).source_files) == {"acc_eval_ref.parquet"}
    folder = json_lines(tmp_path / "questions.jsonl", ROWS).parent
    json_lines(folder / "code_tests.jsonl", [WHOLE, CALLED])
    assert len(prepare(SET, folder).items) == 3


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"id": ""}, "'id'"),
        ({"id": None}, "'id'"),
        ({"id": "a b"}, "'id'"),
        ({"id": '{"id"'}, "'id'"),
        ({"id": "abc387_b"}, "twice"),
        ({"tests": []}, "'tests'"),
        ({"tests": None}, "'tests'"),
        ({"tests": ["1 2"]}, "no object"),
        ({"tests": [{"input": "1"}]}, "output"),
        ({"tests": [{"input": 1, "output": "1"}]}, "'input' is no text"),
        ({"tests": [{"input": "\ud800", "output": "1"}]}, "surrogate"),
        ({"function": None, "tests": [{"input": "x" * 2_500_000, "output": "x" * 2_500_000}]}, "too large"),
        ({"function": "add("}, "'function'"),
        ({"function": ["add"]}, "'function'"),
        ({"function": "add", "tests": [{"input": "1 2", "output": "3"}]}, "not JSON"),
        ({"function": "add", "tests": [{"input": "1", "output": ""}]}, "not JSON"),
    ],
)
def test_wrong_tests_are_refused_with_their_row(tmp_path, changed, told):
    """A test that no program could pass, or every program, would say nothing about a build."""
    path = parquet(tmp_path / "acc_eval_ref.parquet", ROWS)
    json_lines(tmp_path / "code_tests.jsonl", [WHOLE, CALLED | changed])
    refused(SET, path, "code_tests.jsonl, row 2", told)


def test_a_file_that_ends_early_is_refused(tmp_path):
    """Half a line, or a question without tests: not a set of which fewer programs are run."""
    path = parquet(tmp_path / "acc_eval_ref.parquet", ROWS)
    whole = json.dumps(WHOLE) + "\n" + json.dumps(CALLED)
    (tmp_path / "code_tests.jsonl").write_text(whole[:-20])
    refused(SET, path, "row 2", "not JSON")
    json_lines(tmp_path / "code_tests.jsonl", [WHOLE])
    refused(SET, path, "no tests of question '3701'")


def test_more_tests_than_memory_should_hold_are_refused(monkeypatch):
    """Counted as often as a question is asked."""
    monkeypatch.setattr(code_tests, "TOTAL_CHARS_MAX", 100)
    tests = {"q": '{"id":"q","tests":[]}'}
    assert code_tests.with_tests(["code:q", "gpqa:A"], tests) == ['code:{"id":"q","tests":[]}', "gpqa:A"]
    with pytest.raises(ContentError, match="too large"):
        code_tests.with_tests(["code:q"] * 5, tests)
