"""What a registry says of an image, asked with the tool that is on PATH: which digest a tag names now, and its labels.

Redline speaks to no registry itself: logins, mirrors and certificates are those of the tool. In this order: skopeo,
docker's buildx, docker manifest, podman. The last two say the digest of this machine's image where the others say that
of the list for all machines; both name the same bytes here.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redline.builds.image_reference import ImageReference, commit_claimed, version_claimed
from redline.builds.no_build import NoBuild
from redline.builds.pip_configuration import without_credentials
from redline.errors import BuildError

ASK_S_MAX = 90.0
SAID_CHARACTERS_MAX = 400
COMMIT_LABEL = "ai.vllm.build.commit"
TAG_LABEL = "ai.vllm.image.tag"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NO_SUCH_IMAGE = re.compile(
    r"manifest unknown|no such manifest|manifest for \S+ not found|\S: not found\s*$|name unknown"
)
_NO_SUCH_COMMAND = re.compile(r"is not a docker command|unknown (?:command|flag)|unrecognized command|is experimental")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`digest`: `sha256:` and 64 hex digits. `version` and `commit` (40 hex digits): by vLLM's own labels, else by the
    tag that was asked for, else empty. `org.opencontainers.image.version` is not looked at: a base image leaves its own
    there, Ubuntu's in vLLM's images.
    """

    digest: str
    version: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True)
class _Tool:
    """A command that is asked, and how its answer is read: (digest, labels)."""

    program: str
    arguments: tuple[str, ...]
    read: Callable[[Any], tuple[str, Mapping[str, Any]]]


def look_up(reference: ImageReference) -> ImageFacts | NoBuild:
    """What the registry says of a tag now. Raises BuildError if no tool can ask, or none got an answer."""
    name = f"image:{reference.name}"
    said: list[str] = []
    for tool in _tools(reference):
        if shutil.which(tool.program) is None:
            continue
        done = _ask(tool)
        words = " ".join(without_credentials(done.stderr.strip() or done.stdout.strip()).split())[-SAID_CHARACTERS_MAX:]
        if done.returncode == 0:
            try:
                digest, labels = tool.read(json.loads(done.stdout))
                if _DIGEST.fullmatch(digest):
                    return _facts(reference, digest, labels)
                words = "an answer without a digest for this machine"
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                words = f"an answer that cannot be read ({type(error).__name__})"
        elif _NO_SUCH_IMAGE.search(words):
            return NoBuild(name, f"the registry has no such image ({tool.program}: {words})")
        elif _NO_SUCH_COMMAND.search(words):
            continue
        said.append(f"{tool.program} {tool.arguments[0]}: {words}")
    raise BuildError(
        f"nobody here can say which image {reference.name} is",
        expected="an answer through skopeo, docker or podman" if not said else "the digest that the tag names",
        found="; ".join(said) or "none of these programs",
        next_step=f"name it by its digest: image:{reference.repository}@sha256:... (the registry's page shows it)",
    )


def _tools(reference: ImageReference) -> tuple[_Tool, ...]:
    name = reference.name
    return (
        _Tool("skopeo", ("inspect", "--no-tags", f"docker://{name}"), _read_skopeo),
        _Tool("docker", ("buildx", "imagetools", "inspect", "--format", "{{json .}}", name), _read_buildx),
        _Tool("docker", ("manifest", "inspect", "--verbose", name), _read_verbose),
        _Tool("podman", ("manifest", "inspect", f"docker://{name}"), _read_list),
    )


def _ask(tool: _Tool) -> subprocess.CompletedProcess[str]:
    command = [tool.program, *tool.arguments]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=ASK_S_MAX,
            env={**os.environ, "LC_ALL": "C", "DOCKER_CLI_EXPERIMENTAL": "enabled"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {ASK_S_MAX:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, "", str(error))


def _facts(reference: ImageReference, digest: str, labels: Mapping[str, Any]) -> ImageFacts:
    commit = str(labels.get(COMMIT_LABEL, "")).lower()
    tag = str(labels.get(TAG_LABEL, "")).rpartition(":")[2]
    return ImageFacts(
        digest,
        version_claimed(tag) or version_claimed(reference.tag),
        commit if re.fullmatch(r"[0-9a-f]{40}", commit) else commit_claimed(reference.tag),
    )


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def _read_skopeo(answer: Any) -> tuple[str, Mapping[str, Any]]:
    """Source: skopeo-inspect(1): Digest of what the name means in the registry, Labels of this machine's image."""
    return str(answer["Digest"]), answer.get("Labels") or {}


def _read_buildx(answer: Any) -> tuple[str, Mapping[str, Any]]:
    """Source: docker buildx imagetools inspect, fields of --format: .Manifest, and .Image, one or one per platform."""
    image = answer.get("image") or {}
    image = image.get(f"linux/{_architecture()}", image)
    return str(answer["manifest"]["digest"]), (image.get("config") or {}).get("Labels") or {}


def _read_verbose(answer: Any) -> tuple[str, Mapping[str, Any]]:
    """Source: docker manifest inspect --verbose: one object with a Descriptor, or a list of them."""
    entries = answer if isinstance(answer, list) else [answer]
    return _of_this_machine([entry["Descriptor"] for entry in entries]), {}


def _read_list(answer: Any) -> tuple[str, Mapping[str, Any]]:
    """Source: podman-manifest-inspect(1): the list itself; an image without one has no digest in its own manifest."""
    return _of_this_machine(answer["manifests"]), {}


def _of_this_machine(descriptors: list[Any]) -> str:
    """The digest of the image for this machine; the only one, if it does not say what it is for."""
    for each in descriptors:
        wanted = each.get("platform") or {}
        if len(descriptors) == 1 and not wanted:
            return str(each["digest"])
        if wanted.get("os") == "linux" and wanted.get("architecture") == _architecture():
            return str(each["digest"])
    return ""
