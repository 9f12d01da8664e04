"""What keeps the containers of tests/fakes/container_engine.py: real processes, and files that say how they are.

    container_monitor.py daemon STATE_DIR          what docker's client talks to: containers are its children
    container_monitor.py monitor STATE_DIR NAME    one container: starts it, waits, writes its end
    container_monitor.py init COMMAND...           the first process in a container

STATE_DIR/containers/<name> holds `spec.json`, `state.json` and `log`. Standard library only.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

WAIT_S_MAX = 60.0


def stamp() -> str:
    """An instant as docker writes it: nanoseconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


def write(path: Path, value: Any) -> None:
    """A whole file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A JSON object, {} if there is none."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def descendants(root: int) -> list[int]:
    """Pids below `root`, parents first."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:  # grows while it is walked
        found += sorted(child for child, parent in parents.items() if parent == pid)
    return found[1:]


def monitor(folder: Path) -> None:
    """Start the container's init, write down its pid, wait, write down its end, and remove it if it was --rm."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the daemon ignores it, which is inherited
    spec = read(folder / "spec.json")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, "init", *spec["command"]],
            env=spec["environment"],
            cwd=spec["workdir"] or "/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    if spec["cpus"]:
        pin(process.pid, spec["cpus"])
    state = {"pid": process.pid, "started": stamp(), "status": "running"}
    write(folder / "state.json", state)
    status = process.wait()
    write(
        folder / "state.json", state | {"pid": 0, "status": "exited", "exit": status if status >= 0 else 128 - status}
    )
    if spec["rm"] and not (folder / "forced").exists():
        wait_for(lambda: (folder / "read").exists() or not is_alive(spec["client"]))
        remove(folder)


def init(command: list[str]) -> NoReturn:
    """Start the command, pass SIGTERM on, reap, end as it ended; what is left of it ends with it."""
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: as the first process of a container, it gets all orphans
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def on_sigterm(number: int, _: object) -> None:
        early.append(number)
        for each in started:
            each.send_signal(number)

    signal.signal(signal.SIGTERM, on_sigterm)
    child = subprocess.Popen(command)
    started.append(child)
    if early:  # it came before there was anybody to pass it on to
        child.send_signal(signal.SIGTERM)
    status = child.wait()
    while left := descendants(os.getpid()):  # as at the end of a process table: nothing outlives the first of it
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.wait()
    if status < 0:
        status = 128 - status
    sys.stdout.flush()
    os._exit(status)


def pin(root: int, cpus: str) -> None:
    """Keep a process and all below it on CPUs such as `0,1`."""
    for pid in [root, *descendants(root)]:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            os.sched_setaffinity(int(task.name), {int(cpu) for cpu in cpus.split(",")})


def is_alive(pid: int) -> bool:
    """True if the process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def remove(folder: Path) -> None:
    """A whole container or none: whoever is killed in the middle of this leaves no half of one."""
    gone = folder.parents[1] / f"removed-{folder.name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def wait_for(condition: Callable[[], bool], within_s: float = WAIT_S_MAX) -> bool:
    """True once it holds, False after the bound."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def daemon(state_dir: Path) -> None:
    """Start a monitor for each name that comes over the socket: containers are its children, not the client's."""
    with socket.socket(socket.AF_UNIX) as server:
        # Shown only once somebody listens: whoever sees the socket is taken.
        server.bind(str(state_dir / "docker.sock.new"))
        server.listen()
        (state_dir / "docker.sock.new").rename(state_dir / "docker.sock")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):  # a client that was killed takes nobody with it
                name = connection.recv(4096).decode()
                if not name:
                    continue  # only asked whether somebody listens
                subprocess.Popen([sys.executable, "-I", "-S", __file__, "monitor", str(state_dir), name])
                connection.sendall(b"ok")


if __name__ == "__main__":
    role, *given = sys.argv[1:]
    match role:
        case "init":
            init(given)
        case "monitor":
            monitor(Path(given[0]) / "containers" / given[1])
        case "daemon":
            daemon(Path(given[0]))
        case _:
            sys.exit(f"no such role: {role}")
