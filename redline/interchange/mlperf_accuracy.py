"""An accuracy folder's two files that MLCommons' checker reads: the figures, and the answers cut short. Pure.

The checker reads figures with a regular expression a benchmark, and wants the whole log's SHA-256 beside them.
Source: ACC_PATTERN and MAX_ACCURACY_LOG_SIZE of its `constants.py`, `truncate_accuracy_log.py`; mlcommons/inference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from redline.interchange.mlperf_run import STATEMENT

LOG_BYTES_MAX = 10 * 1024
_SHOWN_BYTES = 4096
_CUT = b"\n\n...\n\n"


def accuracy_text(
    figures: Mapping[str, float], item_count: int, log: bytes, said_by: str, unknown: Sequence[str] = ()
) -> str:
    """accuracy.txt: every figure under the scorer's own name and unit, then the hash of the whole accuracy log.

    `unknown`: figures that are not known of all answers; they are left out, whatever `figures` says of the others.

    Word errors and the hierarchical F1 have a line of their own, since the checker reads them in another form.
    `said_by`: whose figures these are. Numbers have six decimals: the checker reads no exponents.
    """
    shown = {name: f"{value:.6f}" for name, value in figures.items() if name not in unknown}
    shown["gen_num"] = str(item_count)
    lines = ["{" + ", ".join(f"'{name}': {value}" for name, value in shown.items()) + "}"]
    if {"wer", "accuracy"} <= shown.keys():
        lines.append(f"Word Error Rate: {shown['wer']}%, accuracy={shown['accuracy']}%")
    if "f1_hierarchical" in shown:
        lines.append(f'{{"f1": {shown["f1_hierarchical"]}}}')
    if unknown:
        lines.append(f"Not known of all answers, and so left out: {', '.join(unknown)}.")
    lines += [f"hash={hashlib.sha256(log).hexdigest()}", f"{said_by}. {STATEMENT}."]
    return "".join(f"{line}\n" for line in lines)


def cut_log(log: bytes) -> bytes:
    """The accuracy log, its middle left out if it is larger than MLCommons' checker takes: 4 KiB of each end stay."""
    if len(log) <= LOG_BYTES_MAX:
        return log
    return log[:_SHOWN_BYTES] + _CUT + log[-_SHOWN_BYTES:]
