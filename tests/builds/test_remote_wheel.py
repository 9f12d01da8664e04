"""Nightly and per-commit wheels and wheels by address: from a real server through real uv to a pin."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from redline.builds.install import install
from redline.builds.pin_record import read_pin, write_pin
from redline.builds.remote_wheel import fetch_again
from redline.builds.resolve import resolve
from redline.errors import BuildError, NoBuildError, UsageError
from redline.model import BuildKind
from tests.builds.conftest import MakeWheel
from tests.fakes.wheel_index_server import WheelIndexServer

COMMIT = "2f3f441f8" + "0" * 31
OTHER = "b" * 40
VERSION = "0.23.1rc1.dev901+g2f3f441f8"
_silent = logging.getLogger("redline.builds.test").debug


@pytest.mark.slow
def test_a_commits_wheel_becomes_a_pin_and_stays_it(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The pin holds the exact address, the commit and the wheel's own digest; the same commit later needs no network.

    A nightly of that commit is the same build.
    """
    make_wheel(links, "tiny-dependency", "1.5")
    wheel = make_wheel(tmp_path, "vllm", VERSION, ("tiny-dependency",), commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel, alias="cu130")
    state = tmp_path / "state"
    lines: list[str] = []
    pin = resolve(f"commit:{COMMIT}", state_dir=state, on_line=lines.append)
    assert (pin.kind, pin.version, pin.commit, pin.platform) == (BuildKind.REMOTE_WHEEL, VERSION, COMMIT, "cuda")
    assert pin.url == f"{index.base}/{COMMIT}/{wheel.name.replace('+', '%2B')}"
    assert f"vllm=={VERSION} --hash=sha256:{pin.wheel_sha256}" in pin.lock
    assert "tiny-dependency==1.5" in pin.lock
    assert "://" not in pin.lock
    nightly = resolve("nightly", state_dir=state, on_line=lines.append)
    assert (nightly.spec, nightly.pin_id) == ("nightly", pin.pin_id)
    assert any(f"nightly is commit {COMMIT}, listed Sat, 21 Nov 2026" in line for line in lines)
    assert sum(wheel.name.replace("+", "%2B") in seen.path for seen in index.seen) == 1, "downloaded once"
    index.files.clear()
    assert resolve(f"commit:{COMMIT}", state_dir=state) == pin
    assert resolve(f"commit:{COMMIT[:9]}", state_dir=state).pin_id == pin.pin_id
    write_pin(tmp_path / "pin.json", pin)
    assert read_pin(tmp_path / "pin.json") == pin
    build = install(pin, state_dir=state, on_line=_silent)
    assert build.installed_version == VERSION


