"""`--update-goldens` rewrites the golden pages; without it they are compared exactly."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--update-goldens`, which works when this folder is named on the command line."""
    parser.addoption("--update-goldens", action="store_true", help="rewrite tests/golden/report-*.md")
