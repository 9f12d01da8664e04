"""Whose an object is: made with a mark, ended only by its maker or by the cleanup of a maker that is gone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redline.deploy.cluster_client import CallLimits, Cluster
from redline.deploy.cluster_credentials import connect
from redline.deploy.cluster_objects import (
    DEPLOYMENT,
    OWNER,
    Made,
    cleanup_place,
    label_value,
    note_place,
    noted_places,
)
from redline.deploy.owner import Owner, fate_of, owner_of, this_process
from redline.errors import ClusterError
from redline.model import ClusterSettings
from tests.fakes.kubernetes_api import Fault, KubernetesApi
from tests.fakes.kubernetes_state import State

QUICK = CallLimits(try_s=0.5, try_count_max=2, all_s=2.0, pause_s=0.01)
CHECKOUT = Path(__file__).parents[2]
CONFIG_MAP = ("v1", "ConfigMap")


def config_map(name: str = "x", **metadata: object) -> dict[str, object]:
    """Something small."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "perf"} | metadata}


def no_pods() -> tuple[()]:
    """Nothing serves."""
    return ()


@pytest.fixture
def api(tmp_path, monkeypatch):
    """A server with one namespace, and a kubeconfig that leads to it."""
    state = State()
    state.create("namespaces", "", {"metadata": {"name": "perf"}})
    with KubernetesApi(state) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
        yield server


@pytest.fixture
def cluster(api):
    """A connection to it."""
    with connect("test", QUICK) as connected:
        yield connected


@pytest.fixture(scope="session")
def ended_owner() -> Owner:
    """A process of this host and boot that has ended: its start is that of nobody now."""
    script = "from redline.deploy.owner import this_process; print(this_process().text)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=CHECKOUT
    )
    owner = owner_of(done.stdout.strip())
    assert owner is not None
    return owner


def left_by(api: KubernetesApi, owner: Owner | None, name: str = "x", **metadata: object) -> dict[str, Any]:
    """An object as a Redline of that owner leaves it."""
    annotations = {DEPLOYMENT: "0123"} | ({OWNER: owner.text} if owner is not None else {})
    labels = {"app.kubernetes.io/managed-by": "redline"}
    manifest = config_map(name, labels=labels, annotations=annotations, **metadata)
    return api.state.create("configmaps", "perf", manifest, "redline")


def test_what_is_made_says_whose_it_is(api: KubernetesApi, cluster: Cluster):
    """Labels tell the run and the name, an annotation the process; what was there already stays."""
    made = Made(cluster, "2026:11", "speed llama", 2.0)
    made.make((config_map(labels={"mine": "yes"}),))
    (found,) = made.read()
    assert found["metadata"]["labels"] == {
        "mine": "yes",
        "app.kubernetes.io/managed-by": "redline",
        "redline/run": "2026-11",
        "redline/name": "speed-llama",
    }
    assert owner_of(found["metadata"]["annotations"][OWNER]) == this_process()
    made.end(no_pods)
    assert api.state.names("configmaps") == []


def test_everything_is_ended_when_the_last_cannot_be_made(api: KubernetesApi, cluster: Cluster):
    """A refusal in the middle leaves nothing of what was made before it."""
    api.forbidden.add(("create", "serviceaccounts"))
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "perf"}}
    made = Made(cluster, "run", "name", 2.0)
    with pytest.raises(ClusterError, match="may not create serviceaccounts"):
        made.make((config_map(), account))
    made.end(no_pods)
    assert api.state.names("configmaps") == []


def test_a_creation_whose_answer_was_lost_is_ours(api: KubernetesApi, cluster: Cluster):
    """The object that a lost answer was about is known again by its mark, and ended."""
    api.faults.append(Fault("create", "configmaps", times=1, cut=True, after=True))
    made = Made(cluster, "run", "name", 2.0)
    made.make((config_map(),))
    assert len(made.read()) == 1
    made.end(no_pods)
    assert api.state.names("configmaps") == []


def test_somebody_elses_object_is_never_touched(api: KubernetesApi, cluster: Cluster):
    """A name that is taken is an error that names who has it, and the object stays as it is."""
    theirs = api.state.create("configmaps", "perf", config_map(), "helm")
    made = Made(cluster, "run", "name", 2.0)
    with pytest.raises(ClusterError, match="ConfigMap x is there already") as caught:
        made.make((config_map(),))
    made.end(no_pods)
    assert "helm" in caught.value.found
    assert api.state.get("configmaps", "perf", "x") == theirs


def test_a_live_redlines_object_is_never_touched(api: KubernetesApi, cluster: Cluster):
    """What another running Redline made stays, and its process is named."""
    theirs = left_by(api, this_process())
    made = Made(cluster, "run", "name", 2.0)
    with pytest.raises(ClusterError) as caught:
        made.make((config_map(),))
    made.end(no_pods)
    assert this_process().label in caught.value.found
    assert api.state.get("configmaps", "perf", "x") == theirs


def test_what_a_dead_redline_left_in_the_way_is_replaced(api: KubernetesApi, cluster: Cluster, ended_owner: Owner):
    """A leftover of the same name is ended first, and the new object is our own."""
    before = left_by(api, ended_owner)
    made = Made(cluster, "run", "name", 2.0)
    made.make((config_map(),))
    (found,) = made.read()
    assert found["metadata"]["uid"] != before["metadata"]["uid"]


