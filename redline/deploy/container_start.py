"""One start of a server in a container: its processes, its exit status, who it is, and its end."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from redline.deploy.container_command import Engine
from redline.deploy.container_engine import Container, containers, digest_of, image_of, python_in, remove
from redline.deploy.container_errors import engine_error, is_refusal
from redline.deploy.diagnosis import Ending, clean_line, read_tail
from redline.deploy.start import Identity, Start
from redline.deploy.supervisor_program import live_descendants
from redline.errors import ContainerError, DeployError, NoImageError
from redline.model import BuildPin

CLOCK_SLACK_S = 2.0
"""How far apart the kernel's and the engine's idea of the instant of a start may be."""

WHO_IS_IT = """\
import importlib.metadata as m, importlib.util as u, json, pathlib, re
names = m.packages_distributions().get("vllm") or ["vllm"]
spec = u.find_spec("vllm")
text = (pathlib.Path(spec.origin).parent / "_version.py").read_text() if spec and spec.origin else ""
commit = re.search(r"commit_id\\s*=\\s*['\\"]g?([0-9a-f]{7,40})", text)
print(json.dumps({"version": m.version(names[0]), "commit": commit.group(1) if commit else ""}))
"""
"""Asked in the container: the installed version and vLLM's commit, from its files, without importing vLLM."""


@dataclass(slots=True)
class _Seen:
    """The first process of a container, once it was seen: (pid, start in clock ticks since boot)."""

    first: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStart(Start):
    """One start: the engine's client under its supervisor, and the container by name."""

    named: Identity = field(default_factory=lambda: Identity(None))
    engine: Engine
    name: str
    pin: BuildPin
    image_id: str
    seen: _Seen = field(default_factory=_Seen)

    def exit_status(self) -> int | None:
        """The server's exit status, which the client repeats; 128 + N for a server that signal N ended."""
        status = self.guard.poll()
        return -(status - 128) if status is not None and 128 < status < 128 + signal.NSIG else status

    def pids(self) -> tuple[int, ...]:
        """The server's processes as this host numbers them, its own init left out; () where they cannot be seen.

        The engine is asked until it names a process; after that /proc is enough.
        """
        if self.guard.poll() is not None:
            return ()
        pid, ticks = self.seen.first
        if not pid:
            found = containers(self.engine, self.name)
            if not found or not is_first_process(found[0]):
                return ()
            pid, ticks = found[0].pid, start_ticks(found[0].pid)
            self.seen.first = (pid, ticks)
        return live_descendants(pid) if ticks and start_ticks(pid) == ticks else ()

    def holds_port(self) -> bool:
        """As for a process; True as well where the container's processes cannot be seen, while it runs."""
        if not self.pids():
            return self.guard.poll() is None
        return Start.holds_port(self)

    def identity(self) -> Identity:
        """What runs, asked of the engine and in the container.

        Raises: ContainerError if it is another image than the pinned one, NoImageError if it holds vLLM of another
        commit.
        """
        self._require_pinned_image()
        said = python_in(self.engine, self.name, WHO_IS_IT)
        found = _told(said.output) if said.status == 0 else {}
        version, commit = found.get("version"), found.get("commit", "")
        if commit and self.pin.commit and not self.pin.commit.startswith(commit):
            raise NoImageError(
                "the image holds vLLM of another commit than the pin says",
                expected=self.pin.commit,
                found=commit,
                next_step="resolve the build again",
            )
        notes = {"container_engine": self.engine.label, "image": str(self.pin.url), "vllm_commit": commit or "unknown"}
        return Identity(clean_line(version) if version else None, notes)

    def _require_pinned_image(self) -> None:
        reference = str(self.pin.url)
        found = containers(self.engine, self.name)
        image = image_of(self.engine, reference)
        if not found or image is None:
            raise ContainerError(
                f"{self.engine.label} no longer knows what it runs",
                expected=f"a container {self.name} of an image that is here",
                found="no such container" if not found else "no such image",
                next_step="nothing else may remove containers or images during a measurement",
            )
        # An engine names the image of a container by its configuration or by its manifest.
        known = {image.image_id, digest_of(reference), *image.digests}
        if digest_of(reference) not in image.digests or found[0].image_id not in known:
            raise ContainerError(
                "the container does not run the pinned image",
                expected=f"{reference} (image {self.image_id[:12]})",
                found=f"{found[0].image} (image {found[0].image_id[:12]})",
                next_step="report this with the log: the image was asked for by digest",
            )

    def explain(self, ending: Ending) -> DeployError | None:
        """A ContainerError, or a NoImageError, where the engine refused to run it; None where the server ended."""
        lines = read_tail(self.guard.log_path, self.log_offset)
        if is_refusal(ending.exit_status, lines):
            return engine_error(self.engine.label, "run the container", lines, subject=str(self.pin.url))
        return None

    def end(self) -> None:
        """End the client, and with it the container; ask the engine that it is gone, and remove it if it is not.

        Raises: DeployError if something survived.
        """
        self.guard.stop()
        deadline = time.monotonic() + CLOCK_SLACK_S
        remove(self.engine, self.name)
        while containers(self.engine, self.name):
            if time.monotonic() > deadline:
                raise ContainerError(
                    f"the container {self.name} did not end",
                    expected=f"none after `{self.engine.dialect} rm --force`",
                    found="still there",
                    next_step="look at its processes: one in state D waits for a device or a file system",
                )
            remove(self.engine, self.name)


def _told(output: str) -> dict[str, str]:
    """The object that the container's Python printed; {} for anything else."""
    try:
        value = json.loads(output)
    except ValueError:
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


def is_first_process(container: Container) -> bool:
    """True if the engine's pid is this process table's: that process started when the container did.

    An engine outside of our process table (Redline itself in a container) names the pid of something else here.
    """
    started_s = _started_s(container.pid) if container.pid else 0.0
    return (
        container.created_s - CLOCK_SLACK_S <= started_s <= container.started_s + CLOCK_SLACK_S if started_s else False
    )


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none. Source: proc(5), field 22 of stat."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _started_s(pid: int) -> float:
    ticks = start_ticks(pid)
    if not ticks:
        return 0.0
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - since_boot_s
