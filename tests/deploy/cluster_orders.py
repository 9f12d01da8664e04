"""Orders for clusters: what the tests of manifests and the reducer of schemas render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from redline.deploy.deployer import Order
from redline.deploy.routing import router_of
from redline.model import (
    BuildKind,
    BuildPin,
    ClusterSettings,
    Placement,
    Recipe,
    RunnerClass,
    SystemUnderTest,
)

IMAGE = "vllm/vllm-openai@sha256:" + "1" * 64
ROCM_IMAGE = "vllm/vllm-openai-rocm@sha256:" + "2" * 64
CPU_IMAGE = "vllm/vllm-openai-cpu@sha256:" + "3" * 64
PICKER_IMAGE = "llm-d/llm-d-router-endpoint-picker:v0.10.0@sha256:" + "4" * 64
PROXY_IMAGE = "envoyproxy/envoy:distroless-v1.33.2@sha256:" + "5" * 64

H200 = ClusterSettings(
    namespace="perf",
    accelerator_resource="nvidia.com/gpu",
    router_image=PICKER_IMAGE,
    pod_cpus="32",
    pod_memory="400Gi",
    node_selector={"nvidia.com/gpu.product": "NVIDIA-H200"},
)
MI300X = ClusterSettings(namespace="perf", accelerator_resource="amd.com/gpu", reach="pods")
EVERYTHING = replace(
    H200,
    proxy_image=PROXY_IMAGE,
    service_account="models",
    image_pull_secret="registry",
    hub_token_secret="hub",
    runtime_class="nvidia",
    tls=True,
    shm_bytes=1 << 34,
)


def image_pin(url: str, platform: str) -> BuildPin:
    """The pin of an image, as `image:...` is resolved."""
    return BuildPin(
        kind=BuildKind.IMAGE,
        spec=f"image:{url}",
        distribution="vllm",
        version="0.33.0",
        platform=platform,
        python_version="",
        wheel_sha256=None,
        lock="",
        url=url,
    )


def recipe_of(
    platform: str,
    *,
    placement: Placement | None = None,
    server_args: tuple[str, ...] = ("--generation-config", "vllm"),
    environment: Mapping[str, str] | None = None,
) -> Recipe:
    """A recipe for one platform, placed."""
    return Recipe(
        name="gpt-oss-120b",
        description="for tests",
        model="openai/gpt-oss-120b",
        revision="b5c939de8f754692c1647ca79fbf85e8c1e70f8a",
        served_model_name="gpt-oss-120b",
        context_tokens_max=131072,
        server_args={platform: server_args},
        environment={platform: dict(environment)} if environment else {},
        start_s_max=3600.0,
        placements=(placement,) if placement else (),
    )


def placed(accelerator: str, replicas: int, tensor_parallel: int) -> Placement:
    """So many servers of so many accelerators."""
    return Placement(accelerator, replicas, tensor_parallel, (), "a test")


def runner_class(cluster: ClusterSettings | None, deployer: str) -> RunnerClass:
    """A class whose builds are served there."""
    return RunnerClass(
        name="class",
        description="for tests",
        platform="cuda",
        policy="cpu",
        arms_resident_max=1,
        foreign_cpu_share_max=0.05,
        retry_count_max=1,
        memory_bytes_free_min=0,
        deployer=deployer,
        cluster=cluster,
    )


def order_of(
    cluster: ClusterSettings,
    *,
    deployer: str = "kserve",
    routing: str = "even",
    image: str = IMAGE,
    platform: str = "cuda",
    recipe: Recipe | None = None,
    name: str = "gpt-oss-120b-00-candidate",
    run_id: str = "20261121T120000-abcd",
    extra_args: tuple[str, ...] = (),
) -> Order:
    """An order as flows make it."""
    chosen = recipe or recipe_of(platform)
    pin = image_pin(image, platform)
    return Order(
        name=name,
        run_id=run_id,
        recipe=chosen,
        sut=SystemUnderTest(pin, extra_args=extra_args, router=router_of(runner_class(cluster, deployer), routing)),
        model=chosen.model,
        state_dir=Path("state"),
        log_dir=Path("logs"),
        cluster=cluster,
    )


def two_on_h200(**changes) -> Order:
    """2 x tensor parallel 4 of H200 behind KServe's router, spread evenly."""
    recipe = recipe_of(
        "cuda",
        placement=placed("H200", 2, 4),
        server_args=(
            *("--generation-config", "vllm", "--tensor-parallel-size", "4"),
            *("--compilation-config", '{"max_cudagraph_capture_size":2048,"pass_config":{"eliminate_noops":true}}'),
        ),
    )
    return order_of(H200, recipe=recipe, **changes)


def eight_on_mi300x() -> Order:
    """8 x tensor parallel 1 of MI300X, every pod asked in turn."""
    recipe = recipe_of("rocm", placement=placed("MI300X", 8, 1), environment={"VLLM_ROCM_USE_AITER": "1"})
    return order_of(MI300X, image=ROCM_IMAGE, platform="rocm", recipe=recipe)


def inference_service_on_h200() -> Order:
    """One server of tensor parallel 1 as an InferenceService."""
    return order_of(replace(H200, reach="pods"), deployer="inference-service")


def llmd_by_prefix() -> Order:
    """2 x tensor parallel 1 behind llm-d's router, by prefix."""
    recipe = recipe_of("cuda", placement=placed("H200", 2, 1))
    cluster = replace(H200, proxy_image=PROXY_IMAGE, model_uri="pvc://models/{model}")
    return order_of(cluster, deployer="llm-d", routing="prefix-aware", recipe=recipe)


def on_cpus() -> Order:
    """One server on CPUs as a plain Deployment."""
    cluster = ClusterSettings(namespace="perf", reach="pods", pod_cpus="8", pod_memory="32Gi")
    return order_of(cluster, deployer="llm-d", image=CPU_IMAGE, platform="cpu", recipe=recipe_of("cpu"))


GOLDEN = {
    "kserve-2x4-h200-even": ("kserve", two_on_h200),
    "kserve-8x1-mi300x-pods": ("kserve", eight_on_mi300x),
    "inference-service-h200-pods": ("inference-service", inference_service_on_h200),
    "llm-d-2x1-h200-prefix-aware": ("llm-d", llmd_by_prefix),
    "llm-d-cpu-pods": ("llm-d", on_cpus),
}
"""Name of a golden file -> the deployer and the order that it is rendered from."""

ALL_SETTINGS = {
    "kserve": lambda: order_of(EVERYTHING),
    "inference-service": lambda: order_of(replace(EVERYTHING, reach="pods"), deployer="inference-service"),
    "llm-d": lambda: order_of(EVERYTHING, deployer="llm-d"),
}
"""Deployer -> an order in which every setting of a cluster is made."""
