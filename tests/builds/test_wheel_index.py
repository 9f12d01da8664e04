"""What vLLM's wheel index offers, asked over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from redline.builds.no_build import NoBuild
from redline.builds.wheel_index import IndexAddress, OfferedWheel, WheelIndex, index_address, open_index
from redline.errors import BuildError, UsageError
from tests.builds.conftest import MakeWheel
from tests.fakes.wheel_index_server import WheelIndexServer

COMMIT = "2f3f441f8" + "0" * 31
OTHER = "b" * 40
VERSION = "0.23.1rc1.dev901+g2f3f441f8"


def test_a_commits_wheel_is_found_by_its_variant(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """Each variant has its own wheel, whose address is decoded from the page and stays encoded as it is there."""
    plain = make_wheel(tmp_path, "vllm", VERSION)
    cuda = make_wheel(tmp_path, "vllm", f"{VERSION}.cu129")
    index.publish(COMMIT, plain, cuda, alias="cu130")
    with open_index() as asked:
        default, variant, alias = (asked.of_commit(COMMIT, name) for name in ("", "cu129", "cu130"))
    assert isinstance(default, OfferedWheel)
    assert (default.version, default.variant, default.commit) == (VERSION, "", COMMIT)
    assert isinstance(variant, OfferedWheel)
    assert (variant.version, variant.variant, variant.file_name) == (f"{VERSION}.cu129", "cu129", cuda.name)
    assert variant.url == f"{index.base}/{COMMIT}/{cuda.name.replace('+', '%2B')}"
    assert alias == default, "another name of the default is the default's wheel"


def test_rocm_lies_in_a_folder_of_its_own(index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """Which folder that is, the variant's entry says."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", f"{VERSION}.rocm721"), folder="rocm")
    with open_index() as asked:
        found = asked.of_commit(COMMIT, "rocm721")
        nightly = asked.nightly("rocm721")
    assert isinstance(found, OfferedWheel)
    assert found.url.startswith(f"{index.base}/rocm/{COMMIT}/")
    assert isinstance(nightly, OfferedWheel)
    assert (nightly.commit, nightly.written) == (COMMIT, "Sat, 21 Nov 2026 04:00:00 GMT")
    beside = asked.address.packages_beside(found.url, found.variant)
    assert beside == f"{index.base}/rocm/{COMMIT}/rocm721/"


def test_nightly_is_the_commit_that_it_was_listed_for(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """A nightly that is stale says so by its commit: the page of an older one is not the newest commit's."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", VERSION))
    index.publish(OTHER, make_wheel(tmp_path / "later", "vllm", "0.23.1rc1.dev902+gbbbbbbbbb"), nightly=False)
    with open_index() as asked:
        found = asked.nightly()
    assert isinstance(found, OfferedWheel)
    assert found.commit == COMMIT


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_missing_is_no_error(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel, status: int
) -> None:
    """A bucket that may not be listed says 403 for a commit without wheels, another host 404."""
    index.missing_status = status
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", VERSION))
    with open_index() as asked:
        for name, found in (
            (f"commit:{OTHER}", asked.of_commit(OTHER)),
            (f"commit:{COMMIT}/cu129", asked.of_commit(COMMIT, "cu129")),
            ("nightly/cu129", asked.nightly("cu129")),
        ):
            assert isinstance(found, NoBuild)
            assert found.name == name
            assert str(status) in found.reason


def test_a_wheel_for_other_machines_is_no_build_here(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """A variant that was built for another processor only says which wheels there are."""
    other = make_wheel(tmp_path, "vllm", f"{VERSION}.cu129", tag="cp38-abi3-manylinux_2_28_riscv64")
    index.publish(COMMIT, other)
    with open_index() as asked:
        found = asked.of_commit(COMMIT, "cu129")
    assert isinstance(found, NoBuild)
    assert other.name in found.reason


def test_a_python_that_rocm_is_not_built_for_is_named(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """What the variant needs is said where its wheel does not fit."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", f"{VERSION}.rocm721", tag="cp399-cp399-any"), folder="rocm")
    with open_index() as asked:
        found = asked.of_commit(COMMIT, "rocm721")
    assert isinstance(found, NoBuild)
    assert "Python 3.12 and glibc 2.35" in found.reason


def test_a_host_that_refuses_everything_is_not_an_index_without_builds(index: WheelIndexServer) -> None:
    """Where not even nightly is served, a 403 is no answer about a commit."""
    with open_index() as asked, pytest.raises(BuildError, match="serves nothing"):
        asked.of_commit(COMMIT)


