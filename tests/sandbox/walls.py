"""Where a test may run a stranger's program: only behind walls that this machine really has."""

from __future__ import annotations

import functools
import shutil
import subprocess

import pytest

from redline.sandbox.bubblewrap import identity


def require_walls() -> None:
    """Leave a test out where there is no bubblewrap that may make namespaces, whatever our own code says of it."""
    if why := _missing():
        pytest.skip(why)


@functools.lru_cache(maxsize=1)
def _missing() -> str:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "bubblewrap is not installed: no program may be run"
    tried = subprocess.run(
        [bwrap, "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "/bin/true"],
        check=False,
        capture_output=True,
        timeout=30,
        **identity(),
    )
    return f"this machine allows no namespaces: {tried.stderr.decode()[-200:]}" if tried.returncode else ""
