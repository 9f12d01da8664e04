"""Real `redline` processes without their start: everything is imported once, and each command runs in a fork of that.

    python -m tests.flows.deployed_program FOLDER

A line of JSON in (`arguments`, `environment`, `stdout` and `stderr` as paths); two lines out, the process id at once
and the exit status in the end. Prefect's API runs from the start on, in FOLDER, as somebody's own server would.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from flows.prefect_api import prefect_api


def run(order: dict[str, Any]) -> NoReturn:
    """The whole of a `redline` process, from its arguments to its exit status."""
    status = 70  # of no command: a test sees that it came to no end
    try:
        os.setsid()  # as a shell gives every command a group of its own
        os.environ.update(order["environment"])
        sys.argv = ["redline", *order["arguments"]]
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from redline.cli import main

        status = main(order["arguments"])
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 2
    except BaseException:  # noqa: BLE001 - the program itself lets none through
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Run what is asked for, one after the other, until standard input ends."""
    import flows.run  # noqa: F401 - Prefect reads its settings when it is imported
    import redline.cli.measuring
    import redline.deploy.container
    import redline.deploy.kserve
    import redline.store.database  # noqa: F401

    assert threading.active_count() == 1, threading.enumerate()  # a fork copies no thread
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with prefect_api(folder, folder / "prefect.log"):
        serve()
