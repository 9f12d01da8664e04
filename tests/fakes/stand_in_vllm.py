"""A stand-in for `python -m vllm.entrypoints.openai.api_server`: a real HTTP server that misbehaves on demand.

Its arguments are vLLM's; what it does is said in its environment (a recipe's `environment`):
STAND_IN_MODE, one of MODES; STAND_IN_PIDS, a file to which every process adds its pid; STAND_IN_DIR, a folder
for what a mode has to remember; STAND_IN_VERSION, what it says on /version; STAND_IN_STREAMED, a file that grows by a
byte with every completion that is streamed; STAND_IN_GATE, a file whose coming a mode waits for, so that a test decides
what happens first; STAND_IN_HELD, a file with a number: while it is there, completions that are streamed when that many
were wait for it to go. Standard library only.
"""

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODES = {
    "ok": "answers",
    "exit": "ends with a traceback like vLLM's: the root cause in the middle, a wrapper at the end",
    "never": "runs and never listens",
    "error500": "is healthy and answers completions with 500",
    "error404": "is healthy and answers completions with 404",
    "no_tokens": "is healthy and answers completions without a token",
    "slow": "listens after a second and takes another for its first completion",
    "gated": "listens once STAND_IN_GATE is there",
    "dies": "ends with status 3 after its first completion, once STAND_IN_GATE is there",
    "stubborn": "ignores SIGTERM",
    "family": "has a child in its group, and a grandchild that forked twice and called setsid",
    "engine": "is unhealthy, and stays, once its child is gone and STAND_IN_GATE, if one is named, is there",
    "hiccup": "once its child is gone, says that it is not healthy, then that it is, but late, then as ever",
    "parent": "has a child, whose end does not matter",
    "helper": "has a child that ends a moment later, which does not matter",
    "no_kv_memory": "ends with vLLM's words about a KV cache that does not fit",
    "memory_error": "asks for more memory than it may have",
    "hog": "joins the memory cgroup STAND_IN_CGROUP and takes memory until the kernel kills it",
    "port_lost_once": "finds its port taken the first time",
}
SLEEPER = "import time; time.sleep(300)"
WAIT_S_MAX = 120.0
HICCUP = ((0.0, False), (6.0, True))
"""The next answers on /health: after how many seconds, and whether healthy."""

STATE: dict[str, Any] = {
    "healthy": True,
    "first_completion": threading.Event(),
    "completions": 0,
    "health": 0,
    "hiccup": [],
}


def note_pid(pid: int) -> None:
    """Write a pid down for the test."""
    if "STAND_IN_PIDS" in os.environ:
        with Path(os.environ["STAND_IN_PIDS"]).open("a") as file:
            file.write(f"{pid}\n")


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once it holds; ends this process after a bound, so that a failed test leaves none behind."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            os._exit(4)
        time.sleep(0.01)


def is_open() -> bool:
    """True if the gate is there, or none was named."""
    return "STAND_IN_GATE" not in os.environ or Path(os.environ["STAND_IN_GATE"]).exists()


