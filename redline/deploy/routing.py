"""Who spreads requests over the replicas of a cluster, stated in full: llm-d's endpoint picker and its configuration.

What a router does when nobody says anything favours replicas that hold a prompt's prefix already: right for serving,
and no comparison of engines. So the configuration is always explicit, and part of the system under test.

Source: the plugins' own documentation in llm-d-router (EndpointPickerConfig, scorers, pickers), and its default
configuration for the weights of `prefix-aware`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml

from redline.errors import UsageError
from redline.model import RouterPin, RunnerClass

CONFIG_API_VERSION = "llm-d.ai/v1alpha1"
CONFIG_KIND = "EndpointPickerConfig"
ROUTED_DEPLOYERS = ("kserve", "llm-d")
PREFIX_SCORER = "prefix-cache-scorer"

EVEN: Mapping[str, int] = {"active-request-scorer": 1}
"""Scorers and weights that spread evenly: the replica with the fewest requests in flight, ties at random."""

PREFIX_AWARE: Mapping[str, int] = {"queue-scorer": 2, "kv-cache-utilization-scorer": 2, PREFIX_SCORER: 3}
"""What llm-d's router does by default: short queues, free KV cache, and most of all a prefix that is there already."""

_TEXT_FLAGS = frozenset({"config-text", "configText"})
_FILE_FLAGS = frozenset({"config-file", "configFile"})
"""By which a picker is told its configuration; both at once it refuses. Source: llm-d-router's options, and KServe's
controller for the older spellings."""

SCORERS: Mapping[str, Mapping[str, int]] = {"even": EVEN, "prefix-aware": PREFIX_AWARE}


def endpoint_picker_config(routing: Literal["even", "prefix-aware"]) -> str:
    """The picker's configuration as YAML: one profile, its scorers with their weights, the best score wins."""
    scorers = SCORERS[routing]
    config = {
        "apiVersion": CONFIG_API_VERSION,
        "kind": CONFIG_KIND,
        "plugins": [{"type": name} for name in ("single-profile-handler", *scorers, "max-score-picker")],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [
                    *({"pluginRef": name, "weight": weight} for name, weight in scorers.items()),
                    {"pluginRef": "max-score-picker"},
                ],
            }
        ],
    }
    return yaml.safe_dump(config, sort_keys=False)


def router_of(runner_class: RunnerClass, routing: Literal["even", "prefix-aware"]) -> RouterPin | None:
    """The router that spreads requests on a class; None where the client itself takes turns over the replicas.

    Raises UsageError for a routing that nothing on this class does, and for a router whose image is not named.
    """
    cluster = runner_class.cluster
    if cluster is None or cluster.reach != "router" or runner_class.deployer not in ROUTED_DEPLOYERS:
        if routing != "even":
            raise UsageError(
                f"nothing on runner class {runner_class.name} routes by prefix",
                expected='deployer = "kserve" or "llm-d" and reach = "router"',
                found=f'deployer = "{runner_class.deployer}"' + (f', reach = "{cluster.reach}"' if cluster else ""),
                next_step="choose such a runner class, or a scenario that is routed evenly",
            )
        return None
    if not cluster.router_image:
        raise UsageError(
            f"runner class {runner_class.name} is reached through a router that is not pinned",
            expected="router_image in [cluster], by digest: repository@sha256:...",
            found="none",
            next_step='name the endpoint picker\'s image there, or set reach = "pods"',
        )
    return RouterPin(image=cluster.router_image, config=endpoint_picker_config(routing))


def picker_config(router: RouterPin) -> dict[str, Any]:
    """A pinned router's configuration as a table. Raises UsageError for what is no EndpointPickerConfig."""
    try:
        config = yaml.safe_load(router.config)
    except yaml.YAMLError as error:
        raise _no_config(str(error)) from error
    if not isinstance(config, dict) or config.get("kind") != CONFIG_KIND:
        raise _no_config(router.config)
    return config


def _no_config(found: str) -> UsageError:
    return UsageError(
        "the router's configuration cannot be used",
        expected=f"YAML of kind {CONFIG_KIND}",
        found=found[:200],
        next_step="correct the router's configuration in the build's record",
    )


