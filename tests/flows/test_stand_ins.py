"""Stand-in models: made once with the Python of a build, whole or not at all, and named after what made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows import stand_ins
from flows.workspace import CHECKOUT, Workspace
from redline.errors import InfrastructureError

CONTENT = Workspace(CHECKOUT, Path("nothing-is-kept"))
RECIPE = CONTENT.recipe("gptj-stand-in")


def program(folder: Path, script: str) -> Path:
    """A program that stands where a build's Python would: it gets the script, a name and a directory."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{script}\n')
    path.chmod(0o755)
    return path


def calls(folder: Path) -> list[str]:
    """What the program was called with, a line each."""
    return (folder / "calls").read_text().splitlines()


def test_a_stand_in_is_made_once(tmp_path: Path) -> None:
    """Name and directory are handed to the maker; a model that is there is not made again."""
    workspace = Workspace(CHECKOUT, tmp_path / "state")
    python = program(tmp_path, 'mkdir "$3" && echo {} > "$3/config.json"')
    path = stand_ins.make(workspace, RECIPE, python)
    assert path == stand_ins.path_of(workspace, RECIPE)
    assert (path / "config.json").is_file()
    assert stand_ins.make(workspace, RECIPE, python) == path
    assert calls(tmp_path) == [f"{CHECKOUT / 'models' / 'make_stand_ins.py'} gptj {path}"]


def test_it_is_made_with_one_thread_and_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines with the same PyTorch make the same weights; nothing of the caller's environment comes in."""
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("SOMEBODYS_SECRET", "x")
    python = program(tmp_path, f'env > {tmp_path}/environment; mkdir "$3" && echo {{}} > "$3/config.json"')
    stand_ins.make(Workspace(CHECKOUT, tmp_path / "state"), RECIPE, python)
    lines = (tmp_path / "environment").read_text().splitlines()
    assert {"OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1", "PYTHONNOUSERSITE=1"} <= set(lines)
    assert not [line for line in lines if line.startswith(("PYTHONPATH=", "SOMEBODYS_SECRET="))]


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (
            "echo learning; echo 'it does not learn its items' >&2; exit 3",
            r"exit status 3: learning\nit does not learn",
        ),
        ("exit 0", r"exit status 0"),
        ('mkdir "$3"; exit 1', r"exit status 1"),
    ],
    ids=["fails", "does nothing", "stops half-way"],
)
def test_a_maker_that_makes_nothing_is_an_error(tmp_path: Path, script: str, found: str) -> None:
    """How it ended, its last words, and the command to run by hand; a directory without a model is none."""
    workspace = Workspace(CHECKOUT, tmp_path / "state")
    python = program(tmp_path, script)
    for _ in range(2):
        with pytest.raises(InfrastructureError, match="stand-in model gptj could not be made") as caught:
            stand_ins.make(workspace, RECIPE, python)
        assert re.match(found, caught.value.found)
        assert caught.value.next_step.startswith(f"run it by hand: {python} ")
    assert len(calls(tmp_path)) == 2


def test_a_build_without_a_python_is_an_error(tmp_path: Path) -> None:
    """The same error, not a stack trace."""
    with pytest.raises(InfrastructureError, match="could not be made") as caught:
        stand_ins.make(Workspace(CHECKOUT, tmp_path), RECIPE, tmp_path / "nowhere" / "python")
    assert "could not be started" in caught.value.found


def test_a_long_story_is_cut_to_its_end(tmp_path: Path) -> None:
    """The reason stands at the end of what a training program says."""
    python = program(tmp_path, "seq 1 5000; echo the reason; exit 1")
    with pytest.raises(InfrastructureError) as caught:
        stand_ins.make(Workspace(CHECKOUT, tmp_path / "state"), RECIPE, python)
    assert caught.value.found.endswith("the reason")
    assert len(caught.value.found) <= stand_ins.LOG_CHARS_SHOWN + 50


def test_the_version_is_of_the_maker_and_its_data(tmp_path: Path) -> None:
    """Eight hex digits, the same in every state directory, in the name of each model's own directory."""
    assert re.fullmatch("[0-9a-f]{8}", stand_ins.version())
    names = set()
    for model in ("gptj", "llama2", "gpt-oss", "qwen3-vl", "whisper"):
        path = stand_ins.path_of(Workspace(CHECKOUT, tmp_path), CONTENT.recipe(f"{model}-stand-in"))
        assert path.parent == tmp_path / "stand-ins"
        names.add(path.name)
    assert len(names) == 5
    assert all(name.endswith(f"-{stand_ins.version()}") for name in names)
