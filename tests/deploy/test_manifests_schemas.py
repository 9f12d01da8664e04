"""What is applied, held against the schemas of Kubernetes and of the kinds it is extended by, and reviewed as text."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest
import yaml

from redline.deploy.manifests import MANIFESTS
from redline.deploy.manifests_text import yaml_text
from tests.deploy.cluster_orders import ALL_SETTINGS, GOLDEN

SCHEMAS = Path(__file__).parent / "schemas"
GOLDENS = Path(__file__).parent.parent / "golden" / "manifests"
KUBERNETES = "1.34"
EXTENSIONS = {
    "LLMInferenceService": "llminferenceservice-v1alpha2.json",
    "InferenceService": "inferenceservice-v1beta1.json",
    "InferencePool": "inferencepool-v1.json",
}
ORDERS = GOLDEN | {f"{name}-all-settings": (name, make) for name, make in ALL_SETTINGS.items()}


def pods_in(manifest):
    """The pod specs inside of an extension's object."""
    spec = manifest["spec"]
    if manifest["kind"] == "LLMInferenceService":
        router = spec.get("router", {}).get("scheduler", {}).get("template")
        return [each for each in (spec["template"], router) if each]
    if manifest["kind"] == "InferenceService":
        own = {"minReplicas", "maxReplicas"}
        return [{key: value for key, value in spec["predictor"].items() if key not in own}]
    return []


def validate(manifest):
    """Raise for anything that the API server would refuse or drop."""
    if manifest["kind"] in EXTENSIONS:
        schema = json.loads((SCHEMAS / EXTENSIONS[manifest["kind"]]).read_text())
        jsonschema.validate(manifest, schema, cls=jsonschema.Draft202012Validator)
        for spec in pods_in(manifest):
            validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec})
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ORDERS)
def test_manifests_are_valid(name):
    """Every object is what its schema allows and nothing else, also after it was written and read as YAML."""
    deployer, make = ORDERS[name]
    manifests = MANIFESTS[deployer](make())
    assert manifests
    assert tuple(yaml.safe_load_all(yaml_text(manifests))) == manifests
    for manifest in manifests:
        validate(manifest)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXTENSIONS)
def test_schemas_are_strict(kind):
    """A misspelt field is refused anywhere in an extension's object: the validation above can fail."""
    deployer = {"LLMInferenceService": "kserve", "InferenceService": "inference-service"}.get(kind, "llm-d")
    manifest = next(each for each in MANIFESTS[deployer](ALL_SETTINGS[deployer]()) if each["kind"] == kind)
    tables = list(paths_of(manifest["spec"], ("spec",)))
    assert len(tables) > 3
    for path in tables:
        damaged = copy.deepcopy(manifest)
        table = damaged
        for step in path:
            table = table[step]
        table["misspelt"] = {"not": "a string"}
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            validate(damaged)


def paths_of(value, path):
    """Where tables with fields of their own stand; free tables (selectors, the picker's configuration) left out."""
    free = {"inline", "nodeSelector", "emptyDir", "requests", "limits"}
    if isinstance(value, dict):
        if path[-1] not in free and value:
            yield path
        for key, each in value.items():
            if key not in free:
                yield from paths_of(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from paths_of(each, (*path, index))


@pytest.mark.parametrize("name", GOLDEN)
def test_manifests_are_the_golden_ones(name):
    """The YAML is the reviewed one; UPDATE_GOLDENS=1 rewrites it."""
    deployer, make = GOLDEN[name]
    path = GOLDENS / f"{name}.yaml"
    text = yaml_text(MANIFESTS[deployer](make()))
    if os.environ.get("UPDATE_GOLDENS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
