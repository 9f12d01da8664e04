"""Where packages come from on this machine, as pip is configured, handed over to uv (which does not read it).

A pip index address may carry a password. It stays in memory and in the environment of the uv process: never on
a command line (which every user of a shared runner can read), never in a log, a pin or an error message.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PIP_S_MAX = 60.0
_SECTIONS = ("global", "install", ":env:")
"""Later ones outrank earlier ones, whole values replacing each other. Source: pip's ConfigOptionParser."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_TRUE = {"1", "true", "yes", "on"}


def without_credentials(text: str) -> str:
    """The text with the user name and password of every address in it replaced by `***`."""
    return _CREDENTIALS.sub("***@", text)


@dataclass(frozen=True, slots=True, repr=False)
class PipConfiguration:
    """Where pip would look: all of `index_url`, `extra_index_urls` and `find_links` count alike.

    Its printed form never shows a password.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    cert: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False

    def __repr__(self) -> str:
        parts = (f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
        return without_credentials(f"PipConfiguration({', '.join(parts)})")


def read(python: Path | None = None, environment: Mapping[str, str] | None = None) -> PipConfiguration:
    """What pip itself says it is configured to do: files and `PIP_*` variables, in pip's own order of rank.

    `python` is the interpreter whose pip is asked: by default the running one, then the one it was made from
    (an environment made by uv has no pip). Where neither has pip, the `PIP_*` variables alone are read.
    """
    current = dict(os.environ if environment is None else environment)
    candidates = [python] if python else [Path(sys.executable), Path(getattr(sys, "_base_executable", sys.executable))]
    for candidate in dict.fromkeys(candidates):
        listing = _ask_pip(candidate, current)
        if listing is not None:
            return parse(listing)
    variables = (
        f":env:.{name[4:].lower().replace('_', '-')}={value!r}"
        for name, value in current.items()
        if name.startswith("PIP_") and value
    )
    return parse("\n".join(variables))


def _ask_pip(python: Path, environment: Mapping[str, str]) -> str | None:
    # -P: a file named pip.py in the working directory must not answer for pip.
    try:
        done = subprocess.run(
            [str(python), "-P", "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            timeout=PIP_S_MAX,
            env={**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def parse(listing: str) -> PipConfiguration:
    """The configuration that the text of `pip config list` describes; keys of other commands are passed over."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, separator, quoted = line.partition("=")
        section, _, key = name.strip().rpartition(".")
        if not separator or section not in by_section:
            continue
        try:
            value = str(ast.literal_eval(quoted.strip()))
        except (ValueError, SyntaxError):
            continue
        if value.strip():  # pip passes over empty values too
            by_section[section][key] = value
    values: dict[str, str] = {}
    for section in _SECTIONS:
        values |= by_section[section]
    several = {key: tuple(values.get(key, "").split()) for key in ("extra-index-url", "find-links", "trusted-host")}
    return PipConfiguration(
        index_url=values["index-url"].strip() if "index-url" in values else None,
        extra_index_urls=several["extra-index-url"],
        find_links=several["find-links"],
        cert=values["cert"].strip() if "cert" in values else None,
        trusted_hosts=several["trusted-host"],
        no_index=values.get("no-index", "").strip().lower() in _TRUE,
    )


def uv_arguments(configuration: PipConfiguration) -> tuple[str, ...]:
    """What uv has to be told on its command line: only `--no-index`, for which it reads no variable."""
    return ("--no-index",) if configuration.no_index else ()


def uv_environment(configuration: PipConfiguration, current: Mapping[str, str]) -> dict[str, str]:
    """`current` with uv's variables set to what pip is configured to do; what was said to uv itself stays.

    Variables rather than arguments, because arguments would show an index password to every user of the host.

    uv's default takes a package only from the first index that has it, a defence against a public index
    answering for a private name. pip treats all indexes alike, and people configure it so: a second index that
    completes the first one is useless otherwise (here, one holds `lark` and another the version vLLM needs).
    `unsafe-best-match` is that same rule. It adds no exposure that the user's own pip does not have, and it acts
    only while a pin is made: afterwards every file is fixed by its SHA-256, whichever index serves it.
    """
    result = dict(current)
    # File links are resolved here, since uv runs in a directory of its own.
    links = (entry if "://" in entry else str(Path(entry).expanduser().resolve()) for entry in configuration.find_links)
    wanted = {
        "UV_EXTRA_INDEX_URL": " ".join(configuration.extra_index_urls),
        "UV_FIND_LINKS": ",".join(links),
        "UV_INSECURE_HOST": " ".join(configuration.trusted_hosts),
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": configuration.cert or "",
    }
    if "UV_DEFAULT_INDEX" not in current:
        wanted["UV_INDEX_URL"] = configuration.index_url or ""
    for name, value in wanted.items():
        if value:
            result.setdefault(name, value)
    return result
