"""Whether what was made in a cluster is ready, and in its own words why not: pure functions of the API's objects."""

from __future__ import annotations

from redline.deploy.cluster_client import Json
from redline.deploy.cluster_pods import at, conditions, texts, whole

WITH_CONDITIONS = frozenset({"LLMInferenceService", "InferenceService"})
"""Kinds whose controller says Ready."""

JUDGED = WITH_CONDITIONS | {"Deployment"}
"""Kinds that are waited for; the others are there when they are made."""

CANNOT_BE_COMBINED = "PresetsCombined"
"""The condition of an LLMInferenceService whose configuration contradicts itself or names what is not there."""


def unready(found: Json) -> tuple[str, ...]:
    """What an object still waits for, a line each; () if it is ready."""
    if found["kind"] == "Deployment":
        return _unready_deployment(found)
    return _unready_service(found) if found["kind"] in WITH_CONDITIONS else ()


def _is_stale(found: Json) -> bool:
    """True if its controller has not looked at it since it was last written."""
    seen = at(found, "status", "observedGeneration")
    return isinstance(seen, int) and seen < whole(found, "metadata", "generation")


def _unready_deployment(found: Json) -> tuple[str, ...]:
    wanted, ready = whole(found, "spec", "replicas"), whole(found, "status", "readyReplicas")
    if ready >= wanted and not _is_stale(found):
        return ()
    name = texts(found, "metadata", "name")
    failed = conditions(found).get("ReplicaFailure", {})  # a quota, or a service account that is missing
    return (f"{name}: {ready} of {wanted} replicas ready", *([texts(failed, "message")] if failed else []))


def _unready_service(found: Json) -> tuple[str, ...]:
    told = conditions(found)
    if texts(told.get("Ready", {}), "status") == "True" and not _is_stale(found):
        return ()
    # Informative ones may stay false; Ready only sums the others up.
    waits = {
        name: each
        for name, each in told.items()
        if texts(each, "status") != "True" and texts(each, "severity") != "Info" and name != "Ready"
    }
    if not waits and "Ready" in told:
        waits = {"Ready": told["Ready"]}
    if not waits:
        return (f"{found['kind']} reports no condition yet (does its controller run?)",)
    return tuple(_in_words(name, each) for name, each in waits.items())


def _in_words(name: str, condition: Json) -> str:
    status, reason, message = (texts(condition, key) for key in ("status", "reason", "message"))
    return f"{name} {status}" + (f" ({reason})" if reason else "") + (f": {message}" if message else "")


def contradiction(found: Json) -> str:
    """Why an object can never become ready, as far as its controller says so; ''."""
    condition = conditions(found).get(CANNOT_BE_COMBINED, {})
    return _in_words(CANNOT_BE_COMBINED, condition) if texts(condition, "status") == "False" else ""
