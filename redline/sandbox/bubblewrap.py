"""The walls: how bubblewrap is called.

Inside there is a read-only /usr, a Python, an empty /tmp of limited size and a bare /dev; no network, no /etc,
no /proc, no home directory, no other process, no environment, no capability, and no way to make another user
namespace. What it does not guard against: a hole in the kernel, and the sum of the memory that the processes
of one program take together (`processes` x `memory_bytes`). Where memory runs out, the kernel ends the program first.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

NOBODY = 65534  # who the program is, inside; and outside too where Redline runs as root
TMP = "/tmp"  # noqa: S108 - the sandbox's own
TMP_BYTES = 64 * 2**20
OPEN_FILES_MAX = 64

# Run first of all, outside: whatever follows is what the kernel ends first where memory runs out, not the server.
_FIRST_TO_GO = '{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$0" "$@"'

# Run first inside: takes away what limits take away, then becomes the program.
_LAUNCHER = """
import os, resource, sys
for name, value in zip(("CPU", "AS", "FSIZE", "NPROC", "NOFILE", "CORE"), sys.argv[1:7]):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (int(value), int(value)))
os.execv(sys.executable, [sys.executable, "-I", "-B", sys.argv[7]])
"""


class Identity(TypedDict, total=False):
    """Arguments of subprocess.Popen that say who starts bwrap."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python for the inside: its path, and the directory to show for it where that is not under /usr."""

    path: str
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The path of bwrap, and the interpreter it starts."""

    bwrap: str
    interpreter: Interpreter

    def command(
        self, program_fd: int, status_fd: int, *, cpu_s: int, memory: int, file: int, processes: int
    ) -> list[str]:
        """The command line that runs the program behind `program_fd`, with its limits in s and bytes.

        bwrap writes JSON to `status_fd`; "exit-code" is in it only if the program was started and ended by itself.
        """
        limits = (cpu_s, memory, file, processes, OPEN_FILES_MAX, 0)
        prefix = self.interpreter.prefix
        return [
            *("/bin/sh", "-c", _FIRST_TO_GO, self.bwrap),
            *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
            *("--cap-drop", "ALL", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
            *(
                "--clearenv",
                "--setenv",
                "PATH",
                "/usr/bin:/bin",
                "--setenv",
                "HOME",
                TMP,
                "--setenv",
                "LANG",
                "C.UTF-8",
            ),
            *("--json-status-fd", str(status_fd)),
            *_system(),
            *(("--ro-bind", prefix, prefix) if prefix else ()),
            *("--dev", "/dev", "--remount-ro", "/dev", "--size", str(TMP_BYTES), "--tmpfs", TMP, "--chdir", TMP),
            *("--perms", "0444", "--ro-bind-data", str(program_fd), "/program.py", "--remount-ro", "/", "--"),
            *(self.interpreter.path, "-I", "-c", _LAUNCHER, *(str(limit) for limit in limits), "/program.py"),
        ]


def identity() -> Identity:
    """Who bwrap is started as: nobody if we are root, because the kernel lets root have any number of processes."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def interpreters() -> tuple[Interpreter, ...]:
    """Which Pythons to try, best first: our own, which root's identity may not be allowed to see, and the system's."""
    prefix = Path(sys.base_prefix).resolve()
    own = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shown = None if prefix.is_relative_to("/usr") else str(prefix)
    return Interpreter(str(own), shown), Interpreter("/usr/bin/python3"), Interpreter("/usr/local/bin/python3")


def _system() -> list[str]:
    """Arguments that show /usr, and /bin and /lib as this machine has them: links into /usr, or folders."""
    arguments = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for path in (Path("/bin"), Path("/lib"), Path("/lib64")):
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    return arguments
