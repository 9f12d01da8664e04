"""Why a server ended: the few lines of its log that matter, and which error they amount to.

A vLLM that fails prints one to two hundred lines, the root cause in the middle (the engine's process) and a
wrapper at the end ("See root cause above"). The lines are chosen here by what they are, not by where they are.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from redline.errors import DeployError, OutOfMemoryError

TAIL_BYTES_MAX = 512 * 1024
LINE_CHARACTERS_MAX = 500
LINE_COUNT_MAX = 6

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_PREFIX = re.compile(
    r"^(?:\((?P<process>\w+)[^()]*pid=\d+\) )?"
    r"(?:(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]*(?:Error|Exception|Exit|Interrupt|Fault)(?:: |$)|^terminate called after throwing"
    r"|^Fatal Python error: |^Killed$|^.*\b(?:Segmentation fault|Illegal instruction|core dumped)\b"
)
_ARGPARSE = re.compile(r"^[\w.\-]+(?: [\w\-]+)*: error: |^error: ")
_WRAPPER = re.compile(
    r"root cause above|above for the root cause|See stack trace \(above\)|EngineCore encountered an issue"
)
_NOISE = re.compile(
    r"resource_tracker|warnings\.warn\(|DeprecationWarning|^redline supervisor: |^\[shutdown\]"
    r"|^INFO: +(?:Shutting down|Waiting for application|Application shutdown|Finished server|Started server)"
)
_OUT_OF_MEMORY = re.compile(
    r"is less than requested memory for kv|is less than desired [CG]PU memory utilization"
    r"|No available memory for the cache blocks|larger than the available KV cache|\bMemoryError\b|OutOfMemoryError"
    r"|out of memory|[Cc]annot allocate memory|can't allocate memory|not enough memory|std::bad_alloc",
)
_UUID_UNREAD = re.compile(r"(?:invalid literal for int\(\) with base 10:|Non-integer device ID) ['\"](?:GPU|MIG)-")
_ADDRESS_IN_USE = re.compile(r"[Aa]ddress already in use|\[Errno 98\]|\[Errno 48\]|EADDRINUSE")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended: its exit status (minus the signal's number), and the lines that say why.

    `oom_kill_count`: how many processes the kernel's out-of-memory killer ended on this host meanwhile.
    """

    exit_status: int
    lines: tuple[str, ...]
    oom_kill_count: int = 0

    @property
    def address_in_use(self) -> bool:
        """True if it ended because its port was taken."""
        return any(_ADDRESS_IN_USE.search(line) for line in self.lines)

    @property
    def uuid_unread(self) -> bool:
        """True if the build takes accelerators by number only, and its environment chose them by UUID.

        Its words prove both: what it could not read is the value of the variable. In a later line it then says that the
        model could not be inspected, which is not the model's fault. Source: vLLM issues 13815, 20939 and 41848.
        """
        return any(_UUID_UNREAD.search(line) for line in self.lines)

    @property
    def out_of_memory(self) -> bool:
        """True if its own words say so, or the kernel's killer was at work while it or its engine was killed.

        A SIGKILL alone is no proof: anybody can send one.
        """
        if any(_OUT_OF_MEMORY.search(line) for line in self.lines):
            return True
        engine_lost = any(_WRAPPER.search(line) for line in self.lines)
        return self.oom_kill_count > 0 and (self.exit_status == -signal.SIGKILL or engine_lost)

    @property
    def found(self) -> str:
        """For a message: how it ended, then its own words, indented."""
        text = describe_status(self.exit_status)
        if self.oom_kill_count:
            text += f"; kills by the kernel's out-of-memory killer on this host meanwhile: {self.oom_kill_count}"
        return "\n    ".join((text, *(self.lines or ("(it logged nothing that says why)",))))


def describe_status(exit_status: int) -> str:
    """An exit status in words: `exit status 2`, `ended by SIGKILL`."""
    if exit_status >= 0:
        return f"exit status {exit_status}"
    try:
        return f"ended by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"ended by signal {-exit_status}"


def clean_line(line: str) -> str:
    """One line fit for a terminal and for Markdown: no escape sequences, no control characters, bounded."""
    text = _CONTROL.sub("", _ANSI.sub("", line.replace("\t", " "))).rstrip()
    return text if len(text) <= LINE_CHARACTERS_MAX else text[: LINE_CHARACTERS_MAX - 1] + "…"


