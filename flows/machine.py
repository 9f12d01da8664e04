"""The machine that measures: its accelerators, and what decides whether its results may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flows.workspace import Workspace
from redline.builds.build_spec import UNKNOWN_PLATFORM, EndpointSpec, RecordSpec, parse_spec
from redline.builds.image_reference import ImageReference
from redline.deploy.choice import deployer_name
from redline.deploy.placing import usable
from redline.errors import InfrastructureError, UsageError
from redline.model import BuildKind, BuildPin, Device, RunnerClass, RunnerFingerprint, SystemUnderTest, Trial
from redline.runner.accelerators import OPENERS, Opener, opened_readers
from redline.runner.fingerprint import read_fingerprint

VENDORS = {"cuda": "nvidia", "rocm": "amd"}


def serves_here(runner_class: RunnerClass, specs: Sequence[str]) -> bool:
    """True if the servers run on this machine: neither in a cluster nor somebody else's.

    Raises UsageError for a wheel in a cluster, as far as the spec says that it is one, so that it is not installed in
    vain, and for a spec that is none.
    """
    kinds = {spec: parse_spec(spec) for spec in specs}
    if runner_class.deployer != "host":
        for spec, kind in kinds.items():
            if not isinstance(kind, EndpointSpec | ImageReference | RecordSpec):
                raise UsageError(
                    f"runner class {runner_class.name} serves in a cluster, which runs images",
                    expected="an image by digest: image:vllm/vllm-openai@sha256:...",
                    found=spec,
                    next_step="name the image of this build, or choose a runner class of hosts",
                )
        return False
    return not any(isinstance(kind, EndpointSpec) for kind in kinds.values())


def fingerprint_of(
    runner_class: RunnerClass, *, serves: bool = True, openers: tuple[Opener, ...] = OPENERS
) -> RunnerFingerprint:
    """This machine's fingerprint, with the accelerators that the class uses where it serves.

    `openers`: of the vendors' libraries. Raises InfrastructureError if they cannot be read, UsageError as `devices_of`.
    """
    devices = devices_of(runner_class, openers) if serves and runner_class.deployer == "host" else ()
    if not devices:
        return read_fingerprint()
    return read_fingerprint(runner_class.platform, [each.uuid for each in devices], openers=openers)


def fingerprint_here(
    runner_class: RunnerClass, *, serves: bool = True, openers: tuple[Opener, ...] = OPENERS
) -> RunnerFingerprint:
    """As `fingerprint_of`; without accelerators where the class's are not here, as on the machine of who only plans."""
    try:
        return fingerprint_of(runner_class, serves=serves, openers=openers)
    except (UsageError, InfrastructureError):
        return read_fingerprint()


def is_this_machine(workspace: Workspace, runner: str, fingerprint_id: str) -> bool:
    """True if this machine is the one of a fingerprint, as a runner class reads it; False where it cannot be read."""
    try:
        return fingerprint_of(workspace.runner_class(runner)).fingerprint_id == fingerprint_id
    except (UsageError, InfrastructureError):
        return False


def measured_on(planned: RunnerFingerprint, trials: Sequence[Trial]) -> RunnerFingerprint:
    """The fingerprint that the trials share; of several, one that equals none of theirs; as planned without trials.

    In a cluster what serves is known only when it has served: a night on other nodes is another series.
    """
    found = {trial.fingerprint.fingerprint_id: trial.fingerprint for trial in trials}
    if len(found) > 1:
        return RunnerFingerprint(facts={"machines": ", ".join(sorted(found))}, notes=planned.notes)
    return next(iter(found.values()), planned)


def system_of(resolved: SystemUnderTest | None, trials: Sequence[Trial]) -> SystemUnderTest | None:
    """The system as its last trial measured it, with the router in front of it; as it was resolved without one."""
    if resolved is None:
        return None
    return next((trial.sut for trial in reversed(trials) if replace(trial.sut, router=None) == resolved), resolved)


def devices_of(runner_class: RunnerClass, openers: tuple[Opener, ...] = OPENERS) -> tuple[Device, ...]:
    """The accelerators of this machine that the class uses, of those that its caller left visible; () on CPUs.

    As many as the class says, the first ones of its model; those of other models are left alone. `openers`: of the
    vendors' libraries. Raises InfrastructureError if there are too few of them; UsageError as `usable`.
    """
    vendor = VENDORS.get(runner_class.platform)
    if vendor is None:
        return ()
    with opened_readers(openers) as opened:
        found = usable([device for reader in opened.readers if reader.vendor == vendor for device in reader.devices()])
    wanted = runner_class.healthy.device_model if runner_class.healthy is not None else ""
    fitting = tuple(device for device in found if wanted.lower() in device.model.lower())
    count = max(1, runner_class.accelerator_count)
    if len(fitting) >= count:
        return fitting[:count]
    others = Counter(device.model for device in found if device not in fitting)
    if others and not fitting:
        raise InfrastructureError(
            f"this machine is not of runner class {runner_class.name}",
            expected=f"accelerators that call themselves {wanted}",
            found=", ".join(f"{number} x {model}" for model, number in sorted(others.items())),
            next_step="choose the class of this machine: results of different accelerators are never compared",
        )
    said = [f"{len(fitting)} that can be used", *(f"{number} x {model}" for model, number in sorted(others.items()))]
    raise InfrastructureError(
        f"runner class {runner_class.name} needs accelerators of {vendor} that are not here",
        expected=f"{count} x {wanted or runner_class.accelerator or vendor}",
        found="; ".join([*said, *opened.problems, *(opened.absent if not found else ())]),
        next_step=f"redline doctor --runner {runner_class.name}, or choose a runner class that fits this machine",
    )


def on_class(pin: BuildPin, runner_class: RunnerClass) -> BuildPin:
    """The pin for the class's platform where its own is not known: an image whose name does not say what it is for.

    Raises UsageError for a build that the class cannot serve: of another platform, or a wheel in a cluster. An
    endpoint is served by somebody else, on whatever that may be.
    """
    deployer_name(runner_class, pin)
    if pin.platform == UNKNOWN_PLATFORM:
        return replace(pin, platform=runner_class.platform)
    if pin.platform != runner_class.platform and pin.kind is not BuildKind.ENDPOINT:
        is_image = pin.kind is BuildKind.IMAGE
        raise UsageError(
            f"{pin.label} is for {pin.platform}, runner class {runner_class.name} for {runner_class.platform}",
            expected=f"a build for {runner_class.platform}",
            found=f"{pin.spec}, which is for {pin.platform}" + (" by its name" if is_image else ""),
            next_step="name a build for this class, or choose a class for this build"
            + (f"; a tag that says {runner_class.platform} (REPOSITORY:TAG@sha256:...) corrects a name" * is_image),
        )
    return pin
