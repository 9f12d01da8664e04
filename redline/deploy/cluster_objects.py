"""What Redline makes in a cluster: marked as its own, made whole or not at all, ended by whoever made it or by cleanup.

An object is ended only if it carries the mark of the deployment that ends it (or of a Redline that is gone), by name
and uid: one that somebody else made under the same name is never touched.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from redline.deploy.cluster_client import Cluster, Json
from redline.deploy.cluster_credentials import connect
from redline.deploy.cluster_errors import ApiRefusalError
from redline.deploy.diagnosis import clean_line
from redline.deploy.owner import Owner, fate_of, owner_of, this_process
from redline.errors import ClusterError
from redline.model import ClusterSettings, digest
from redline.whole_file import write_whole

MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_LABEL = "redline/run"
NAME_LABEL = "redline/name"
OWNER = "redline/owner"
DEPLOYMENT = "redline/deployment"
OURS = f"{MANAGED_BY}=redline"

Kinds: TypeAlias = tuple[tuple[str, str], ...]
"""(apiVersion, kind) each."""

GONE_S_MAX = 300.0
"""How long the end of what was made may take: servers that are told to end, then their finalizers."""

_POLL_S_MIN, _POLL_S_MAX = 0.2, 2.0


def label_value(text: str) -> str:
    """A text as a label may hold it: at most 63 characters, letters and digits at both ends."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63]
    return kept.strip("._-")


def marked(manifest: Json, *, run_id: str, name: str, deployment: str, owner: Owner) -> dict[str, Any]:
    """The manifest with Redline's labels and annotations added; what it selects by is left alone."""
    copy: dict[str, Any] = deepcopy(dict(manifest))
    metadata = copy.setdefault("metadata", {})
    labels = {MANAGED_BY: "redline", RUN_LABEL: label_value(run_id), NAME_LABEL: label_value(name)}
    notes = {OWNER: owner.text, DEPLOYMENT: deployment}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **notes}
    return copy


def annotation(found: Json, key: str) -> str:
    """An annotation's text; '' without it."""
    value = ((found.get("metadata") or {}).get("annotations") or {}).get(key)
    return value if isinstance(value, str) else ""


def is_redlines(found: Json) -> bool:
    """True if it carries Redline's label."""
    return ((found.get("metadata") or {}).get("labels") or {}).get(MANAGED_BY) == "redline"


def title(found: Json) -> str:
    """`LLMInferenceService speed-00`."""
    return f"{found['kind']} {found['metadata']['name']}"


@dataclass(slots=True)
class Made:
    """The objects of one deployment in one namespace."""

    cluster: Cluster
    run_id: str
    name: str
    gone_s_max: float = GONE_S_MAX
    deployment: str = field(default_factory=lambda: secrets.token_hex(8))
    _asked_for: list[Json] = field(default_factory=list)

    def make(self, manifests: tuple[Json, ...]) -> None:
        """Create all of them, in order. Raises ClusterError; what was made until then is ended by `end`."""
        owner = this_process()
        for manifest in manifests:
            wanted = marked(manifest, run_id=self.run_id, name=self.name, deployment=self.deployment, owner=owner)
            self._asked_for.append(wanted)  # before it is asked for: an answer may be lost
            self._create(wanted)

    def read(self, kinds: Collection[str] = ()) -> tuple[Json, ...]:
        """What there is of it now, in order of creation; only of `kinds` if given. Raises ClusterError."""
        wanted = [each for each in self._asked_for if not kinds or each["kind"] in kinds]
        return tuple(found for each in wanted if (found := self._find(each)) is not None)

    def count(self, kinds: Collection[str]) -> int:
        """How many objects of these kinds were asked for."""
        return sum(each["kind"] in kinds for each in self._asked_for)

    def end(self, pods: Callable[[], tuple[Json, ...]]) -> None:
        """Delete all of it, newest first, and wait until it and its `pods` are gone. Raises ClusterError.

        An error about one object does not keep the others.
        """
        failures: list[ClusterError] = []
        for each in reversed(self._asked_for):
            try:
                if (found := self._find(each)) is not None:
                    self.cluster.delete(found)
            except ClusterError as error:
                failures.append(error)
        if not failures:
            wait_gone(lambda: (*self.read(), *pods()), self.gone_s_max)
            return
        first = failures[0]
        names = ", ".join(title(each) for each in self._asked_for)
        raise ClusterError(
            f"what was made in the cluster could not be ended: {first.problem}",
            expected=f"an end of {names}",
            found=first.found or first.problem,
            next_step=f"kubectl delete them, or run redline cleanup ({first.next_step})",
        ) from first

    def _find(self, wanted: Json) -> Json | None:
        metadata = wanted["metadata"]
        found = self.cluster.find(wanted["apiVersion"], wanted["kind"], metadata.get("namespace", ""), metadata["name"])
        return found if found is not None and annotation(found, DEPLOYMENT) == self.deployment else None

    def _create(self, wanted: Json) -> None:
        try:
            self.cluster.create(wanted)
            return
        except ApiRefusalError as error:
            if error.reason != "AlreadyExists":
                raise
            metadata = wanted["metadata"]
            found = self.cluster.find(
                wanted["apiVersion"], wanted["kind"], metadata.get("namespace", ""), metadata["name"]
            )
            if found is not None and annotation(found, DEPLOYMENT) == self.deployment:
                return  # made by a question whose answer was lost
            if found is not None:
                _require_abandoned(found, error)
                self.cluster.delete(found)
                uid = found["metadata"]["uid"]
                wait_gone(lambda: _same(self.cluster, found, uid), self.gone_s_max)
        self.cluster.create(wanted)


