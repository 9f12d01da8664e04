"""The lines of a log that say why a server ended, and what they amount to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.deploy.diagnosis import (
    LINE_CHARACTERS_MAX,
    LINE_COUNT_MAX,
    Ending,
    clean_line,
    describe_status,
    error_of,
    last_line,
    lines_that_matter,
    read_tail,
)
from redline.errors import ServerExitedError

ENGINE = "(EngineCore pid=8433) ERROR 11-21 04:18:44 [core.py:1510] "
OUT_OF_MEMORY = (
    "ValueError: Available memory on node 0 (5.78/6.71 GiB) on kv cache allocation is less than requested memory for kv",  # noqa: E501
    "ValueError: Available memory on node 0 (1/2 GiB) on startup is less than desired CPU memory utilization (0.92)",
    "ValueError: Free memory on device cuda:0 (1/80 GiB) on startup is less than desired GPU memory utilization (0.9)",
    "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
    "ValueError: To serve at least one request, 2 GiB KV cache is needed, which is larger than the available KV cache memory",  # noqa: E501
    "MemoryError",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "torch.OutOfMemoryError: HIP out of memory.",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried",
    "OSError: [Errno 12] Cannot allocate memory",
    "terminate called after throwing an instance of 'std::bad_alloc'",
)


def test_root_cause_before_its_wrapper():
    """The engine's exception is shown once and first, the wrapper last, no frame of a traceback."""
    lines = (
        "(APIServer pid=1) INFO 11-21 04:17:51 [model.py:733] Resolved architecture: LlamaForCausalLM",
        f"{ENGINE}Traceback (most recent call last):",
        f'{ENGINE}  File "/x/core.py", line 3, in determine_available_memory',
        f"{ENGINE}    raise ValueError(",
        f"{ENGINE}ValueError: too little",
        "(EngineCore pid=8433) Traceback (most recent call last):",
        "ValueError: too little",
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
    )
    assert lines_that_matter(lines) == ("ValueError: too little", lines[-1])


def test_explanation_stays_with_its_exception():
    """A validation error is shown with the line that says what is invalid."""
    lines = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, User-specified max_model_len (256) is greater than the derived max_model_len",
        "    For further information visit https://errors.pydantic.dev",
    )
    (line,) = lines_that_matter(lines)
    assert line.endswith(
        "for ModelConfig Value error, User-specified max_model_len (256) is greater than the derived max_model_len"
    )


def test_argparse():
    """A wrong argument is one line, not three hundred of usage."""
    lines = (
        "usage: api_server.py [-h]",
        *("      [--flag]",) * 300,
        "api_server.py: error: unrecognized arguments: --x",
        "",
    )
    assert lines_that_matter(lines) == ("api_server.py: error: unrecognized arguments: --x",)


def test_no_exception_at_all():
    """Without an exception the last lines are shown, known noise left out."""
    lines = (
        "one",
        "two",
        "/x/resource_tracker.py:254: UserWarning: leaked",
        "  warnings.warn('resource_tracker: x')",
        "",
    )
    assert lines_that_matter(lines) == ("one", "two")
    assert lines_that_matter(()) == ()


def test_words_of_an_orderly_end_are_no_reason():
    """What a server says while it is being ended does not hide what it said before."""
    lines = ("loading", f"{ENGINE}[shutdown] EngineCore: trigger received signal=SIGTERM", "INFO:     Shutting down")
    assert lines_that_matter(lines) == ("loading",)


def test_warning_that_mentions_an_error_is_no_cause():
    """A warning that quotes an exception's name in its middle is not taken for the reason."""
    lines = (
        "(APIServer pid=1) WARNING 11-21 04:17:51 [x.py:1] This can cause errors like `OSError: [Errno 24]`",
        "the end",
    )
    assert lines_that_matter(lines)[-1] == "the end"
    assert not Ending(1, lines_that_matter(lines)).out_of_memory


def test_many_exceptions_are_bounded():
    """Of many exceptions the first and the last are shown."""
    lines = tuple(f"ValueError: number {number}" for number in range(50))
    chosen = lines_that_matter(lines)
    assert len(chosen) == LINE_COUNT_MAX
    assert (chosen[0], chosen[-1]) == (lines[0], lines[-1])


@pytest.mark.parametrize("line", OUT_OF_MEMORY)
def test_out_of_memory(line):
    """Every known way to run out of memory is recognised in the words of vLLM, PyTorch, Python and C++."""
    assert Ending(1, lines_that_matter((f"{ENGINE}{line}",))).out_of_memory


