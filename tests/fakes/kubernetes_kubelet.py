"""Pods that are real processes: a stand-in vLLM on an address of its own, told of as a kubelet would.

Loopback has 16 million addresses (Linux): each pod gets one, so that all listen on the port of their manifest.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.kubernetes_state import State

STAND_IN = Path(__file__).parent / "stand_in_vllm.py"
RUNNING, READY = "Running", "Ready"


def address() -> str:
    """A loopback address that nobody else has."""
    return f"127.{16 + secrets.randbelow(200)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


@dataclass
class Running:
    """A pod's process and what is told of it."""

    process: subprocess.Popen[bytes]
    log: Path
    restarts: int = 0
    stopping: bool = False
    runs: list[Path] = field(default_factory=list)


class Kubelet:
    """Runs what pods ask for. `program` gets a container and the pod's address, and returns the command."""

    def __init__(self, state: State, folder: Path) -> None:
        self._state = state
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._pods: dict[str, Running] = {}
        self._threads: list[threading.Thread] = []
        self.grace_s = 1.0
        self.image_id: Callable[[str], str] = lambda image: image
        state.on_deleting.append(self._on_deleting)

    def start(self, namespace: str, pod: str, container: dict[str, Any]) -> None:
        """Run a pod's container; its status follows the process from now on. Nothing if the pod has been ended."""
        ip = address()
        running = self._launch(pod, container, ip, 0)
        with self._lock:
            self._pods[pod] = running
        found = self._state.listed("pods", namespace, fields=f"metadata.name={pod}")
        if not found or "deletionTimestamp" in found[0]["metadata"]:  # its end may have come before the process
            self._stop(running)
            return
        self._tell(namespace, pod, {"phase": RUNNING, "podIP": ip}, self._status(container, restarts=0, running=True))
        thread = threading.Thread(target=self._follow, args=(namespace, pod, container, ip), daemon=True)
        self._threads.append(thread)
        thread.start()

    def kill(self, pod: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a pod's process; its pid."""
        process = self._pods[pod].process
        process.send_signal(number)
        return process.pid

    def pids(self) -> list[int]:
        """Of every process that was ever started and has not ended."""
        with self._lock:
            pods = list(self._pods.values())
        return [each.process.pid for each in pods if each.process.poll() is None]

    def log(self, pod: str, container: str, previous: bool) -> bytes:
        """What a pod's container said in its last run, or in the one before."""
        runs = self._pods[pod].runs if pod in self._pods else []
        at = -2 if previous else -1
        return runs[at].read_bytes() if len(runs) >= -at else b""

    def close(self) -> None:
        """End every process."""
        with self._lock:
            pods = list(self._pods.values())
        for each in pods:
            each.stopping = True
            if each.process.poll() is None:
                each.process.kill()
        for each in pods:
            each.process.wait(30)
        for thread in self._threads:
            thread.join(30)

    def _launch(self, pod: str, container: dict[str, Any], ip: str, restarts: int) -> Running:
        arguments = list(container["args"])
        arguments[arguments.index("--host") + 1] = ip
        environment = {"PATH": os.environ["PATH"]}
        environment |= {each["name"]: each["value"].replace("$$", "$") for each in container["env"] if "value" in each}
        log = self._folder / f"{pod}-{restarts}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-S", str(STAND_IN), *container["command"][1:], *arguments]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        before = self._pods[pod].runs if pod in self._pods else []
        return Running(process, log, restarts, runs=[*before, log])

    def _follow(self, namespace: str, pod: str, container: dict[str, Any], ip: str) -> None:
        port = container["ports"][0]["containerPort"]
        ready = False
        while True:
            with self._lock:
                running = self._pods[pod]
            status = running.process.poll()
            if running.stopping:
                return
            if status is not None:
                ready = False
                running = self._restart(namespace, pod, container, ip, running, status)
                continue
            now = _healthy(f"http://{ip}:{port}/health")
            if now != ready:
                ready = now
                told = self._status(container, restarts=running.restarts, running=True, ready=ready)
                self._tell(namespace, pod, {}, told, ready=ready)
            time.sleep(0.02)

    def _restart(
        self, namespace: str, pod: str, container: dict[str, Any], ip: str, running: Running, status: int
    ) -> Running:
        ended = {"exitCode": status if status >= 0 else 128 - status, "reason": "Error"}
        waiting = {"reason": "CrashLoopBackOff", "message": f"back-off restarting failed container in pod {pod}"}
        told = self._status(container, restarts=running.restarts, waiting=waiting, ended=ended)
        self._tell(namespace, pod, {}, told, ready=False)
        time.sleep(0.05)
        anew = self._launch(pod, container, ip, running.restarts + 1)
        with self._lock:  # its end may have come to the run before this one
            anew.stopping = running.stopping
            self._pods[pod] = anew
        if anew.stopping:
            self._stop(anew)
            return anew
        told = self._status(container, restarts=anew.restarts, running=True, ended=ended)
        self._tell(namespace, pod, {}, told, ready=False)
        return anew

    def _status(
        self, container: dict[str, Any], *, restarts: int, running=False, ready=False, waiting=None, ended=None
    ):
        state = {"running": {}} if running else {"waiting": waiting or {"reason": "ContainerCreating"}}
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": self.image_id(container["image"]) if running or ended else "",
            "ready": ready,
            "restartCount": restarts,
            "state": state,
            "lastState": {"terminated": ended} if ended else {},
        }

    def _tell(self, namespace: str, pod: str, changes: dict[str, Any], container: dict[str, Any], ready=False) -> None:
        def change(found: dict[str, Any]) -> None:
            found.setdefault("status", {}).update(changes)
            found["status"]["containerStatuses"] = [container]
            found["status"]["conditions"] = [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "True" if ready else "False"},
            ]

        self._state.edit("pods", namespace, pod, change)

    def _on_deleting(self, plural: str, found: dict[str, Any]) -> None:
        if plural == "pods":
            thread = threading.Thread(target=self._end, args=(found["metadata"],), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _end(self, metadata: dict[str, Any]) -> None:
        with self._lock:
            running = self._pods.get(metadata["name"])
            if running is not None:
                running.stopping = True
        if running is not None:
            self._stop(running)
        self._state.forget("pods", metadata["namespace"], metadata["name"])

    def _stop(self, running: Running) -> None:
        running.stopping = True
        running.process.terminate()
        try:
            running.process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait(30)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
