"""Reduces a CustomResourceDefinition to the paths that our manifests use, as a strict JSON schema.

    python -m tests.deploy.schemas.reduce_crd CRD.yaml v1alpha2 kserve > llminferenceservice-v1alpha2.json

Whoever changes a manifest beyond the reduced schema runs it again on the whole definition, from a checkout of KServe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from redline.deploy.manifests import MANIFESTS
from tests.deploy.cluster_orders import ALL_SETTINGS, GOLDEN

KEPT = (
    *("type", "enum", "pattern", "required", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
)


def reduced(schema: Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
    """The part of a schema that these values use, strict: what is not in it is refused."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": schema.get("pattern", "")}]}
    kept = {key: schema[key] for key in KEPT if key in schema}
    tables = [each for each in values if isinstance(each, dict)]
    if "properties" in schema:
        used = sorted({key for each in tables for key in each} & schema["properties"].keys())
        kept["properties"] = {
            key: reduced(schema["properties"][key], [each[key] for each in tables if key in each]) for key in used
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        inner = [value for each in tables for value in each.values()]
        kept["additionalProperties"] = reduced(schema["additionalProperties"], inner)
    if "items" in schema:
        kept["items"] = reduced(schema["items"], [item for each in values for item in each])
    return kept


def samples(deployer: str, kind: str) -> list[dict[str, Any]]:
    """Every manifest of a kind that the tests render."""
    orders = [make() for name, make in GOLDEN.values() if name == deployer] + [ALL_SETTINGS[deployer]()]
    return [each for order in orders for each in MANIFESTS[deployer](order) if each["kind"] == kind]


def main(path: str, version: str, deployer: str) -> None:
    """Print the reduced schema of one version of a definition."""
    definition = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    kind = definition["spec"]["names"]["kind"]
    whole = next(each for each in definition["spec"]["versions"] if each["name"] == version)["schema"]
    schema = dict(whole["openAPIV3Schema"])
    schema["properties"] = schema["properties"] | {"metadata": {"type": "object"}}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    print(json.dumps(reduced(schema, samples(deployer, kind)), indent=1, sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
