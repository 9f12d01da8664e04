"""Tiny stand-in models, made here with a build's own Python: it has what the maker needs, Redline has not."""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import lru_cache
from pathlib import Path

from flows.workspace import CHECKOUT, Workspace
from redline.errors import InfrastructureError
from redline.model import Recipe

SCRIPT = CHECKOUT / "models" / "make_stand_ins.py"
PARTS = CHECKOUT / "models" / "stand_ins"
DATA = CHECKOUT / "datasets" / "stand-in"
MAKE_S_MAX = 900.0
LOG_CHARS_SHOWN = 2000


@lru_cache(maxsize=1)
def version() -> str:
    """8 hex digits over the maker and the data that the models learn: what they can do changes only with these."""
    state = hashlib.sha256()
    files = [SCRIPT, *PARTS.rglob("*.py"), *DATA.rglob("*"), CHECKOUT / "datasets" / "prompts.json"]
    files += (CHECKOUT / "models").glob("stand-in-*/*")  # the tokenizers
    files = [each for each in files if each.name != "README.md"]
    for path in sorted(each for each in files if each.is_file()):
        state.update(path.relative_to(CHECKOUT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:8]


def path_of(workspace: Workspace, recipe: Recipe) -> Path:
    """Where the stand-in of a recipe lies once it is made."""
    return workspace.stand_ins_dir / f"{recipe.stand_in}-{version()}"


def make(workspace: Workspace, recipe: Recipe, python: Path) -> Path:
    """Make the recipe's stand-in unless it is there; its directory. The script itself checks that it learned its data.

    Raises InfrastructureError with the end of the script's output if it fails, cannot be started or takes longer than
    15 minutes.
    """
    path = path_of(workspace, recipe)
    if (path / "config.json").is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    environment = passed | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}
    try:
        ended = subprocess.run(
            [str(python), str(SCRIPT), recipe.stand_in, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=MAKE_S_MAX,
            check=False,
        )
        said, status = ended.stdout.decode(errors="replace"), f"exit status {ended.returncode}"
    except subprocess.TimeoutExpired as error:
        said, status = (error.stdout or b"").decode(errors="replace"), f"no end after {MAKE_S_MAX:.0f} s"
    except OSError as error:
        said, status = str(error), "could not be started"
    if not (path / "config.json").is_file():
        raise InfrastructureError(
            f"the stand-in model {recipe.stand_in} could not be made",
            expected=f"{path}",
            found=f"{status}: {said[-LOG_CHARS_SHOWN:].strip()}",
            next_step=f"run it by hand: {python} {SCRIPT} {recipe.stand_in} {path}",
        )
    return path
