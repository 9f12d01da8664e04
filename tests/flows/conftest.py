"""A content directory of its own, so that tests never touch the checkout's baselines."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A copy of the checkout's content without baselines; its runner classes and scenarios tolerate a busy machine.

    The rules that drop windows on a busy machine and that refuse a late client have tests of their own; here they would
    make every test of the flows depend on what else the machine does.
    """
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(ROOT / "checks" / "policies", root / "checks" / "policies")
    for name, limit in (("cpu", "0.05"), ("cpu-2-replicas", "0.05"), ("cpu-stand-ins", "0.15")):
        runner = root / "runners" / f"{name}.toml"
        text = runner.read_text()
        assert f"foreign_cpu_share_max = {limit}" in text
        runner.write_text(text.replace(f"foreign_cpu_share_max = {limit}", "foreign_cpu_share_max = 1.0"))
    for scenario in (root / "scenarios").glob("*.toml"):
        text = scenario.read_text()
        scenario.write_text(text.replace("schedule_lag_s_p99_max = 0.02", "schedule_lag_s_p99_max = 60.0"))
    assert "schedule_lag_s_p99_max = 60.0" in (root / "scenarios" / "server-short.toml").read_text()
    return root


@pytest.fixture
def environment(content: Path, vllm_build: Any, vllm_state_dir: Path, tmp_path: Path) -> dict[str, str]:
    """Variables of a `redline` process: content and state of its own, builds shared with the whole suite."""
    state = tmp_path / "state"
    state.mkdir()
    assert vllm_build.installed_version == "0.32.0"
    shared = vllm_state_dir.resolve()
    for name in ("builds", "pins", "prefect", "cache", "stand-ins"):
        (shared / name).mkdir(exist_ok=True)
        (state / name).symlink_to(shared / name)
    return {**os.environ, "REDLINE_CONTENT": str(content), "REDLINE_STATE": str(state)}
