"""What a small Kubernetes API server keeps: objects with versions, a history to watch, deletion with finalizers.

Only what Redline relies on, as the API's conventions say it: uids, resourceVersion, generation, managedFields, label
and field selectors, foreground deletion of what an object owns, uid preconditions, expired versions (410).
"""

from __future__ import annotations

import contextlib
import copy
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

FOREGROUND = "foregroundDeletion"

RESOURCES = (
    # group/version, plural, kind, namespaced
    ("v1", "namespaces", "Namespace", False),
    ("v1", "nodes", "Node", False),
    ("v1", "pods", "Pod", True),
    ("v1", "services", "Service", True),
    ("v1", "configmaps", "ConfigMap", True),
    ("v1", "serviceaccounts", "ServiceAccount", True),
    ("v1", "events", "Event", True),
    ("apps/v1", "deployments", "Deployment", True),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", True),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", True),
    ("serving.kserve.io/v1alpha2", "llminferenceservices", "LLMInferenceService", True),
    ("serving.kserve.io/v1beta1", "inferenceservices", "InferenceService", True),
    ("inference.networking.k8s.io/v1", "inferencepools", "InferencePool", True),
)
PLURALS = {(version, kind): plural for version, plural, kind, _ in RESOURCES}

Key = tuple[str, str, str]  # plural, namespace, name


class RefusedError(Exception):
    """An answer outside 200 to 299, as a Status."""

    def __init__(self, status: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.content = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status,
            "details": details,
        }


def selected(found: dict[str, Any], labels: str, fields: str) -> bool:
    """True if an object fits `key=value,...` selectors; fields are dotted paths."""
    own = found["metadata"].get("labels") or {}
    for term in filter(None, labels.split(",")):
        key, _, value = term.partition("=")
        if own.get(key) != value:
            return False
    for term in filter(None, fields.split(",")):
        path, _, value = term.partition("=")
        part: Any = found
        for step in path.split("."):
            part = part.get(step) if isinstance(part, dict) else None
        if part != value:
            return False
    return True


