"""Who spreads requests over replicas: stated in full, pinned, and refused where nobody does what is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from redline.deploy.manifests import MANIFESTS, router_pod_labels
from redline.deploy.manifests_text import object_name
from redline.deploy.routing import endpoint_picker_config, picker_config, router_mark, router_of, router_problem
from redline.errors import UsageError
from redline.model import RouterPin
from tests.deploy.cluster_orders import EVERYTHING, H200, PICKER_IMAGE, order_of
from tests.deploy.cluster_orders import runner_class as class_of


@pytest.mark.parametrize("routing", ["even", "prefix-aware"])
def test_configurations_are_complete(routing):
    """Every plugin that a profile names is there, with a weight if it scores, and one picker comes last."""
    config = yaml.safe_load(endpoint_picker_config(routing))
    types = [each["type"] for each in config["plugins"]]
    (profile,) = config["schedulingProfiles"]
    named = [each["pluginRef"] for each in profile["plugins"]]
    assert set(named) == set(types) - {"single-profile-handler"}
    assert named[-1] == "max-score-picker"
    assert all(each["weight"] > 0 for each in profile["plugins"][:-1])
    assert "dataLayer" not in config


def test_an_even_spread_knows_no_prefixes():
    """Requests in flight decide, and nothing that a prompt holds; the other routing is another configuration."""
    even, aware = endpoint_picker_config("even"), endpoint_picker_config("prefix-aware")
    assert "prefix" not in even and "kv-cache" not in even
    assert "active-request-scorer" in even
    assert "prefix-cache-scorer" in aware


def test_the_router_is_part_of_what_is_measured():
    """A class that is reached through a router pins its image and configuration; two routings are two systems."""
    even, aware = (router_of(class_of(H200, "kserve"), routing) for routing in ("even", "prefix-aware"))
    assert even is not None and aware is not None
    assert even.image == PICKER_IMAGE
    assert picker_config(even)["kind"] == "EndpointPickerConfig"
    assert order_of(H200).sut.sut_id != order_of(H200, routing="prefix-aware").sut.sut_id


@pytest.mark.parametrize(
    ("deployer", "reach"), [("kserve", "pods"), ("llm-d", "pods"), ("inference-service", "router")]
)
def test_where_nobody_routes_only_even_is_served(deployer, reach):
    """The client takes turns over pods, and a Service knows no prefixes: there is no router to pin or to ask for."""
    runner_class = class_of(replace(H200, reach=reach), deployer)
    assert router_of(runner_class, "even") is None
    with pytest.raises(UsageError, match="routes by prefix"):
        router_of(runner_class, "prefix-aware")


def test_a_host_has_no_router():
    """Replicas of a host are asked in turn by the client."""
    assert router_of(class_of(None, "host"), "even") is None
    with pytest.raises(UsageError, match="routes by prefix"):
        router_of(class_of(None, "host"), "prefix-aware")


def test_a_router_without_an_image_is_refused():
    """Whatever version a cluster happens to have is no part of a measurement."""
    with pytest.raises(UsageError, match="not pinned"):
        router_of(class_of(replace(H200, router_image=""), "kserve"), "even")


@pytest.mark.parametrize("config", ["[", "- a", "kind: Other", "just text"])
def test_a_configuration_of_something_else_is_refused(config):
    """Only an EndpointPickerConfig goes to the picker."""
    with pytest.raises(UsageError, match="cannot be used"):
        picker_config(RouterPin(PICKER_IMAGE, config))


@pytest.mark.parametrize("deployer", ["kserve", "llm-d"])
def test_prefixes_are_routed_only_over_servers_that_keep_them(deployer):
    """MLPerf's recipes switch the prefix cache off: routing by it would measure nothing. The last word counts."""
    off = order_of(EVERYTHING, deployer=deployer, routing="prefix-aware", extra_args=("--no-enable-prefix-caching",))
    with pytest.raises(UsageError, match="keep none"):
        MANIFESTS[deployer](off)
    on = ("--no-enable-prefix-caching", "--enable-prefix-caching")
    assert MANIFESTS[deployer](order_of(EVERYTHING, deployer=deployer, routing="prefix-aware", extra_args=on))
    assert MANIFESTS[deployer](order_of(EVERYTHING, deployer=deployer, extra_args=("--no-enable-prefix-caching",)))


