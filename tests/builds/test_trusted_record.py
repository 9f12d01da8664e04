"""Records that a stranger may have written: what they may bring, and what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.builds.resolve import resolve, write_pin
from redline.builds.trusted_record import (
    REPOSITORIES,
    REPOSITORIES_VARIABLE,
    read_trusted_pin,
    trusted_repositories,
)
from redline.errors import UsageError
from redline.model import BuildKind, BuildPin

SHA = "@sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def _usual_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REPOSITORIES_VARIABLE, raising=False)


def image_record(path: Path, url: str) -> BuildPin:
    """Write the record of an image; its pin."""
    pin = BuildPin(BuildKind.IMAGE, f"image:{url}", "vllm", "0.33.0", "cuda", "", None, "", url)
    write_pin(path, pin)
    return pin


@pytest.mark.parametrize(
    "repository", ["vllm/vllm-openai", "vllm/vllm-openai-rocm", "vllm/vllm-openai-cpu", "vllm/vllm-openai:v1"]
)
def test_vllms_own_images_are_taken_from_a_record(tmp_path: Path, repository: str):
    """Whatever tag stands beside the digest."""
    path = tmp_path / "pin.json"
    pin = image_record(path, repository + SHA)
    assert resolve(str(path), state_dir=tmp_path / "state") == pin


@pytest.mark.parametrize(
    "repository",
    [
        "somebody/vllm-openai",
        "vllm/vllm-openai-evil",
        "vllm/vllm-openai/evil",
        "evil/vllm/vllm-openai",
        "vllm-openai",
        "registry.example/vllm/vllm-openai",  # the same name on a host of somebody's own is somebody's own image
        "localhost:5000/vllm/vllm-openai",
        "VLLM/vllm-openai",
        "vllm/vllm-openai:",
    ],
)
def test_another_image_is_not(tmp_path: Path, repository: str):
    """It is refused, and the message says what the user can do about it."""
    path = tmp_path / "pin.json"
    image_record(path, repository + SHA)
    with pytest.raises(UsageError, match="did not name") as caught:
        resolve(str(path), state_dir=tmp_path / "state")
    assert caught.value.found == repository + SHA
    assert REPOSITORIES_VARIABLE in caught.value.next_step


def test_who_names_the_image_may_have_it(tmp_path: Path):
    """A typed reference is the user's own word."""
    url = "registry.example/team/vllm" + SHA
    assert resolve(f"image:{url}", state_dir=tmp_path).url == url


def test_an_endpoint_never_comes_from_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody is asked at its address, for the question carries the key, and no control character is repeated."""
    monkeypatch.setenv("REDLINE_API_KEY", "key")
    url = "http://127.0.0.1:9\x1b[31m"
    path = tmp_path / "pin.json"
    write_pin(path, BuildPin(BuildKind.ENDPOINT, url, "vllm", "0.33.0", "unknown", "", None, "", url))
    with pytest.raises(UsageError, match="which servers are asked") as caught:
        resolve(str(path), state_dir=tmp_path / "state")
    assert "\x1b" not in str(caught.value)


def test_the_variable_says_which_repositories(tmp_path: Path):
    """Instead of vLLM's own, with commas or blanks between them; empty is as good as unset."""
    pin = image_record(tmp_path / "ours.json", "registry.example:5000/team/vllm" + SHA)
    image_record(tmp_path / "vllm.json", "vllm/vllm-openai" + SHA)
    caller = {REPOSITORIES_VARIABLE: " registry.example:5000/team/vllm,\n team/vllm "}
    assert read_trusted_pin(tmp_path / "ours.json", caller) == pin
    with pytest.raises(UsageError, match="did not name"):
        read_trusted_pin(tmp_path / "vllm.json", caller)
    image_record(tmp_path / "team.json", "team/vllm" + SHA)
    assert read_trusted_pin(tmp_path / "team.json", caller).url == "team/vllm" + SHA
    assert trusted_repositories({REPOSITORIES_VARIABLE: " , "}) == trusted_repositories({}) == REPOSITORIES


@pytest.mark.parametrize("entry", ["vllm/vllm-openai:v1", "a/b" + SHA, "*/vllm", "https://a.example/b", "a/b/", "A/b"])
def test_an_entry_that_is_no_repository_is_refused(entry: str):
    """A mistyped entry is told, for it would look like a repository that is not allowed."""
    with pytest.raises(UsageError, match="names no repository"):
        trusted_repositories({REPOSITORIES_VARIABLE: f"vllm/vllm-openai,{entry}"})
