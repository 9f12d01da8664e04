"""Each reader makes of real files exactly what MLPerf asks with them, and refuses anything else by row and reason."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from redline.errors import ContentError
from redline.model import TextPrompt, TokenPrompt
from tests.datasets.made_files import (
    ARTICLES,
    definition,
    json_lines,
    parquet,
    prepare,
    refused,
    templates,
    tokenizer,
    tokenizer_file,
)

COUNT = len(ARTICLES)
GPTJ = definition("cnn-dailymail", COUNT, prompt="gptj", prompt_tokens_max=150)
LLAMA3 = definition("cnn-dailymail", COUNT, prompt="llama3.1-8b")
ORCA = definition("open-orca", 2, prompt="llama2-70b", prompt_tokens_max=1024)
ACCURACY = definition("gpt-oss", 3, scorer="final-answer")


# --- news ---------------------------------------------------------------------------------------------------------


def test_gptj_prompts_are_the_template_cut_on_the_right(tmp_path):
    """The article goes into the template once, whatever it holds; the first tokens of it are kept, as MLPerf cuts."""
    path = tokenizer_file(tmp_path, begin_token=False)
    plain = Tokenizer.from_file(str(path))
    plain.no_truncation()
    plain.no_padding()
    prepared = prepare(GPTJ, json_lines(tmp_path / "a.jsonl", ARTICLES), tokenizer(tmp_path))
    begin, end = templates("gptj").text().split("{article}")
    for item, article in zip(prepared.items, ARTICLES, strict=True):
        whole = plain.encode(begin + article["article"] + end).ids
        assert item.prompt == TokenPrompt(tuple(whole[:150]))
        assert len(whole) > 150
        assert (item.key, item.reference) == (article["id"], article["highlights"])
    longer = prepare(replace(GPTJ, prompt_tokens_max=5000), tmp_path / "a.jsonl", tokenizer(tmp_path))
    assert plain.decode(list(longer.items[0].prompt.token_ids)).endswith("### Response:")


def test_mlperf_json_and_the_hub_s_forms_ask_the_same(tmp_path):
    """cnn_eval.json, Parquet, CSV and JSON lines of the same articles give the same prompts and references."""
    import pyarrow as pa
    import pyarrow.csv

    instruction = "Summarize the following news article:"
    mlperf = [{"instruction": instruction, "input": a["article"], "output": a["highlights"]} for a in ARTICLES]
    (tmp_path / "cnn_eval.json").write_text(json.dumps(mlperf, ensure_ascii=False), encoding="utf-8")
    pyarrow.csv.write_csv(pa.Table.from_pylist(ARTICLES), tmp_path / "validation.csv")
    sources = [
        tmp_path,  # the folder: cnn_eval.json comes first
        tmp_path / "validation.csv",
        json_lines(tmp_path / "a.jsonl", ARTICLES),
        parquet(tmp_path / "3.0.0" / "validation-00000-of-00001.parquet", ARTICLES),
        tmp_path / "3.0.0",
    ]
    made = [prepare(GPTJ, source, tokenizer(tmp_path)) for source in sources]
    asked = {tuple((item.prompt, item.reference) for item in each.items) for each in made}
    assert len(asked) == 1
    assert [item.key for item in made[0].items][:2] == ["00000", "00001"]
    assert len({each.digest for each in made[1:]}) == 1


def test_llama3_uses_the_files_token_ids_or_the_tokenizer_and_both_must_agree(tmp_path):
    """MLPerf's tok_input with the template it was made with is taken; another template, or other ids, are refused."""
    tokens = tokenizer(tmp_path, begin_token=True)
    made_with = templates("llama3.1-8b").text().replace("{article}", "{input}")

    def rows(template, spoil=False):
        texts = [template.replace("{input}", each["article"]) for each in ARTICLES]
        return [
            {"instruction": {"llama": template}, "input": a["article"], "output": a["highlights"]}
            | {"tok_input": [*tokens.encode(text)[:-1], 7 if spoil else tokens.encode(text)[-1]]}
            for a, text in zip(ARTICLES, texts, strict=True)
        ]

    good = json_lines(tmp_path / "good.jsonl", rows(made_with))
    by_file, by_tokenizer = prepare(LLAMA3, good), prepare(LLAMA3, good, tokens)
    assert by_file.items == by_tokenizer.items
    assert by_file.items[0].prompt.token_ids[0] == 0, "the begin token"
    assert by_file.tokenizer_sha256 == ""
    assert by_tokenizer.tokenizer_sha256 == tokens.sha256
    other = json_lines(tmp_path / "other.jsonl", rows("Be brief: {input}"))
    refused(LLAMA3, other, "row 1", "another template", "Be brief")
    spoilt = json_lines(tmp_path / "spoilt.jsonl", rows(made_with, spoil=True))
    refused(LLAMA3, spoilt, "row 1", "not what this tokenizer makes", tokens=tokens)
    without = prepare(LLAMA3, json_lines(tmp_path / "text.jsonl", ARTICLES))
    assert isinstance(without.items[0].prompt, TextPrompt), "the server tokenizes"


