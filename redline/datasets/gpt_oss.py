"""The sets of gpt-oss-120b: token ids with AIME, GPQA and LiveCodeBench answers, or papers to summarise for speed.

Source: mlcommons/inference, language/gpt-oss-120b: run_mlperf.py sends `tok_input`; eval_accuracy.py tells the kinds
apart by the column `dataset` and compares with `ground_truth`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from redline.datasets import code_tests
from redline.datasets.fields import Row
from redline.datasets.reading import Read, Reading, needs_tokenizer, within_bound
from redline.datasets.rows import rows_of
from redline.datasets.sources import files_of
from redline.model import Item, TokenPrompt

PATTERNS = {
    "gpt-oss-perf": ("perf_eval_ref.parquet", "perf/perf_eval_ref.parquet"),
    "gpt-oss-accuracy": ("acc_eval_ref.parquet", "acc/acc_eval_ref.parquet"),
}
KINDS = {"aime": r"[0-9]{1,3}", "gpqa": r"[A-D]", "code": r"[^\s{]\S*"}
"""What a reference looks like, by kind: `aime:204`, `gpqa:C`, `code:<question id>`."""
MLPERF_KINDS = {"aime": "aime", "gpqa": "gpqa", "livecodebench": "code"}
REASONING_EFFORT = "high"
"""MLPerf's for accuracy; MLPerf's own files hold the effort in their token ids."""


def read(reading: Reading, source: Path) -> Read:
    """The prompts as token ids; references such as `aime:204`, empty where the definition names no scorer.

    MLPerf's Parquet files, or JSON lines with `id`, `question` and `reference`. With `code_tests.jsonl` beside them
    the references of programming questions hold their tests, `code:{"id": ..., "tests": [...]}`; without it such a
    program cannot be run. Raises ContentError; it names the first bad row.
    """
    found = files_of(source, PATTERNS.get(reading.definition.name, ("*.parquet", "*.jsonl")))
    paths = tuple(path for path in found if path.name != code_tests.FILE_NAME)
    rows = [row for path in paths for row in rows_of(path)]
    items = tuple(_item(reading, row, index) for index, row in enumerate(rows))
    beside = code_tests.tests_beside(found[0])
    if beside is None or not any(item.reference.startswith("code:") for item in items):
        return Read(items, paths)
    references = code_tests.with_tests((item.reference for item in items), code_tests.read_tests(beside))
    tested = (replace(item, reference=reference) for item, reference in zip(items, references, strict=True))
    return Read(tuple(tested), (*paths, beside))


def _item(reading: Reading, row: Row, index: int) -> Item:
    if row.has("tok_input"):
        prompt = within_bound(row, reading.definition, row.token_ids("tok_input"))
        reference = _mlperf_reference(row) if reading.definition.scorer else ""
        return Item(row.key("id", f"{index:05d}"), prompt, reference)
    return Item(row.key("id", f"{index:05d}"), _asked(reading, row), _checked(row, row.text("reference")))


def _asked(reading: Reading, row: Row) -> TokenPrompt:
    if reading.tokenizer is None:
        row.name_of("tok_input", "question")
        raise needs_tokenizer(reading.definition, f"{row.file_name} has no column tok_input")
    fields = {"question": row.text("question", empty=False), "reasoning_effort": REASONING_EFFORT}
    return within_bound(row, reading.definition, reading.tokenizer.encode(reading.templates.fill(fields)))


def _mlperf_reference(row: Row) -> str:
    named = row.text("dataset", empty=False).lower()
    kind = next((kind for name, kind in MLPERF_KINDS.items() if name in named), None)
    if kind is None:
        raise row.wrong("'dataset' names a set that cannot be scored", ", ".join(MLPERF_KINDS), named)
    truth = row.values[row.name_of("ground_truth")]
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)  # a column with gaps is read as floats
    return _checked(row, f"{kind}:{truth}")


def _checked(row: Row, reference: str) -> str:
    """The reference. Raises ContentError if no answer could ever equal it."""
    kind, _, answer = reference.partition(":")
    if kind not in KINDS or not re.fullmatch(KINDS[kind], answer):
        expected = "aime: and 0 to 999, gpqa: and A to D, or code: and the question's id"
        raise row.wrong("the reference is none", expected, reference)
    return reference
