"""The load client goes before other work on its CPU, where the system allows it.

A client that has to wait for a busy neighbour reads several chunks at once, and then only the last one's stamp
is exact. Raising one's own priority takes rights (root, CAP_SYS_NICE or `ulimit -e`); without them nothing is
changed, and the share of chunks that shared a read says what it cost. Only this process is touched.
Source: Linux, sched(7): nice values, and autogroups, which share the CPU by session before niceness counts.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICE = -20
_AUTOGROUP = Path("/proc/self/autogroup")


def take_precedence() -> int:
    """Ask for the highest ordinary priority, and return the nice value that was reached."""
    with suppress(OSError):  # not ours to raise: the default stays
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with suppress(OSError):  # no autogroups here, or no right to
        _AUTOGROUP.write_text(f"{NICE}\n", encoding="ascii")
    return os.getpriority(os.PRIO_PROCESS, 0)
