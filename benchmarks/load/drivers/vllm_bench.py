"""`vllm bench serve`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.load.driver import TOKENIZER, Command, Place, Task, WallClock
from benchmarks.load.peers import VLLM_VERSION, vllm_extras, vllm_python
from benchmarks.load.report import ClientReport
from benchmarks.load.workload import MODEL, prompt

RESULT_NAME = "result.json"
KEY_PREFIX = "r"


class VllmBench:
    """vLLM's own client, on a data set of our prompts."""

    name = "vllm-bench"
    comparable = (
        "Slip: its schedule follows from the seed, but not its start, which is fitted. TTFT and gaps per request by "
        "x-request-id; stamps are its start time plus TTFT plus gaps, all from time.perf_counter."
    )

    def prepare(self, place: Place) -> str:
        """Find or install vLLM and what its benchmark needs."""
        vllm_extras(place, vllm_python(place))
        return VLLM_VERSION

    def command(self, task: Task) -> Command:
        """The benchmark without warm-up, test request and shuffling, every figure saved."""
        data = task.directory / "prompts.jsonl"
        write_prompts(data, [prompt(index) for index in range(len(task.due_s))], task.cell.workload.chunk_count)
        return bench_command(
            task.place,
            base_url=task.base_url,
            model=MODEL,
            tokenizer=TOKENIZER,
            prompts=data,
            count=len(task.due_s),
            rate_per_s=task.cell.rate_per_s,
            seed=task.cell.seed,
            result=task.directory / RESULT_NAME,
        )

    def read(self, task: Task, clock: WallClock) -> ClientReport:
        """Its detailed result; the schedule is the task's, which was drawn as vLLM draws it."""
        del clock
        return read_result(task.directory / RESULT_NAME, (task.due_s * 1e9).astype(np.int64))


def write_prompts(path: Path, prompts: list[str], output_tokens: int) -> None:
    """vLLM's `custom` data set: a JSON object per line."""
    lines = (json.dumps({"prompt": text, "output_tokens": output_tokens}) for text in prompts)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def bench_command(  # noqa: PLR0913 - the options of another program
    place: Place,
    *,
    base_url: str,
    model: str,
    tokenizer: Path | str,
    prompts: Path,
    count: int,
    rate_per_s: float,
    seed: int,
    result: Path,
) -> Command:
    """`vllm bench serve` on the prompts of a file, in their order, at Poisson arrivals of this seed."""
    python = vllm_python(place)
    options = {
        "--backend": "openai",
        "--base-url": base_url,
        "--endpoint": "/v1/completions",
        "--model": model,
        "--tokenizer": tokenizer,
        "--dataset-name": "custom",
        "--dataset-path": prompts,
        "--custom-output-len": -1,
        "--num-prompts": count,
        "--request-rate": rate_per_s,
        "--seed": seed,
        "--temperature": 0,
        "--request-id-prefix": KEY_PREFIX,
        "--ready-check-timeout-sec": 0,
        "--num-warmups": 0,
        "--result-dir": result.parent,
        "--result-filename": result.name,
    }
    flags = ("--disable-shuffle", "--skip-chat-template", "--ignore-eos", "--disable-tqdm")
    arguments = [str(part) for option in options.items() for part in option]
    start = (str(python), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--save-result", "--save-detailed")
    variables = {"PYTHONPATH": str(vllm_extras(place, python)), "HF_HUB_OFFLINE": "1"}
    return Command((*start, *flags, *arguments), variables)


def read_result(path: Path, due_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> ClientReport:
    """The report in a `--save-detailed` result."""
    result = json.loads(path.read_text(encoding="utf-8"))
    good = [index for index, error in enumerate(result["errors"]) if not error]
    start_ns = np.array(result["start_times"], dtype=np.float64) * 1e9
    ttft_ns = np.array(result["ttfts"], dtype=np.float64) * 1e9
    gaps_ns = [np.array(row, dtype=np.float64) * 1e9 for row in result["itls"]]
    first_ns = start_ns + ttft_ns
    stamps = [np.concatenate(([first_ns[index]], first_ns[index] + np.cumsum(gaps_ns[index]))) for index in good]
    return ClientReport(
        keys=tuple(f"{KEY_PREFIX}{index}" for index in good),
        due_ns=due_ns[good],
        due_is_absolute=False,
        ttft_ns=ttft_ns[good],
        chunk_ns=tuple(row.astype(np.int64) for row in stamps),
        gaps_ns=tuple(gaps_ns[index] for index in good),
        failed_count=len(result["errors"]) - len(good),
    )