@pytest.mark.slow
def test_a_variant_is_locked_with_its_own_torch(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The wheel asks for a plain version, and a newer CUDA's torch would satisfy that."""
    for version in ("2.14.0", "2.14.0+cu129"):
        make_wheel(links, "torch", version)
    wheel = make_wheel(tmp_path, "vllm", f"{VERSION}.cu129", ("torch==2.14.0",), commit_id="g2f3f441f8")
    plain = make_wheel(tmp_path, "vllm", VERSION, ("torch==2.14.0+cu129",), commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel, plain)
    pin = resolve(f"commit:{COMMIT}/cu129", state_dir=tmp_path / "state")
    assert "torch==2.14.0+cu129 " in pin.lock
    assert pin.version == f"{VERSION}.cu129"
    assert resolve(f"commit:{COMMIT}", state_dir=tmp_path / "state").version == VERSION, "another variant, another pin"


@pytest.mark.slow
def test_a_torch_that_nobody_here_has_is_looked_for_at_pytorch(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then, and an index that cannot be reached is said to be the reason; the wheel is not fetched again."""
    make_wheel(links, "torch", "2.14.0")
    wheel = make_wheel(tmp_path, "vllm", f"{VERSION}.cu129", ("torch==2.14.0",), commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens on the discard port
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for _ in range(2):
        with pytest.raises(BuildError, match="PyTorch's cu129 index, which cannot be reached"):
            resolve(f"commit:{COMMIT}/cu129", state_dir=tmp_path / "state")
    assert sum(seen.path.endswith(".whl") for seen in index.seen) == 1


@pytest.mark.slow
def test_what_a_rocm_wheel_brings_comes_from_its_own_folder(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its torch is on no other index; without the index's address the pin installs no more."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    (tmp_path / "empty").mkdir()
    torch = make_wheel(tmp_path, "torch", "2.9.1+git8907517")
    wheel = make_wheel(tmp_path, "vllm", f"{VERSION}.rocm721", ("torch==2.9.1+git8907517",), commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel, folder="rocm")
    folder = f"/rocm/{COMMIT}"
    index.files[f"{folder}/{torch.name}"] = torch.read_bytes()
    page = f'<a href="../../{torch.name.replace("+", "%2B")}">{torch.name}</a>'
    index.files[f"{folder}/rocm721/torch/"] = page.encode()
    index.missing_status = 404
    pin = resolve(f"commit:{COMMIT}/rocm721", state_dir=tmp_path / "state")
    assert pin.platform == "rocm"
    assert "torch==2.9.1+git8907517 " in pin.lock
    assert install(pin, state_dir=tmp_path / "state", on_line=_silent).installed_version == f"{VERSION}.rocm721"


def test_a_wheel_of_another_commit_is_refused(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """By what its source says, whatever the index says; so is a wheel that does not say."""
    for number, (version, commit_id) in enumerate((("0.24.0", "g123456789"), ("0.24.0", ""), (VERSION, "g999999999"))):
        commit = f"{number}" * 40 if version != VERSION else COMMIT
        index.publish(commit, make_wheel(tmp_path / commit, "vllm", version, commit_id=commit_id))
        with pytest.raises(BuildError, match="not a wheel of the commit that it is offered for"):
            resolve(f"commit:{commit}", state_dir=tmp_path / "state")
    assert not list((tmp_path / "state" / "wheels").rglob("*.whl")), "what is refused is not kept"


def test_a_wheel_of_another_version_is_refused(index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """A file that was renamed, or put in another's place, is not what its name says."""
    real = make_wheel(tmp_path, "vllm", "0.20.2", commit_id="g2f3f441f8")
    renamed = real.rename(tmp_path / f"vllm-{VERSION}-py3-none-any.whl")
    index.publish(COMMIT, renamed)
    for spec in (f"commit:{COMMIT}", f"{index.base}/{COMMIT}/{renamed.name}"):
        with pytest.raises(BuildError, match="not of the version that its name says") as caught:
            resolve(spec, state_dir=tmp_path / "state")
        assert (caught.value.expected, caught.value.found) == (VERSION, "0.20.2")


def test_what_is_no_wheel_of_vllm_is_refused(index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """A login page, and another project's wheel under vLLM's name."""
    index.files["/vllm-1.0-py3-none-any.whl"] = b"<html>please log in</html>"
    index.files["/vllm-2.0-py3-none-any.whl"] = make_wheel(tmp_path, "torch", "2.0").read_bytes()
    for name, problem in (("vllm-1.0", "what came is no wheel"), ("vllm-2.0", "not a wheel of vLLM")):
        with pytest.raises(BuildError, match=problem):
            resolve(f"{index.base}/{name}-py3-none-any.whl", state_dir=tmp_path / "state")


def test_a_missing_build_is_named_and_keeps_nothing(
    index: WheelIndexServer, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """Who needs that one build gets an error of its own class, which a walk over builds can tell from a failure."""
    index.publish(COMMIT, make_wheel(tmp_path, "vllm", VERSION))
    with pytest.raises(NoBuildError, match=f"there is no build commit:{OTHER}"):
        resolve(f"commit:{OTHER}", state_dir=tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_short_commit_must_be_known_here(index: WheelIndexServer, tmp_path: Path) -> None:
    """An index knows commits in full only."""
    with pytest.raises(UsageError, match="not written in full") as caught:
        resolve("commit:2f3f441f8", state_dir=tmp_path / "state")
    assert "git rev-parse 2f3f441f8" in caught.value.next_step


@pytest.mark.slow
def test_a_wheel_by_address_is_pinned_by_content(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no index to be named; its commit is known where wheel and address agree on one."""
    monkeypatch.delenv("REDLINE_WHEEL_INDEX")
    wheel = make_wheel(tmp_path, "vllm", "0.24.0+cpu", commit_id="g2f3f441f8")
    index.files[f"/{COMMIT}/{wheel.name}"] = index.files[f"/mine/{wheel.name}"] = wheel.read_bytes()
    state = tmp_path / "state"
    pin = resolve(f"{index.base}/{COMMIT}/{wheel.name}", state_dir=state)
    assert (pin.commit, pin.platform, pin.version) == (COMMIT, "cpu", "0.24.0+cpu")
    assert resolve(f"{index.base}/mine/{wheel.name}", state_dir=state).commit == ""
    index.files.clear()
    assert resolve(f"{index.base}/{COMMIT}/{wheel.name}", state_dir=state) == pin


@pytest.mark.slow
def test_a_pin_that_lost_its_wheel_fetches_it_from_the_named_index_only(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record may come from a stranger: its address alone fetches nothing, and other bytes are refused."""
    wheel = make_wheel(tmp_path, "vllm", VERSION, commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel)
    state = tmp_path / "state"
    pin = resolve(f"commit:{COMMIT}", state_dir=state)
    shutil.rmtree(state / "wheels")
    count = len(index.seen)
    for address in ("https://index.example", f"{index.base}/rocm"):
        monkeypatch.setenv("REDLINE_WHEEL_INDEX", address)
        with pytest.raises(BuildError, match="is not on this machine"):
            fetch_again(pin, wheel.name, state, _silent)
    assert len(index.seen) == count
    monkeypatch.setenv("REDLINE_WHEEL_INDEX", index.base)
    with pytest.raises(BuildError, match="is not on this machine"):
        fetch_again(replace(pin, url=f"{index.base}/../{wheel.name}"), wheel.name, state, _silent)
    assert fetch_again(pin, wheel.name, state, _silent).read_bytes() == wheel.read_bytes()
    shutil.rmtree(state / "wheels")
    other = make_wheel(tmp_path / "other", "vllm", VERSION, content="changed", commit_id="g2f3f441f8")
    index.publish(COMMIT, other)
    with pytest.raises(BuildError, match="not the wheel that was pinned"):
        fetch_again(pin, wheel.name, state, _silent)


@pytest.mark.slow
def test_a_kept_wheel_that_was_changed_is_fetched_again(
    index: WheelIndexServer, links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """What was fetched once is used again only while its bytes are what they were."""
    wheel = make_wheel(tmp_path, "vllm", VERSION, commit_id="g2f3f441f8")
    index.publish(COMMIT, wheel)
    state = tmp_path / "state"
    first = resolve(f"commit:{COMMIT}", state_dir=state)
    (kept,) = (state / "wheels").glob("*/*.whl")
    shutil.rmtree(state / "pins")
    kept.write_bytes(kept.read_bytes() + b"x")
    assert resolve(f"commit:{COMMIT}", state_dir=state) == first
    assert kept.read_bytes() == wheel.read_bytes()
    note = next((state / "wheels" / ".downloads").glob("*.json"))
    assert json.loads(note.read_text())["sha256"] == first.wheel_sha256
