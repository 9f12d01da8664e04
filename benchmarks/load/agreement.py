"""`python -m benchmarks.load.agreement`: do the engine and `vllm bench serve` measure the same on a real vLLM?

Both send the same prompts at the same instants (vLLM's own schedule for the seed), in turns, several times.
"""

# ruff: noqa: T201  # a command of its own: it prints what it does

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.load.driver import DriverError, Place
from benchmarks.load.drivers.vllm_bench import bench_command, read_result, write_prompts
from benchmarks.load.peers import ignored
from benchmarks.load.process_tree import run_client
from benchmarks.load.report import ClientReport, from_stamps
from benchmarks.load.workload import Floats, schedule_s
from redline.load.client import LoadPlan
from redline.load.worker import load_worker
from redline.model import Outcome, Request, TextPrompt

WINDOW_MARGIN_S = 300.0
INTERVAL = 0.95
OURS, THEIRS = "redline", "vllm bench serve"


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one repeat, computed alike from both clients' raw times, and how it is shown."""

    name: str
    unit: str
    scale: float
    of: Callable[[ClientReport], float]


@dataclass(frozen=True, slots=True)
class Difference:
    """Ours over theirs, less 1: the mean over paired repeats on a logarithmic scale, with its 95 % interval.

    `noise_ours`, `noise_theirs`: coefficient of variation over the repeats. Source: Student's t of the paired
    log ratios; the interval says nothing about repeats on another server.
    """

    share: float
    low: float
    high: float
    noise_ours: float
    noise_theirs: float

    @property
    def beyond_noise(self) -> bool:
        """True if the interval excludes no difference."""
        return not self.low <= 0 <= self.high


def throughput_per_s(report: ClientReport) -> float:
    """Chunks per second between the first send and the last chunk; a chunk is a token in both clients' raw data."""
    assert report.chunk_ns is not None
    firsts = [stamps[0] - ttft for stamps, ttft in zip(report.chunk_ns, report.ttft_ns, strict=True)]
    lasts = [stamps[-1] for stamps in report.chunk_ns]
    return sum(len(stamps) for stamps in report.chunk_ns) / float((max(lasts) - min(firsts)) / 1e9)


def tpot_ns(report: ClientReport) -> Floats:
    """(last - first chunk) / chunks after the first, of each request with more than one."""
    assert report.chunk_ns is not None
    rows = [stamps for stamps in report.chunk_ns if len(stamps) > 1]
    return np.array([(stamps[-1] - stamps[0]) / (len(stamps) - 1) for stamps in rows], dtype=np.float64)


METRICS = (
    Metric("throughput", "chunks/s", 1.0, throughput_per_s),
    Metric("TTFT p50", "ms", 1e-6, lambda report: float(np.median(report.ttft_ns))),
    Metric("TTFT p99", "ms", 1e-6, lambda report: float(np.percentile(report.ttft_ns, 99))),
    Metric("TPOT p50", "ms", 1e-6, lambda report: float(np.median(tpot_ns(report)))),
    Metric("TPOT p99", "ms", 1e-6, lambda report: float(np.percentile(tpot_ns(report), 99))),
)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """How two clients' figures of the same repeats differ. Raises ValueError with fewer than two or a value <= 0."""
    if len(ours) < 2 or len(ours) != len(theirs) or min(*ours, *theirs) <= 0:
        raise ValueError(
            f"a difference needs two paired positive repeats or more, found {list(ours)} and {list(theirs)}"
        )
    ratios = np.log(np.array(ours) / np.array(theirs))
    half = float(stats.t.ppf((1 + INTERVAL) / 2, len(ratios) - 1) * ratios.std(ddof=1) / math.sqrt(len(ratios)))
    mean = float(ratios.mean())
    return Difference(
        share=math.expm1(mean),
        low=math.expm1(mean - half),
        high=math.expm1(mean + half),
        noise_ours=float(np.std(ours, ddof=1) / np.mean(ours)),
        noise_theirs=float(np.std(theirs, ddof=1) / np.mean(theirs)),
    )


def prompts_of(count: int, words: int, seed: int) -> list[str]:
    """Texts of random numbers, new for every repeat: a prompt seen before would hit the server's prefix cache."""
    rng = random.Random(f"{seed}/prompts")
    return [" ".join(str(rng.randrange(10, 1000)) for _ in range(words)) for _ in range(count)]


def run_ours(options: argparse.Namespace, prompts: Sequence[str], due_s: Floats, repeat: int) -> ClientReport:
    """One repeat through the engine. TTFT is counted from the send, as vLLM's client counts it."""
    requests = tuple(
        Request(
            index=index,
            prompt=TextPrompt(text),
            output_tokens=options.output_tokens,
            ignore_eos=True,
            offset_ns=round(float(offset_s) * 1e9),
            cache_salt=f"agreement-{repeat}",
        )
        for index, (text, offset_s) in enumerate(zip(prompts, due_s, strict=True))
    )
    plan = LoadPlan(
        base_urls=(options.url,),
        model=options.model,
        requests=requests,
        in_flight_max=None,
        window_s_max=float(due_s[-1]) + WINDOW_MARGIN_S,
    )
    with load_worker(() if options.client_cpu is None else (options.client_cpu,)) as worker:
        window = worker.run(plan)
    good = [record for record in window.records if record.outcome is Outcome.OK]
    return from_stamps(
        keys=[str(record.index) for record in good],
        due_ns=np.array([record.sched_ns for record in good], dtype=np.int64),
        send_ns=np.array([record.send_ns for record in good], dtype=np.int64),
        chunk_ns=[np.array(record.chunk_ns, dtype=np.int64) for record in good],
        failed_count=len(window.records) - len(good),
    )


