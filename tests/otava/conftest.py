"""The real Otava, installed once beside the builds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from redline.otava.environment import otava_python


@pytest.fixture(scope="session")
def otava(vllm_state_dir: Path) -> Path:
    """The interpreter of Otava's own environment; the first time takes seconds and the package index."""
    return otava_python(vllm_state_dir, on_line=logging.getLogger("redline.otava.test").debug)
