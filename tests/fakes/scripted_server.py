"""A raw-socket HTTP server that answers completions by script: the first prompt token id chooses the behaviour."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OK, BAD_REQUEST, ERROR_CHUNK, TRUNCATED, RESET, STALL, SHORT, GARBAGE, COMMENTS, TWO_TOKENS = range(10, 20)


def event(tokens: list[int], text: str, finish: str | None = None) -> bytes:
    """One completion chunk as a server-sent event."""
    choice = {"index": 0, "text": text, "token_ids": tokens, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def usage(prompt: int, completion: int) -> bytes:
    """The final usage event."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _piece(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, object]] | None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head:
        return None
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return lines[0].split(" ")[1], json.loads(body) if body else {}


async def _complete(writer: asyncio.StreamWriter, body: dict[str, object]) -> bool:
    """Answer one completion; False if the connection must not be used again."""
    prompt, count = body["prompt"], body["max_tokens"]
    assert isinstance(prompt, list)
    assert isinstance(count, int)
    script = prompt[0]
    if script == BAD_REQUEST:
        text = b'{"error": "no such model"}'
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
        return True
    if script == RESET:
        writer.transport.abort()
        return False
    writer.write(HEAD)
    if script == STALL:
        await writer.drain()
        await asyncio.sleep(30)
        return False
    if script == GARBAGE:
        writer.write(_piece(b"data: {not json\n\n"))
    if script == COMMENTS:
        writer.write(_piece(b": keep-alive\n\n"))
    if script == TWO_TOKENS:
        for _ in range(count // 2):
            writer.write(_piece(event([5, 6], "ab")))
            await writer.drain()
            await asyncio.sleep(0.002)
    else:
        for index in range(count - (1 if script == SHORT else 0)):
            if script == TRUNCATED and index == 1:
                await writer.drain()
                writer.transport.abort()
                return False
            writer.write(_piece(event([5], "a", "length" if index == count - 1 else None)))
            await writer.drain()
            await asyncio.sleep(0.002)
    if script == ERROR_CHUNK:
        writer.write(_piece(b'data: {"error": {"message": "engine died", "code": 500}}\n\n'))
    made = count - 1 if script == SHORT else count
    writer.write(_piece(usage(len(prompt), made)) + _piece(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    return True


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await _read_request(reader)) is not None:
            path, body = request
            if path == "/health":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            elif not await _complete(writer, body):
                break
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client went away: what every server has to bear
    finally:
        writer.close()


@contextmanager
def scripted_server() -> Iterator[str]:
    """The base URL of a running server on a free local port."""
    started = threading.Event()
    running: dict[str, Any] = {}

    async def main() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        running.update(port=server.sockets[0].getsockname()[1], stop=stop, loop=asyncio.get_running_loop())
        started.set()
        await stop.wait()
        server.close()
        handlers = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield f"http://127.0.0.1:{running['port']}"
    finally:
        running["loop"].call_soon_threadsafe(running["stop"].set)
        thread.join(60)