def may_stream() -> bool:
    """False while completions are held back and as many were streamed as the file says."""
    try:
        count = int(Path(os.environ["STAND_IN_HELD"]).read_text())
    except (KeyError, FileNotFoundError):
        return True
    return Path(os.environ["STAND_IN_STREAMED"]).stat().st_size < count


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, count: int) -> None:
        """One chunk per token, usage, the end: as vLLM streams a completion."""
        wait_for(may_stream)
        chunks: list[dict[str, object]] = [
            {"choices": [{"index": 0, "text": "x", "token_ids": [5], "finish_reason": None}]}
        ] * count
        usage = {"prompt_tokens": 4, "completion_tokens": count, "total_tokens": 4 + count}
        chunks += [{"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}, {"choices": [], "usage": usage}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        if "STAND_IN_STREAMED" in os.environ:
            with Path(os.environ["STAND_IN_STREAMED"]).open("ab") as file:
                file.write(b".")

    def do_GET(self) -> None:
        match self.path:
            case "/health":
                STATE["health"] += 1
                late_s, healthy = STATE["hiccup"].pop(0) if STATE["hiccup"] else (0.0, STATE["healthy"])
                time.sleep(late_s)
                self.answer(200 if healthy else 503, {})
            case "/version":
                self.answer(200, {"version": os.environ.get("STAND_IN_VERSION", "0.0.0+standin")})
            case "/v1/models":
                self.answer(200, {"data": [{"id": ARGUMENTS.served_model_name}]})
            case "/environment":
                self.answer(200, {"environment": dict(os.environ), "argv": sys.argv, "cwd": str(Path.cwd())})
            case "/asked":
                self.answer(200, {key: STATE[key] for key in ("completions", "health", "hiccup")})
            case _:
                self.answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        STATE["completions"] += 1
        match MODE:
            case "error500":
                self.answer(500, {"error": {"message": "the engine \x1b[31mis\x1b[0m not well"}})
            case "error404":
                self.answer(404, {"error": {"message": "The model `other` does not exist."}})
            case "no_tokens":
                self.answer(200, {"choices": [], "usage": {"completion_tokens": 0}})
            case _:
                if MODE == "slow" and not STATE["first_completion"].is_set():
                    time.sleep(1)
                count = request["max_tokens"]
                if request.get("stream"):
                    self.stream(count)
                    return
                self.answer(200, {"choices": [{"text": "x" * count}], "usage": {"completion_tokens": count}})
                STATE["first_completion"].set()


def start_child(code: str = SLEEPER) -> subprocess.Popen[bytes]:
    """A child of ours."""
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
    note_pid(child.pid)
    return child


def start_orphan() -> None:
    """A process that forked twice, in a session of its own, that ignores SIGTERM: what a daemon does."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        orphan = os.fork()
        if orphan == 0:
            time.sleep(300)
        else:
            note_pid(orphan)
        os._exit(0)
    os.wait()  # the orphan is noted by now


def watch_child(child: subprocess.Popen[bytes]) -> None:
    """Be unhealthy once the child is gone."""
    child.wait()
    wait_for(is_open)
    STATE["healthy"] = False


def hiccup_after(child: subprocess.Popen[bytes]) -> None:
    """Have a hiccup once the child is gone."""
    child.wait()
    STATE["hiccup"].extend(HICCUP)


def die_after_completion() -> None:
    """End after the first completion, when the test says so."""
    STATE["first_completion"].wait()
    wait_for(is_open)
    print("(EngineCore pid=7) ERROR 01-02 03:04:05 [core.py:1] RuntimeError: the engine fell over", flush=True)
    os._exit(3)


def fail_like_vllm(cause: str) -> None:
    """End as vLLM does when its engine cannot start."""
    prefix = "(EngineCore pid=7) ERROR 01-02 03:04:05 [core.py:1510] "
    print(f'{prefix}Traceback (most recent call last):\n{prefix}  File "core.py", line 1, in run', file=sys.stderr)
    print(f"\x1b[31m{prefix}{cause}\x1b[0m", file=sys.stderr)
    for number in range(200):
        print(f'(APIServer pid=6)   File "entry.py", line {number}, in somewhere', file=sys.stderr)
    print("RuntimeError: Engine core initialization failed. See root cause above.", file=sys.stderr)
    sys.exit(1)


def take_memory_in_cgroup() -> None:
    """Take memory until the kernel objects."""
    (Path(os.environ["STAND_IN_CGROUP"]) / "cgroup.procs").write_text(str(os.getpid()))
    taken = []
    for _ in range(1000):
        taken.append(b"x" * (1 << 20))
        time.sleep(0.002)


def exceed_memory() -> None:
    """Ask for four gigabytes where half a gigabyte is allowed."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
    bytearray(1 << 32)


def hang() -> None:
    """Show progress as a loader does, and never listen."""
    print("loading weights:  10%\rloading weights:  90%", flush=True)
    time.sleep(300)


def have_family() -> None:
    """A child in our group and an orphan out of it."""
    start_child()
    start_orphan()


def lose_port_once() -> None:
    """Find the port taken, the first time."""
    marker = Path(os.environ["STAND_IN_DIR"]) / "lost"
    if not marker.exists():
        marker.touch()
        rival = socket.socket()
        rival.bind(("127.0.0.1", ARGUMENTS.port))
        rival.listen()
        socket.socket().bind(("127.0.0.1", ARGUMENTS.port))


def in_thread(call, *given) -> None:
    """Do something beside serving."""
    threading.Thread(target=call, args=given, daemon=True).start()


NO_KV_MEMORY = (
    "ValueError: Available memory on node 0 (5.78/6.71 GiB) on kv cache allocation is less than requested memory for "
    "kv (2000.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce CPU memory used by others."
)
PREPARATIONS: dict[str, Callable[[], object]] = {
    "exit": lambda: fail_like_vllm("ValueError: this model cannot be served"),
    "no_kv_memory": lambda: fail_like_vllm(NO_KV_MEMORY),
    "memory_error": exceed_memory,
    "hog": take_memory_in_cgroup,
    "never": hang,
    "slow": lambda: time.sleep(1),
    "gated": lambda: wait_for(is_open),
    "stubborn": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "family": have_family,
    "engine": lambda: in_thread(watch_child, start_child()),
    "hiccup": lambda: in_thread(hiccup_after, start_child()),
    "parent": start_child,
    "helper": lambda: start_child("import time; time.sleep(1.5)"),
    "dies": lambda: in_thread(die_after_completion),
    "port_lost_once": lose_port_once,
}
"""What a mode does before it listens."""


def arguments() -> argparse.Namespace:
    """The part of vLLM's arguments that Redline sets."""
    parser = argparse.ArgumentParser(prog="api_server.py")
    for name, kind in (("model", str), ("served-model-name", str), ("host", str), ("port", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--revision")
    return parser.parse_args(sys.argv[3:])


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"], sys.argv
    ARGUMENTS = arguments()
    MODE = os.environ.get("STAND_IN_MODE", "ok")
    assert MODE in MODES, MODE
    note_pid(os.getpid())
    PREPARATIONS.get(MODE, lambda: None)()
    ThreadingHTTPServer.request_queue_size = 128  # as uvicorn: a full queue costs a second each
    ThreadingHTTPServer((ARGUMENTS.host, ARGUMENTS.port), Handler).serve_forever()