def read_tail(log_path: Path, offset: int = 0) -> tuple[str, ...]:
    """The clean lines of a log from byte `offset` on, of the last TAIL_BYTES_MAX bytes; () if there is no log."""
    try:
        with log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(offset, size - TAIL_BYTES_MAX, 0))
            text = log.read(TAIL_BYTES_MAX).decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    # A progress bar rewrites its line with carriage returns: only its last state counts.
    return tuple(clean_line(line.rstrip("\r").rsplit("\r", 1)[-1]) for line in text.split("\n"))


def without_prefix(line: str) -> str:
    """A log line without vLLM's process, level, time and place."""
    return _PREFIX.sub("", line, count=1)


def lines_that_matter(lines: tuple[str, ...]) -> tuple[str, ...]:
    """At most LINE_COUNT_MAX lines that say why a server ended, root cause first, wrappers last.

    Final exceptions and argparse's errors if there are any, each once, an indented explanation kept with its
    exception; otherwise the last lines that are not known noise.
    """
    texts = [without_prefix(line) for line in lines]
    causes: list[str] = []
    for index, text in enumerate(texts):
        if not (_EXCEPTION.match(text) or _ARGPARSE.match(text)) or _NOISE.search(text):
            continue
        explanation = next((later for later in texts[index + 1 : index + 2] if later.startswith("  ")), "")
        if explanation.lstrip().startswith("File "):
            explanation = ""
        cause = clean_line(f"{text} {explanation.strip()}")
        if cause not in causes:
            causes.append(cause)
    # Stable: the order of the log otherwise. What names a cause by itself must not get lost among many.
    causes.sort(key=lambda text: (not _UUID_UNREAD.search(text), bool(_WRAPPER.search(text))))
    if causes:
        # With many, the first are the root and the last the end; the middle is retries of the same.
        half = LINE_COUNT_MAX // 2
        return tuple(causes if len(causes) <= LINE_COUNT_MAX else causes[:half] + causes[-half:])
    rest = [text for text in texts if text.strip() and not _NOISE.search(text)]
    return tuple(rest[-LINE_COUNT_MAX:])


def last_line(lines: tuple[str, ...]) -> str:
    """The newest line worth showing while somebody waits; '' if there is none."""
    texts = (without_prefix(line).strip() for line in reversed(lines))
    return next((text for text in texts if text and not _NOISE.search(text)), "")


def oom_kill_count() -> int:
    """How many processes the kernel's out-of-memory killer has ended on this host since boot; 0 if unknown.

    Source: Linux, `oom_kill` of /proc/vmstat, which counts kills within a memory cgroup as well.
    """
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


def read_ending(exit_status: int, log_path: Path, *, offset: int = 0, oom_kills_before: int = 0) -> Ending:
    """How a server ended, from its status, its log from byte `offset` on, and the kernel's counter."""
    lines = lines_that_matter(read_tail(log_path, offset))
    return Ending(exit_status, lines, max(0, oom_kill_count() - oom_kills_before))


def error_of(
    ending: Ending, kind: type[DeployError], *, problem: str, expected: str, platform: str, log_path: Path
) -> DeployError:
    """The error to raise: OutOfMemoryError where memory was the reason, `kind` otherwise.

    The next step is that of the cause, where its words name one that is known.
    """
    if ending.uuid_unread:
        return kind(
            f"{problem}: this build does not take accelerators by UUID, which is how Redline chooses them",
            expected=expected,
            found=ending.found,
            next_step="serve this build from its image (a container on NVIDIA needs no such variable; "
            "take CUDA_VISIBLE_DEVICES out of the recipe if it is there), or choose a newer build: "
            f"vLLM 0.20.1 cannot read them, 0.31.0 can; log: {log_path}",
        )
    if ending.out_of_memory:
        advice = (
            "lower VLLM_CPU_KVCACHE_SPACE in the recipe's environment"
            if platform == "cpu"
            else "lower --gpu-memory-utilization"
        )
        return OutOfMemoryError(
            f"{problem}: out of memory",
            expected=expected,
            found=ending.found,
            next_step=f"{advice}, or --max-model-len, or end other processes that hold memory; log: {log_path}",
        )
    return kind(problem, expected=expected, found=ending.found, next_step=f"read the whole log: {log_path}")
