"""What of this host goes into a container: the directories of caches and model, the groups of its device files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from redline.deploy.command import PASSED_VARIABLES_HUB, is_directory, own_settings
from redline.deploy.container_command import Mount
from redline.model import Recipe

LINKS_MAX = 10_000
"""How many links of a model directory are looked at."""

MADE_DIRECTORIES = ("empty", "home")
"""Of a build's caches, what is there before the server is: its working directory and its HOME."""

CACHE_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
DEVICE_FILES = ("/dev/kfd", "/dev/dri/renderD*", "/dev/dri/card*")


def server_mounts(cache_dir: Path, model: str, caller: Mapping[str, str]) -> tuple[Mount, ...]:
    """The build's caches, and the model: its directory read-only, or the hub's cache where it is a hub id.

    Makes the directories that are to be written, so that they belong to the caller and not to the engine's account.
    Raises OSError if one cannot be made.
    """
    for name in MADE_DIRECTORIES:
        (cache_dir / name).mkdir(parents=True, exist_ok=True)
    return _mounts(cache_dir, model, caller, make=True)


def shown_mounts(cache_dir: Path, model: str, caller: Mapping[str, str]) -> tuple[Mount, ...]:
    """The same, and nothing is made."""
    return _mounts(cache_dir, model, caller, make=False)


def _mounts(cache_dir: Path, model: str, caller: Mapping[str, str], *, make: bool) -> tuple[Mount, ...]:
    mounts = [Mount(cache_dir, read_only=False)]
    if is_directory(model):
        directory = Path(model).absolute()
        mounts += [Mount(path, read_only=True) for path in (directory, *linked_directories(directory))]
        return tuple(mounts)
    for path in hub_directories(caller):
        if make:
            path.mkdir(parents=True, exist_ok=True)
        mounts.append(Mount(path, read_only=False))
    certificates = [Path(caller[name]).absolute() for name in CERTIFICATE_VARIABLES if caller.get(name)]
    mounts += [Mount(path, read_only=True) for path in dict.fromkeys(certificates) if path.exists()]
    return tuple(mounts)


def hub_home(caller: Mapping[str, str]) -> Path:
    """The caller's directory of the hub. Source: huggingface_hub, environment variables (HF_HOME, XDG_CACHE_HOME)."""
    if caller.get("HF_HOME"):
        return Path(caller["HF_HOME"]).expanduser().absolute()
    cache = caller.get("XDG_CACHE_HOME") or str(Path(caller.get("HOME") or "~").expanduser() / ".cache")
    return Path(cache).expanduser().absolute() / "huggingface"


def hub_directories(caller: Mapping[str, str]) -> tuple[Path, ...]:
    """The directory of the hub, and its cache of models where that is somewhere else."""
    home = hub_home(caller)
    cache = Path(caller["HF_HUB_CACHE"]).expanduser().absolute() if caller.get("HF_HUB_CACHE") else home / "hub"
    return (home,) if cache.is_relative_to(home) else (home, cache)


def linked_directories(directory: Path) -> tuple[Path, ...]:
    """Directories outside of `directory` that its links lead to: a hub's snapshot is links into `../../blobs`.

    Named as the links name them, since that is where they are looked for in the container.
    """
    found: dict[Path, None] = {}
    waiting = [path for path in sorted(directory.rglob("*"))[:LINKS_MAX] if path.is_symlink()]
    seen = set(waiting)
    while waiting:  # ends: a link is looked at once
        link = waiting.pop()
        target = Path(os.path.normpath(link.parent / link.readlink()))
        if not target.is_relative_to(directory):
            found.setdefault(target if target.is_dir() else target.parent)
        if target.is_symlink() and target not in seen:
            seen.add(target)
            waiting.append(target)
    roots = [path for path in found if not any(path != other and path.is_relative_to(other) for other in found)]
    return tuple(sorted(path for path in roots if path.is_dir()))


def container_environment(
    *, recipe: Recipe, platform: str, model: str, cache_dir: Path, caller: Mapping[str, str]
) -> dict[str, str]:
    """The variables that are passed by value: ours, then the recipe's; everything else is the image's own.

    HOME is in the build's cache, so that what compilers keep there outlives the container. A name for the user is said
    because an account that the image does not know has none.
    """
    environment = own_settings(cache_dir) | {"HOME": str(cache_dir / "home"), "USER": "redline", "LOGNAME": "redline"}
    if is_directory(model):
        environment["HF_HUB_OFFLINE"] = "1"
    else:
        environment |= {"HF_HOME": str(hub_home(caller))}
        environment |= {name: caller[name] for name in ("HF_HUB_CACHE", *CERTIFICATE_VARIABLES) if caller.get(name)}
    return environment | dict(recipe.environment.get(platform, {}))


def secret_names(model: str, caller: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that are passed by name: a token, and proxies, whose addresses may hold a password."""
    if is_directory(model):
        return ()
    named = (name for name in PASSED_VARIABLES_HUB if name not in CACHE_VARIABLES + CERTIFICATE_VARIABLES)
    return tuple(name for name in named if caller.get(name))


def device_group_ids(root: Path = Path("/")) -> tuple[int, ...]:
    """Numbers of the groups that own AMD's device files here: their names mean other numbers within an image."""
    files = (path for pattern in DEVICE_FILES for path in sorted(root.glob(pattern.lstrip("/"))))
    return tuple(sorted({number for path in files if (number := path.stat().st_gid)}))
