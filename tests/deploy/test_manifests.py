"""What the pods of a cluster are told: names, arguments, variables, resources, patience, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from redline.deploy.command import server_command
from redline.deploy.manifests import MANIFESTS, SERVER_CONTAINERS, manifest_files, pod_labels
from redline.deploy.manifests_llmd import PICKER_RULES, router_name, router_url
from redline.deploy.manifests_proxy import envoy_config
from redline.deploy.manifests_text import byte_quantity, literal, object_name, yaml_text
from redline.errors import UsageError
from redline.model import BuildKind, BuildPin, ClusterSettings, SystemUnderTest
from tests.deploy.cluster_orders import (
    ALL_SETTINGS,
    H200,
    MI300X,
    PICKER_IMAGE,
    PROXY_IMAGE,
    ROCM_IMAGE,
    eight_on_mi300x,
    on_cpus,
    order_of,
    placed,
    recipe_of,
    two_on_h200,
)

LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


def server_of(order, deployer):
    """(pod, container) that serve vLLM, as they are read from the YAML that is applied."""
    for each in yaml.safe_load_all(yaml_text(MANIFESTS[deployer](order))):
        spec = each.get("spec", {})
        template = spec.get("template", spec.get("predictor"))
        pod = template.get("spec", template) if template else {}
        for container in pod.get("containers", ()):
            if container["name"] == SERVER_CONTAINERS[deployer] and each["metadata"]["name"] == object_name(order):
                return pod, container
    raise AssertionError("no server")


def as_started(text: str, variables: dict[str, str]) -> str:
    """What a process gets of a string of its container, by the rule of the Kubernetes API.

    Source: the documentation of Container.args: `$(NAME)` is replaced by a variable that exists, `$$` is one `$`.
    """
    found, rest = "", text
    while rest:
        reference = re.match(r"\$\(([^)]*)\)", rest)
        if rest.startswith("$$"):
            found, rest = found + "$", rest[2:]
        elif reference and reference[1] in variables:
            found, rest = found + variables[reference[1]], rest[reference.end() :]
        else:
            found, rest = found + rest[0], rest[1:]
    return found


def through_template(text: str) -> str:
    """What Go's template engine makes of a text whose only actions are raw strings; fails for any other action."""
    parts = re.split(r"\{\{(.*?)\}\}", text, flags=re.DOTALL)
    assert all(re.fullmatch(r"`[^`]*`", action) for action in parts[1::2]), text
    return "".join(part.strip("`") if index % 2 else part for index, part in enumerate(parts))


# --- names ------------------------------------------------------------------------------------------------------


@given(name=st.text(max_size=120), run_id=st.text(max_size=30))
@settings(max_examples=100)
def test_names_are_labels(name, run_id):
    """Whatever an order is called, its objects have names that Kubernetes takes, with room for what is appended."""
    found = object_name(replace(on_cpus(), name=name, run_id=run_id))
    assert LABEL.fullmatch(found)
    assert len(found) <= 40


def test_names_tell_arms_rounds_and_runs_apart():
    """Names that differ only in what a label cannot hold, or beyond its length, still differ."""
    long = "x" * 200
    names = ["a-00-baseline", "a-00-candidate", "A-00-candidate", "a_00_candidate", f"{long}-baseline", f"{long}-cand"]
    found = {object_name(order_of(MI300X, platform="rocm", name=name, run_id=run)) for name in names for run in "ab"}
    assert len(found) == 2 * len(names)
    assert object_name(on_cpus()).startswith("gpt-oss-120b-00-candidate-")


@pytest.mark.parametrize("deployer", MANIFESTS)
def test_every_object_is_named_and_placed(deployer):
    """Every object has a name of its own kind and the namespace of the settings; files keep the order."""
    order = ALL_SETTINGS[deployer]()
    objects = MANIFESTS[deployer](order)
    assert {each["metadata"]["namespace"] for each in objects} == {"perf"}
    assert len({(each["kind"], each["metadata"]["name"]) for each in objects}) == len(objects)
    files = manifest_files(objects)
    assert [next(yaml.safe_load_all(text)) for _, text in sorted(files.items())] == list(objects)


# --- arguments and variables ------------------------------------------------------------------------------------


