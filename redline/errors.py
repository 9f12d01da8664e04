"""Every way Redline can fail, one class each, and the exit code it ends with.

RedlineError
├── UsageError                2   wrong command line
│   └── ContentError          2   a TOML or JSON file says something Redline cannot accept
├── InvalidMeasurementError   4   measured, but the measurement is evidence of nothing
└── InfrastructureError       5   Redline could not do its work
    ├── BuildError            5   a build could not be resolved, verified or installed
    │   └── NoBuildError           nothing failed: nobody made such a build, or not for this machine
    ├── DeployError           5   the server did not come up or did not stay up
    │   ├── ServerExitedError      it ended before it was ready
    │   ├── ServerNotReadyError    it lived but did not answer a completion in time
    │   ├── ServerDiedError        it ended while it was being measured
    │   │   └── ReplicaDiedError 4     one of several did: what the others measured is evidence of nothing
    │   │       └── PodLostError       the cluster took the pod of a server or of a router: no build's fault
    │   ├── NoImageError           there is no such image, or none that a server can be run from: no other place helps
    │   ├── PortTakenError         the port asked for is in use
    │   ├── OutOfMemoryError       the host or the KV cache ran out of memory
    │   ├── ContainerError         docker or podman is missing, refuses, or does not do what it says
    │   └── ClusterError           Kubernetes refuses, does not answer, or cannot place what was asked for
    ├── LoadError             5   the load generator itself failed
    ├── StoreError            5   a trial or the database could not be read or written
    │   └── StoreBusyError        another process holds the database
    ├── SandboxError          5   no program of a stranger may be run on this machine, or its walls failed
    ├── GitHubError           5   GitHub's API refuses, does not answer, or answers what nobody can use
    │   ├── GitHubMissingError     there is no such thing, or the token may not see it
    │   ├── GitHubUnsureError      the answer was lost: it may have been done, and was not asked for twice
    │   └── ArtifactError          an artifact is too large, damaged or dangerous; nothing of it was kept
    ├── AcceleratorError      5   an accelerator of this machine cannot be read, or is not there
    └── RunnerBusyError       5   another measurement holds this machine
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What a `redline` command ends with. Five outcomes of a judgement never collapse into one."""

    NO_WORSE = 0
    REGRESSED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INVALID = 4
    INFRASTRUCTURE = 5
    NO_BASELINE = 6


class RedlineError(Exception):
    """The base of all: what was expected, what was found, what to do next."""

    exit_code: ExitCode = ExitCode.INFRASTRUCTURE

    def __init__(self, problem: str, *, expected: str = "", found: str = "", next_step: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.found = found
        self.next_step = next_step
        super().__init__(problem)

    def __str__(self) -> str:
        lines = [self.problem]
        for label, text in (
            ("expected", self.expected),
            ("found", self.found),
            ("next step", self.next_step),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class UsageError(RedlineError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = ExitCode.USAGE


class ContentError(UsageError):
    """A content file (scenario, recipe, runner class, policy, baseline) is wrong: names file and key."""


class InvalidMeasurementError(RedlineError):
    """Something was measured, but a validity rule says it is evidence of nothing."""

    exit_code = ExitCode.INVALID


class InfrastructureError(RedlineError):
    """Redline could not do its work; nothing is said about the build."""


class BuildError(InfrastructureError):
    """A build could not be resolved, verified or installed."""


class NoBuildError(BuildError):
    """Nothing failed: nobody made such a build, or not for this machine. Who walks over builds goes on."""


class DeployError(InfrastructureError):
    """The server did not come up or did not stay up."""


class ServerExitedError(DeployError):
    """The server ended before it was ready."""


class ServerNotReadyError(DeployError):
    """The server lived but answered no completion within its bound."""


class ServerDiedError(DeployError):
    """The server ended while it was being measured."""


class ReplicaDiedError(ServerDiedError):
    """One of several replicas ended while they were being measured; names it."""

    exit_code = ExitCode.INVALID


class PodLostError(ReplicaDiedError):
    """The cluster took a pod away while it was in use, or the router's pod ended: it says nothing about the build."""


class NoImageError(DeployError):
    """The image of this build does not exist, or no server can be run from it here, now or later.

    Not for a registry out of reach, or a login that it refuses: those are the place's.
    """


class PortTakenError(DeployError):
    """The port that was asked for is in use."""


class OutOfMemoryError(DeployError):
    """The host or the server's KV cache ran out of memory."""


class ContainerError(DeployError):
    """The container engine is missing, refuses, or does not do what it says."""


class ClusterError(DeployError):
    """Kubernetes refuses, does not answer, or cannot place what was asked for."""


class LoadError(InfrastructureError):
    """The load generator itself failed."""


class StoreError(InfrastructureError):
    """A trial or the database could not be read or written."""


class StoreBusyError(StoreError):
    """Another process holds the database."""


class GitHubError(InfrastructureError):
    """GitHub's API refuses, does not answer, or answers what nobody can use. `status`: of HTTP, 0 without an answer."""

    def __init__(
        self, problem: str, *, expected: str = "", found: str = "", next_step: str = "", status: int = 0
    ) -> None:
        self.status = status
        super().__init__(problem, expected=expected, found=found, next_step=next_step)


class GitHubMissingError(GitHubError):
    """There is no such thing, or the token may not see it."""


class GitHubUnsureError(GitHubError):
    """The answer was lost: it may have been done, and was not asked for a second time."""


class ArtifactError(GitHubError):
    """An artifact is too large, damaged or dangerous; nothing of it was kept. Says so in our words, not in its own."""


class AcceleratorError(InfrastructureError):
    """An accelerator of this machine cannot be read, was lost, or is not there."""


class RunnerBusyError(InfrastructureError):
    """Another measurement holds this machine."""


class SandboxError(InfrastructureError):
    """No sandbox works on this machine, or it failed; nothing was run outside of one."""
