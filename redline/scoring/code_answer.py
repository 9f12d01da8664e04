"""The program in an answer: its last fenced block of code. Nothing is run here."""

from __future__ import annotations

import re

# Each opening mark ends the block before it, so neither pattern reads any part of the text twice.
_PYTHON_BLOCK = re.compile(r"```(?:python3?|py)(?![\w+-])(.*?)```", re.DOTALL | re.IGNORECASE)
_BLOCK = re.compile(r"```(.*?)```", re.DOTALL)


def code_of(text: str) -> str | None:
    """The last block that is marked as Python, else the last block of any kind, stripped; None without one.

    A block that was opened and never closed is an answer that was cut off: its code is not taken. Nor is a
    block that holds nothing.
    Source: parse_code of MLPerf's gpt-oss-120b eval_accuracy.py, which knows ```python but not ```python3.
    """
    for pattern in (_PYTHON_BLOCK, _BLOCK):
        if blocks := pattern.findall(text):
            return blocks[-1].strip() or None
    return None
