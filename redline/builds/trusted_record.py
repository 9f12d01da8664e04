"""Which pin records are believed: a record may arrive in a pull request, and decides what runs and who is asked.

A wheel's record is held by its hashes to files of the user's own indexes, so `lock_text` guards that one. An image of
its own choosing would be pulled and started with the runner's network and tokens, an endpoint of its own choosing would
be sent the API key: neither is taken from a record unless the user said so beforehand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from redline.builds.image_reference import parse_image
from redline.builds.pin_record import read_pin
from redline.errors import UsageError
from redline.model import BuildKind, BuildPin

REPOSITORIES_VARIABLE = "REDLINE_IMAGE_REPOSITORIES"
REPOSITORIES = ("vllm/vllm-openai", "vllm/vllm-openai-rocm", "vllm/vllm-openai-cpu")
"""Where vLLM publishes its images."""


def read_trusted_pin(path: Path, caller: Mapping[str, str] = os.environ) -> BuildPin:
    """The pin of a record, if nothing that the user did not choose is started or asked because of it.

    Raises ContentError for a damaged record; UsageError for an endpoint's, and for an image of a repository that is not
    in $REDLINE_IMAGE_REPOSITORIES.
    """
    pin = read_pin(path)
    match pin.kind:
        case BuildKind.ENDPOINT:
            raise UsageError(
                f"{path}: a record cannot say which servers are asked",
                expected="the record of a wheel or of an image",
                found=f"the record of an endpoint, {(pin.url or '')[:200]!r}",
                next_step="name the address itself, if you know it: --endpoint http://HOST:PORT",
            )
        case BuildKind.IMAGE:
            _require_repository(path, pin.url or "", trusted_repositories(caller))
        case BuildKind.INDEX_WHEEL | BuildKind.LOCAL_WHEEL | BuildKind.REMOTE_WHEEL:
            pass
    return pin


def trusted_repositories(caller: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The repositories whose images a record may name: the variable's instead of vLLM's own, if it says any.

    Raises UsageError for an entry that is no repository.
    """
    said = tuple(filter(None, re.split(r"[,\s]+", caller.get(REPOSITORIES_VARIABLE, ""))))
    for entry in said:
        if _repository_of(f"{entry}:tag") != entry:
            raise UsageError(
                f"${REPOSITORIES_VARIABLE} names no repository of images",
                expected=f"repositories without tag or digest, with commas between them: {','.join(REPOSITORIES)}",
                found=repr(entry[:200]),
                next_step=f"correct the entry, or unset the variable for {' and '.join(REPOSITORIES)}",
            )
    return said or REPOSITORIES


def _repository_of(image: str) -> str:
    """The repository of a reference; '' for what is none."""
    try:
        return parse_image(image).repository
    except ValueError:
        return ""


def _require_repository(path: Path, image: str, trusted: tuple[str, ...]) -> None:
    """Raise UsageError unless the image is of a trusted repository: the same host, and nothing before or after."""
    repository = _repository_of(image)
    if repository and repository in trusted:
        return
    raise UsageError(
        f"{path}: a record cannot bring an image of a repository that you did not name",
        expected=f"one of {', '.join(trusted)}",
        found=image,
        next_step=f"if you trust it, name the image yourself (image:{image}), or its repository in "
        f"${REPOSITORIES_VARIABLE} on the runner",
    )