def test_gptj_never_takes_llama_s_token_ids(tmp_path):
    """The file of Llama 3.1 serves GPT-J with its articles only; without a tokenizer it is refused."""
    rows = [
        {"instruction": {"llama": "x {input}"}, "input": a["article"], "tok_input": [1], "output": "o"}
        for a in ARTICLES
    ]
    path = json_lines(tmp_path / "a.jsonl", rows)
    refused(GPTJ, path, "tokenizer", "--tokenizer PATH")
    assert len(prepare(GPTJ, path, tokenizer(tmp_path)).items[0].prompt.token_ids) == 150
    json_lines(path, [{"instruction": "Translate:", "input": a["article"], "output": "o"} for a in ARTICLES])
    refused(GPTJ, path, "row 1", "another instruction", "Translate:", tokens=tokenizer(tmp_path))


def test_text_is_never_normalised(tmp_path):
    """Composed and decomposed letters, line separators and no-break spaces arrive as they were written."""
    text = "café cafe\u0301 \u2028 a\u00a0b \ufeff \r\n\t end"
    rows = [{"article": text, "highlights": text}] * COUNT
    made = prepare(LLAMA3, json_lines(tmp_path / "a.jsonl", rows))
    assert made.items[0].reference == text
    assert text in made.items[0].prompt.text


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"highlights": "h"}, ("row 2", "'article'", "columns highlights")),
        ({"article": "a"}, ("row 2", "'highlights'")),
        ({"article": 5, "highlights": "h"}, ("row 2", "no text", "5")),
        ({"article": None, "highlights": "h"}, ("row 2", "'article'")),
        ({"article": "a", "highlights": " "}, ("row 2", "is empty")),
        ({"article": "x" * 4_000_001, "highlights": "h"}, ("row 2", "too long", "4000001")),
        ({"article": "half \ud800", "highlights": "h"}, ("row 2", "surrogate")),
        ({"article": "a", "highlights": "h", "id": "a\nb"}, ("row 2", "control")),
        ({"article": "a", "highlights": "h", "id": True}, ("row 2", "no text")),
        (["a", "h"], ("row 2", "no object")),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, told):
    """What is wrong with which row, and what was there."""
    path = json_lines(tmp_path / "a.jsonl", [ARTICLES[0], row, *ARTICLES[2:]])
    refused(LLAMA3, path, *told)


def test_items_named_twice_and_sets_cut_short_are_refused(tmp_path):
    """Names pair the answers of two builds; the number of items is the definition's."""
    refused(LLAMA3, json_lines(tmp_path / "a.jsonl", [*ARTICLES[:-1], ARTICLES[0]]), "story-0", f"1 and {COUNT}")
    message = refused(LLAMA3, json_lines(tmp_path / "b.jsonl", ARTICLES[:-1]), f"{COUNT} items", f"{COUNT - 1} items")
    assert "this test" in message, "where the whole set is to be had"


