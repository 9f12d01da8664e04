"""Whether a change of vLLM may be measured with binaries that were compiled before it (VLLM_USE_PRECOMPILED). Pure.

vLLM itself does not look: with a changed kernel, such an installation measures the old kernel and says nothing. So the
rule names what is known to be harmless, and everything else forbids.
Source: vLLM's docs/getting_started/installation ("If you change C++ or kernel code, you cannot use Python-only build"),
and its setup.py, which takes the vendored folders below out of the compiled wheel, over those of the checkout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Triton kernels are Python that the running build compiles; tuned configurations are JSON that it reads.
_TAKEN_FROM_SOURCE = re.compile(r"vllm/(?:.+/)?[^/]+\.(?:py|json|jinja)")
_TAKEN_FROM_THE_WHEEL = re.compile(r"vllm/(?:vllm_flash_attn|third_party)/.*|vllm/_version\.py")
_NOT_INSTALLED = re.compile(
    r"(?:docs|tests|examples|benchmarks|\.github|\.buildkite)/.*|(?:[^/]+\.md|LICENSE|\.gitignore|mkdocs\.yaml)"
)


def paths_that_forbid(changed_paths: Iterable[str]) -> tuple[str, ...]:
    """The changed paths, relative to the checkout of vLLM, for which binaries compiled before may be wrong.

    All names of renamed files are needed: `git diff --name-only --no-renames BASE`.
    """
    return tuple(sorted({path for path in changed_paths if not _is_harmless(path)}))


def python_only(changed_paths: Iterable[str]) -> bool:
    """True if none of them forbids it."""
    return not paths_that_forbid(changed_paths)


def _is_harmless(path: str) -> bool:
    if ".." in path.split("/") or _TAKEN_FROM_THE_WHEEL.fullmatch(path):
        return False
    return bool(_TAKEN_FROM_SOURCE.fullmatch(path) or _NOT_INSTALLED.fullmatch(path))