class State:
    """The objects of a cluster. Safe for several threads; `changed` is notified at every write."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 1000
        self.oldest_version = 0
        self._objects: dict[Key, dict[str, Any]] = {}
        self._history: list[tuple[int, str, str, str, dict[str, Any]]] = []
        self.on_created: list[Callable[[str, dict[str, Any]], None]] = []
        self.on_deleting: list[Callable[[str, dict[str, Any]], None]] = []

    def get(self, plural: str, namespace: str, name: str) -> dict[str, Any]:
        """A copy. Raises RefusedError (404)."""
        with self.changed:
            return copy.deepcopy(self._at((plural, namespace, name)))

    def names(self, plural: str) -> list[str]:
        """Names of all objects of a kind."""
        with self.changed:
            return sorted(name for kind, _, name in self._objects if kind == plural)

    def listed(self, plural: str, namespace: str, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        """Copies of all that fit."""
        with self.changed:
            found = [each for key, each in sorted(self._objects.items()) if key[:2] == (plural, namespace)]
            return [copy.deepcopy(each) for each in found if selected(each, labels, fields)]

    def create(self, plural: str, namespace: str, manifest: dict[str, Any], manager: str = "test") -> dict[str, Any]:
        """The object as it is kept; one whose owner is gone or going is deleted at once, as the collector does.

        Raises RefusedError: 404 without its namespace, 409 if the name is taken.
        """
        made = copy.deepcopy(manifest)
        metadata = made.setdefault("metadata", {})
        name = metadata["name"]
        with self.changed:
            if namespace and ("namespaces", "", namespace) not in self._objects:
                raise RefusedError(404, "NotFound", f'namespaces "{namespace}" not found', kind="namespaces")
            if (plural, namespace, name) in self._objects:
                raise RefusedError(409, "AlreadyExists", f'{plural} "{name}" already exists', kind=plural, name=name)
            metadata |= {
                "uid": str(uuid.uuid4()),
                "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "generation": 1,
                "managedFields": [{"manager": manager, "operation": "Update"}],
            }
            if namespace:
                metadata["namespace"] = namespace
            self._objects[plural, namespace, name] = made
            self._note("ADDED", plural, namespace, made)
            answer = copy.deepcopy(made)
            is_orphan = not self._owners(made) <= self._staying()
        for listener in self.on_created:
            listener(plural, copy.deepcopy(answer))
        if is_orphan:
            self._delete_with_owner((plural, namespace, name))
        return answer

    def edit(self, plural: str, namespace: str, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change an object in place; nothing if it is gone."""
        with self.changed:
            found = self._objects.get((plural, namespace, name))
            if found is None:
                return
            change(found)
            self._note("MODIFIED", plural, namespace, found)
            self._collect()

    def delete(self, plural: str, namespace: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """Begin to delete an object, and what it owns if asked for in the foreground. Raises RefusedError."""
        with self.changed:
            found = self._at((plural, namespace, name))
            metadata = found["metadata"]
            wanted = (options.get("preconditions") or {}).get("uid", metadata["uid"])
            if wanted != metadata["uid"]:
                message = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {metadata['uid']}"
                raise RefusedError(409, "Conflict", message, kind=plural, name=name)
            if "deletionTimestamp" not in metadata:
                metadata["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                if options.get("propagationPolicy") == "Foreground" and plural != "pods":
                    metadata["finalizers"] = [*metadata.get("finalizers", []), FOREGROUND]
                self._note("MODIFIED", plural, namespace, found)
            answer = copy.deepcopy(found)
            dependents = [
                (key[0], key[1], key[2]) for key, each in self._objects.items() if metadata["uid"] in self._owners(each)
            ]
        for listener in self.on_deleting:
            listener(plural, answer)
        for dependent in dependents:
            self._delete_with_owner(dependent)
        with self.changed:
            self._collect()
        return answer

    def _delete_with_owner(self, key: Key) -> None:
        """Begin to delete what the collector does not leave behind; nothing if it is gone meanwhile."""
        with contextlib.suppress(RefusedError):
            self.delete(*key, {"propagationPolicy": "Foreground"})

    def forget(self, plural: str, namespace: str, name: str) -> None:
        """Remove an object at once, as a kubelet does with a pod that has ended."""
        with self.changed:
            gone = self._objects.pop((plural, namespace, name), None)
            if gone is not None:
                self._note("DELETED", plural, namespace, gone)
            self._collect()

    def expire(self) -> None:
        """Forget the history: versions from before now are too old to watch from (410)."""
        with self.changed:
            self.version += 1
            self.oldest_version = self.version
            self._history.clear()
            self.changed.notify_all()

    def events_after(self, version: int, plural: str, namespace: str) -> list[tuple[int, str, dict[str, Any]]]:
        """(version, type, object) of each change since. Raises RefusedError (410) if that is too long ago."""
        with self.changed:
            if version < self.oldest_version:
                message = f"too old resource version: {version} ({self.version})"
                raise RefusedError(410, "Expired", message)
            return [
                (at, kind, found)
                for at, of, where, kind, found in self._history
                if at > version and (of, where) == (plural, namespace)
            ]

    @staticmethod
    def _owners(found: dict[str, Any]) -> set[str]:
        return {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}

    def _staying(self) -> set[str]:
        """Uids of what is not being deleted."""
        kept = (each["metadata"] for each in self._objects.values())
        return {metadata["uid"] for metadata in kept if "deletionTimestamp" not in metadata}

    def _at(self, key: Key) -> dict[str, Any]:
        if key not in self._objects:
            raise RefusedError(404, "NotFound", f'{key[0]} "{key[2]}" not found', kind=key[0], name=key[2])
        return self._objects[key]

    def _note(self, kind: str, plural: str, namespace: str, found: dict[str, Any]) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        self._history.append((self.version, plural, namespace, kind, copy.deepcopy(found)))
        self.changed.notify_all()

    def _collect(self) -> None:
        """Remove what is ending and held by nothing: no finalizer, no dependent; a pod waits for its kubelet."""
        while True:
            owned = set().union(*map(self._owners, self._objects.values()))
            for key, each in list(self._objects.items()):
                metadata = each["metadata"]
                if "deletionTimestamp" not in metadata or key[0] == "pods":
                    continue
                if metadata["uid"] not in owned and FOREGROUND in metadata.get("finalizers", []):
                    metadata["finalizers"].remove(FOREGROUND)
                if not metadata.get("finalizers"):
                    del self._objects[key]
                    self._note("DELETED", key[0], key[1], each)
                    break
            else:
                return
