"""Talking with docker or podman through its command line: who it is, images, and the containers that are Redline's.

Every call has a bound. What an engine says is read as JSON where it can say JSON, and never trusted to be there: a
container may end between two questions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from redline.deploy.container_command import OWNER_LABEL, Dialect, Engine
from redline.deploy.container_errors import engine_error
from redline.deploy.diagnosis import last_line, read_tail
from redline.deploy.supervisor import guarded
from redline.errors import ContainerError

ANSWER_S_MAX = 60.0
"""How long an engine may take for a question; one that is unpacking an image is slow."""

PULL_S_MAX = 3600.0
PROGRESS_EVERY_S = 5.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Said:
    """The end of one command of an engine."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> tuple[str, ...]:
        """What it said on standard error, or on standard output where it said nothing there."""
        return tuple((self.errors or self.output).splitlines())


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is on this machine. `digests`: of its manifests. All hex digits, without their algorithm."""

    image_id: str
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Container:
    """A container as its engine describes it. `pid`: of its first process on this host, 0 while it has none.

    `created_s`, `started_s`: seconds since 1970.
    """

    container_id: str
    name: str
    image_id: str
    image: str
    pid: int
    created_s: float
    started_s: float
    labels: Mapping[str, str]


def ask(engine: Engine, *arguments: str, timeout_s: float = ANSWER_S_MAX) -> Said:
    """What the engine answers to one command. Raises ContainerError if it is missing or does not answer in time."""
    try:
        done = subprocess.run(
            [engine.program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ContainerError(
            f"{engine.label} does not answer",
            expected=f"an answer to `{engine.dialect} {arguments[0]}` within {timeout_s:g} s",
            found="none",
            next_step="look at its service and at the machine's load; restart it if it hangs",
        ) from error
    except OSError as error:
        raise _missing(engine.program, str(error)) from error
    return Said(done.returncode, done.stdout, done.stderr)


def _missing(program: str, found: str) -> ContainerError:
    return ContainerError(
        f"{program} cannot be run",
        expected="docker or podman on PATH, as [container] of the runner class says",
        found=found,
        next_step="install it, or set container.engine; docs/containers.md",
    )


def _object(text: str) -> dict[str, Any]:
    """A JSON object, or {} for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _field(value: object, *path: str) -> Any:
    """A value within nested objects; None where one of them is missing."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# --- who it is ------------------------------------------------------------------------------------------------


def find_engine(name: Dialect) -> Engine:
    """The engine on PATH, asked who it is and whether it works here.

    A program called docker may be podman (package podman-docker): it is spoken to as what it says it is.

    Raises: ContainerError if it is missing, does not run, refuses this account, or runs containers somewhere else.
    """
    program = shutil.which(name)
    if program is None:
        raise _missing(name, "no such program on PATH")
    unknown = Engine(program, name)
    said = ask(unknown, "--version")
    dialect: Dialect = "podman" if "podman" in said.output.lower() else "docker"
    named = Engine(program, dialect)
    return _podman(named) if dialect == "podman" else _docker(named)


def _docker(engine: Engine) -> Engine:
    context = ask(engine, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    address = context.output.strip()
    if context.status == 0 and not address.startswith(("unix://", "fd://")):
        raise _elsewhere(engine, address)
    said = ask(engine, "info", "--format", "{{json .}}")
    info = _object(said.output)
    if said.status != 0 or not info.get("ServerVersion"):
        told = said.lines if said.errors else tuple(str(line) for line in info.get("ServerErrors") or ())
        raise engine_error(engine.label, "answer", told)
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    if any("rootless" in option for option in options):
        raise ContainerError(
            "docker runs rootless here",
            expected="docker as a service of the host, or rootless podman",
            found=", ".join(options),
            next_step="its `host` network is not this host's, so a server in it cannot be reached without a detour",
        )
    return Engine(engine.program, "docker", version=str(info["ServerVersion"]))


def _podman(engine: Engine) -> Engine:
    said = ask(engine, "info", "--format", "json")
    info = _object(said.output)
    if said.status != 0 or not info:
        raise engine_error(engine.label, "answer", said.lines)
    if _field(info, "host", "serviceIsRemote"):
        raise _elsewhere(engine, str(_field(info, "host", "remoteSocket", "path")))
    rootless = bool(_field(info, "host", "security", "rootless"))
    return Engine(engine.program, "podman", rootless, str(_field(info, "version", "Version") or ""))


def _elsewhere(engine: Engine, address: str) -> ContainerError:
    return ContainerError(
        f"{engine.label} runs containers on another machine",
        expected="an engine on this host, reached through a socket of its file system",
        found=address or "an address that it does not say",
        next_step="unset DOCKER_HOST or choose the default context; on a cluster use a class with [cluster]",
    )


# --- images ---------------------------------------------------------------------------------------------------


def image_of(engine: Engine, reference: str) -> Image | None:
    """The image behind a reference by digest; None if it is not on this machine. Raises ContainerError."""
    said = ask(engine, "image", "inspect", reference)
    if said.status != 0:
        text = said.errors.lower()
        if "no such image" in text or "image not known" in text or "no such object" in text:
            return None
        raise engine_error(engine.label, "inspect an image", said.lines, subject=reference)
    found = _objects(said.output)
    if not found:
        return None
    image_id = str(found[0].get("Id") or "").removeprefix("sha256:")
    digests = {str(each).rpartition("@sha256:")[2] for each in found[0].get("RepoDigests") or ()}
    digests.add(str(found[0].get("Digest") or "").removeprefix("sha256:"))
    return Image(image_id, frozenset(digests - {""}))


def digest_of(reference: str) -> str:
    """The 64 hex digits of `repository@sha256:...`."""
    return reference.rpartition("@sha256:")[2]


def ensure_image(engine: Engine, reference: str, log_path: Path, on_progress: Callable[[str], None]) -> Image:
    """The pinned image on this machine, pulled if it is not there yet; `on_progress` gets a line now and then.

    Raises: NoImageError if there is none for this machine, ContainerError if it cannot be pulled, or if what is there
    then has another digest.
    """
    image = image_of(engine, reference)
    if image is None:
        _pull(engine, reference, log_path, on_progress)
        image = image_of(engine, reference)
    if image is None or digest_of(reference) not in image.digests:
        raise ContainerError(
            "the image on this machine is not the pinned one",
            expected=reference,
            found=", ".join(sorted(image.digests)) if image is not None else "none after the pull",
            next_step=f"remove it ({engine.dialect} image rm) and run again; no proxy may rewrite images",
        )
    return image


def _pull(engine: Engine, reference: str, log_path: Path, on_progress: Callable[[str], None]) -> None:
    """Pull under a supervisor, so that a killed caller leaves no download."""
    begin_s = time.monotonic()
    told_s = begin_s
    on_progress(f"pulling {reference}, log: {log_path}")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    offset = log_path.stat().st_size if log_path.exists() else 0
    command = (engine.program, "pull", reference)
    with guarded(command, environment=os.environ, log_path=log_path, grace_s=5.0) as child:
        while (status := child.poll()) is None:
            now_s = time.monotonic()
            if now_s - begin_s > PULL_S_MAX:
                raise ContainerError(
                    f"the image did not come in time: {reference}",
                    expected=f"a pull of at most {PULL_S_MAX:g} s",
                    found=last_line(read_tail(log_path, offset)) or "no word of the engine",
                    next_step="pull it by hand once; Redline uses what is there",
                )
            if now_s - told_s > PROGRESS_EVERY_S:
                told_s = now_s
                newest = last_line(read_tail(log_path, offset))
                on_progress(f"pulling {reference}, {now_s - begin_s:.0f} s: {newest}".rstrip(": "))
            time.sleep(_POLL_S)
    if status != 0:
        raise engine_error(engine.label, "pull", read_tail(log_path, offset), subject=reference)
    on_progress(f"pulled {reference} in {time.monotonic() - begin_s:.0f} s")


# --- containers -----------------------------------------------------------------------------------------------


def _objects(text: str) -> tuple[dict[str, Any], ...]:
    try:
        value = json.loads(text)
    except ValueError:
        return ()
    return tuple(each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def containers(engine: Engine, *names: str) -> tuple[Container, ...]:
    """The containers of these names or ids that are still there. Raises ContainerError if the engine fails."""
    if not names:
        return ()
    said = ask(engine, "container", "inspect", *names)
    if said.status != 0 and "no such" not in said.errors.lower():
        raise engine_error(engine.label, "inspect a container", said.lines, subject=", ".join(names))
    return tuple(_container(each) for each in _objects(said.output))


def _container(described: dict[str, Any]) -> Container:
    labels = _field(described, "Config", "Labels")
    pid = _field(described, "State", "Pid")
    return Container(
        container_id=str(described.get("Id") or ""),
        name=str(described.get("Name") or "").lstrip("/"),
        image_id=str(described.get("Image") or "").removeprefix("sha256:"),
        image=str(_field(described, "Config", "Image") or ""),
        pid=pid if isinstance(pid, int) else 0,
        created_s=_seconds(described.get("Created")),
        started_s=_seconds(_field(described, "State", "StartedAt")),
        labels={str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
    )


def _seconds(text: object) -> float:
    """Seconds since 1970 of an instant as engines write it; 0 for none."""
    try:
        return max(0.0, datetime.fromisoformat(str(text)).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def ours(engine: Engine) -> tuple[Container, ...]:
    """Every container that a Redline made, whatever became of it. Raises ContainerError."""
    said = ask(engine, "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={OWNER_LABEL}")
    if said.status != 0:
        raise engine_error(engine.label, "list containers", said.lines)
    return containers(engine, *said.output.split())


def remove(engine: Engine, name: str) -> None:
    """Nothing of the container is left. Raises ContainerError if the engine cannot remove it."""
    said = ask(engine, *removal(engine, name))
    if said.status == 0 or "no such container" in said.errors.lower() or "no container with" in said.errors.lower():
        return
    if "already in progress" in said.errors.lower():  # somebody else's removal, or that of --rm
        deadline = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < deadline:
            if not containers(engine, name):
                return
            time.sleep(_POLL_S)
    raise engine_error(engine.label, "remove a container", said.lines, subject=name)


def removal(engine: Engine, name: str) -> tuple[str, ...]:
    """The arguments by which an engine kills and removes a container with its unnamed volumes, at once."""
    at_once = ("--time", "0") if engine.dialect == "podman" else ()  # it would wait ten seconds after SIGTERM
    return ("rm", "--force", "--volumes", *at_once, name)


def confine(engine: Engine, name: str, cpu_ids: Sequence[int]) -> None:
    """Keep the container on these CPUs from now on. Raises ContainerError if the engine cannot."""
    said = ask(engine, "update", "--cpuset-cpus", ",".join(map(str, cpu_ids)), name)
    if said.status != 0:
        raise engine_error(engine.label, "keep a container on its CPUs", said.lines, subject=name)


def python_in(engine: Engine, name: str, code: str) -> Said:
    """What a Python program says when it is run in the container, beside its server. Raises ContainerError."""
    return ask(engine, "exec", name, "python3", "-c", code)
