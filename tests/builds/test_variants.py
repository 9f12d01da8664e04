"""The variants of wheels are data."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline.builds.torch_backend import backend_missing, torch_mismatch, torch_overrides
from redline.builds.variants import Variant, variant_named, variants_listed
from redline.errors import ContentError


def test_every_listed_variant_loads() -> None:
    """The file of the repository is whole, and has the default."""
    assert {"default", "cpu", "cu129", "rocm721"} <= set(variants_listed())


def test_a_variant_that_nobody_listed_is_read_from_its_name() -> None:
    """The next CUDA needs no change of code, and the default is no variant by that name."""
    assert variant_named("cu141") == Variant(platform="cuda", torch_backend="cu141")
    assert variant_named("rocm999") == Variant(platform="rocm", folder="rocm", brings_packages=True)
    assert variant_named("xpu") == Variant(platform="xpu")
    assert variant_named("") == Variant(platform="cuda")


def test_a_new_variant_is_a_table(tmp_path: Path) -> None:
    """What is listed comes before what a name says."""
    path = tmp_path / "variants.toml"
    path.write_text('[cu141]\nplatform = "cuda"\nfolder = "next"\npythons = ["3.13"]\n')
    assert variant_named("cu141", path) == Variant(platform="cuda", folder="next", pythons=("3.13",))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[a]\n", "a.platform"),
        ('[a]\nplatform = "cuda"\nsuffix = "x"\n', "a.suffix"),
        ("[a]\nplatform = 3\n", "a.platform"),
        ("a = 1\n", "'a'"),
        ("[", "cannot be read"),
    ],
)
def test_a_damaged_variant_is_refused_by_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    """A missing, unknown or mistyped key is named."""
    path = tmp_path / "variants.toml"
    path.write_text(text)
    with pytest.raises(ContentError, match=key):
        variant_named("a", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("there is no version of torch==2.14.0+cu129 and vllm depends on", "cu129"),
        ("there is no version of torch{platform_machine == 'x86_64'}==2.13.0+cpu and", "cpu"),
        ("Because torchvision==0.29.0+cu129 was not found", "cu129"),
        ("there is no version of torch===2.9.0+rocm7.2.", "rocm7.2"),
        ("there is no version of torch==2.14.0 and", ""),
        ("there is no version of torch==2.9.1+git8907517 and", ""),
        ("there is no version of xtorch==2.14.0+cu129", ""),
        ("no version of flashinfer==0.7.2+cu129", ""),
    ],
)
def test_a_missing_torch_says_what_it_was_built_for(text: str, expected: str) -> None:
    """Only PyTorch's own packages with a local version of PyTorch's own indexes."""
    assert backend_missing(text) == expected


def test_the_wheels_own_torch_is_replaced_by_its_variants() -> None:
    """What has one exact version gets the local part; everything else stays as it is."""
    requires = [
        "torch==2.14.0",
        "torchvision == 0.29.0 ; platform_machine != 's390x'",
        "torchaudio==2.11.0; extra == 'audio'",
        "torch==2.14.0+cpu",
        "torch>=2.9",
        "torchvision==0.29.*",
        "numpy==2.0.0",
        "not a requirement at all",
    ]
    expected = ("torch==2.14.0+cu129", "torchvision==0.29.0+cu129", "torchaudio==2.11.0+cu129")
    assert torch_overrides(requires, "cu129") == expected
    assert torch_overrides(requires, "") == ()


def test_a_torch_of_another_kind_is_found() -> None:
    """One that has no local part may be of any kind."""
    assert torch_mismatch(["2.14.0+cu129", "0.29.0"], "cu129") == "0.29.0"
    assert torch_mismatch(["2.14.0+cu129"], "cu129") == torch_mismatch(["2.14.0"], "") == ""
