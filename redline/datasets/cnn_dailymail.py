"""CNN/DailyMail: news articles and their highlights, for GPT-J and Llama 3.1 8B.

Source: mlcommons/inference, language/gpt-j/dataset.py (template, then the first 1919 tokens) and
language/llama3.1-8b/download_cnndm.py (template, nothing cut, `tok_input` with a begin token).
"""

from __future__ import annotations

from pathlib import Path

from redline.datasets.fields import Row
from redline.datasets.reading import Read, Reading, needs_tokenizer, read_rows, within_bound
from redline.model import Prompt, TextPrompt, TokenPrompt

PATTERNS = ("cnn_eval.json", "**/*validation*.parquet", "validation.csv", "*.jsonl")
GPTJ, LLAMA_IN_FILE = "gptj", "llama"


def read(reading: Reading, source: Path) -> Read:
    """The articles as prompts, the highlights as references.

    MLPerf's cnn_eval.json (`input`, `output`), or the hub's form (`article`, `highlights`, `id`) as Parquet, CSV or
    JSON lines. Raises ContentError; it names the first bad row.
    """
    return read_rows(reading, source, PATTERNS, prompt_of=_prompt, reference_names=("output", "highlights"))


def _prompt(reading: Reading, row: Row) -> Prompt:
    """Token ids if they can be had, text for the server to tokenize otherwise; the same input either way.

    With a bound the prompt is cut on the right, even if that cuts the end of the template: so does MLPerf's.
    """
    definition, tokenizer = reading.definition, reading.tokenizer
    article = row.text("input", "article")
    _refuse_other_instruction(reading, row)
    text = reading.templates.fill({"article": article})
    if tokenizer is not None:
        token_ids = tokenizer.encode(text, definition.prompt_tokens_max)
        if not definition.prompt_tokens_max and _has_own_token_ids(row) and row.token_ids("tok_input") != token_ids:
            raise row.wrong(
                "'tok_input' is not what this tokenizer makes of the prompt",
                f"{len(token_ids)} token ids, the first {token_ids[:6]}",
                list(row.token_ids("tok_input")),
            )
        return TokenPrompt(token_ids)
    if definition.prompt_tokens_max:
        raise needs_tokenizer(definition, f"prompts are cut after {definition.prompt_tokens_max} tokens")
    if _has_own_token_ids(row):
        return within_bound(row, definition, row.token_ids("tok_input"))
    return TextPrompt(text)


def _has_own_token_ids(row: Row) -> bool:
    """True if the row holds MLPerf's token ids for Llama 3.1, with the template that they were made with."""
    return row.has("tok_input") and isinstance(row.values.get("instruction"), dict)


def _refuse_other_instruction(reading: Reading, row: Row) -> None:
    """Raises ContentError if the row was made for another prompt than the definition's, where that matters.

    GPT-J's file carries its instruction as text; Llama's carries the whole template, and token ids made with it.
    Either file holds the same articles and serves both, as long as nothing of the other's prompt is used.
    """
    template = reading.templates.text()
    instruction = row.values.get("instruction")
    if isinstance(instruction, str) and reading.templates.family == GPTJ and instruction not in template:
        raise row.wrong("another instruction than the data set's", f"one that is in {template[:300]!r}", instruction)
    if isinstance(instruction, dict) and row.has("tok_input") and not reading.definition.prompt_tokens_max:
        made_with = str(instruction.get(LLAMA_IN_FILE)).replace("{input}", "{article}")
        if made_with != template and reading.tokenizer is None:
            raise row.wrong("'tok_input' was made with another template", repr(template), made_with)
