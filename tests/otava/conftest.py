"""The real Otava, installed once beside the builds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flows.verify import otava_environment


@pytest.fixture(scope="session")
def otava(vllm_state_dir: Path) -> Path:
    """The interpreter of Otava's own environment; the first time takes seconds and the package index."""
    return otava_environment(vllm_state_dir, on_line=logging.getLogger("redline.otava.test").debug).python
