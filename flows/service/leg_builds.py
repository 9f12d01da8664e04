"""The builds that service.toml names, looked at before a machine is taken: what is wrong there is said by leg and key.

What only the machine can know stays unknown: whether a wheel's file is there, and what the wheel index serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redline.builds.build_spec import (
    CommitSpec,
    EndpointSpec,
    IndexSpec,
    NightlySpec,
    RecordSpec,
    parse_spec,
    platform_of,
)
from redline.builds.trusted_record import read_trusted_pin
from redline.builds.variants import variant_named, variants_listed
from redline.builds.wheel_index import INDEX_VARIABLE
from redline.errors import ContentError, UsageError
from redline.model import LegSettings, RunnerClass

_RELEASE_OF_PLATFORM = re.compile(r"(cu|rocm)\d{2,}")


@contextmanager
def of_leg(leg: LegSettings, key: str = "") -> Iterator[None]:
    """Put the leg, and the key if it is about one, before whatever problem is found inside. Raises ContentError."""
    where = f"service.toml, leg '{leg.runner}'" + (f", key '{key}'" if key else "")
    try:
        yield
    except UsageError as error:
        raise ContentError(
            f"{where}: {error.problem}", expected=error.expected, found=error.found, next_step=error.next_step
        ) from error


def check_build(leg: LegSettings, key: str, build: str, runner_class: RunnerClass) -> None:
    """Refuse a build that no machine of the class could measure. `key`: of the leg, which names the build.

    Raises ContentError.
    """
    with of_leg(leg, key):
        platform = _platform(build)
        if platform and platform != runner_class.platform:
            raise UsageError(
                f"{build} is for {platform}, runner class {runner_class.name} for {runner_class.platform}",
                expected=f"a build for {runner_class.platform}",
                found=build,
                next_step=f"correct '{key}', or the leg's runner class",
            )


def needs_of(build: str) -> str:
    """What a build needs on the machine that measures it, in words; empty if nothing. Raises UsageError."""
    if isinstance(parse_spec(build), NightlySpec | CommitSpec):
        return f"needs the repository variable {INDEX_VARIABLE}"
    return ""


def _platform(build: str) -> str:
    """What the build is for, as far as its name says; empty if it does not."""
    match parse_spec(build):
        case NightlySpec(variant) | CommitSpec(_, variant):
            if variant and variant not in variants_listed() and not _RELEASE_OF_PLATFORM.fullmatch(variant):
                raise UsageError(
                    "this names no known variant of vLLM's wheels",
                    expected=f"one of {', '.join(variants_listed())}, or another release of CUDA or ROCm such as cu140",
                    found=repr(variant),
                    next_step="correct it, or describe the variant in redline/builds/variants.toml",
                )
            return variant_named(variant).platform
        case IndexSpec(distribution, version):
            return platform_of(distribution, version)
        case RecordSpec(path):
            return read_trusted_pin(path).platform
        case EndpointSpec():
            raise UsageError(
                "an endpoint is nobody's build",
                expected="a build that Redline can deploy afresh",
                found=build,
                next_step="name the build itself",
            )
        case _:
            return ""
