"""A machine with stand-ins for docker and podman on PATH: its images, its registry, its daemon."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redline.deploy.supervisor_program import process_table
from tests.fakes import container_monitor

ROOT = Path(__file__).parents[2]
DIGEST = "c0ffee" + "0" * 58
REFERENCE = f"registry.example/vllm/vllm-openai@sha256:{DIGEST}"
COMMIT = "4ba787ec9"


class ContainerWorld:
    """The folder of the stand-ins, and what a test may say about them."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "engine"
        self.programs = folder / "programs"
        for path in (self.state_dir / "containers", self.state_dir / "images", self.programs):
            path.mkdir(parents=True)
        self._world: dict[str, Any] = {}
        self.serve_image()
        for dialect in ("docker", "podman"):
            self.install(dialect, dialect)

    def install(self, program: str, dialect: str) -> None:
        """A program on PATH that is one of the engines."""
        path = self.programs / program
        run = f'"{sys.executable}" -S -m tests.fakes.container_engine {dialect} "{self.state_dir}" "$@"'
        path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {run}\n')
        path.chmod(0o755)

    def serve_image(self, digest: str = DIGEST, version: str = "0.33.0", commit: str = f"g{COMMIT}") -> None:
        """An image of vLLM in the registry."""
        packages = self.state_dir / "registry" / digest / "site-packages"
        (packages / f"vllm-{version}.dist-info").mkdir(parents=True)
        (packages / "vllm").mkdir()
        (packages / "vllm" / "__init__.py").write_text("raise RuntimeError('asking who it is must not import it')\n")
        (packages / "vllm" / "_version.py").write_text(f'__commit_id__ = commit_id = "{commit}"\n')
        (packages / f"vllm-{version}.dist-info" / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
        (packages / f"vllm-{version}.dist-info" / "top_level.txt").write_text("vllm\n")

    def say(self, **facts: Any) -> None:
        """What the engines are from now on: `gpus`, `cdi`, `rootless`, `says` ({verb: [text, status]}), ..."""
        self._world |= facts
        container_monitor.write(self.state_dir / "world.json", self._world)

    def specs(self) -> list[dict[str, Any]]:
        """What the containers that are there were asked to be."""
        return [container_monitor.read(path) for path in sorted(self.state_dir.glob("containers/*/spec.json"))]

    def first_pid(self, name: str) -> int:
        """The first process of a container; 0 if there is none."""
        return int(container_monitor.read(self.state_dir / "containers" / name / "state.json").get("pid", 0))

    def left_over(self) -> set[str]:
        """Containers that are there, and processes of any that was."""
        found = {path.name for path in (self.state_dir / "containers").glob("*")}
        mark = str(self.state_dir).encode()
        for pid, (_, state) in process_table().items():
            if state not in "ZX" and pid != os.getpid():
                try:
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                if mark in command and b"\0daemon\0" not in command:
                    found.add(f"process {pid}")
        return found

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Docker's daemon, which takes its containers with it in the end so that a failed test leaves nothing."""
        socket_path = self.state_dir / "docker.sock"
        command = [sys.executable, "-I", "-S", container_monitor.__file__, "daemon", str(self.state_dir)]
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                assert container_monitor.wait_for(socket_path.exists), "docker's daemon did not start"
                yield
            finally:
                for path in self.state_dir.glob("containers/*/state.json"):
                    first = container_monitor.read(path).get("pid", 0)
                    for pid in [*container_monitor.descendants(first), first] if first else []:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                process.kill()
                socket_path.unlink(missing_ok=True)