@pytest.mark.parametrize(
    ("exit_status", "lines", "oom_kills", "expected"),
    [
        (-9, (), 0, False),
        (-9, (), 1, True),
        (1, ("EngineDeadError: EngineCore encountered an issue. See stack trace (above)",), 1, True),
        (1, ("ValueError: no such model",), 1, False),
        (0, (), 1, False),
    ],
)
def test_kernel_kills_count_only_with_a_kill(exit_status, lines, oom_kills, expected):
    """SIGKILL alone is no proof of memory, nor is a kernel kill of something else."""
    assert Ending(exit_status, lines, oom_kills).out_of_memory is expected


def test_address_in_use():
    """A port that was lost is told apart from every other end."""
    assert Ending(1, ("OSError: [Errno 98] Address already in use",)).address_in_use
    assert not Ending(1, ("OSError: [Errno 12] Cannot allocate memory",)).address_in_use


# The last lines of an inspection that failed so, as vLLM issues 20939 and 41848 show them; frames are left out.
INSPECTION = (
    "ERROR 11-21 04:18:44 [registry.py:950] Error in inspecting model architecture 'LlamaForCausalLM'",
    "ERROR 11-21 04:18:44 [registry.py:950] subprocess.CalledProcessError: Command '['python3', '-m', 'x']' returned 1",
    "ERROR 11-21 04:18:44 [registry.py:950] ValueError: {cause}",
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    "  Value error, Model architectures ['LlamaForCausalLM'] failed to be inspected. Please check the logs.",
)


def inspected(cause: str, more: int = 0) -> Ending:
    """The end of a build whose inspection failed, after `more` other exceptions and before as many."""
    others = [tuple(f"OSError: {name} {number}" for number in range(more)) for name in ("before", "after")]
    return Ending(1, lines_that_matter((*others[0], *(line.format(cause=cause) for line in INSPECTION), *others[1])))


@pytest.mark.parametrize("more", [0, 20])
@pytest.mark.parametrize(
    "cause",
    [
        "invalid literal for int() with base 10: 'GPU-52a3a85d-3c55-ca3a-a955-82c69ed360fc'",
        "invalid literal for int() with base 10: 'MIG-4c60d78c-506f-5593-938d-a136eaa1fa52'",
        "Non-integer device ID 'GPU-52a3a85d-3c55-ca3a-a955-82c69ed360fc' is not supported by cpu.",
    ],
)
def test_a_build_that_reads_no_uuids(tmp_path, cause, more):
    """It blames the model; the cause is named however many other lines there are, with a way out."""
    error = error_of(
        inspected(cause, more),
        ServerExitedError,
        problem="vllm 0.9.2 ended before it was ready",
        expected="a completion",
        platform="cuda",
        log_path=tmp_path / "log",
    )
    assert type(error) is ServerExitedError
    assert "does not take accelerators by UUID" in error.problem
    assert cause in error.found
    assert "from its image" in error.next_step
    assert str(tmp_path / "log") in error.next_step


@pytest.mark.parametrize(
    "cause", ["invalid literal for int() with base 10: 'auto'", "No model architectures for 'GPU-x'"]
)
def test_another_inspection_that_fails(cause):
    """Only the identifier of an accelerator that is read as a number says that."""
    assert not inspected(cause).uuid_unread


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x08c\x9bd", "abcd"),
        ("left\u202eright", "leftright"),
        ("tab\there  ", "tab here"),
    ],
)
def test_clean_line(dirty, clean):
    """Escape sequences, control and direction characters do not reach a terminal or a page."""
    assert clean_line(dirty) == clean


@given(st.text())
def test_clean_line_is_always_printable_and_bounded(text):
    """Whatever a server logs, a shown line is bounded and holds no control character."""
    line = clean_line(text)
    assert len(line) <= LINE_CHARACTERS_MAX
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)


def test_tail_of_a_large_log(tmp_path):
    """Of a log the lines after the offset are read, invalid bytes and progress bars included, bounded in size."""
    log = tmp_path / "log"
    head = b"old\n"
    log.write_bytes(head + b"10%\r90%\r100%\r\n\xff\xfe bytes\n")
    assert read_tail(log, len(head)) == ("100%", "\ufffd\ufffd bytes", "")
    log.write_bytes(b"x" * 5_000_000 + b"\nlast\n")
    assert last_line(read_tail(log)) == "last"
    assert read_tail(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (2, "exit status 2"), (-9, "ended by SIGKILL"), (-99, "ended by signal 99")],
)
def test_describe_status(status, words):
    """An exit status is said in words."""
    assert describe_status(status) == words