@given(
    extra=st.lists(st.one_of(TEXT, st.sampled_from(["y", "0.10", "1e3", "$(HOME)", "$$", "{{.Name}}", "{{{", "a\nb"]))),
    value=TEXT,
    served=TEXT,
    deployer=st.sampled_from(sorted(MANIFESTS)),
)
@settings(max_examples=60, deadline=None)
def test_strings_arrive_as_they_are_written(extra, value, served, deployer):
    """No text changes on its way through YAML, KServe's template and the kubelet to the server's command line."""
    recipe = replace(recipe_of("cuda", environment={"HOME": "/own", "X": value}), served_model_name=served)
    cluster = replace(H200, reach="pods")
    arguments = tuple(f"--flag={each}" for each in extra)
    order = order_of(cluster, deployer=deployer, recipe=recipe, extra_args=arguments)
    _, container = server_of(order, deployer)
    template = through_template if deployer == "kserve" else str
    variables = {each["name"]: as_started(template(each["value"]), {}) for each in container["env"]}
    assert variables["X"] == value
    started = [as_started(template(each), variables) for each in container["args"]]
    assert tuple(started[len(started) - len(arguments) :]) == arguments
    assert started[started.index("--served-model-name") + 1] == served


@pytest.mark.parametrize("text", ["y", "N", "off", "null", "~", "1e3", "0x1F", "0o17", "1_000", "12:30:00", "=", "<<"])
def test_yaml_is_read_the_same_by_everybody(text):
    """What some YAML readers take for something else than a string is quoted."""
    assert yaml_text([{"a": text}]) == f'---\na: "{text}"\n'


@pytest.mark.parametrize("deployer", MANIFESTS)
def test_arguments_are_those_of_a_host(deployer):
    """Everything after the program is what a server on a host is told, but for where the model and the client are."""
    order = order_of(replace(H200, reach="pods"), deployer=deployer, extra_args=("--max-num-seqs", "64"))
    _, container = server_of(order, deployer)
    here = server_command(
        python=Path("python3"),
        recipe=order.recipe,
        platform="cuda",
        extra_args=order.sut.extra_args,
        model=order.model,
        port=8000,
    )
    expected = list(here[3:])
    expected[expected.index("127.0.0.1")] = "0.0.0.0"  # noqa: S104 - as a pod must
    if deployer != "llm-d":  # KServe fetched the model, at its revision
        at = expected.index("--revision")
        del expected[at : at + 2]
        expected[expected.index(order.model)] = "/mnt/models"
    assert container["args"] == expected
    assert container["command"] == list(here[:3])
    assert container["ports"][0]["containerPort"] == 8000


def test_nothing_stray_gets_into_a_pod():
    """No variables of Services, no token of the API; caches in one writable place, the image's own PATH."""
    pod, container = server_of(two_on_h200(), "kserve")
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert "PATH" not in variables
    assert variables["VLLM_CACHE_ROOT"].startswith("/redline-cache/")
    assert variables["HF_HUB_OFFLINE"] == "1"


