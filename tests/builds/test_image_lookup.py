"""Which image a tag is: asked through programs on PATH that answer as skopeo, docker and podman do."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from redline.builds.image_lookup import ImageFacts, look_up
from redline.builds.image_reference import (
    ImageReference,
    commit_claimed,
    parse_image,
    platform_claimed,
    version_claimed,
)
from redline.builds.no_build import NoBuild
from redline.builds.resolve import resolve
from redline.errors import BuildError, NoBuildError
from redline.model import BuildKind

LIST = "sha256:" + "1" * 64
HERE = "sha256:" + "2" * 64
ELSEWHERE = "sha256:" + "3" * 64
COMMIT = "c" * 40
TAG = ImageReference("vllm/vllm-openai", "v0.33.0")
LABELS = {
    "ai.vllm.build.commit": COMMIT,
    "ai.vllm.image.tag": "vllm/vllm-openai:v0.33.0",
    "org.opencontainers.image.version": "22.04",
}
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
DESCRIPTORS = [
    {"digest": ELSEWHERE, "platform": {"os": "linux", "architecture": "riscv64"}},
    {"digest": HERE, "platform": {"os": "linux", "architecture": MACHINE}},
]


class Tools:
    """Programs in a directory that is the whole PATH; each answers for the words that its command line begins with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir()

    def add(self, program: str, answers: dict[str, tuple[int, str, str]]) -> None:
        """`answers`: by the first words, (status, standard output, standard error)."""
        lines = ["#!/bin/sh", f'echo "{program} $*" >> {self.directory}/asked', 'case "$*" in']
        for number, (words, (status, out, err)) in enumerate(answers.items()):
            (self.directory / f"{program}.{number}.out").write_text(out)
            (self.directory / f"{program}.{number}.err").write_text(err)
            stem = self.directory / f"{program}.{number}"
            read = 'while IFS= read -r line || [ -n "$line" ]; do printf \'%s\\n\' "$line"; done <'
            lines.append(f'"{words}"*) {read} {stem}.out; {{ {read} {stem}.err; }} >&2; exit {status};;')
        lines += ["esac", f'echo "{program}: unknown command: $1" >&2', "exit 1"]
        path = self.directory / program
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The command lines that were run."""
        path = self.directory / "asked"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """No program at all, until a test adds some."""
    found = Tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(found.directory))
    return found


def test_skopeo_says_digest_and_labels(tools: Tools) -> None:
    """vLLM's own labels say commit and version; the base image's version label is Ubuntu's and is not believed."""
    tools.add("skopeo", {"inspect": (0, json.dumps({"Digest": LIST, "Labels": LABELS}), "")})
    assert look_up(TAG) == ImageFacts(LIST, "0.33.0", COMMIT)
    assert tools.asked == ["skopeo inspect --no-tags docker://vllm/vllm-openai:v0.33.0"]


def test_buildx_says_digest_and_the_labels_of_this_machines_image(tools: Tools) -> None:
    """An image for several machines has one configuration for each."""
    answer = {
        "name": "docker.example/vllm/vllm-openai:v0.33.0",
        "manifest": {"digest": LIST, "manifests": DESCRIPTORS},
        "image": {"linux/riscv64": {"config": {}}, f"linux/{MACHINE}": {"config": {"Labels": LABELS}}},
    }
    tools.add("docker", {"buildx imagetools inspect": (0, json.dumps(answer), "")})
    assert look_up(TAG) == ImageFacts(LIST, "0.33.0", COMMIT)
    answer["image"] = {"config": {"Labels": None}}
    tools.add("docker", {"buildx imagetools inspect": (0, json.dumps(answer), "")})
    assert look_up(TAG) == ImageFacts(LIST, "0.33.0", ""), "without labels the tag is what claims a version"


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("words", ["docker: unknown command: docker buildx\n\nRun --help", "unknown flag: --format"])
def test_docker_without_buildx_says_this_machines_digest(tools: Tools, several: bool, words: str) -> None:
    """`docker manifest inspect --verbose` lists one image per machine, or is one image.

    The words are those of Docker 28.2 without the plugin, which takes a flag of it for one of its own.
    """
    entries = [{"Ref": "x", "Descriptor": each} for each in DESCRIPTORS]
    one = {"Ref": "x", "Descriptor": {"digest": HERE}}
    answer = json.dumps(entries if several else one)
    tools.add(
        "docker",
        {
            "buildx": (1, "", words),
            "manifest inspect --verbose": (0, answer, ""),
        },
    )
    assert look_up(TAG) == ImageFacts(HERE, "0.33.0", "")


def test_podman_says_this_machines_digest(tools: Tools) -> None:
    """Of the list; an image without a list has no digest in its own manifest, and that is said."""
    tools.add("podman", {"manifest inspect docker://": (0, json.dumps({"manifests": DESCRIPTORS}), "")})
    assert look_up(TAG).digest == HERE
    tools.add("podman", {"manifest inspect docker://": (0, json.dumps({"schemaVersion": 2, "config": {}}), "")})
    with pytest.raises(BuildError, match="nobody here can say") as caught:
        look_up(TAG)
    assert "podman manifest: an answer that cannot be read" in caught.value.found