def run_theirs(
    options: argparse.Namespace, place: Place, prompts: Sequence[str], due_s: Floats, seed: int
) -> ClientReport:
    """One repeat through `vllm bench serve`. Raises DriverError if it fails."""
    with tempfile.TemporaryDirectory(prefix="redline-agreement-") as name:
        directory = Path(name)
        data, result = directory / "prompts.jsonl", directory / "result.json"
        write_prompts(data, list(prompts), options.output_tokens)
        command = bench_command(
            place,
            base_url=options.url,
            model=options.model,
            tokenizer=options.tokenizer,
            prompts=data,
            count=len(prompts),
            rate_per_s=options.rate,
            seed=seed,
            result=result,
        )
        run = run_client(
            command.arguments,
            environment=command.environment,
            cpu_ids=() if options.client_cpu is None else (options.client_cpu,),
            directory=directory,
            timeout_s=float(due_s[-1]) + WINDOW_MARGIN_S,
        )
        if run.exit_code != 0 or not result.exists():
            raise DriverError(f"vllm bench serve ended with {run.exit_code}: {run.output_tail}")
        return read_result(result, (due_s * 1e9).astype(np.int64))


def table(reports: dict[str, list[ClientReport]]) -> str:
    """A line per metric: medians over the repeats, noise of both, difference with its interval."""
    lines = [f"{'':12}{OURS:>14}{THEIRS:>18}{'noise':>16}   difference, 95 % interval"]
    for metric in METRICS:
        ours, theirs = ([metric.of(report) for report in reports[name]] for name in (OURS, THEIRS))
        found = difference(ours, theirs)
        noise = f"{found.noise_ours:.1%} / {found.noise_theirs:.1%}"
        verdict = "DIFFERS beyond the noise" if found.beyond_noise else "no difference beyond the noise"
        values = f"{np.median(ours) * metric.scale:14.3f}{np.median(theirs) * metric.scale:18.3f}{noise:>16}"
        interval = f"{found.share:+.2%} [{found.low:+.2%}, {found.high:+.2%}]"
        lines.append(f"{metric.name:12}{values}   {interval} {verdict} ({metric.unit})")
    return "\n".join(lines)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load.agreement", description=__doc__)
    parser.add_argument("--url", required=True, help="base URL of a running vLLM, e.g. http://127.0.0.1:8000")
    parser.add_argument("--model", required=True, help="the name it serves the model by")
    parser.add_argument("--tokenizer", required=True, help="directory or cached hub id, for vLLM's client")
    parser.add_argument("--rate", type=float, default=8.0, help="requests per second (%(default)s)")
    parser.add_argument("--count", type=int, default=160, help="requests per repeat (%(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=6, help="of each client, after one that is dropped (%(default)s)"
    )
    parser.add_argument("--prompt-words", type=int, default=32, help="numbers in a prompt (%(default)s)")
    parser.add_argument("--output-tokens", type=int, default=32, help="tokens of every answer (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--client-cpu", type=int, help="pin both clients to this CPU")
    parser.add_argument("--work", type=Path, default=Path(".benchmarks"), help="environments (%(default)s)")
    parser.add_argument("--vllm-python", type=Path, help="an interpreter that has vLLM 0.32.0")
    options = parser.parse_args(arguments)
    if options.repeats < 2:
        parser.error("--repeats: noise needs at least 2")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in turns, the order alternating, and print the table."""
    options = options_of(arguments)
    python = options.vllm_python.absolute() if options.vllm_python else None
    place = Place(ignored(options.work).resolve(), python)
    reports: dict[str, list[ClientReport]] = {OURS: [], THEIRS: []}
    for repeat in range(options.repeats + 1):
        seed = options.seed + repeat
        due_s = schedule_s(options.rate, options.count, seed)
        for name in (OURS, THEIRS) if repeat % 2 else (THEIRS, OURS):
            # The same texts for both. The engine's are salted, so neither finds the other's in the prefix cache.
            prompts = prompts_of(options.count, options.prompt_words, seed)
            if name == OURS:
                report = run_ours(options, prompts, due_s, repeat)
            else:
                report = run_theirs(options, place, prompts, due_s, seed)
            kept = "" if repeat else " (warm-up, dropped)"
            print(f"repeat {repeat} {name}: {len(report.keys)} ok, {report.failed_count} failed{kept}", flush=True)
            if report.failed_count or not report.keys:
                raise SystemExit(f"{name}: {report.failed_count} requests failed; nothing to compare")
            if repeat:
                reports[name].append(report)
    print(table(reports))


if __name__ == "__main__":
    main()
