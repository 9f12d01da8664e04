"""Stock httpx as anybody would write it: one task per request, asyncio.sleep, a stamp per line.

`python -m benchmarks.load.programs.httpx_client TASK.json OUTPUT.npz`
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.load.stamped import Stamps, write_stamps

LEAD_NS = 200_000_000


async def _exchange(client: httpx.AsyncClient, body: dict[str, Any], index: int, stamps: Stamps) -> None:
    stamps.send_ns[index] = time.monotonic_ns()
    try:
        headers = {"x-request-id": f"r{index}"}
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: {") and '"choices":[]' not in line:
                    stamps.chunk_ns[index].append(time.monotonic_ns())
    except httpx.HTTPError:
        stamps.failed.add(index)


async def _drive(task: dict[str, Any]) -> Stamps:
    due_s: list[float] = task["due_s"]
    stamps = Stamps.empty(len(due_s))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=task["base_url"], limits=limits, timeout=None, trust_env=False) as client:  # noqa: S113 - the suite bounds the process
        start_ns = time.monotonic_ns() + LEAD_NS
        running = []
        for index, (offset_s, body) in enumerate(zip(due_s, task["bodies"], strict=True)):
            due_ns = start_ns + round(offset_s * 1e9)
            stamps.due_ns[index] = due_ns
            wait_s = (due_ns - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            running.append(asyncio.create_task(_exchange(client, body, index, stamps)))
        await asyncio.gather(*running)
    return stamps


def main() -> None:
    """Drive the task of one cell and write its stamps."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    write_stamps(Path(sys.argv[2]), asyncio.run(_drive(task)), "r{index}")


if __name__ == "__main__":
    main()
