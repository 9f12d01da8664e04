"""What can be proved about a server that somebody else started; all else is stated as unknown.

Source: vLLM 0.32.0, read from a running server: /v1/models (root, max_model_len, owned_by), /metrics
(vllm:cache_config_info, process_start_time_seconds), /server_info?config_format=json (VLLM_SERVER_DEV_MODE=1 only).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from redline.access import redacted
from redline.deploy.endpoint_answer import Answer, ask, key_of, value_of
from redline.deploy.endpoint_command import is_loopback, listening_process
from redline.errors import DeployError, ReplicaDiedError, ServerDiedError

UNKNOWN = "unknown"

SERVER_INFO_S_MAX = 60.0
"""The first /server_info makes vLLM collect its environment (pip, nvidia-smi), which takes seconds."""

START_TOLERANCE_S = 1.0
"""Two readings of one process's start differ by rounding to 0.01 s; no server restarts within a second."""

CACHE_LABELS = (
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
    "gpu_memory_utilization",
    "num_gpu_blocks",
)
LINES_MAX = 64
LINE_CHARACTERS_MAX = 20_000

ALWAYS_NOTED = (
    "version",
    "model_root",
    "model_owner",
    "context_tokens_max",
    "dtype",
    "tensor_parallel",
    *CACHE_LABELS,
    "software",
    "dev_mode",
    "started_at",
    "process",
)
"""Noted for every server, as unknown where it does not state it."""

MUST_AGREE = (
    "version",
    "model_root",
    "context_tokens_max",
    "dtype",
    "quantization",
    "accelerator",
    "accelerator_count",
    "block_size",
    "cache_dtype",
    "enable_prefix_caching",
)
"""What servers that share a scenario's requests must have in common, where they state it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one server stated. `name`: of the replica in reports, `host:port`, with the path where it has one.

    `said`: clean values on one line by name; what it did not state is not in it. `process_start_s`: when its process
    started, seconds since 1970 by its own clock, None if it does not say.
    """

    name: str
    host: str
    said: Mapping[str, str]
    process_start_s: float | None = None

    def of(self, key: str) -> str:
        """A value that it stated, or the word unknown."""
        return self.said.get(key, UNKNOWN)


def gather(client: httpx.Client, served_model_name: str, version: str) -> Evidence:
    """What the server behind `client` states, on top of `version`. Never raises for what it does not offer."""
    url = client.base_url
    models, metrics = _optional(client, "/v1/models"), _optional(client, "/metrics")
    start_s = process_start_of(metrics.body)
    said = {
        "version": version,
        "software": models.software,
        **_model_of(models.content, served_model_name),
        **_cache_of(metrics.body),
        **_server_info(client),
        "started_at": _instant(start_s),
        "process": listening_process(str(url)),
    }
    return Evidence(
        name=url.netloc.decode("ascii", "replace").rpartition("@")[2] + url.path.rstrip("/"),
        host="loopback" if is_loopback(url.host) else url.host,
        said={name: redacted(value, key_of(client)) for name, value in said.items() if value},
        process_start_s=start_s,
    )


def facts_of(servers: Sequence[Evidence]) -> dict[str, str]:
    """What decides whether results of these servers may be compared with others.

    Not their versions: that two of them differ is what a comparison is for.
    """
    return {
        "served_by": "endpoint",
        "served_at": ", ".join(sorted({each.host for each in servers})),
        "address_count": str(len(servers)),
        "accelerator": _common(servers, "accelerator"),
        "accelerator_count": _common(servers, "accelerator_count"),
        "accelerator_driver": _common(servers, "accelerator_driver"),
    }


def notes_of(servers: Sequence[Evidence]) -> dict[str, str]:
    """The rest of what is known, `server_*`: one value where all state the same, else each with its server's name."""
    told_as_facts = facts_of(servers)
    keys = dict.fromkeys((*ALWAYS_NOTED, *(key for each in servers for key in each.said)))
    return {f"server_{key}": _by_server(servers, key) for key in keys if key not in told_as_facts}


def require_alike(servers: Sequence[Evidence]) -> None:
    """Nothing if all servers state the same wherever they state it. Raises DeployError that names what differs."""
    for key in MUST_AGREE:
        stated = [(each.name, each.said[key]) for each in servers if key in each.said]
        if len({value for _, value in stated}) > 1:
            raise DeployError(
                f"the servers are not alike: their {key.replace('_', ' ')} differs",
                expected="the same behind every address, or the figures belong to none of them",
                found=", ".join(f"{name}: {value}" for name, value in stated),
                next_step="start them alike, or measure each with a run of its own",
            )


def process_start_of(metrics_text: str) -> float | None:
    """process_start_time_seconds of a /metrics page: seconds since 1970; None if it is not there or impossible.

    vLLM leaves it out where several API server processes share one page.
    """
    found = [value for _, value in _samples(metrics_text, "process_start_time_seconds")]
    return found[0] if len(found) == 1 and math.isfinite(found[0]) and 0 < found[0] < 1e11 else None


def process_start(client: httpx.Client) -> float | None:
    """When the server's process started, asked now; None if it does not say or answer."""
    return process_start_of(_optional(client, "/metrics").body)