def require_prefix_cache(router: RouterPin, server_args: Sequence[str]) -> None:
    """Refuse to route by prefixes over servers that keep none. Raises UsageError."""
    plugins = picker_config(router).get("plugins") or []
    types = {plugin.get("type") for plugin in plugins if isinstance(plugin, dict)}
    said = [each for each in server_args if each in ("--enable-prefix-caching", "--no-enable-prefix-caching")]
    if PREFIX_SCORER in types and said and said[-1] == "--no-enable-prefix-caching":
        raise UsageError(
            "requests would be routed by cached prefixes, and the servers keep none",
            expected="a recipe with prefix caching, which is vLLM's default",
            found="--no-enable-prefix-caching",
            next_step="add --enable-prefix-caching to the server arguments, or choose a scenario that is routed evenly",
        )


def router_mark(router: RouterPin) -> str:
    """A router in short, by which results behind different ones are told apart: `3b9d0a4e17c2/5f1c88ab`.

    12 hex digits of the image's digest, and 8 of the SHA-256 of its configuration.
    """
    configuration = hashlib.sha256(router.config.encode()).hexdigest()[:8]
    return f"{image_mark(router.image)}/{configuration}"


def image_mark(image: str) -> str:
    """12 hex digits of the digest of a pinned image."""
    return image.rpartition("@sha256:")[2][:12]


def router_problem(
    router: RouterPin, pod: Mapping[str, Any], container: str, config_maps: Mapping[str, Mapping[str, str]]
) -> str:
    """What keeps a running picker from being the pinned router; '' if it is.

    What runs is read back, for a cluster may say otherwise than it was asked: an admission rule replaces the image, a
    preset brings arguments of its own, and KServe's controller rewrites configurations for some versions of the router.
    `pod`: the router's, as the API shows it; `container`: the picker's name in it; `config_maps`: name -> file -> text
    of those that Redline made.
    """
    spec = pod.get("spec") or {}
    found = next((each for each in spec.get("containers") or () if each.get("name") == container), None)
    if found is None:
        return f"it has no container {container}"
    image = str(found.get("image", ""))
    if image.rpartition("@")[2] != router.image.rpartition("@")[2]:
        return f"its picker runs {image or 'no image'}"
    arguments = [str(each) for part in ("command", "args") for each in found.get(part) or ()]
    texts, files = _values_of(arguments, _TEXT_FLAGS), _values_of(arguments, _FILE_FLAGS)
    if not texts and not files:
        return "its picker was given no configuration"
    if texts and files:
        return f"its picker was given two configurations: a text, and the file {files[-1]}"
    text = texts[-1] if texts else _mounted_text(spec, found, files[-1], config_maps)
    if text is None:
        return f"its picker reads {files[-1]}, which Redline did not write"
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError:
        config = None
    return "" if config == picker_config(router) else f"its picker was given another configuration: {text[:300]!r}"


def _values_of(arguments: Sequence[str], names: frozenset[str]) -> list[str]:
    """The values of a flag, the one that counts last: after it, or behind its `=`; with one dash or two."""
    values = []
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("-") and name.lstrip("-") in names:
            values.append(value if equals else next(iter(arguments[index + 1 : index + 2]), ""))
    return values


def _mounted_text(
    spec: Mapping[str, Any], container: Mapping[str, Any], path: str, config_maps: Mapping[str, Mapping[str, str]]
) -> str | None:
    """The text of a file that a container reads from a ConfigMap of ours, mounted whole; None for any other file."""
    folder, _, name = path.rpartition("/")
    mounts = [each for each in container.get("volumeMounts") or () if str(each.get("mountPath")).rstrip("/") == folder]
    if len(mounts) != 1 or mounts[0].get("subPath"):
        return None
    volumes = [each for each in spec.get("volumes") or () if each.get("name") == mounts[0].get("name")]
    source = (volumes[0].get("configMap") or {}) if len(volumes) == 1 else {}
    return None if source.get("items") else config_maps.get(str(source.get("name")), {}).get(name)
