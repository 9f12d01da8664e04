"""Where the pods of a cluster find the model: an address that KServe understands, or a place in the pod."""

from __future__ import annotations

import re
from dataclasses import dataclass

from redline.deploy.command import is_directory
from redline.deploy.deployer import Order
from redline.errors import UsageError
from redline.model import ClusterSettings

MOUNT = "/mnt/models"
"""Where KServe's storage initializer puts the model, and where a volume of models is mounted."""

SCHEMES = ("hf", "pvc", "s3", "oci")
"""What KServe serves an LLMInferenceService from. Source: its attachModelArtifacts."""

_URI = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<rest>[A-Za-z0-9][A-Za-z0-9._~:/+%@-]*)")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(?::[A-Za-z0-9._-]+)?")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model of one order.

    `uri`: with its revision, as KServe takes it. `path`: what vLLM's --model is given. `revision`: what vLLM's
    --revision is given, empty where the path is all. `claim`: the volume claim that holds it, empty if it comes another
    way.
    """

    uri: str
    path: str
    revision: str = ""
    claim: str = ""


def cluster_of(order: Order) -> ClusterSettings:
    """The settings of the cluster that serves the order. Raises UsageError if there are none."""
    if order.cluster is None:
        raise UsageError(
            "there is no cluster to serve in",
            expected="a runner class with [cluster]",
            found="none",
            next_step="choose a runner class whose deployer is kserve, inference-service or llm-d",
        )
    return order.cluster


def provisioned_model(order: Order) -> ModelSource:
    """The model as KServe provides it: fetched or mounted at MOUNT before the server starts.

    Raises UsageError for a directory of this machine and for an address that KServe does not read.
    """
    uri = _model_uri(order)
    return ModelSource(uri, MOUNT)


def own_model(order: Order) -> ModelSource:
    """The model where nothing provides it: vLLM fetches it from the hub, or a volume claim is mounted at MOUNT.

    Raises UsageError for every other address, as `provisioned_model`.
    """
    uri = _model_uri(order)
    scheme, _, rest = uri.partition("://")
    if scheme == "hf":
        path, _, revision = rest.partition(":")
        return ModelSource(uri, path, revision)
    if scheme == "pvc":
        claim, _, folder = rest.partition("/")
        return ModelSource(uri, f"{MOUNT}/{folder}".rstrip("/"), claim=claim)
    raise UsageError(
        f"{uri} cannot be fetched without KServe",
        expected="hf://OWNER/MODEL or pvc://CLAIM/FOLDER",
        found=uri,
        next_step='copy the model to a volume and set model_uri = "pvc://CLAIM/{model}", or deployer = "kserve"',
    )


def _model_uri(order: Order) -> str:
    """The address with its revision. Raises UsageError."""
    cluster, model, revision = cluster_of(order), order.model, _revision(order)
    if "://" not in model and (model.startswith(("/", ".", "~")) or is_directory(model)):
        raise _local(model)
    uri = model if "://" in model else cluster.model_uri.replace("{model}", model).replace("{revision}", revision)
    match = _URI.fullmatch(uri)
    if match is None or match["scheme"] not in SCHEMES or _names_a_user(match["scheme"], match["rest"]):
        raise _unreadable(uri, "one of " + ", ".join(f"{scheme}://..." for scheme in SCHEMES))
    if match["scheme"] != "hf":
        return uri
    if _HUB_ID.fullmatch(match["rest"]) is None:
        raise _unreadable(uri, "hf://OWNER/MODEL or hf://OWNER/MODEL:REVISION")
    if is_directory(match["rest"].partition(":")[0]):
        raise _local(match["rest"])  # the server's command line would name this machine's directory
    return f"{uri}:{revision}" if revision and ":" not in match["rest"] else uri


def _revision(order: Order) -> str:
    """The recipe's revision if it is the recipe's model that is served; that of another model is not known."""
    return order.recipe.revision if order.model == order.recipe.model else ""


def _names_a_user(scheme: str, rest: str) -> bool:
    """True if the address holds a user name or password; a digest behind an image's @ is none."""
    return "@" in (rest.partition("@sha256:")[0] if scheme == "oci" else rest)


def _local(model: str) -> UsageError:
    return UsageError(
        "a directory of this machine cannot be served in a cluster",
        expected="a hub id, or an address that the cluster's nodes can read",
        found=model,
        next_step='copy it to a volume and set model_uri = "pvc://CLAIM/{model}", or measure it on a host',
    )


def _unreadable(uri: str, expected: str) -> UsageError:
    shown = re.sub(r"://[^/@]*@", "://...@", uri)
    return UsageError(
        "this address of a model cannot be used",
        expected=f"{expected}, without a user or password",
        found=shown[:200],
        next_step="correct model_uri in [cluster], or the model of the recipe",
    )
