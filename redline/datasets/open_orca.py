"""OpenOrca: questions with answers of GPT-4, MLPerf's 24576 for Llama 2 70B.

Source: mlcommons/inference, language/llama2-70b/processorca.py and dataset.py: `tok_input` is sent as it is.
"""

from __future__ import annotations

from pathlib import Path

from redline.datasets.fields import Row
from redline.datasets.reading import Read, Reading, needs_tokenizer, read_rows, within_bound
from redline.model import TokenPrompt

PATTERNS = ("open_orca_gpt4_tokenized_llama.sampled_24576.parquet", "*.parquet", "*.jsonl")
LLAMA_FIRST_ANSWER_TOKEN = (29871, "▁")
"""MLPerf appends the token with which Llama 2 begins every answer, so that nobody sends it before it is computed."""


def read(reading: Reading, source: Path) -> Read:
    """The questions as token ids, the answers as references.

    `tok_input` if the file has it, else made of `system_prompt` and `question` with the model's tokenizer; the answer
    is `output`, or `response` as OpenOrca names it. Raises ContentError; it names the first bad row.
    """
    return read_rows(reading, source, PATTERNS, prompt_of=_prompt, reference_names=("output", "response"))


def _prompt(reading: Reading, row: Row) -> TokenPrompt:
    definition, tokenizer = reading.definition, reading.tokenizer
    if row.has("tok_input"):
        return within_bound(row, definition, row.token_ids("tok_input"))
    question = row.text("question", empty=False)
    if tokenizer is None:
        raise needs_tokenizer(definition, f"{row.file_name} has no column tok_input")
    system_prompt = row.text("system_prompt") if row.has("system_prompt") else ""
    part = "" if system_prompt else "no-system"
    text = reading.templates.fill({"system_prompt": system_prompt, "question": question}, part)
    token_ids = tokenizer.encode(text)
    token_id, token = LLAMA_FIRST_ANSWER_TOKEN
    if tokenizer.token_of(token_id) == token:
        token_ids = (*token_ids, token_id)
    return within_bound(row, definition, token_ids)
