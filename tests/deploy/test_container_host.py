"""What of a host goes into a container: caches, the model with all its links, variables, groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.deploy.command import image_cache_dir
from redline.deploy.container_command import Mount
from redline.deploy.container_host import (
    container_environment,
    device_group_ids,
    hub_directories,
    linked_directories,
    secret_names,
    server_mounts,
    shown_mounts,
)
from tests.deploy.conftest import stand_in_recipe


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model as the hub's cache keeps it: links into `blobs`, one of which is a link to another disk."""
    repository = tmp_path / "hub" / "models--a--b"
    folder = repository / "snapshots" / "abc"
    (repository / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "weights").write_text("w")
    (repository / "blobs" / "1").write_text("{}")
    (repository / "blobs" / "2").symlink_to(tmp_path / "disk" / "weights")
    (folder / "config.json").symlink_to("../../blobs/1")
    (folder / "model.safetensors").symlink_to("../../blobs/2")
    (folder / "inside").symlink_to("config.json")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    return folder


def test_links_of_a_model_are_followed(snapshot, tmp_path):
    """A snapshot mounted alone would be a directory of broken links; what they lead to is mounted too."""
    assert linked_directories(snapshot) == (tmp_path / "disk", snapshot.parents[1] / "blobs")
    mounts = server_mounts(tmp_path / "cache", str(snapshot), {})
    assert mounts[0] == Mount(tmp_path / "cache", read_only=False)
    assert {mount.path for mount in mounts[1:]} == {snapshot, tmp_path / "disk", snapshot.parents[1] / "blobs"}
    assert all(mount.read_only for mount in mounts[1:])


def test_links_in_a_circle_end(tmp_path):
    """Two links that lead to each other are no endless way."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert linked_directories(tmp_path) == ()


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ({"HOME": "/h"}, ["/h/.cache/huggingface"]),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, ["/x/huggingface"]),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "HF_HOME": "/f"}, ["/f"]),
        ({"HF_HOME": "/f", "HF_HUB_CACHE": "/f/hub"}, ["/f"]),
        ({"HF_HOME": "/f", "HF_HUB_CACHE": "/models"}, ["/f", "/models"]),
    ],
)
def test_the_hubs_directories(caller, expected):
    """As huggingface_hub finds them."""
    assert [str(path) for path in hub_directories(caller)] == expected


def test_what_is_written_is_made_before(tmp_path):
    """An engine would make missing directories as root; showing a command makes none."""
    caller = {"HF_HOME": str(tmp_path / "hub"), "SSL_CERT_FILE": str(tmp_path / "ca.pem"), "REQUESTS_CA_BUNDLE": "/no"}
    (tmp_path / "ca.pem").write_text("")
    shown = shown_mounts(tmp_path / "cache", "some/model", caller)
    assert not (tmp_path / "cache").exists()
    made = server_mounts(tmp_path / "cache", "some/model", caller)
    assert shown == made
    assert (tmp_path / "cache" / "empty").is_dir()
    assert (tmp_path / "cache" / "home").is_dir()
    assert (tmp_path / "hub").is_dir()
    assert made[-1] == Mount(tmp_path / "ca.pem", read_only=True)


def environment(tmp_path: Path, model: str, caller: dict[str, str]) -> dict[str, str]:
    """Of a stand-in."""
    recipe = stand_in_recipe(tmp_path, "ok")
    return container_environment(recipe=recipe, platform="cpu", model=model, cache_dir=tmp_path / "c", caller=caller)


def test_nothing_of_the_callers_shell_gets_in(tmp_path):
    """Neither paths of this host nor settings of somebody's shell; HOME is in the cache of the build."""
    caller = {
        "PATH": "/mine",
        "LD_LIBRARY_PATH": "/mine",
        "HOME": "/home",
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "TMPDIR": "/t",
    }
    found = environment(tmp_path, str(tmp_path), caller)
    assert not {"PATH", "LD_LIBRARY_PATH", "VLLM_LOGGING_LEVEL", "TMPDIR"} & found.keys()
    assert found["HOME"] == str(tmp_path / "c" / "home")
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["VLLM_CACHE_ROOT"].startswith(str(tmp_path / "c"))
    assert found["STAND_IN_MODE"] == "ok"


def test_secrets_are_named_not_said(tmp_path):
    """A token and proxies, which may hold a password, go in by name, and only where a model may be downloaded."""
    caller = {"HF_TOKEN": "hf_secret", "https_proxy": "http://u:p@proxy", "HF_HOME": "/f", "HF_ENDPOINT": "https://e"}
    assert secret_names("some/model", caller) == ("HF_ENDPOINT", "HF_TOKEN", "https_proxy")
    assert secret_names(str(tmp_path), caller) == ()
    found = environment(tmp_path, "some/model", caller)
    assert found["HF_HOME"] == "/f"
    assert not {"hf_secret", "http://u:p@proxy"} & set(found.values())


def test_caches_belong_to_a_digest(tmp_path):
    """Two digests never share compiled code; the same digest from another registry does."""
    one, other = "a/b@sha256:" + "1" * 64, "a/b:tag@sha256:" + "2" * 64
    assert image_cache_dir(tmp_path, one) != image_cache_dir(tmp_path, other)
    assert image_cache_dir(tmp_path, one) == image_cache_dir(tmp_path, "mirror:5000/b@sha256:" + "1" * 64)


def test_groups_of_device_files(tmp_path):
    """The numbers of the groups that own them, without root's; none where there are none."""
    assert device_group_ids(tmp_path) == ()
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    for name in ("kfd", "dri/renderD128", "dri/card0", "dri/by-path"):
        (tmp_path / "dev" / name).touch()
    owner = (tmp_path / "dev" / "kfd").stat().st_gid
    assert device_group_ids(tmp_path) == ((owner,) if owner else ())
