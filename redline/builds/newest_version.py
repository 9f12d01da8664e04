"""The newest version of a distribution that the user's own package indexes have for this Python and machine."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from redline.builds.build_spec import DISTRIBUTIONS
from redline.builds.pin_cache import python_version
from redline.builds.uv_process import run_uv, set_up, shortened
from redline.errors import BuildError

ASK_S_MAX = 120.0


def newest_version(distribution: str) -> str:
    """Its public version, without a local part: `0.33.0`. Final releases only, and only what is there as a wheel.

    Raises BuildError: an index that cannot be reached, or no version at all.
    """
    assert distribution in DISTRIBUTIONS, distribution
    with tempfile.TemporaryDirectory(prefix="redline-newest-") as name:
        directory = Path(name)
        (directory / "build.in").write_text(distribution + "\n", encoding="utf-8")
        arguments = ["pip", "compile", "--no-deps", "--no-header", "--no-annotate", "--quiet", "build.in"]
        arguments += ["--only-binary", ":all:", "--python-version", python_version(), "--python", sys.executable]
        outcome = run_uv(arguments, setup=set_up(), directory=directory, timeout_s=ASK_S_MAX)
    match = re.search(rf"^{re.escape(distribution)}==([^\s+]+)", outcome.text, re.MULTILINE)
    if not outcome.ok or match is None:
        raise BuildError(
            f"the newest version of {distribution} could not be found",
            expected=f"one for Python {python_version()} on the indexes that pip is configured with",
            found=shortened(outcome.text),
            next_step="check the network and what `pip config list` shows, or name the build",
        )
    return match[1]
