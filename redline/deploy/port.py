"""TCP ports of this machine: a free one, and who holds one."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from redline.errors import PortTakenError

_LISTEN = "0A"


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago. The kernel chooses; somebody else may still be quicker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int) -> None:
    """Nothing if `port` can be bound on 127.0.0.1. Raises PortTakenError, naming the holder where it can be found."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that just ended do not hold it
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise port_taken(port, str(error)) from error


def port_taken(port: int, found: str) -> PortTakenError:
    """The error that says who holds `port`; `found` is what is known beyond that."""
    holders = port_holders(port)
    names = ", ".join(f"pid {pid} ({_command_of(pid)})" for pid in holders)
    return PortTakenError(
        f"port {port} is in use",
        expected=f"nobody listens on 127.0.0.1:{port}",
        found=f"held by {names}" if holders else f"{found}; the holder cannot be seen from here",
        next_step="end that process, or let Redline choose a port",
    )


def port_holders(port: int) -> tuple[int, ...]:
    """Pids of the processes that listen on TCP `port`; () where they cannot be seen (other users', no /proc)."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return ()
    processes = (path for path in Path("/proc").iterdir() if path.name.isdigit())
    return tuple(sorted(int(path.name) for path in processes if _holds(path, sockets)))


def _listening_inodes(port: int) -> set[str]:
    """Inode numbers of the sockets that listen on `port`. Source: Linux, Documentation/networking/proc_net_tcp."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(fields[9])
    return inodes


def _holds(process: Path, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):  # another user's process, or one that just ended
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended meanwhile"