def _same(cluster: Cluster, found: Json, uid: str) -> tuple[Json, ...]:
    metadata = found["metadata"]
    now = cluster.find(found["apiVersion"], found["kind"], metadata.get("namespace", ""), metadata["name"])
    return (now,) if now is not None and now["metadata"]["uid"] == uid else ()


def _require_abandoned(found: Json, error: ApiRefusalError) -> None:
    """An object in the way may be replaced if a Redline that is gone left it, or if it is ending already."""
    owner = owner_of(annotation(found, OWNER))
    if is_redlines(found) and found["metadata"].get("deletionTimestamp"):
        return
    if is_redlines(found) and owner is not None and fate_of(owner) == "gone":
        return
    managers = {str(each.get("manager")) for each in found["metadata"].get("managedFields") or ()}
    whose = owner.label if owner is not None else ", ".join(sorted(map(clean_line, managers))) or "somebody"
    raise ClusterError(
        f"{title(found)} is there already",
        expected="a name that is free",
        found=f"made by {whose}, {annotation(found, DEPLOYMENT) or 'not by Redline'}",
        next_step="wait for the run it belongs to, delete it, or run redline cleanup if a killed Redline left it",
    ) from error


def wait_gone(left: Callable[[], tuple[Json, ...]], gone_s_max: float) -> None:
    """Return when nothing is `left`. Raises ClusterError saying what holds the rest after `gone_s_max` seconds."""
    deadline = time.monotonic() + gone_s_max
    pause_s = _POLL_S_MIN
    while remaining := left():
        if time.monotonic() + pause_s > deadline:
            raise ClusterError(
                "what was deleted does not go",
                expected=f"its end within {gone_s_max:g} s",
                found="; ".join(_held(each) for each in remaining[:5]),
                next_step="the controllers named by the finalizers must do their part: see whether they run "
                "(kubectl get pods -A); a pod that stays may be on a node that is gone",
            )
        time.sleep(pause_s)
        pause_s = min(_POLL_S_MAX, pause_s * 1.5)


def _held(found: Json) -> str:
    metadata = found["metadata"]
    held_by = ", ".join(clean_line(str(each)) for each in metadata.get("finalizers") or ())
    node = (found.get("spec") or {}).get("nodeName")
    state = "ending" if metadata.get("deletionTimestamp") else "not ending"
    return f"{title(found)}: {state}" + (f", held by {held_by}" if held_by else "") + (f", on {node}" if node else "")


# --- what a Redline that is gone left -----------------------------------------------------------------------------


def note_place(state_dir: Path, deployer: str, settings: ClusterSettings, kinds: Kinds) -> None:
    """Remember where something is about to be made, so that `cleanup` knows where to look. Raises OSError."""
    place = {"deployer": deployer, "context": settings.context, "namespace": settings.namespace, "kinds": kinds}
    write_whole(state_dir / "clusters" / f"{digest(place)}.json", json.dumps(place, sort_keys=True) + "\n")


def noted_places(state_dir: Path, deployer: str) -> tuple[tuple[str, str, Kinds], ...]:
    """(context, namespace, kinds) of every place where this deployer made something from this machine."""
    places = []
    for path in sorted((state_dir / "clusters").glob("*.json")):
        try:
            place = json.loads(path.read_text(encoding="utf-8"))
            if place["deployer"] == deployer:
                kinds = tuple((str(api_version), str(kind)) for api_version, kind in place["kinds"])
                places.append((str(place["context"]), str(place["namespace"]), kinds))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not one of ours
    return tuple(places)


def cleanup_place(
    context: str, namespace: str, kinds: Kinds, *, older_than_s: float | None, gone_s_max: float = GONE_S_MAX
) -> tuple[str, ...]:
    """End what Redlines that are gone left there: one line for each object.

    A kind that the cluster does not know holds nothing. `older_than_s`: also what is older than that, whoever made it:
    an owner on another host cannot be asked. Ages are by the cluster's clock. Raises ClusterError, after everything
    that could be ended was.
    """
    ended: list[tuple[Json, str]] = []
    failures: list[ClusterError] = []
    with connect(context) as cluster:
        for api_version, kind in kinds:
            try:
                ended += _end_abandoned(cluster, api_version, kind, namespace, older_than_s)
            except ApiRefusalError as error:
                if error.status != 404:
                    failures.append(error)
        wait_gone(
            lambda: tuple(now for each, _ in ended for now in _same(cluster, each, each["metadata"]["uid"])), gone_s_max
        )
    if failures:
        raise failures[0]
    return tuple(f"{title(each)} in namespace {namespace}: {why}" for each, why in ended)


def _end_abandoned(
    cluster: Cluster, api_version: str, kind: str, namespace: str, older_than_s: float | None
) -> list[tuple[Json, str]]:
    found, _ = cluster.listed(api_version, kind, namespace, labels=OURS)
    judged = ((each, _why_ended(each, cluster.now, older_than_s)) for each in found)
    return [(each, why) for each, why in judged if why and cluster.delete(each)]


def _why_ended(found: Mapping[str, Any], now: datetime, older_than_s: float | None) -> str:
    """Why cleanup ends it; '' if it stays."""
    owner = owner_of(annotation(found, OWNER))
    if not is_redlines(found) or not annotation(found, DEPLOYMENT):
        return ""
    if owner is not None and fate_of(owner) == "gone":
        return f"{owner.label} is gone"
    try:
        age_s = (now - datetime.fromisoformat(str(found["metadata"].get("creationTimestamp")))).total_seconds()
    except (ValueError, TypeError):
        return ""
    if older_than_s is not None and age_s > older_than_s:
        return f"{age_s / 3600:.1f} h old"
    return ""
