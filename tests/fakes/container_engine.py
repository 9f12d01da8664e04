"""A stand-in for docker and podman on PATH. It starts real processes, so that stop, kill and logs are real.

Said to be a stand-in: it isolates nothing. What it prints was recorded from docker 20.10 (client 28.2) and podman 4.3,
which the deployer was run against by hand. As there, docker's containers belong to a daemon (started by the test) and
outlive a client that is killed; podman's belong to a monitor that the client leaves behind.

    python -m tests.fakes.container_engine docker|podman STATE_DIR ARGUMENTS...

STATE_DIR holds `world.json` (what the test wants the engine to be and to refuse), `registry/<digest>` (images that can
be pulled), `images/<digest>` (that are here) and `containers/<name>` (see container_monitor.py).
"""

import contextlib
import csv
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fakes import container_monitor
from tests.fakes.container_monitor import descendants, is_alive, pin, read, remove, stamp, wait_for, write

STAND_IN = str(Path(__file__).parent / "stand_in_vllm.py")
VALUE_OPTIONS = (
    *("name", "label", "pull", "log-driver", "network", "ipc", "shm-size", "ulimit", "cap-add", "security-opt", "user"),
    *("gpus", "device", "group-add", "mount", "workdir", "env", "entrypoint", "cpuset-cpus"),
)
FLAGS = ("rm", "init", "http-proxy=false")


class Refusal(Exception):  # noqa: N818 - what an engine says, with its exit status
    def __init__(self, text: str, status: int = 125) -> None:
        super().__init__(text)
        self.status = status


# --- the command line -----------------------------------------------------------------------------------------


