"""What the Kubernetes API answers instead of what was asked, in words: pure functions of status and content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redline.deploy.diagnosis import clean_line
from redline.errors import ClusterError

MESSAGE_CHARACTERS_MAX = 1500

_MAY_NOT = re.compile(r"cannot [a-z]+ resource|cannot [a-z]+ path")
_INSTALLED_BY = {
    "serving.kserve.io": "install KServe 0.20 or newer with its charts kserve-llmisvc-crd and kserve-llmisvc-resources",
    "inference.networking.k8s.io": "install the Gateway API Inference Extension 1.5 or newer",
    "gateway.networking.k8s.io": "install the Gateway API 1.5 or newer",
    "leaderworkerset.x-k8s.io": "install LeaderWorkerSet 0.8 or newer",
}
TRANSIENT = frozenset({429, 500, 502, 503, 504})
"""Answers that may be different a moment later."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the API, as its access rules name it: `create` `llminferenceservices` of a group."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def rule(self) -> str:
        """The line of a Role that allows it, as YAML."""
        return f'{{apiGroups: ["{self.group}"], resources: ["{self.resource}"], verbs: ["{self.verb}"]}}'

    @property
    def text(self) -> str:
        """`create llminferenceservices speed-00 in namespace perf`."""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''}{place}"


class ApiRefusalError(ClusterError):
    """The API answered with an error; `status` is the HTTP one."""

    def __init__(
        self, status: int, problem: str, *, expected: str = "", found: str = "", next_step: str = "", reason: str = ""
    ) -> None:
        super().__init__(problem, expected=expected, found=found, next_step=next_step)
        self.status = status
        self.reason = reason


def message_of(content: object) -> str:
    """What the API says in words: a Status's message, or the text of anything else; clean and bounded."""
    said = content.get("message") if isinstance(content, Mapping) else content
    text = " ".join(str(said or "").split())[: MESSAGE_CHARACTERS_MAX * 2]
    pieces = [clean_line(text[start : start + 400]) for start in range(0, min(len(text), MESSAGE_CHARACTERS_MAX), 400)]
    return "".join(pieces)[:MESSAGE_CHARACTERS_MAX]


def reason_of(content: object) -> str:
    """The machine-readable reason of a Status: `AlreadyExists`, `Expired`; '' without one."""
    said = content.get("reason") if isinstance(content, Mapping) else None
    return said if isinstance(said, str) else ""


def is_transient(status: int, content: object) -> bool:
    """True if the same question may be answered a moment later.

    A 409 is a conflict with a write at the same instant, unless a field or a name belongs to somebody.
    """
    if status == 409:
        return reason_of(content) == "Conflict" and "the object has been modified" in message_of(content)
    return status in TRANSIENT


def unknown_kind(api_version: str, kind: str, known: tuple[str, ...]) -> ApiRefusalError:
    """The cluster has no such kind: 404, as a missing CRD is."""
    group = api_version.rpartition("/")[0]
    served = f"kinds {', '.join(known)}" if known else "nothing of that name"
    return ApiRefusalError(
        404,
        f"the cluster does not know {kind}",
        expected=f"{kind} of {api_version}",
        found=f"{served} under {api_version}",
        next_step=_INSTALLED_BY.get(group, f"install what brings {api_version} to the cluster"),
        reason="UnknownKind",
    )


def refusal(asked: Asked, status: int, content: object) -> ApiRefusalError:
    """The error for an answer outside 200 to 299: what was asked, what was said, what to do next."""
    said = message_of(content) or f"HTTP {status}"
    problem, expected, next_step = _in_words(asked, status, content, said)
    return ApiRefusalError(
        status,
        problem,
        expected=expected,
        found=f"{status}{f' {reason_of(content)}' if reason_of(content) else ''}: {said}",
        next_step=next_step,
        reason=reason_of(content),
    )


def _in_words(asked: Asked, status: int, content: object, said: str) -> tuple[str, str, str]:
    """(problem, expected, next step)."""
    if status == 401:
        return (
            "the cluster does not accept these credentials",
            "a token or certificate that is valid now",
            "log in to the cluster anew (they expire), or name another context in [cluster]",
        )
    if status == 403:
        return _forbidden(asked, said)
    if status == 404 and _is_about_namespace(content, said):
        return (
            f"the cluster has no namespace {asked.namespace or asked.name}",
            "a namespace that exists: Redline makes none",
            f"kubectl create namespace {asked.namespace or asked.name}, or correct [cluster] namespace",
        )
    if status == 404:
        return (f"not found: {asked.text}", "an object of that name", "see whether somebody deleted it")
    if status == 409:
        return (
            f"the cluster cannot {asked.text}",
            "a name that is free, and an object that nobody else writes",
            "see who made it: kubectl get " + f"{asked.resource} {asked.name} -o yaml --show-managed-fields".strip(),
        )
    if status in (400, 422):
        fields = _fields(content)
        return (
            f"the cluster does not accept what it was asked: {asked.text}",
            "what the API of this cluster allows" + (f" in {', '.join(fields)}" if fields else ""),
            "compare the versions of KServe and Kubernetes with docs/kubernetes.md; the text names the field",
        )
    if status in TRANSIENT:
        return (
            f"the cluster could not {asked.text}",
            "an answer after several tries",
            "try again later; a failing webhook is named in the text, and its pod says more",
        )
    return (f"the cluster refused to {asked.text}", "an answer of the Kubernetes API", "see the cluster's own log")


def _forbidden(asked: Asked, said: str) -> tuple[str, str, str]:
    if _MAY_NOT.search(said):
        return (
            f"these credentials may not {asked.text}",
            f"a Role with the rule {asked.rule}",
            f"let an administrator add the rule in namespace {asked.namespace or asked.name}, and see that it exists",
        )
    return (
        f"the cluster refused by policy to {asked.text}",
        "no quota, admission rule or ending namespace in the way",
        "the text names the rule; its owner can change it",
    )


def _is_about_namespace(content: object, said: str) -> bool:
    details = content.get("details") if isinstance(content, Mapping) else None
    kind = details.get("kind") if isinstance(details, Mapping) else None
    return kind == "namespaces" or said.startswith("namespaces ")


def _fields(content: object) -> tuple[str, ...]:
    """The fields that a Status complains about."""
    details = content.get("details") if isinstance(content, Mapping) else None
    causes = details.get("causes") if isinstance(details, Mapping) else None
    named: list[Any] = [cause.get("field") for cause in causes or () if isinstance(cause, Mapping)]
    return tuple(clean_line(each) for each in named[:5] if isinstance(each, str) and each)


def unreachable(host: str, error: Exception) -> ClusterError:
    """Nothing answered: refused, timed out, cut, or a certificate that is not trusted."""
    said = message_of(f"{type(error).__name__}: {getattr(error, 'reason', '') or error}")
    if is_about_certificate(error):
        expired = "expired" in said.lower()
        return ClusterError(
            f"the certificate of {host} is not trusted",
            expected="a certificate that is valid now and signed by the authority that the kubeconfig names",
            found=said,
            next_step="renew the cluster's certificate (and see whether this machine's clock is right)"
            if expired
            else "take a fresh kubeconfig; the cluster's authority has changed, or something stands in between",
        )
    return ClusterError(
        f"the Kubernetes API at {host} does not answer",
        expected="an answer within the bounds, after several tries",
        found=said,
        next_step="see whether the cluster runs and this machine reaches it: kubectl version",
    )


def is_about_certificate(error: Exception) -> bool:
    """True if TLS failed on a certificate: asking again would not help."""
    said = str(getattr(error, "reason", "") or error)
    return "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower()
