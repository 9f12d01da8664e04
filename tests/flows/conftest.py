"""A content directory of its own, so that tests never touch the checkout's baselines."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A copy of the checkout's content without baselines; its runner class tolerates a busy machine.

    The rule that drops windows on a busy machine has tests of its own; here it would make every test of
    the flows depend on what else the machine does.
    """
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(ROOT / "checks" / "policies", root / "checks" / "policies")
    runner = root / "runners" / "cpu.toml"
    text = runner.read_text()
    assert "foreign_cpu_share_max = 0.05" in text
    runner.write_text(text.replace("foreign_cpu_share_max = 0.05", "foreign_cpu_share_max = 1.0"))
    return root
