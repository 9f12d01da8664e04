"""Fetch a data set from the Hugging Face hub, where its licence allows it: one pinned revision, each file by SHA-256.

A definition allows it by naming the revision in its `source`: `https://huggingface.co/datasets/OWNER/NAME/tree/<40 hex
digits>`. A revision is a Git commit; the files it names are stored under their SHA-256, so it pins their bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from redline.datasets.sources import sha256_of
from redline.errors import ContentError, InfrastructureError
from redline.model import Dataset

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PINNED = re.compile(r"https://huggingface\.co/datasets/([\w.-]+/[\w.-]+)/tree/([0-9a-f]{40})(?![0-9a-f])")
SUFFIXES = frozenset({".parquet", ".json", ".jsonl", ".csv"})
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class HubPin:
    """A data set of the hub at one revision."""

    repository: str
    revision: str


def pin_of(definition: Dataset) -> HubPin | None:
    """Where the definition allows it to be fetched from; None if the user has to supply it."""
    match = PINNED.search(definition.source)
    return HubPin(match[1], match[2]) if match else None


def fetch(definition: Dataset, folder: Path, endpoint: str | None = None) -> Path:
    """The folder with the files of the pinned revision; what is there already and whole is not fetched again.

    `endpoint`: another address of the hub, None for its own (or $HF_ENDPOINT).
    Raises ContentError if the definition does not allow it, or a file is not the known one; InfrastructureError if the
    hub cannot be reached or refuses.
    """
    pin = pin_of(definition)
    if pin is None:
        raise ContentError(
            f"data set {definition.name} is not fetched from a hub",
            expected="a file or folder that you have",
            found=f"licence: {definition.licence}",
            next_step=f"get it from where it comes from ({definition.source}), then name it after --from",
        )
    from huggingface_hub import HfApi  # noqa: PLC0415 - only this command reaches out

    api = HfApi(endpoint=endpoint, library_name="redline")
    try:
        for name, sha256 in _listed(api, pin).items():
            _fetch_one(api, pin, name, definition.files.get(PurePosixPath(name).name, sha256), folder)
    except ContentError:
        raise
    except Exception as error:  # the errors of whichever HTTP library this version of the hub's client uses
        raise InfrastructureError(
            f"data set {definition.name} could not be fetched",
            expected=f"{pin.repository} at {pin.revision}",
            found=f"{type(error).__name__}: {error}"[:300],
            next_step="check the network, or fetch it elsewhere and name the folder after --from",
        ) from error
    return folder


def _listed(api: HfApi, pin: HubPin) -> dict[str, str]:
    """SHA-256 by name of the revision's data files, as the hub states them."""
    info = api.dataset_info(pin.repository, revision=pin.revision, files_metadata=True, timeout=TIMEOUT_S)
    if info.sha != pin.revision:
        raise ValueError(f"the hub answered with revision {info.sha}")
    found = {
        each.rfilename: each.lfs.sha256
        for each in info.siblings or ()
        if each.lfs is not None and PurePosixPath(each.rfilename).suffix in SUFFIXES
    }
    if not found:
        raise ValueError("the revision names no data files")
    return found


def _fetch_one(api: HfApi, pin: HubPin, name: str, sha256: str, folder: Path) -> None:
    path = folder / name
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise ValueError(f"a file name that leads out of its folder: {name!r}")
    if path.is_file() and sha256_of(path) == sha256:
        return
    api.hf_hub_download(
        pin.repository, name, repo_type="dataset", revision=pin.revision, local_dir=folder, etag_timeout=TIMEOUT_S
    )
    found = sha256_of(path)
    if found != sha256:
        path.unlink()
        raise ContentError(
            f"{name} is not the file that {pin.repository} names",
            expected=f"SHA-256 {sha256}",
            found=f"SHA-256 {found}",
            next_step="try again; if it stays so, something between here and the hub changes files",
        )
