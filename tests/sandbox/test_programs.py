"""Strangers' programs: what they can do inside the sandbox, and that they are run nowhere else."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redline.errors import SandboxError
from redline.sandbox import programs
from redline.sandbox.programs import Ending, ProgramLimits, run_python
from tests.sandbox.walls import require_walls

QUICK = ProgramLimits(time_s=1.0, output_bytes=100_000)


@pytest.fixture(autouse=True)
def _looked_for_anew():
    """Each test finds its own sandbox, or none."""
    programs.sandbox.cache_clear()
    yield
    programs.sandbox.cache_clear()


@pytest.fixture
def _walls():
    """Leave a test out where no program may be run."""
    require_walls()


needs_walls = pytest.mark.usefixtures("_walls")


def attempts(*expressions: str) -> str:
    """A program that tries each expression and says what came of it, one line each."""
    return f"""
import os, pathlib, socket
for expression in {expressions!r}:
    try:
        print("done", repr(eval(expression))[:80])
    except OSError as error:
        print("refused", error)
"""


def outcomes(program: str) -> list[str]:
    """The first word of each line that such a program printed."""
    result = run_python(program)
    assert result.ending is Ending.OK, result
    return [line.split()[0] for line in result.stdout.splitlines()]


@needs_walls
def test_a_program_gets_its_input_and_gives_its_output():
    """Text in, text out, in any script; an error's last words come back too."""
    assert run_python("print(input()[::-1])", "тук\n").stdout == "кут\n"
    failed = run_python("print('so far')\nraise ValueError('no')")
    assert (failed.ending, failed.exit_status, failed.stdout) == (Ending.FAILED, 1, "so far\n")
    assert failed.stderr_tail.endswith("ValueError: no\n")
    assert run_python("syntax error(").ending is Ending.FAILED
    assert run_python("print(ascii(input()))", "\ud800").stdout == "'?'\n"


@needs_walls
def test_reading_outside_finds_nothing(monkeypatch):
    """No password file, no home directory, no checkout, no other process, nothing of our environment."""
    home, here = str(Path.home()), str(Path(__file__))
    read = attempts(
        "open('/etc/passwd').read()",
        "os.listdir('/proc')",
        "os.listdir('/sys')",
        "os.listdir('/var')",
        f"open({here!r}).read()",
        f"os.listdir({home + '/.ssh'!r})",
        f"os.listdir({home + '/.config'!r})",
    )
    assert outcomes(read) == ["refused"] * 7
    monkeypatch.setenv("REDLINE_SECRET", "a token")
    inside = run_python("import os; print(*sorted(os.environ), os.getuid(), len(os.listdir(os.environ['HOME'])))")
    assert inside.stdout == "HOME LANG PATH PWD 65534 0\n"


@needs_walls
def test_writing_is_for_tmp_alone():
    """No folder but /tmp takes a file, and what is written there is not outside, nor there the next time."""
    name = f"redline-sandbox-{os.getpid()}"
    places = ("/", "/usr", "/usr/lib", "/dev", "/dev/shm", "/etc", "/var/tmp", "/tmp")  # noqa: S108 - inside
    write = attempts(*(f"pathlib.Path({place + '/' + name!r}).write_text('x')" for place in places))
    assert outcomes(write) == ["refused"] * 7 + ["done"]
    assert not Path(tempfile.gettempdir(), name).exists()
    assert run_python("import os; print(os.listdir('/tmp'))").stdout == "[]\n"
    assert outcomes(attempts("os.chmod('/program.py', 0o777)", "open('/program.py', 'w')")) == ["refused"] * 2


@needs_walls
def test_there_is_no_network():
    """Neither another machine nor a server of this one can be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = attempts(
            f"socket.create_connection(('127.0.0.1', {port}), 2)",
            "socket.create_connection(('192.0.2.1', 80), 2)",
            "socket.getaddrinfo('example.org', 80)",
        )
        assert outcomes(connect) == ["refused"] * 3


@needs_walls
@pytest.mark.parametrize(
    "program", ["while True: pass", "import time\nwhile True: time.sleep(9)", "import signal\nsignal.pause()"]
)
def test_an_endless_program_is_ended(program):
    """Busy, asleep or waiting for ever: when its time is over it is gone."""
    result = run_python(program, limits=ProgramLimits(time_s=0.3))
    assert (result.ending, result.exit_status) == (Ending.TIME, None)


@needs_walls
def test_a_fork_bomb_is_bounded_and_gone():
    """The number of processes has a bound, also where Redline runs as root; none outlives the program."""
    counting = """
import os, signal
count = 0
try:
    while count < 100:
        if os.fork() == 0:
            signal.pause()
        count += 1
except OSError:
    pass
