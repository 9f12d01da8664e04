"""Orders for a simulated cluster, and limits that fit a test."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from redline.deploy.cluster_client import CallLimits
from redline.deploy.cluster_deployer import ClusterDeployer
from redline.deploy.cluster_target import Limits
from redline.deploy.deployer import Order
from redline.deploy.kserve import KServeDeployer
from redline.deploy.routing import endpoint_picker_config
from redline.model import (
    BuildKind,
    BuildPin,
    ClusterSettings,
    Placement,
    Recipe,
    RouterPin,
    SystemUnderTest,
)
from tests.fakes.kubernetes_cluster import NAMESPACE, SimulatedCluster

IMAGE = "registry.example/vllm/vllm-openai-cpu@sha256:" + "a" * 64
ROUTER_IMAGE = "registry.example/llm-d/llm-d-router-endpoint-picker@sha256:" + "b" * 64
PROXY_IMAGE = "registry.example/envoyproxy/envoy@sha256:" + "c" * 64

MADE = ("llminferenceservices", "inferenceservices", "deployments", "services", "configmaps", "roles", "pods")
"""Kinds of which nothing may be left."""

QUICK = Limits(
    start_margin_s=0.0,
    place_s=0.2,
    pull_s=0.2,
    configuration_s=0.2,
    answer_s=60.0,
    gone_s=60.0,
    turn_s=0.2,
    calls=CallLimits(try_s=20.0, try_count_max=3, all_s=60.0, pause_s=0.01),
)
"""Short where a test waits for the bound itself, long where only a failed test, or a busy machine, comes near it."""


def cluster_order(
    folder: Path,
    mode: str = "ok",
    *,
    name: str = "stand-in-00-baseline",
    replicas: int = 1,
    reach: str = "pods",
    run_id: str = "20261121T120000-ab12",
    start_s_max: float = 60.0,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Order:
    """One arm, served by the stand-in of `tests.fakes.stand_in_vllm` in a mode of its own."""
    told = {"STAND_IN_MODE": mode, "STAND_IN_PIDS": str(folder / "pids"), "STAND_IN_DIR": str(folder)}
    recipe = Recipe(
        name="stand-in",
        description="",
        model="nobody/nothing",
        revision="abc123",
        served_model_name="m",
        context_tokens_max=128,
        server_args={"cpu": ()},
        environment={"cpu": told | (environment or {})},
        start_s_max=start_s_max,
    )
    if replicas > 1:
        recipe = replace(recipe, placements=(Placement("CPU", replicas, 1, (), "a test"),))
    pin = BuildPin(BuildKind.IMAGE, f"image:{IMAGE}", "vllm", "0.0.0", "cpu", "", None, "", IMAGE)
    router = RouterPin(ROUTER_IMAGE, endpoint_picker_config("even")) if reach == "router" else None
    return Order(
        name=name,
        run_id=run_id,
        recipe=recipe,
        sut=SystemUnderTest(pin, router=router),
        model="nobody/nothing",
        state_dir=folder / "state",
        log_dir=folder / "logs",
        cluster=ClusterSettings(
            NAMESPACE,
            context="test",
            reach=reach,
            router_image=ROUTER_IMAGE if reach == "router" else "",
            proxy_image=PROXY_IMAGE if reach == "router" else "",
            **settings,
        ),
        grace_s=1.0,
    )


@contextmanager
def deployed(
    folder: Path, *args: Any, deployer: ClusterDeployer | None = None, said: list[str] | None = None, **kw: Any
):
    """A deployment of the stand-in, by KServe unless another deployer is given."""
    lines = said if said is not None else []
    chosen = deployer or KServeDeployer(QUICK)
    with chosen.deploy(cluster_order(folder, *args, **kw), lines.append) as deployment:
        yield deployment


def left(cluster: SimulatedCluster) -> list[str]:
    """Everything that is still in the namespace."""
    return [f"{plural}/{name}" for plural in MADE for name in cluster.state.names(plural)]


def answered(url: str) -> int:
    """Tokens of a completion."""
    body = {"model": "m", "prompt": [3], "max_tokens": 2}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()["usage"]["completion_tokens"]