class EngineCommand:
    """One call of docker or podman."""

    def __init__(self, dialect: str, state_dir: Path) -> None:
        self.dialect, self.state_dir = dialect, state_dir
        self.world = read(state_dir / "world.json")

    def reply(self, arguments: list[str]) -> int:
        """Do what is asked; the exit status."""
        verb = arguments[0]
        if verb in ("image", "container", "context"):
            verb = "_".join(arguments[:2])
            arguments = arguments[1:]
        if verb == "--version":
            print("Docker version 28.2.2, build e6534b4" if self.dialect == "docker" else "podman version 4.3.1")
            return 0
        for word, (text, status) in self.world.get("says", {}).items():
            if word == verb:
                raise Refusal(text, status)
        if self.dialect == "docker" and verb != "context_inspect" and not self.daemon_runs():
            raise Refusal(
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", 1
            )
        return getattr(self, f"do_{verb}")(arguments[1:])

    def daemon_runs(self) -> bool:
        """True if somebody listens on the socket."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.state_dir / "docker.sock")) == 0

    def do_context_inspect(self, _: list[str]) -> int:
        print(self.world.get("address", "unix:///var/run/docker.sock"))
        return 0

    def do_info(self, _: list[str]) -> int:
        options = ["name=seccomp,profile=default"] + ["name=rootless"] * bool(self.world.get("rootless"))
        docker = {"ServerVersion": "20.10.24+dfsg1", "SecurityOptions": options}
        host = {"security": {"rootless": bool(self.world.get("rootless"))}, "serviceIsRemote": False}
        print(json.dumps(docker if self.dialect == "docker" else {"host": host, "version": {"Version": "4.3.1"}}))
        return 0

    def image(self, reference: str) -> Path:
        """Where the image is kept, if it is."""
        return self.state_dir / "images" / reference.rpartition("@sha256:")[2]

    def do_pull(self, arguments: list[str]) -> int:
        reference = arguments[-1]
        served = self.state_dir / "registry" / reference.rpartition("@sha256:")[2]
        if not served.exists():
            raise Refusal(
                f"Error response from daemon: manifest for {reference} not found: manifest unknown: manifest unknown"
                if self.dialect == "docker"
                else f"Error: initializing source docker://{reference}: reading manifest: manifest unknown",
                1 if self.dialect == "docker" else 125,
            )
        print(f"{reference}: Pulling from somewhere\n85b43de1c20b: Pulling fs layer", flush=True)
        time.sleep(self.world.get("pull_s", 0))
        until = self.world.get("pull_until")
        wait_for(lambda: until is None or Path(until).exists())
        self.image(reference).parent.mkdir(exist_ok=True)
        shutil.copytree(served, self.image(reference))
        print(f"Digest: sha256:{served.name}\nStatus: Downloaded newer image for {reference}")
        return 0

    def do_image_inspect(self, arguments: list[str]) -> int:
        reference = arguments[-1]
        if not self.image(reference).exists():
            print("[]")
            if self.dialect == "docker":
                raise Refusal(f"Error response from daemon: no such image: {reference}: No such image: {reference}", 1)
            raise Refusal(f"Error: inspecting object: {reference}: image not known")
        digest = self.world.get("other_digest") or self.image(reference).name
        prefix = "sha256:" if self.dialect == "docker" else ""
        described = {"Id": prefix + "f" * 64, "RepoDigests": [f"{reference.rpartition('@')[0]}@sha256:{digest}"]}
        print(json.dumps([described]))
        return 0

    def folder(self, name: str) -> Path:
        """Of the container with this name or id. Raises Refusal if there is none."""
        for folder in (self.state_dir / "containers").glob("*"):
            if name in (folder.name, read(folder / "spec.json").get("id")):
                return folder
        raise Refusal(f"Error response from daemon: No such container: {name}", 1)

    def do_container_inspect(self, arguments: list[str]) -> int:
        found, missing = [], ""
        for name in arguments:
            try:
                folder = self.folder(name)
            except Refusal as refusal:
                missing = str(refusal)
                continue
            spec, state = read(folder / "spec.json"), read(folder / "state.json")
            docker = self.dialect == "docker"
            found.append(
                {
                    "Id": spec["id"],
                    "Created": spec["created"],
                    "Name": f"/{folder.name}" if docker else folder.name,
                    "Image": ("sha256:" if docker else "") + self.world.get("runs_image", "f" * 64),
                    "State": {"Pid": state.get("pid", 0), "StartedAt": state.get("started", "0001-01-01T00:00:00Z")},
                    "Config": {"Image": spec["image"], "Labels": spec["labels"]},
                }
            )
        print(json.dumps(found))
        if missing:
            raise Refusal(missing, 1)
        return 0

    def do_ps(self, arguments: list[str]) -> int:
        wanted = arguments[arguments.index("--filter") + 1].removeprefix("label=")
        for folder in sorted((self.state_dir / "containers").glob("*")):
            spec = read(folder / "spec.json")
            if wanted in spec.get("labels", {}):
                print(spec["id"])
        return 0

    def do_rm(self, arguments: list[str]) -> int:
        folder = self.folder(arguments[-1])
        try:
            (folder / "forced").touch()
        except FileNotFoundError:  # its monitor has just removed it
            raise Refusal(f"Error response from daemon: No such container: {arguments[-1]}", 1) from None
        # Its monitor may be removing it at the same time: then there is no state any more, and soon no container.
        # One that was killed before it wrote any never will: less than what whoever asked waits for this command.
        wait_for(lambda: (folder / "state.json").exists() or not (folder / "spec.json").exists(), 15.0)
        first = read(folder / "state.json").get("pid", 0)
        inside = [first, *descendants(first)] if first else []
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, inside)))
        remove(folder)
        print(arguments[-1])
        return 0

    def do_update(self, arguments: list[str]) -> int:
        pin(read(self.folder(arguments[-1]) / "state.json")["pid"], arguments[arguments.index("--cpuset-cpus") + 1])
        print(arguments[-1])
        return 0

    def do_exec(self, arguments: list[str]) -> int:
        folder = self.folder(arguments[0])
        packages = self.image(read(folder / "spec.json")["image"]) / "site-packages"
        command = [sys.executable, "-S", *arguments[2:]]
        return subprocess.run(command, env={"PYTHONPATH": str(packages)}, check=False).returncode

    # --- run --------------------------------------------------------------------------------------------------

    def do_run(self, arguments: list[str]) -> int:
        options, rest = parsed(arguments)
        image, *command = rest
        self.check(options, image)
        folder = self.state_dir / "containers" / options["name"][0]
        folder.mkdir(parents=True)
        environment = {"PATH": "/usr/bin:/bin"}
        for entry in options["env"]:
            name, _, value = entry.partition("=")
            if "=" in entry or name in os.environ:
                environment[name] = value if "=" in entry else os.environ[name]
        spec = {
            "id": secrets.token_hex(32),
            "created": stamp(),
            "image": image,
            "labels": dict(label.split("=", 1) for label in options["label"]),
            "command": [sys.executable, "-S", STAND_IN, *command],
            "environment": environment,
            "workdir": options["workdir"][0],
            "cpus": "".join(options["cpuset-cpus"]),
            "rm": "rm" in options,
            "client": os.getpid(),
            "options": {key: value for key, value in options.items() if value},
        }
        write(folder / "spec.json", spec)
        self.start(folder.name)
        return follow(folder)

    def check(self, options: dict[str, list[str]], image: str) -> None:
        """Refuse what the real engines refuse, in their words."""
        word = "docker: Error response from daemon:" if self.dialect == "docker" else "Error:"
        if not self.image(image).exists():
            raise Refusal(f"{word} No such image: {image}")
        if (self.state_dir / "containers" / options["name"][0]).exists():
            raise Refusal(
                f'{word} Conflict. The container name "/{options["name"][0]}" is already in use by container x.'
            )
        if self.dialect == "docker":
            for wanted in options["gpus"]:
                self.check_gpus(word, re.findall(r"GPU-[\w-]+", wanted))
        for device in options["device"]:
            if device.startswith("nvidia.com/gpu=") and device.partition("=")[2] not in self.world.get("cdi", ()):
                raise Refusal(f"Error: setting up CDI devices: unresolvable CDI devices {device}", 126)
            if device == "/dev/kfd" and "kfd" not in self.world:
                text = 'error gathering device information while adding custom device "/dev/kfd"'
                raise Refusal(f"{word} {text}: no such file or directory", 127)
        for mount in options["mount"]:
            source = next(field for field in next(csv.reader([mount])) if field.startswith("source="))[7:]
            if not Path(source).exists():
                raise Refusal(f'{word} invalid mount config for type "bind": bind source path does not exist: {source}')

    def check_gpus(self, word: str, uuids: list[str]) -> None:
        """As docker without, and with, NVIDIA's container toolkit."""
        if "gpus" not in self.world:
            raise Refusal(f'{word} could not select device driver "" with capabilities: [[gpu]]')
        for uuid in uuids:
            if uuid not in self.world["gpus"]:
                raise Refusal(
                    f"{word} failed to create task: nvidia-container-cli: device error: {uuid}: unknown device"
                )

    def start(self, name: str) -> None:
        """A monitor for it: the daemon's child, or one that this client leaves behind."""
        command = [sys.executable, "-I", "-S", container_monitor.__file__, "monitor", str(self.state_dir), name]
        if self.dialect == "podman":
            starter = f"import subprocess; subprocess.Popen({command!r}, start_new_session=True)"
            subprocess.run([sys.executable, "-I", "-S", "-c", starter], check=True)
            return
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.state_dir / "docker.sock"))
            client.sendall(name.encode())
            client.recv(16)


