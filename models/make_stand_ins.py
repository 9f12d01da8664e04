"""Makes the stand-ins of MLPerf's models: tiny, of the same architecture, and sure of a small test set's answers.

    PYTHON_OF_A_VLLM_BUILD models/make_stand_ins.py gptj /tmp/stand-ins/gptj

Needs PyTorch and transformers, which every vLLM build brings (its environment lies under .redline/builds). One thread,
one seed: the same PyTorch and the same type of CPU give the same weights. The directory is written whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from stand_ins import qwen3_vl, text, vocabulary, whisper

NAMES = tuple(vocabulary.VOCABULARIES)
MODELS = Path(__file__).resolve().parent


def make(name: str, target: Path, steps_max: int | None) -> None:
    """Make one stand-in. Raises FileExistsError if `target` exists, RuntimeError if it does not learn its items."""
    started_s, cpu_started_s = time.monotonic(), time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
        folder = Path(temporary) / target.name
        shutil.copytree(MODELS / f"stand-in-{name}", folder)
        match name:
            case "whisper":
                learned = whisper.make(folder, steps_max, print)
            case "qwen3-vl":
                learned = qwen3_vl.make(folder, steps_max, print)
            case _:
                learned = text.make(name, folder, steps_max, print)
        record = asdict(learned) | {"torch": torch.__version__, "wall_s": time.monotonic() - started_s}
        record["cpu_s"] = time.process_time() - cpu_started_s
        (folder / "train.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        folder.rename(target)
    print(f"{target}: {record}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and make one stand-in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("target", type=Path, metavar="OUTPUT_DIR", help="directory of the new model")
    parser.add_argument("--steps", type=int, help="at most this many steps instead of the stand-in's own number")
    parser.add_argument("--tokenizer-only", action="store_true", help="write the tokenizer that is committed")
    options = parser.parse_args(arguments)
    if options.tokenizer_only:
        vocabulary.write(options.name, options.target)
        return
    if options.target.exists():
        sys.exit(f"{options.target}: exists already; delete it or name another directory")
    options.target.parent.mkdir(parents=True, exist_ok=True)
    make(options.name, options.target, options.steps)


if __name__ == "__main__":
    main()
