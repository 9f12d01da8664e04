"""Which torch a build is locked with, pure. vLLM's variants are built against one CUDA or ROCm each; their wheels ask
for a plain version (`torch==2.14.0`), which an index may answer with the default CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging.requirements import InvalidRequirement, Requirement

from redline.builds.lock_text import normalised

TORCH_PACKAGES = ("torch", "torchvision", "torchaudio")
_MISSING = re.compile(
    rf"\b(?:{'|'.join(TORCH_PACKAGES)})(?:\{{[^}}]*\}})?={{2,3}}[^\s,]*\+(cpu|xpu|cu\d{{2,4}}|rocm\d[\d.]*\d)(?![\w.]*\w)"
)


def backend_missing(text: str) -> str:
    """What the torch that uv did not find was built for: `cpu`, `cu129`, ...; empty if it missed something else."""
    match = _MISSING.search(text)
    return match[1] if match else ""


def torch_overrides(requires: Iterable[str], backend: str) -> tuple[str, ...]:
    """Requirements that replace a wheel's own: `torch==2.14.0` becomes `torch==2.14.0+cu129`.

    Only what it asks for in one exact version without a local part, whatever its marker; nothing without a backend.
    """
    found = []
    for text in requires if backend else ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        name, specifiers = normalised(requirement.name), list(requirement.specifier)
        exact = len(specifiers) == 1 and specifiers[0].operator == "==" and not set("*+") & set(specifiers[0].version)
        if exact and name in TORCH_PACKAGES:
            found.append(f"{name}=={specifiers[0].version}+{backend}")
    return tuple(dict.fromkeys(found))


def torch_mismatch(versions: Sequence[str], backend: str) -> str:
    """The torch that is not of this backend, of the versions locked; empty if all are, or no backend was asked for."""
    return next((each for each in versions if backend and each.partition("+")[2] != backend), "")