EVEN_ROUTER = RouterPin(PICKER_IMAGE, endpoint_picker_config("even"))
AS_JSON = json.dumps(picker_config(EVEN_ROUTER))
OTHER = endpoint_picker_config("prefix-aware")


def router_pod(*arguments: str, image: str = PICKER_IMAGE, **container: Any) -> dict[str, Any]:
    """A pod whose one container is a picker, with a ConfigMap mounted as llm-d's is."""
    mount = {"name": "picker", "mountPath": "/config/"}
    picker = {"name": "main", "image": image, "args": list(arguments), "volumeMounts": [mount]} | container
    return {"spec": {"containers": [picker], "volumes": [{"name": "picker", "configMap": {"name": "ours"}}]}}


def problem_of(pod: dict[str, Any], config: str = EVEN_ROUTER.config) -> str:
    """What is wrong with a router's pod, where Redline wrote `config`."""
    return router_problem(EVEN_ROUTER, pod, "main", {"ours": {"picker.yaml": config}})


@pytest.mark.parametrize(
    "pod",
    [
        router_pod("--v=2", "--config-text", AS_JSON),
        router_pod(f"--config-text={AS_JSON}"),
        router_pod("--configText", OTHER, "-configText", EVEN_ROUTER.config),
        router_pod("--config-text", AS_JSON, image="mirror/picker@" + PICKER_IMAGE.rpartition("@")[2]),
        router_pod(command=["/picker", "--config-text", AS_JSON]),
        router_pod("--config-file", "/config/picker.yaml"),
    ],
)
def test_the_router_that_runs_is_the_pinned_one(pod):
    """However a flag is written, the last one counts; a mirror of the same digest is the same image."""
    assert problem_of(pod) == ""


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (router_pod("--config-text", AS_JSON, image="picker:latest"), "runs picker:latest"),
        (router_pod("--config-text", AS_JSON, name="sidecar"), "no container main"),
        (router_pod("--config-text", OTHER), "another configuration"),
        (router_pod("--config-text", AS_JSON, "--config-text", OTHER), "another configuration"),
        (router_pod("--config-text", "["), "another configuration"),
        (router_pod("--config-text"), "another configuration"),
        (router_pod("--v=2"), "no configuration"),
        (router_pod("--config-text", AS_JSON, "--config-file=/config/picker.yaml"), "two configurations"),
        (router_pod("--config-file", "/config/other.yaml"), "did not write"),
        (router_pod("--config-file", "/etc/picker.yaml"), "did not write"),
        (
            router_pod(
                "--config-file=/config/picker.yaml",
                volumeMounts=[{"name": "picker", "mountPath": "/config", "subPath": "x"}],
            ),
            "did not write",
        ),
        ({"spec": {}}, "no container main"),
        ({}, "no container main"),
    ],
)
def test_any_other_router_is_told(pod, words):
    """Another image, another configuration, one that cannot be read back, and none at all."""
    assert words in problem_of(pod)


def test_a_configuration_that_was_changed_where_it_lies_is_told():
    """A ConfigMap can be edited before the picker reads it."""
    assert "another configuration" in problem_of(router_pod("--config-file", "/config/picker.yaml"), OTHER)


def test_routers_are_told_apart_in_short():
    """By image and by configuration; a tag beside the digest changes nothing."""
    mark = router_mark(EVEN_ROUTER)
    assert mark.startswith("4" * 12 + "/") and len(mark) == 21
    assert router_mark(RouterPin(PICKER_IMAGE, OTHER)) != mark
    assert router_mark(RouterPin("other/name@" + PICKER_IMAGE.rpartition("@")[2], EVEN_ROUTER.config)) == mark


def test_pods_that_route_are_looked_for_where_a_router_is_pinned():
    """By KServe's own labels, by ours for llm-d, and nowhere else."""
    kserve, llmd_order = order_of(EVERYTHING), order_of(EVERYTHING, deployer="llm-d")
    assert router_pod_labels(kserve, "kserve")["app.kubernetes.io/name"] == object_name(kserve)
    objects = MANIFESTS["llm-d"](llmd_order)
    router = next(
        each for each in objects if each["metadata"]["name"].endswith("-router") and each["kind"] == "Service"
    )
    assert router_pod_labels(llmd_order, "llm-d") == router["spec"]["selector"]
    for deployer in ("kserve", "llm-d", "inference-service"):
        assert router_pod_labels(order_of(replace(EVERYTHING, reach="pods"), deployer=deployer), deployer) == {}