def test_what_does_not_go_says_what_holds_it(api: KubernetesApi, cluster: Cluster):
    """A finalizer that nobody removes is named after a bounded wait."""
    made = Made(cluster, "run", "name", 0.5)
    made.make((config_map(finalizers=["example.com/hold"]),))
    with pytest.raises(ClusterError, match="does not go") as caught:
        made.end(no_pods)
    assert "ConfigMap x: ending, held by example.com/hold" in caught.value.found


def test_one_that_cannot_be_ended_does_not_keep_the_others(api: KubernetesApi, cluster: Cluster):
    """Every object is asked for its end, and the error names them all."""
    made = Made(cluster, "run", "name", 2.0)
    made.make((config_map("a"), config_map("b")))
    api.faults.append(Fault("delete", "configmaps", 403, "Forbidden", 'cannot delete resource "configmaps"', times=1))
    with pytest.raises(ClusterError, match="may not delete") as caught:
        made.end(no_pods)
    assert api.state.names("configmaps") == ["b"]  # the last made is the first ended
    assert "ConfigMap a, ConfigMap b" in caught.value.expected


def test_cleanup_ends_what_a_dead_redline_left(api: KubernetesApi, ended_owner: Owner):
    """Only leftovers whose process is gone are ended: not a live one's, not another host's, not other people's."""
    left_by(api, ended_owner, "dead")
    left_by(api, this_process(), "live")
    left_by(api, replace(this_process(), host="elsewhere"), "far")
    left_by(api, None, "unsigned")
    api.state.create("configmaps", "perf", config_map("theirs"), "helm")
    lines = cleanup_place("test", "perf", (CONFIG_MAP,), older_than_s=None)
    assert len(lines) == 1
    assert lines[0].startswith("ConfigMap dead in namespace perf: process ")
    assert api.state.names("configmaps") == ["far", "live", "theirs", "unsigned"]


def test_cleanup_ends_what_is_too_old(api: KubernetesApi):
    """By age also what another host made goes, if it is Redline's; young and foreign objects stay."""
    elsewhere = replace(this_process(), host="elsewhere")
    left_by(api, elsewhere, "old")
    left_by(api, elsewhere, "young")
    api.state.create("configmaps", "perf", config_map("theirs"), "helm")
    for name in ("old", "theirs"):
        api.state.edit(
            "configmaps",
            "perf",
            name,
            lambda found: found["metadata"].update(creationTimestamp="2026-01-01T00:00:00Z"),
        )
    lines = cleanup_place("test", "perf", (CONFIG_MAP,), older_than_s=3600.0)
    assert [line.split(":")[0] for line in lines] == ["ConfigMap old in namespace perf"]
    assert api.state.names("configmaps") == ["theirs", "young"]


def test_cleanup_looks_at_every_kind(api: KubernetesApi, ended_owner: Owner):
    """A kind that is not installed holds nothing; one that may not be read is an error after the others were ended."""
    left_by(api, ended_owner)
    api.missing.add("serving.kserve.io/v1alpha2")
    api.forbidden.add(("list", "services"))
    kinds = (("serving.kserve.io/v1alpha2", "LLMInferenceService"), ("v1", "Service"), CONFIG_MAP)
    with pytest.raises(ClusterError, match="may not list services"):
        cleanup_place("test", "perf", kinds, older_than_s=None)
    assert api.state.names("configmaps") == []


def test_places_are_remembered(tmp_path):
    """Where something was made is known to a later Redline, by deployer; a damaged note is passed over."""
    kinds = (("v1", "ConfigMap"), ("apps/v1", "Deployment"))
    note_place(tmp_path, "llm-d", ClusterSettings("perf", context="a"), kinds)
    note_place(tmp_path, "llm-d", ClusterSettings("perf", context="a"), kinds)
    note_place(tmp_path, "kserve", ClusterSettings("perf"), kinds)
    (tmp_path / "clusters" / "damaged.json").write_text("{")
    assert noted_places(tmp_path, "llm-d") == (("a", "perf", kinds),)
    assert noted_places(tmp_path / "nowhere", "llm-d") == ()


def test_an_owner_is_told_apart_from_whoever_has_its_pid(ended_owner: Owner):
    """Only a process of this host, boot and process table is known to live or to be gone."""
    here = this_process()
    assert fate_of(here) == "lives"
    assert fate_of(replace(here, start_ticks=here.start_ticks + 1)) == "gone"
    assert fate_of(ended_owner) == "gone"
    for change in ({"host": "x"}, {"boot_id": "x"}, {"pid_namespace": "pid:[1]"}, {"boot_id": "", "start_ticks": 0}):
        assert fate_of(replace(here, **change)) == "unknown"


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"pid": 1}', "x" * 10_000, this_process().text + "x"])
def test_what_is_no_owner_is_none(text: object):
    """A damaged or hostile annotation names nobody."""
    assert owner_of(text) is None


@pytest.mark.parametrize(("text", "value"), [("a b", "a-b"), ("--x", "x"), ("é" * 3, ""), ("a" * 70, "a" * 63)])
def test_labels_hold_what_labels_may(text: str, value: str):
    """Whatever a run is called, its label is one that Kubernetes takes."""
    assert label_value(text) == value
