"""A file from an address: bounded in time and size, taken up again where it broke off, whole or not there.

What is half there lies beside its target as `<target>.part`, with the address and the server's own mark of the file
(its ETag): only bytes of the very same file are ever joined.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import httpx

from redline.access import trust
from redline.errors import BuildError
from redline.whole_file import write_whole

DOWNLOAD_S_MAX = 3600.0
DOWNLOAD_BYTES_MAX = 8_000_000_000
SILENCE_S_MAX = 60.0
ATTEMPTS_MAX = 5
RETRY_S = 1.0
PROGRESS_S = 5.0
BYTES_SPARE_MIN = 500_000_000
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _BrokenOffError(Exception):
    """The connection ended, or the server is busy: to be tried again."""


def download(
    url: str,
    target: Path,
    *,
    on_line: Callable[[str], None],
    auth: tuple[str, str] | None = None,
    bytes_max: int = DOWNLOAD_BYTES_MAX,
    retry_s: float = RETRY_S,
) -> None:
    """Put what is at `url` at `target`. One process at a time: the caller holds a lock.

    `on_line` is told how far it is, every few seconds. `retry_s`: the first wait after a failure; it doubles while
    nothing more comes.
    Raises BuildError: no such file, no answer, too large, too slow, or no space. What came stays for the next try.
    """
    deadline_s = time.monotonic() + DOWNLOAD_S_MAX
    problem, failures, best = "", 0, 0
    with httpx.Client(verify=trust(), auth=auth, timeout=SILENCE_S_MAX, follow_redirects=True) as client:
        while failures < ATTEMPTS_MAX and time.monotonic() < deadline_s:
            if problem:
                on_line(f"{_name(url)}: {problem}; trying again")
                time.sleep(min(retry_s * 2**failures, max(0.0, deadline_s - time.monotonic())))
            try:
                _attempt(client, url, target, _Bounds(bytes_max, deadline_s), on_line)
            except (httpx.TransportError, _BrokenOffError) as error:
                problem = str(error)[:200] or type(error).__name__
                size = _part(target).stat().st_size if _part(target).is_file() else 0
                failures, best = (0, size) if size > best else (failures + 1, best)
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:  # too many redirects, no address
                raise _failed(url, "a file", f"{type(error).__name__}: {str(error)[:200]}") from error
            except OSError as error:
                with suppress(OSError):  # half a file on a full disk helps nobody
                    _part(target).unlink()
                raise _failed(url, f"space and permission in {target.parent}", str(error)) from error
            return
    raise _failed(url, f"more of it in {ATTEMPTS_MAX} tries, and all of it within {DOWNLOAD_S_MAX:.0f} s", problem)


class _Bounds:
    """How much and until when (on the monotonic clock)."""

    def __init__(self, bytes_max: int, deadline_s: float) -> None:
        self.bytes_max = bytes_max
        self.deadline_s = deadline_s


def _attempt(client: httpx.Client, url: str, target: Path, bounds: _Bounds, on_line: Callable[[str], None]) -> None:
    part, note = _part(target), target.with_name(f"{target.name}.part.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    mark = _mark_of(note, url)
    have = part.stat().st_size if mark and part.is_file() else 0
    request = {"accept-encoding": "identity"}
    if have:
        request |= {"range": f"bytes={have}-", "if-range": mark}
    with client.stream("GET", url, headers=request) as answer:
        if url.startswith("https://") and answer.url.scheme != "https":
            raise _failed(url, "an encrypted connection to the end", "a redirect to an unencrypted address")
        if answer.status_code == 416:
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server has less of it than is here")
        if answer.status_code in _PASSING:
            raise _BrokenOffError(f"HTTP status {answer.status_code}")
        if answer.status_code not in (200, 206):
            raise _failed(url, "a file", f"HTTP status {answer.status_code}")
        begin, total = _range_of(answer)
        if begin != (have if answer.status_code == 206 else 0):
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server sent another part than was asked for")
        _require_room(url, part.parent, bounds, total, total - begin if total else 0)
        strong = answer.headers.get("etag", "")
        write_whole(note, json.dumps({"url": url, "etag": "" if strong.startswith("W/") else strong}))
        size = _write(answer, url, part, begin, total, bounds, on_line)
    if total is not None and size != total:
        raise _BrokenOffError(f"{size} of {total} bytes came")
    part.replace(target)
    note.unlink(missing_ok=True)


def _write(
    answer: httpx.Response,
    url: str,
    part: Path,
    begin: int,
    total: int | None,
    bounds: _Bounds,
    on_line: Callable[[str], None],
) -> int:
    """Bytes of the file once the answer has ended."""
    size, told_s = begin, time.monotonic()
    with part.open("r+b" if begin else "wb") as stream:
        stream.seek(begin)
        stream.truncate()
        # No block size: httpx would gather so much first, and lose it with the connection.
        for block in answer.iter_raw():
            stream.write(block)
            size += len(block)
            now_s = time.monotonic()
            if size > bounds.bytes_max:
                raise _failed(url, f"at most {bounds.bytes_max / 1e9:.1f} GB", "more")
            if now_s > bounds.deadline_s:
                raise _failed(url, f"an end within {DOWNLOAD_S_MAX:.0f} s", f"{size / 1e6:.0f} MB so far")
            if now_s - told_s >= PROGRESS_S:
                told_s = now_s
                of = f" of {total / 1e6:.0f}" if total else ""
                on_line(f"{_name(url)}: {size / 1e6:.0f}{of} MB downloaded")
    return size


def _range_of(answer: httpx.Response) -> tuple[int, int | None]:
    """(first byte, bytes of the whole file if the server says so) of an answer."""
    if answer.status_code == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("content-range", ""))
        return (int(match[1]), int(match[2]) if match[2] != "*" else None) if match else (-1, None)
    length = answer.headers.get("content-length", "")
    return 0, int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _require_room(url: str, directory: Path, bounds: _Bounds, total: int | None, missing: int) -> None:
    if total is not None and total > bounds.bytes_max:
        raise _failed(url, f"at most {bounds.bytes_max / 1e9:.1f} GB", f"{total / 1e9:.1f} GB")
    free = shutil.disk_usage(directory).free
    if missing and free < missing + BYTES_SPARE_MIN:
        needed = (missing + BYTES_SPARE_MIN) / 1e9
        raise _failed(url, f"{needed:.1f} GB free under {directory}", f"{free / 1e9:.1f} GB")


def _name(url: str) -> str:
    return unquote(url.rpartition("/")[2])


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _mark_of(note: Path, url: str) -> str:
    """The server's mark of the file that was begun; empty if there is none, or it is of another address."""
    try:
        raw = json.loads(note.read_text(encoding="utf-8"))
        return str(raw["etag"]) if raw["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _failed(url: str, expected: str, found: str) -> BuildError:
    return BuildError(
        f"{url}: cannot be downloaded",
        expected=expected,
        found=found,
        next_step="check the address, the network and the space, then try again: what came is kept",
    )