def parsed(arguments: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options of `run` by name, and the image with its arguments. Raises Refusal for one that is not known."""
    options: dict[str, list[str]] = {name: [] for name in VALUE_OPTIONS}
    while arguments[0].startswith("--"):
        name = arguments.pop(0)[2:]
        if name in FLAGS:
            options[name] = []
        elif name in VALUE_OPTIONS:
            options[name].append(arguments.pop(0))
        else:
            raise Refusal(f"unknown flag: --{name}\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]")
    return options, arguments


def follow(folder: Path) -> int:
    """The container's output as it comes, SIGTERM passed on to it, and its exit status."""
    state: dict[str, Any] = {}
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    position = 0
    while True:
        state = read(folder / "state.json") or state
        with contextlib.suppress(FileNotFoundError), (folder / "log").open("rb") as log:
            log.seek(position)
            data = log.read()
            position += len(data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if state.get("status") == "exited":
            with contextlib.suppress(FileNotFoundError):
                (folder / "read").touch()
            return state["exit"]
        if not folder.exists():
            return 137
        if asked and state.get("pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state["pid"], asked.pop())
        time.sleep(0.02)


if __name__ == "__main__":
    try:
        sys.exit(EngineCommand(sys.argv[1], Path(sys.argv[2])).reply(sys.argv[3:]))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.status)
