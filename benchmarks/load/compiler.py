"""C programs of the benchmark, compiled once per source text."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from benchmarks.load.driver import DriverError

COMPILE_S_MAX = 120.0


def compiled(source: Path, work: Path) -> Path:
    """The program of a C source, in `work`/programs. Raises DriverError without a compiler or if it refuses."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise DriverError("no compiler")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    program = work / "programs" / f"{source.stem}-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        unfinished = program.with_suffix(".new")
        done = subprocess.run(
            [gcc, "-O2", "-o", str(unfinished), str(source)],
            capture_output=True,
            text=True,
            timeout=COMPILE_S_MAX,
            check=False,
        )
        if done.returncode:
            raise DriverError(f"gcc refused {source.name}: {done.stderr.strip()[-300:]}")
        unfinished.rename(program)
    return program


def compiler_version() -> str:
    """What gcc calls itself, in one line."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise DriverError("no compiler")
    done = subprocess.run([gcc, "--version"], capture_output=True, text=True, timeout=COMPILE_S_MAX, check=True)
    return done.stdout.splitlines()[0]