print(count)
"""
    result = run_python(counting, limits=ProgramLimits(processes=8))
    assert result.ending is Ending.OK
    assert 0 < int(result.stdout) < 8
    name = f"bomb-{os.getpid()}"
    naming = f"import ctypes, os\nctypes.CDLL(None).prctl(15, b'{name}')\nprint(open('/dev/null').name, flush=True)\n"
    bomb = f"{naming}while True:\n    try: os.fork()\n    except OSError: pass\n"
    result = run_python(bomb, limits=ProgramLimits(time_s=0.5, processes=8))
    assert (result.ending, result.stdout) == (Ending.TIME, "/dev/null\n")
    assert name not in [_text_of(entry) for entry in Path("/proc").glob("[0-9]*/comm")]


def _text_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # it ended while we looked
        return ""


@needs_walls
def test_output_has_a_bound():
    """Endless output, on either stream or in a file, ends the program, and only so much comes back."""
    for stream in ("stdout", "stderr"):
        result = run_python(f"import sys\nwhile True: print('x' * 9999, file=sys.{stream})", limits=QUICK)
        assert result.ending is Ending.OUTPUT
        assert len(result.stdout) <= 100_000
        assert len(result.stderr_tail) <= 2000
    full = run_python("open('/tmp/x', 'wb').write(b'x' * 200_000)", limits=QUICK)
    assert full.ending is Ending.FAILED
    assert "File too large" in full.stderr_tail


@needs_walls
def test_memory_has_a_bound():
    """More than it may take is a MemoryError of the program's own, and /tmp is no way around."""
    result = run_python("x = bytearray(2 * 10**9)", limits=ProgramLimits(memory_bytes=256 * 2**20))
    assert result.ending is Ending.FAILED
    assert "MemoryError" in result.stderr_tail
    fill = "for i in range(100): open(f'/tmp/{i}', 'wb').write(b'x' * 2**20 * 4)"
    assert "No space left" in run_python(fill).stderr_tail


@needs_walls
def test_limits_and_walls_cannot_be_taken_down():
    """No limit can be raised, no namespace made, no process outside be signalled; a deep recursion still works."""
    raising = "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (999, 999))"
    assert "not allowed to raise" in run_python(raising).stderr_tail
    namespace = "import ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))"
    assert run_python(namespace).stdout == "-1\n"
    assert outcomes(attempts(f"os.kill({os.getpid()}, 0)")) == ["refused"]
    assert outcomes(attempts(*(f"os.fstat({number})" for number in range(64)))) == ["done"] * 3 + ["refused"] * 61
    deep = """
import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(256 * 2**20)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
thread = threading.Thread(target=lambda: print(depth(20_000)))
thread.start()
thread.join()
"""
    assert run_python(deep).stdout == "20000\n"


@needs_walls
def test_a_program_is_the_first_to_go_where_memory_runs_out():
    """The kernel's out-of-memory killer takes what is inside before the server that is measured."""
    name = f"first-{os.getpid()}"
    program = f"import ctypes, time\nctypes.CDLL(None).prctl(15, b'{name}')\ntime.sleep(20)"
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run_python, program, limits=ProgramLimits(time_s=20.0))
        found: list[Path] = []
        while not found and not running.done():
            found = [entry.parent for entry in Path("/proc").glob("[0-9]*/comm") if _text_of(entry) == name]
        score = _text_of(found[0] / "oom_score_adj")
        os.kill(int(found[0].name), signal.SIGKILL)
    assert score == "1000"
    assert running.result().ending is Ending.FAILED


def test_without_bwrap_nothing_is_run(monkeypatch, tmp_path):
    """A machine without bubblewrap gets an error that says what to install, not a program run in the open."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError) as caught:
        run_python("print(1)")
    assert "bubblewrap" in caught.value.expected
    assert "no bwrap" in caught.value.found
    assert "install" in caught.value.next_step


def test_a_bwrap_that_may_not_make_namespaces_is_no_sandbox(monkeypatch):
    """What bwrap says is passed on, for every Python that was tried; nothing is run."""
    with tempfile.TemporaryDirectory() as folder:
        fake = Path(folder, "bwrap")
        fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        for path in (fake, fake.parent):
            path.chmod(0o755)
        monkeypatch.setenv("PATH", folder)
        with pytest.raises(SandboxError) as caught:
            run_python("print(1)")
    assert caught.value.found.count("No permissions to create new namespace") == 3
    assert "user namespaces" in caught.value.next_step


@pytest.mark.parametrize(
    "wrong", [{"time_s": 0}, {"time_s": 9999}, {"memory_bytes": 1}, {"output_bytes": 0}, {"processes": 0}]
)
def test_impossible_limits_are_refused(wrong):
    """A limit that no program could live with is a mistake of ours."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProgramLimits(**wrong)