def require_same_processes(names: Sequence[str], before: Sequence[float | None], now: Sequence[float | None]) -> None:
    """Nothing unless a server states another start than before: it was restarted in between, and is cold again.

    Where one of the two readings is missing nothing is claimed. Raises ServerDiedError, of several servers
    ReplicaDiedError, naming them.
    """
    pairs = zip(names, before, now, strict=True)
    restarted = [
        f"{name} (started {_instant(then)}, then {_instant(since)})"
        for name, then, since in pairs
        if then is not None and since is not None and abs(since - then) > START_TOLERANCE_S
    ]
    if restarted:
        kind = ReplicaDiedError if len(names) > 1 else ServerDiedError
        raise kind(
            "a server was restarted while it was measured",
            expected="one process from the first window to the last",
            found=", ".join(restarted),
            next_step="see in its log why; then measure again",
        )


# --- what it is read from -------------------------------------------------------------------------------------


def _optional(client: httpx.Client, path: str, **request: Any) -> Answer:
    """The answer if there is a good one, an empty one if not."""
    with suppress(httpx.HTTPError):
        answer = ask(client, path, **request)
        if answer.is_ok:
            return answer
    return Answer(0, {}, "")


def _model_of(content: Mapping[str, Any], served_model_name: str) -> dict[str, str]:
    listed = content.get("data")
    cards = listed if isinstance(listed, list) else []
    card = next((each for each in cards if isinstance(each, dict) and each.get("id") == served_model_name), {})
    length = card.get("max_model_len")
    return {
        "model_root": value_of(card.get("root")),
        "model_owner": value_of(card.get("owned_by")),
        "context_tokens_max": str(length) if type(length) is int and length > 0 else "",
    }


def _cache_of(metrics_text: str) -> dict[str, str]:
    """The labels of vllm:cache_config_info; several engines of one server that differ are listed."""
    engines = [labels for labels, _ in _samples(metrics_text, "vllm:cache_config_info")]
    values = {key: dict.fromkeys(value_of(labels.get(key)) for labels in engines) for key in CACHE_LABELS}
    return {key: value_of(", ".join(filter(None, found))) for key, found in values.items()}


def _samples(metrics_text: str, name: str) -> list[tuple[Mapping[str, str], float]]:
    """(labels, value) of every sample of one metric, of its first LINES_MAX lines that are not too long."""
    starts = (f"{name} ", f"{name}{{")
    lines = [line for line in metrics_text.split("\n") if line.startswith(starts) and len(line) <= LINE_CHARACTERS_MAX]
    found: list[tuple[Mapping[str, str], float]] = []
    for line in lines[:LINES_MAX]:
        with suppress(ValueError, IndexError, KeyError):  # not Prometheus text: it states nothing
            families = text_string_to_metric_families(line + "\n")
            found += [(each.labels, each.value) for family in families for each in family.samples if each.name == name]
    return found


def _server_info(client: httpx.Client) -> dict[str, str]:
    """What a server in vLLM's development mode says of its machine, and that it is in it; nothing for any other.

    Only what is named here is read: the answer also holds the server's environment.
    """
    with suppress(httpx.HTTPError):
        answer = ask(client, "/server_info?config_format=json", timeout_s=SERVER_INFO_S_MAX)
        config, machine = _table(answer.content, "vllm_config"), _table(answer.content, "system_env")
        if not config:
            return {"dev_mode": "off, or hidden"} if answer.status == httpx.codes.NOT_FOUND else {}
        model, spread = _table(config, "model_config"), _table(config, "parallel_config")
        return {
            "dev_mode": "on: whoever reaches it can reset its caches",
            "dtype": value_of(model.get("dtype")),
            "quantization": value_of(model.get("quantization")),
            "tensor_parallel": value_of(spread.get("tensor_parallel_size")),
            "accelerator": _accelerator(_table(config, "device_config"), machine),
            "accelerator_count": _count(spread),
            "accelerator_driver": value_of(machine.get("nvidia_driver_version")),
            "rocm": value_of(machine.get("rocm_version")),
            "torch": value_of(machine.get("torch_version")),
            "python": value_of(machine.get("python_version")),
        }
    return {}


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _accelerator(device: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """`cpu`, or the kinds of GPU that its machine has: `GPU 0: NVIDIA H200` for each, as vLLM's collect_env lists."""
    if device.get("device") == "cpu":
        return "cpu"
    listed = machine.get("nvidia_gpu_models")
    lines = listed.split("\n") if isinstance(listed, str) else []
    kinds = dict.fromkeys(value_of(line.partition(":")[2] or line) for line in lines[:LINES_MAX])
    return value_of(" + ".join(kind for kind in kinds if kind))


def _count(spread: Mapping[str, Any]) -> str:
    sizes = [spread.get(key) for key in ("world_size", "data_parallel_size")]
    whole = [size for size in sizes if type(size) is int and 0 < size <= 100_000]
    return str(math.prod(whole)) if len(whole) == len(sizes) else ""


# --- how it is told -------------------------------------------------------------------------------------------


def _instant(start_s: float | None) -> str:
    return datetime.fromtimestamp(start_s, UTC).isoformat(timespec="milliseconds") if start_s is not None else ""


def _common(servers: Sequence[Evidence], key: str) -> str:
    values = {each.of(key) for each in servers}
    return values.pop() if len(values) == 1 else UNKNOWN


def _by_server(servers: Iterable[Evidence], key: str) -> str:
    values = {each.name: each.of(key) for each in servers}
    told: Callable[[tuple[str, str]], str] = ": ".join
    return next(iter(values.values())) if len(set(values.values())) == 1 else "; ".join(map(told, values.items()))