@pytest.mark.parametrize(
    "page",
    [
        b"<html>please log in</html>",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b" " * 2_000_000,
    ],
    ids=["a login page", "no list", "no entries", "deep", "endless"],
)
def test_what_is_no_page_of_the_index_is_refused(index: WheelIndexServer, page: bytes) -> None:
    """A page that is something else is an error, and never an empty index."""
    index.files[f"/{COMMIT}/vllm/metadata.json"] = page
    asked = WheelIndex(IndexAddress(index.base), httpx.Client(), retry_s=0.0)
    with pytest.raises(BuildError, match=r"not a page|cannot be asked"):
        asked.of_commit(COMMIT)


@pytest.mark.parametrize(
    "change",
    [
        {"path": "https://elsewhere.example/" + COMMIT + "/vllm-0.1-py3-none-any.whl"},
        {"path": "../../../../../" + COMMIT + "/%2e%2e/vllm-0.1-py3-none-any.whl"},
        {"path": f"../../{OTHER}/vllm-0.1-py3-none-any.whl"},
        {"path": "../../nowhere/vllm-0.1-py3-none-any.whl"},
        {"path": f"../../{COMMIT}/vllm-0.2-py3-none-any.whl"},
        {"path": None},
        {"version": "0.2"},
        {"filename": "vllm-0.1-py3-none-any.whl\nvllm==9"},
        {"filename": "vllm.whl"},
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(index: WheelIndexServer, change: dict[str, object]) -> None:
    """An address outside of the index, another commit's folder, another version or a name with a line break."""
    entry: dict[str, object] = {
        "package_name": "vllm",
        "version": "0.1",
        "variant": None,
        "filename": "vllm-0.1-py3-none-any.whl",
        "path": f"../../{COMMIT}/vllm-0.1-py3-none-any.whl",
    }
    url = f"/{COMMIT}/vllm/metadata.json"
    index.files[url] = json.dumps([entry]).encode()
    with open_index() as asked:
        assert isinstance(asked.of_commit(COMMIT), OfferedWheel)
        index.files[url] = json.dumps([entry | change]).encode()
        with pytest.raises(BuildError, match="not a page of vLLM's wheel index"):
            asked.of_commit(COMMIT)


def test_a_busy_index_is_asked_again(index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """Two failures that pass are passed over; more are an error that says which address did not answer."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", VERSION))
    url = f"/{COMMIT}/vllm/metadata.json"
    asked = WheelIndex(IndexAddress(index.base), httpx.Client(), retry_s=0.0)
    index.statuses[url] = [503, 429]
    assert isinstance(asked.of_commit(COMMIT), OfferedWheel)
    index.statuses[url] = [500, 500, 500]
    with pytest.raises(BuildError, match="cannot be asked") as caught:
        asked.of_commit(COMMIT)
    assert url in caught.value.expected


def test_no_index_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redline names no host by itself."""
    monkeypatch.delenv("REDLINE_WHEEL_INDEX", raising=False)
    with pytest.raises(UsageError, match="does not know") as caught, open_index():
        pass
    assert "REDLINE_WHEEL_INDEX=" in caught.value.next_step


@pytest.mark.parametrize(
    "text", ["ftp://host", "host", "https://", "https://host/?a=1", "http://host:99999", "http://["]
)
def test_an_index_is_an_address(text: str) -> None:
    """Anything else is refused, and not repeated: it may hold a password."""
    with pytest.raises(UsageError, match="not the address of an index"):
        index_address({"REDLINE_WHEEL_INDEX": text})


def test_a_password_of_the_index_stays_out_of_addresses(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent to the index, and no address or printed form holds it."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", VERSION))
    monkeypatch.setenv("REDLINE_WHEEL_INDEX", index.base.replace("://", "://user:hunt%2Fer2@") + "/")
    with open_index() as asked:
        found = asked.of_commit(COMMIT)
    assert isinstance(found, OfferedWheel)
    assert "hunt" not in found.url + repr(asked.address)
    assert index.seen[-1].authorization.startswith("Basic ")
    beside = asked.address.packages_beside(f"{index.base}/rocm/{COMMIT}/vllm-1-py3-none-any.whl", "rocm721")
    assert beside == f"{index.base.replace('://', '://user:hunt%2Fer2@')}/rocm/{COMMIT}/rocm721/"
    assert asked.address.packages_beside("https://elsewhere.example/a.whl", "rocm721") == ""
