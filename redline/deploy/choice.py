"""Which deployer serves a build on a class of runners: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from redline.deploy.deployer import Deployer
from redline.errors import UsageError
from redline.model import BuildKind, BuildPin, RunnerClass


def _process() -> Deployer:
    from redline.deploy.host import ProcessDeployer  # noqa: PLC0415 - each deployer brings libraries of its own

    return ProcessDeployer()


def _container() -> Deployer:
    from redline.deploy.container import ContainerDeployer  # noqa: PLC0415 - as above

    return ContainerDeployer()


def _kserve() -> Deployer:
    from redline.deploy.kserve import KServeDeployer  # noqa: PLC0415 - as above

    return KServeDeployer()


def _inference_service() -> Deployer:
    from redline.deploy.inference_service import InferenceServiceDeployer  # noqa: PLC0415 - as above

    return InferenceServiceDeployer()


def _llmd() -> Deployer:
    from redline.deploy.llmd import LlmdDeployer  # noqa: PLC0415 - as above

    return LlmdDeployer()


def _endpoint() -> Deployer:
    from redline.deploy.attached import EndpointDeployer  # noqa: PLC0415 - as above

    return EndpointDeployer()


DEPLOYERS: Mapping[str, Callable[[], Deployer]] = {
    "process": _process,
    "container": _container,
    "kserve": _kserve,
    "inference-service": _inference_service,
    "llm-d": _llmd,
    "endpoint": _endpoint,
}


def deployer_name(runner_class: RunnerClass, pin: BuildPin) -> str:
    """The key in DEPLOYERS of what serves this build there.

    Raises UsageError for a wheel in a cluster: its nodes run images.
    """
    if pin.kind is BuildKind.ENDPOINT:
        return "endpoint"
    if runner_class.deployer == "host":
        return "container" if pin.kind is BuildKind.IMAGE else "process"
    if pin.kind is not BuildKind.IMAGE:
        raise UsageError(
            f"runner class {runner_class.name} serves in a cluster, which runs images",
            expected="an image by digest: image:vllm/vllm-openai@sha256:...",
            found=f"{pin.label}, a build of kind {pin.kind.value}",
            next_step="name the image of this build, or choose a runner class of hosts",
        )
    return runner_class.deployer


def deployer_of(runner_class: RunnerClass, pin: BuildPin) -> Deployer:
    """What serves this build there. Raises UsageError as `deployer_name`."""
    return DEPLOYERS[deployer_name(runner_class, pin)]()
