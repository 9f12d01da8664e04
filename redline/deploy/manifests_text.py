"""Names, quantities and strings as Kubernetes and KServe read them, and YAML that everybody reads the same way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import yaml

from redline.deploy.deployer import Order
from redline.errors import UsageError

Manifest: TypeAlias = dict[str, Any]

SLUG_CHARS_MAX = 31
NAME_CHARS_MAX = SLUG_CHARS_MAX + 1 + 8
"""What controllers append (`-kserve-workload-svc`, a ReplicaSet's and a pod's hash) still fits a label of 63."""

_PLAIN = re.compile(r"-{0,2}[A-Za-z/][A-Za-z0-9_./@-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
_GIBI = 1 << 30


def object_name(order: Order) -> str:
    """The name of what is made for one arm of one round: readable, a DNS label of at most 40 characters, unique.

    It ends in a hash of the run and the whole name: two arms, rounds or runs in one namespace never collide, whatever
    was cut or replaced. It begins with a letter, as Services must.
    """
    identity = hashlib.sha256(f"{order.run_id}\0{order.name}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "-", order.name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"r-{slug}"
    return f"{slug[:SLUG_CHARS_MAX].strip('-')}-{identity}"


def byte_quantity(count: int) -> str:
    """Bytes as a Kubernetes quantity: `20Gi`, or the plain number where it is no multiple."""
    return f"{count // _GIBI}Gi" if count % _GIBI == 0 else str(count)


def literal(text: str, *, template: bool = False) -> str:
    """A string of a container that arrives as it is written here.

    Kubernetes replaces `$(NAME)` in commands, arguments and variables, and `$$` stands for `$`. With `template`, also
    for KServe, which reads the whole of an LLMInferenceService as a Go template: `{{` is written as a quoted `{{`.
    Raises UsageError for what no process can be given.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _unwritable(text) from error
    if "\0" in text:
        raise _unwritable(text)
    escaped = text.replace("$", "$$")
    return escaped.replace("{{", "{{`{{`}}") if template else escaped


def _unwritable(text: str) -> UsageError:
    return UsageError(
        "a server argument or variable cannot be written to a manifest",
        expected="text in UTF-8 without NUL",
        found=ascii(text)[:200],
        next_step="correct the recipe or the extra arguments",
    )


class _Dumper(yaml.SafeDumper):
    """Strings that a YAML reader could take for something else are quoted: `y`, `1e3`, `0.10`, `null`."""

    def ignore_aliases(self, data: Any) -> bool:
        """Every object stands on its own: no anchors."""
        del data
        return True


def _string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text)
    style = "|" if "\n" in text else "'" if '"' in text else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _string)


def yaml_text(objects: Iterable[Manifest]) -> str:
    """The objects as one YAML stream, in their order, keys as written: the same text every time."""
    texts = [
        yaml.dump(each, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, explicit_start=True)
        for each in objects
    ]
    return "".join(texts)