def test_files_that_are_no_files_of_rows_are_refused(tmp_path):
    """Truncated, empty, compressed, of another form, absent, or a bomb: each is said, none is half read."""
    whole = parquet(tmp_path / "a.parquet", ARTICLES).read_bytes()
    contents = {
        "cut.parquet": (whole[: len(whole) // 2], "Parquet"),
        "empty.parquet": (b"", "empty"),
        "text.parquet": (b"PAR1 is how it begins", "Parquet"),
        "empty.jsonl": (b"", "empty"),
        "cut.jsonl": (json.dumps(ARTICLES[0]).encode()[:-5], "row 1"),
        "cut.json": (json.dumps(ARTICLES).encode()[:-5], "JSON"),
        "object.json": (b"{}", "list"),
        "bomb.json": (b"[" * 200_000, "JSON"),
        "latin.jsonl": (b'{"article": "caf\xe9"}', "cannot be read"),
        "gzip.jsonl": (b"\x1f\x8b\x08\x00", "gunzip"),
        "ragged.csv": (b"article,highlights\na,b,c\n", "CSV"),
        "other.txt": (b"a", ".parquet"),
    }
    for name, (content, told) in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(LLAMA3, tmp_path / name, told)
    refused(LLAMA3, tmp_path / "nowhere", "no such file or folder")
    (tmp_path / "folder").mkdir()
    refused(LLAMA3, tmp_path / "folder", "cnn_eval.json", "an empty folder")


def test_a_file_with_another_hash_is_refused(tmp_path):
    """A known SHA-256 is the file's, or the set is not this one."""
    path = json_lines(tmp_path / "a.jsonl", ARTICLES)
    right = prepare(LLAMA3, path).source_files["a.jsonl"]
    assert prepare(replace(LLAMA3, files={"a.jsonl": right}), path).digest
    refused(replace(LLAMA3, files={"a.jsonl": "0" * 64}), path, "0" * 64, right)


# --- questions ------------------------------------------------------------------------------------------------------


class Bomb:
    """A pickle of it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_never_loaded(tmp_path):
    """By name or by its first bytes; the message has the command with which its owner converts it."""
    mark = tmp_path / "mark"
    content = pickle.dumps(Bomb(mark))
    for name in ("orca.pkl", "orca.sampled_2.PKL.gz", "orca.jsonl"):
        (tmp_path / name).write_bytes(content)
        message = refused(ORCA, tmp_path / name, "pickle", "read_pickle", "to_parquet", "trust")
        assert str(tmp_path / name) in message
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "set.pkl").write_bytes(content)
    refused(ORCA, folder, "set.pkl", "read_pickle")
    assert not mark.exists()


def test_open_orca_sends_the_files_token_ids(tmp_path):
    """tok_input as it is, the answer as reference, under either of its names."""
    rows = [{"id": "cot.1", "tok_input": [1, 1, 518, 29871], "output": "yes"}, {"id": "t0.2", "tok_input": [1]}]
    rows[1]["output"] = "no\n"
    made = prepare(ORCA, parquet(tmp_path / "a.parquet", rows))
    assert [item.prompt.token_ids for item in made.items] == [(1, 1, 518, 29871), (1,)]
    assert [(item.key, item.reference) for item in made.items] == [("cot.1", "yes"), ("t0.2", "no\n")]
    renamed = [{"id": r["id"], "tok_input": r["tok_input"], "response": r["output"]} for r in rows]
    assert prepare(ORCA, json_lines(tmp_path / "b.jsonl", renamed)).digest == made.digest


def test_open_orca_makes_llama_s_prompt_with_a_tokenizer(tmp_path):
    """With and without a system prompt, begin token included; without token ids or tokenizer it is refused."""
    rows = [
        {"id": "a", "system_prompt": "Be {question}.", "question": "Why?", "response": "So."},
        {"id": "b", "system_prompt": "", "question": "How?", "response": "Thus."},
    ]
    path = json_lines(tmp_path / "a.jsonl", rows)
    tokens = tokenizer(tmp_path, begin_token=True)
    made = prepare(ORCA, path, tokens)
    assert made.items[0].prompt.token_ids == tokens.encode(
        "<s>[INST] <<SYS>>\nBe {question}.\n<</SYS>>\n\nWhy? [/INST]"
    )
    assert made.items[1].prompt.token_ids == tokens.encode("<s>[INST] How? [/INST]")
    refused(ORCA, path, "tok_input", "--tokenizer")
    refused(replace(ORCA, prompt_tokens_max=10), path, "row 1", "too long", "at most 10 tokens", tokens=tokens)


@pytest.mark.parametrize("token_ids", [[], [1, -1], [1, 2.0], [True], "12", [2**31], [None]])
def test_token_ids_are_token_ids(tmp_path, token_ids):
    """Nothing else is sent as one."""
    rows = [{"tok_input": [1], "output": "a"}, {"tok_input": token_ids, "output": "b"}]
    refused(ORCA, json_lines(tmp_path / "a.jsonl", rows), "row 2", "tok_input")


# --- reasoning ------------------------------------------------------------------------------------------------------


def test_gpt_oss_references_say_their_kind(tmp_path):
    """MLPerf's sets by name; the performance set is never scored and has no references."""
    rows = [
        {"tok_input": [3, 4], "dataset": "aime25", "ground_truth": "204"},
        {"tok_input": [5], "dataset": "gpqa_diamond", "ground_truth": "C"},
        {"tok_input": [6], "dataset": "livecodebench_v6", "ground_truth": "abc387_b"},
    ]
    path = parquet(tmp_path / "acc_eval_ref.parquet", rows)
    assert [i.reference for i in prepare(ACCURACY, path).items] == ["aime:204", "gpqa:C", "code:abc387_b"]
    numbers = [{"tok_input": [1], "dataset": "aime25", "ground_truth": 70.0}] * 3
    assert prepare(ACCURACY, parquet(tmp_path / "b.parquet", numbers)).items[2].reference == "aime:70"
    assert {i.reference for i in prepare(replace(ACCURACY, scorer=""), path).items} == {""}
    mixed = [rows[0], {"tok_input": [1], "dataset": "pubmed", "ground_truth": "x"}, rows[2]]
    refused(ACCURACY, json_lines(tmp_path / "c.jsonl", mixed), "row 2", "pubmed")


@pytest.mark.parametrize("reference", ["aime:1000", "aime:-1", "aime:", "gpqa:E", "gpqa:c", "204", "", "code:a b"])
def test_a_reference_that_no_answer_can_equal_is_refused(tmp_path, reference):
    """A wrong reference would score every build zero."""
    rows = [{"id": str(n), "question": "Q?", "reference": "gpqa:A"} for n in range(3)]
    rows[1]["reference"] = reference
    defined = replace(ACCURACY, prompt="gpt-oss")
    refused(defined, json_lines(tmp_path / "a.jsonl", rows), "row 2", tokens=tokenizer(tmp_path))


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    """The message says which file is wanted."""
    from redline.datasets.tokenization import read_tokenizer

    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "absent.json"):
        with pytest.raises(ContentError) as caught:
            read_tokenizer(path)
        assert "tokenizer.json" in str(caught.value) or "absent.json" in str(caught.value)
