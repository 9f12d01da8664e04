"""Who spreads requests over replicas: stated in full, pinned, and refused where nobody does what is asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from redline.deploy.manifests import MANIFESTS
from redline.deploy.routing import endpoint_picker_config, picker_config, router_of, router_problem
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


def test_the_router_that_runs_is_the_pinned_one():
    """What runs is read back: another image, a preset's own configuration, and none at all are told from the pinned."""
    router = router_of(class_of(H200, "kserve"), "even")
    assert router is not None
    stated = json.dumps(picker_config(router))
    other = json.dumps(yaml.safe_load(endpoint_picker_config("prefix-aware")))
    pulled = "mirror/picker@" + PICKER_IMAGE.rpartition("@")[2]
    for arguments in (["--v=2", "--config-text", stated], [f"--config-text={stated}"]):
        assert router_problem(router, {"image": pulled, "args": arguments}) == ""
    assert "runs" in router_problem(router, {"image": "picker:latest", "args": ["--config-text", stated]})
    assert "another" in router_problem(router, {"image": PICKER_IMAGE, "args": ["--config-text", other]})
    assert "another" in router_problem(router, {"image": PICKER_IMAGE, "args": ["--config-text", "["]})
    assert "no configuration" in router_problem(router, {"image": PICKER_IMAGE})