@pytest.mark.parametrize(
    "words",
    [
        "reading manifest v9 in docker.example/vllm/vllm-openai: manifest unknown",
        "no such manifest: docker.example/vllm/vllm-openai:v9",
        "ERROR: docker.example/vllm/vllm-openai:v9: not found",
    ],
)
def test_an_image_that_is_not_there_is_no_build(tools: Tools, words: str) -> None:
    """In the words of each tool; what they said stays one line."""
    tools.add("skopeo", {"inspect": (1, "", f"time=1 level=fatal\n{words}\n")})
    found = look_up(TAG)
    assert isinstance(found, NoBuild)
    assert found.name == "image:vllm/vllm-openai:v0.33.0"
    assert "\n" not in found.reason
    with pytest.raises(NoBuildError, match="there is no build image:vllm/vllm-openai:v9"):
        resolve("image:vllm/vllm-openai:v9", state_dir=tools.directory)


@pytest.mark.parametrize(
    "words", ["no basic auth credentials", "dial tcp: lookup host: no such host", "credential helper not found in PATH"]
)
def test_a_registry_that_does_not_answer_is_no_missing_build(tools: Tools, words: str) -> None:
    """The next tool is asked; if none gets an answer, all that they said is shown, and the digest is asked for."""
    tools.add("skopeo", {"inspect": (1, "", words)})
    tools.add("podman", {"manifest inspect": (125, "", "https://user:hunter2@host: " + words)})
    with pytest.raises(BuildError, match="nobody here can say which image") as caught:
        look_up(TAG)
    assert words in caught.value.found
    assert "podman" in caught.value.found
    assert "hunter2" not in str(caught.value)
    assert "image:vllm/vllm-openai@sha256:" in caught.value.next_step
    assert not isinstance(caught.value, NoBuildError)


@pytest.mark.parametrize("answer", ["", "[]", "null", '{"Digest": "sha256:12"}', '{"Digest": null}', "[" * 9999])
def test_an_answer_that_makes_no_sense_is_not_believed(tools: Tools, answer: str) -> None:
    """Whatever a tool prints, only a whole digest counts."""
    tools.add("skopeo", {"inspect": (0, answer, "")})
    with pytest.raises(BuildError, match="nobody here can say"):
        look_up(TAG)


def test_without_any_tool_the_digest_is_asked_for(tools: Tools) -> None:
    """Redline speaks to no registry itself."""
    with pytest.raises(BuildError) as caught:
        look_up(TAG)
    assert caught.value.found == "none of these programs"


def test_an_image_by_digest_needs_nobody(tools: Tools, tmp_path: Path) -> None:
    """The digest alone is the identity: tag and spelling are no part of it."""
    one = resolve(f"image:vllm/vllm-openai:v0.33.0@{HERE}", state_dir=tmp_path)
    two = resolve(f"vllm/vllm-openai@{HERE}", state_dir=tmp_path)
    assert (one.kind, one.url, one.version, one.platform) == (
        BuildKind.IMAGE,
        f"vllm/vllm-openai@{HERE}",
        "0.33.0",
        "cuda",
    )
    assert (two.url, two.version, two.lock, two.wheel_sha256) == (one.url, "unknown", "", None)
    assert two.label == f"vllm unknown image {'2' * 12}"
    assert one.reinstallable
    assert tools.asked == []
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_a_tag_is_looked_up_every_time(tools: Tools, tmp_path: Path) -> None:
    """It can move: two calls, two pins."""
    tools.add("skopeo", {"inspect": (0, json.dumps({"Digest": LIST, "Labels": LABELS}), "")})
    first = resolve("image:vllm/vllm-openai:nightly", state_dir=tmp_path)
    tools.add("skopeo", {"inspect": (0, json.dumps({"Digest": HERE}), "")})
    second = resolve("image:vllm/vllm-openai:nightly", state_dir=tmp_path)
    assert (first.url, first.commit, first.version) == (f"vllm/vllm-openai@{LIST}", COMMIT, "0.33.0")
    assert (second.url, second.commit, second.version) == (f"vllm/vllm-openai@{HERE}", "", "unknown")


@pytest.mark.parametrize(
    ("text", "version", "commit", "chosen"),
    [
        ("vllm/vllm-openai:v0.33.0", "0.33.0", "", "cuda"),
        ("vllm/vllm-openai:v0.33.0-cu129-x86_64", "0.33.0", "", "cuda"),
        ("vllm/vllm-openai-rocm:v0.33.0", "0.33.0", "", "rocm"),
        ("vllm/vllm-openai-cpu:v0.33.0rc1", "0.33.0rc1", "", "cpu"),
        (f"vllm/vllm-openai:nightly-{COMMIT}", "", COMMIT, "cuda"),
        (f"reg.example/release:{COMMIT}-rocm", "", COMMIT, "rocm"),
        (f"reg.example/release:{COMMIT}-x86_64-cu129", "", COMMIT, "cuda"),
        ("reg.example/team/serving:2026-11", "", "", ""),
        ("reg.example/cpu/serving:latest", "", "", ""),
        (f"reg.example/a:{COMMIT}f", "", "", ""),
    ],
)
def test_what_a_tag_claims(text: str, version: str, commit: str, chosen: str) -> None:
    """A release tag claims a version, a nightly's a commit; the names of the repositories say what they run on."""
    reference = parse_image(text)
    assert (version_claimed(reference.tag), commit_claimed(reference.tag)) == (version, commit)
    assert platform_claimed(reference) == chosen