def test_tokens_are_named_and_never_written(monkeypatch):
    """A token of the caller's environment is in no manifest; a pod that fetches by itself is told where it lies."""
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_caller")
    for deployer, make in ALL_SETTINGS.items():
        assert "hf_of_the_caller" not in yaml_text(MANIFESTS[deployer](make()))
    _, container = server_of(ALL_SETTINGS["llm-d"](), "llm-d")
    token = next(each for each in container["env"] if each["name"] == "HF_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "HF_TOKEN"}


@pytest.mark.parametrize("text", ["a\0b", "\udcff"])
def test_what_no_process_can_be_given_is_refused(text):
    """NUL and what is no Unicode cannot be written, and are refused before anything is applied."""
    with pytest.raises(UsageError, match="cannot be written"):
        literal(text)


# --- resources and patience -------------------------------------------------------------------------------------


def test_accelerators_and_memory():
    """Each replica asks for as many accelerators as it spreads a model over, of the cluster's kind, and for shared
    memory to match.
    """
    pod, container = server_of(two_on_h200(), "kserve")
    assert container["resources"]["limits"] == {"cpu": "32", "memory": "400Gi", "nvidia.com/gpu": "4"}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert pod["volumes"][0] == {"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "40Gi"}}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]

    service = MANIFESTS["kserve"](eight_on_mi300x())[0]["spec"]
    assert (service["replicas"], service["parallelism"]) == (8, {"tensor": 1})
    assert service["template"]["containers"][0]["resources"]["limits"] == {"amd.com/gpu": "1"}
    assert service["template"]["containers"][0]["image"] == ROCM_IMAGE

    pod, container = server_of(on_cpus(), "llm-d")
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi"}
    assert "tolerations" not in pod


def test_byte_quantities():
    """Whole GiB are written as such, anything else in bytes."""
    assert byte_quantity(20 << 30) == "20Gi"
    assert byte_quantity(1_000_000_000) == "1000000000"


@pytest.mark.parametrize("start_s_max", [1.0, 599.9, 3600.0, 7200.0])
def test_a_start_may_take_as_long_as_the_recipe_says(start_s_max):
    """Neither the probe nor the Deployment gives up before the recipe's bound."""
    recipe = replace(recipe_of("cuda"), start_s_max=start_s_max)
    for deployer in MANIFESTS:
        order = order_of(replace(H200, reach="pods"), deployer=deployer, recipe=recipe)
        _, container = server_of(order, deployer)
        probe = container["startupProbe"]
        assert probe["failureThreshold"] * probe["periodSeconds"] > start_s_max
        for manifest in MANIFESTS[deployer](order):
            assert manifest["spec"].get("progressDeadlineSeconds", 10_000) > start_s_max


def test_replicas_are_fixed():
    """An InferenceService has as many replicas as the placement says, and no autoscaler."""
    recipe = recipe_of("cuda", placement=placed("H200", 3, 1))
    order = order_of(replace(H200, reach="pods"), deployer="inference-service", recipe=recipe)
    (service,) = MANIFESTS["inference-service"](order)
    assert (service["spec"]["predictor"]["minReplicas"], service["spec"]["predictor"]["maxReplicas"]) == (3, 3)
    assert service["metadata"]["annotations"] == {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "none",
    }
    assert service["metadata"]["labels"] == {"networking.kserve.io/visibility": "cluster-local"}


# --- how it is reached --------------------------------------------------------------------------------------------


def test_the_router_is_pinned_and_stated():
    """KServe's scheduler runs the pinned picker with the whole configuration; reached by pods there is none."""
    (service,) = MANIFESTS["kserve"](two_on_h200())
    scheduler = service["spec"]["router"]["scheduler"]
    assert scheduler["template"]["containers"][0]["image"] == PICKER_IMAGE
    assert [each["type"] for each in scheduler["config"]["inline"]["plugins"]] == [
        "single-profile-handler",
        "active-request-scorer",
        "max-score-picker",
    ]
    assert "router" not in MANIFESTS["kserve"](eight_on_mi300x())[0]["spec"]


def test_tls_is_spoken_behind_a_router_that_speaks_it():
    """Where KServe's own TLS is on, servers behind its router use its certificate; reached by pods they are plain."""
    for reach, scheme in (("router", "HTTPS"), ("pods", "HTTP")):
        _, container = server_of(order_of(replace(H200, tls=True, reach=reach)), "kserve")
        assert {container[probe]["httpGet"]["scheme"] for probe in ("startupProbe", "readinessProbe")} == {scheme}
        assert ("--ssl-certfile" in container["args"]) is (scheme == "HTTPS")


def test_llmd_without_a_router_is_one_deployment():
    """Reached by pods, llm-d needs none of the kinds that a cluster has to be extended by."""
    assert [each["kind"] for each in MANIFESTS["llm-d"](on_cpus())] == ["Deployment"]


def test_llmds_parts_fit_together():
    """Pool, Service and Deployments select the pods they mean, and the picker reads the pool's servers."""
    order = ALL_SETTINGS["llm-d"]()
    objects = {(each["kind"], each["metadata"]["name"]): each for each in MANIFESTS["llm-d"](order)}
    name, router = object_name(order), router_name(order)
    servers = objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
    routers = objects["Deployment", router]["spec"]["template"]["metadata"]["labels"]
    assert objects["InferencePool", name]["spec"]["selector"]["matchLabels"] == servers == pod_labels(order, "llm-d")
    assert objects["Service", router]["spec"]["selector"] == routers != servers
    assert objects["InferencePool", name]["spec"]["endpointPickerRef"]["name"] == router
    assert router_url(order) == f"http://{router}.perf.svc:8081"
    assert objects["ConfigMap", f"{router}-picker"]["data"]["picker.yaml"] == order.sut.router.config
    proxy, picker = objects["Deployment", router]["spec"]["template"]["spec"]["containers"]
    assert (proxy["image"], picker["image"]) == (PROXY_IMAGE, PICKER_IMAGE)
    assert f"--pool-name={name}" in picker["args"]
    assert "--secure-serving=false" in picker["args"]
    assert objects["Role", router]["rules"] == list(PICKER_RULES)
    assert objects["RoleBinding", router]["roleRef"]["name"] == router


def test_the_proxy_limits_nothing():
    """Envoy waits as long as Redline does, lets everything in flight, and never passes over the picker."""
    config = envoy_config()["static_resources"]
    requests = config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    route = requests["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert (requests["stream_idle_timeout"], route["timeout"]) == ("0s", "0s")
    picker = requests["http_filters"][0]["typed_config"]
    assert picker["failure_mode_allow"] is False
    assert picker["processing_mode"]["response_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert requests["http_filters"][-1]["name"] == "router"
    for cluster in config["clusters"]:
        limits = cluster["circuit_breakers"]["thresholds"][0]
        assert min(limits[key] for key in ("max_connections", "max_pending_requests", "max_requests")) >= 100_000
    # It is the file that is mounted, unchanged.
    (text,) = (
        each["data"]["envoy.yaml"]
        for each in MANIFESTS["llm-d"](ALL_SETTINGS["llm-d"]())
        if each["kind"] == "ConfigMap" and "envoy.yaml" in each["data"]
    )
    assert yaml.safe_load(text) == envoy_config()


# --- what is refused ----------------------------------------------------------------------------------------------


def wheel() -> BuildPin:
    """A wheel's pin."""
    return BuildPin(BuildKind.INDEX_WHEEL, "vllm==0.33.0", "vllm", "0.33.0", "cuda", "3.12", "a" * 64, "vllm==0.33.0")


def refused(order, deployer: str = "kserve") -> UsageError:
    """The error that the order ends with."""
    with pytest.raises(UsageError) as caught:
        MANIFESTS[deployer](order)
    assert caught.value.next_step
    return caught.value


def test_only_images_are_served():
    """A wheel is refused, and the message says what to name instead."""
    error = refused(replace(two_on_h200(), sut=SystemUnderTest(wheel())))
    assert "image" in error.expected and "image:" in error.next_step


@pytest.mark.parametrize("flag", ["--port=1", "--host", "--api-key=x", "--ssl-keyfile=y", "--served_model_name=z"])
def test_arguments_that_are_not_free_are_refused(flag):
    """As on a host: where a server is found and what it serves is not for extra arguments."""
    assert "not free" in refused(order_of(H200, extra_args=(flag,))).problem


def test_orders_that_do_not_fit_the_cluster_are_refused():
    """No cluster, no accelerators for a build that needs them, a platform that the recipe does not know."""
    assert "no cluster" in refused(replace(two_on_h200(), cluster=None)).problem
    none = ClusterSettings(namespace="perf", reach="pods")
    assert "accelerator" in refused(order_of(none)).problem
    assert "accelerator" in refused(order_of(replace(H200, reach="pods"), platform="cpu"), "llm-d").problem
    assert "platform" in refused(replace(order_of(H200), recipe=recipe_of("rocm"))).problem


def test_routers_that_are_not_pinned_are_refused():
    """A service that is reached through a router needs the picker, and llm-d's the proxy too."""
    unrouted = replace(order_of(H200), sut=replace(order_of(H200).sut, router=None))
    assert "none is pinned" in refused(unrouted).problem
    assert "proxy" in refused(order_of(H200, deployer="llm-d"), "llm-d").problem
    assert "no router" in refused(order_of(H200), "inference-service").problem


def test_an_inference_service_says_what_it_needs():
    """KServe's defaults, one CPU and 2 GiB, would be measured: they are never left to it."""
    order = order_of(replace(H200, reach="pods", pod_memory=""), deployer="inference-service")
    assert "2 GiB" in refused(order, "inference-service").problem
