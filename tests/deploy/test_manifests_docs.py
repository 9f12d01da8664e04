"""docs/kubernetes.md says what is true: its Role is enough and no more, and its runner classes load."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from redline import content
from redline.deploy.manifests import MANIFESTS
from redline.deploy.manifests_llmd import PICKER_RULES
from redline.model import RunnerClass
from tests.deploy.cluster_orders import ALL_SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
VERBS = {"create", "get", "list", "watch", "delete"}


def blocks(language: str) -> list[str]:
    """The code blocks of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def rights():
    """The objects of the page's one block of YAML."""
    (text,) = blocks("yaml")
    return list(yaml.safe_load_all(text))


def granted(rights) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of the Role."""
    role = next(each for each in rights if each["kind"] == "Role")
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_rights_are_valid(rights):
    """Every object of the page is one that Kubernetes takes."""
    assert len(rights) == 5
    for each in rights:
        kubernetes_validate.validate(each, "1.34", strict=True)


def test_the_role_allows_all_that_is_made_and_nothing_else_is_made(rights):
    """Every kind that a deployer makes may be made, watched and deleted, and no other kind may."""
    made = set()
    for deployer, make in ALL_SETTINGS.items():
        for manifest in MANIFESTS[deployer](make()):
            group = manifest["apiVersion"].rpartition("/")[0]
            made.add((group, f"{manifest['kind'].lower()}s"))
    allowed = granted(rights)
    assert {(group, resource, verb) for group, resource in made for verb in VERBS} <= allowed
    assert {(group, resource) for group, resource, verb in allowed if verb in {"create", "delete"}} == made
    assert not any("*" in part for right in allowed for part in right)
    assert not any(resource in {"secrets", "pods/exec"} for _, resource, _ in allowed)


def test_the_role_holds_what_the_picker_is_granted(rights):
    """Kubernetes refuses a Role that holds more than whoever makes it."""
    needed = {
        (group, resource, verb)
        for rule in PICKER_RULES
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert needed <= granted(rights)


def test_the_runner_classes_load():
    """Every class on the page is one, once the digest is filled in."""
    found = blocks("toml")
    assert len(found) == 2
    for text in found:
        raw = tomllib.loads(text.replace("REGISTRY", "registry.example").replace("DIGEST", "0" * 64))
        loaded = content.convert(raw | {"name": "class"}, RunnerClass, str(PAGE))
        assert loaded.cluster is not None
        assert (PAGE.parents[1] / "checks" / "policies" / f"{loaded.policy}.toml").exists()
