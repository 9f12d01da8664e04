"""The server's own counters, read from /metrics: what changed over one window."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from redline.access import headers, trust
from redline.errors import ServerDiedError

PREFIX = "vllm:"
COUNTED_SUFFIXES = ("_total", "_sum", "_count")
TIMEOUT_S = 60.0
"""A server that is alive may be slow to answer, on a machine that is busy too: silence is no death."""


def parse_counters(text: str) -> dict[str, float]:
    """`vllm:` counters and histogram sums and counts by name, added up over their labels.

    Source: the Prometheus text format.
    """
    counters: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(PREFIX):
            continue
        for sample in family.samples:
            if sample.name.endswith(COUNTED_SUFFIXES):
                counters[sample.name] = counters.get(sample.name, 0.0) + sample.value
    return counters


def read_counters(
    base_url: str, api_key: str | None = None, *, timeout_s: float = TIMEOUT_S
) -> dict[str, float] | None:
    """The counters now; empty if the server offers none, None if it says nothing within `timeout_s`.

    Raises ServerDiedError if nobody listens there any more, or the connection breaks.
    """
    try:
        response = httpx.get(
            f"{base_url}/metrics", headers=headers(api_key), verify=trust(), timeout=timeout_s, trust_env=False
        )
    except (httpx.ReadTimeout, httpx.PoolTimeout, httpx.WriteTimeout):
        return None  # not known to be dead, nor to offer none
    except httpx.HTTPError as error:
        raise ServerDiedError(
            "the server stopped answering /metrics",
            expected=f"an answer within {timeout_s:.0f} s",
            found=f"{type(error).__name__}: {error}",
            next_step="look at the server's log",
        ) from error
    if response.status_code != httpx.codes.OK:
        return {}
    try:
        return parse_counters(response.text)
    except ValueError:
        return {}  # not Prometheus text: as good as none; the validity rule says that they are not reported


def difference(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> dict[str, float]:
    """What each counter grew by; counters that did not move are left out. Nothing if either reading is missing."""
    if not before or after is None:
        return {}
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {name: value for name, value in sorted(grown.items()) if value != 0.0}
