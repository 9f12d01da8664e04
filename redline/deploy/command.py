"""The command line and the whole environment of a vLLM server: nothing stray of the caller's gets in.

A measurement must not depend on what happens to be set in somebody's shell, so the environment is built from
nothing: the PASSED_VARIABLES that a program needs to run on this host, our own settings, the recipe's. No
VLLM_*, OMP_*, PYTHON*, LD_PRELOAD or VIRTUAL_ENV of the caller reaches the server.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from redline.deploy.placing import ALL_VISIBLE_VARIABLES
from redline.errors import UsageError
from redline.model import Recipe

PASSED_VARIABLES = (
    # who and where
    *("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    # where this host keeps its libraries and drivers
    *("LD_LIBRARY_PATH", "CUDA_HOME", "ROCM_PATH"),
    # which accelerators a scheduler gave us
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)
"""Passed to every server, besides PATH (without the caller's virtual environment)."""

PASSED_VARIABLES_HUB = (
    *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "XDG_CACHE_HOME"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
"""Passed as well where the model is a hub id and may have to be downloaded."""

OWN_FLAGS = ("--model", "--served-model-name", "--host", "--port", "--uds", "--api-key", "--config")
"""Flags that Redline sets itself or cannot serve with; extra arguments may not name them."""


def is_directory(model: str) -> bool:
    """True if the model is a directory on this machine, False if it is a hub id."""
    return Path(model).is_dir()


def server_command(
    *, python: Path, recipe: Recipe, platform: str, extra_args: tuple[str, ...], model: str, port: int
) -> tuple[str, ...]:
    """The command that serves `model`: our arguments, the recipe's for the platform, then `extra_args` (last wins).

    Raises: UsageError if the recipe does not know the platform or `extra_args` names one of OWN_FLAGS.
    """
    if platform not in recipe.server_args:
        raise UsageError(
            f"recipe {recipe.name} cannot be served on platform {platform}",
            expected=f"one of {', '.join(sorted(recipe.server_args))}",
            found=platform,
            next_step=f"add server_args.{platform} to recipes/{recipe.name}.toml",
        )
    for argument in extra_args:
        flag = argument.split("=", 1)[0].replace("_", "-")
        if flag in OWN_FLAGS or flag.startswith("--ssl-"):
            raise UsageError(
                f"the extra server argument {flag} is not free",
                expected="an argument that changes how the server works, not where it is found or what it serves",
                found=argument,
                next_step="leave it out; models are replaced with the system under test's models",
            )
    recipe_args, _ = recipe.for_platform(platform)
    local = is_directory(model)
    revision = () if local or model != recipe.model or not recipe.revision else ("--revision", recipe.revision)
    return (
        *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(Path(model).absolute()) if local else model),
        *revision,
        *("--served-model-name", recipe.served_model_name),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--max-model-len", str(recipe.context_tokens_max)),
        *recipe_args,
        *extra_args,
    )


def cache_dir_of(state_dir: Path, python: Path, distribution: str, installed_version: str) -> Path:
    """The directory of everything one build compiles and caches, apart from every other build's and from HOME."""
    build = hashlib.sha256(os.fsencode(python.absolute())).hexdigest()[:8]
    return state_dir.absolute() / "cache" / f"{distribution}-{installed_version}-{build}"


def image_cache_dir(state_dir: Path, reference: str) -> Path:
    """The same for an image, `repository@sha256:...`: one directory per digest, wherever it was pulled from."""
    return state_dir.absolute() / "cache" / f"image-{reference.rpartition('@sha256:')[2][:16]}"


def own_settings(cache_dir: Path) -> dict[str, str]:
    """The variables that Redline sets for every server of this machine, as a process or in a container."""
    return {
        "VLLM_CACHE_ROOT": str(cache_dir / "vllm-cache"),
        "VLLM_CONFIG_ROOT": str(cache_dir / "vllm-config"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache_dir / "inductor"),
        "TRITON_CACHE_DIR": str(cache_dir / "triton"),
        "FLASHINFER_WORKSPACE_BASE": str(cache_dir / "flashinfer"),
        "CUDA_CACHE_PATH": str(cache_dir / "cuda"),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONNOUSERSITE": "1",  # a package in somebody's home directory is not part of the build
        "PYTHONUNBUFFERED": "1",  # the last words of a killed server are in its log
        "NO_COLOR": "1",
    }


def server_environment(
    *, python: Path, recipe: Recipe, platform: str, model: str, cache_dir: Path, caller: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of the server: passed variables of `caller`, our settings, then the recipe's."""
    local = is_directory(model)
    passed: tuple[str, ...] = PASSED_VARIABLES if local else PASSED_VARIABLES + PASSED_VARIABLES_HUB
    own = recipe.environment.get(platform, {})
    if own.keys() & set(ALL_VISIBLE_VARIABLES):  # one choice of accelerators, by one variable
        passed = tuple(name for name in passed if name not in ALL_VISIBLE_VARIABLES)
    environment = {name: caller[name] for name in passed if name in caller}
    environment |= {"PATH": _path(python, caller)} | own_settings(cache_dir)
    if local:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment | dict(own)


def _path(python: Path, caller: Mapping[str, str]) -> str:
    """The build's programs first (it may compile kernels with its own ninja), none of the caller's environment."""
    own = {str(Path(caller["VIRTUAL_ENV"]) / "bin")} if caller.get("VIRTUAL_ENV") else set()
    entries = [entry for entry in caller.get("PATH", os.defpath).split(os.pathsep) if entry and entry not in own]
    return os.pathsep.join([str(python.absolute().parent), *entries])
