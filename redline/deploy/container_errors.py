"""What an engine's refusal means: docker's and podman's own words, as an error with a next step. Pure.

Words were taken from docker 20.10 (client 28.2), podman 4.3 and NVIDIA's container toolkit, and from their issue
trackers; an engine that says it in other words gets the last rule, which shows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from redline.deploy.diagnosis import clean_line
from redline.errors import ContainerError, DeployError, NoImageError

LINES_MAX = 4
_NO_NEWS = re.compile(r"^(\[\]|See 'docker|Run 'docker|Usage:|time=.*level=(warning|info|debug)|#|\s*$)")
_ENGINE_LINE = re.compile(
    r"^(docker: |Error: |Error response from daemon|error: |Cannot connect to|permission denied while trying"
    r"|unknown (shorthand )?flag|time=.*level=(error|fatal))"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`words`: of the engine, any case; the rest is what an error says, {engine} and {subject} filled in.

    `of_image`: it is the image, and no other state of this host would run it.
    """

    words: str
    problem: str
    expected: str
    next_step: str
    of_image: bool = False


RULES = (
    Rule(
        r"cannot connect to the docker daemon|is the docker daemon running|(cannot|unable to) connect to podman",
        "{engine} does not run",
        "an engine that answers",
        "start it (systemctl start docker), or correct DOCKER_HOST or the context",
    ),
    Rule(
        r"permission denied while trying to connect|dial unix \S+: connect: permission denied",
        "this account may not use {engine}",
        "an account that may reach the engine's socket",
        "add it to the group docker and log in again (the group is as mighty as root), or use rootless podman",
    ),
    Rule(
        r"toomanyrequests|429 too many requests|pull rate limit",
        "the registry serves no more pulls for now: {subject}",
        "an image that can be pulled",
        "log in ({program} login), wait, or pull from a mirror",
    ),
    Rule(
        r"no space left on device|disk quota exceeded|not enough (free )?(disk )?space",
        "the disk of {engine} is full: {subject}",
        "room for the image, and for its layers while they are unpacked",
        "free space where the engine keeps its data ({program} system df, {program} image prune)",
    ),
    Rule(
        r"no matching manifest for|no image found in .* for architecture|exec format error"
        r"|does not match the (specified|host) platform",
        "the image is for another kind of machine: {subject}",
        "an image for this processor",
        "pin the digest of the image for this architecture",
        of_image=True,
    ),
    Rule(
        r"access denied|unauthorized|authentication required|no basic auth credentials|denied: requested|403 forbidden",
        "the registry refuses this account: {subject}",
        "an image that may be pulled",
        "log in to its registry ({program} login HOST) as the account that runs Redline, or correct the name",
    ),
    Rule(
        r"manifest unknown|manifest for \S+ not found|name unknown|failed to resolve reference \S+ \S+: not found"
        r"|invalid reference format",
        "there is no such image: {subject}",
        "an image that its registry still has",
        "check the digest; nightly tags are deleted after some weeks, so mirror what is to be measured again",
        of_image=True,
    ),
    Rule(
        r"no such image|image not known",
        "the image is no longer on this machine: {subject}",
        "an image that stays once it was pulled",
        "nothing else may remove images during a measurement; the next start pulls it again",
    ),
    Rule(
        r"no such host|connection refused|i/o timeout|tls handshake timeout|x509: |network is unreachable"
        r"|name resolution|client\.timeout|context deadline exceeded|server gave http response",
        "the registry cannot be reached: {subject}",
        "a registry that answers the engine",
        "check its name, the network and the engine's own proxy settings; an image that is here already needs none",
    ),
    Rule(
        r"could not select device driver \"?\"? with capabilities: \[\[gpu|unknown or invalid runtime name: nvidia",
        "docker does not know NVIDIA accelerators",
        "the NVIDIA container toolkit, known to docker",
        "nvidia-ctk runtime configure --runtime=docker, restart docker; docs/containers.md",
    ),
    Rule(
        r"could not select device driver \"?cdi",
        "docker does not read CDI specifications",
        "docker 28.2 or newer, or features.cdi = true in daemon.json from docker 25 on",
        'update docker, or switch CDI on; or container.devices = "gpus"',
    ),
    Rule(
        r"unresolvable cdi devices|cdi device injection failed|failed to inject cdi|cdi\.k8s\.io|unresolved cdi",
        "no CDI specification names these accelerators",
        "a current specification in /etc/cdi or /var/run/cdi that names them by UUID",
        "nvidia-ctk cdi generate --device-name-strategy=uuid --output=/etc/cdi/nvidia.yaml, or amd-ctk cdi generate",
    ),
    Rule(
        r"nvidia-container-cli: requirement error|unsatisfied condition",
        "the host's driver is too old for this image",
        "a driver that the image's CUDA accepts",
        "update the driver, or choose the image for the host's CUDA",
    ),
    Rule(
        r"nvidia-container-cli: device error|unknown device",
        "{engine} does not know one of these accelerators",
        "UUIDs as nvidia-smi -L lists them",
        "run redline doctor; a partition (MIG) or a change of hardware renames them",
    ),
    Rule(
        r"nvidia-container-cli|nvidia-container-runtime",
        "NVIDIA's container toolkit failed",
        "a driver that works on the host",
        "run nvidia-smi; after an update of the driver reload it or restart the host",
    ),
    Rule(
        r"/dev/(kfd|dri)\S* *.*(no such (file|device)|not a device)",
        "this host has no AMD accelerator that can be used",
        "/dev/kfd and /dev/dri, which the driver amdgpu makes",
        "load amdgpu (dmesg says why it did not), or choose a runner class of another platform",
    ),
    Rule(
        r"container name .* is already in use|that name is already in use",
        "a container has this name already: {subject}",
        "a free name",
        "redline cleanup ends what a killed Redline left",
    ),
    Rule(
        r"requested cpus are not available|requested memory nodes",
        "a container cannot have these CPUs",
        "CPUs that the engine may give away",
        "check the CPU ids and the engine's own limits",
    ),
    Rule(
        r"unable to find (user|group)|no matching entries in (passwd|group) file",
        "the image knows no such user",
        "container.user as numbers, UID:GID",
        "write the numbers (id -u, id -g) in [container] of the runner class",
    ),
    Rule(
        r"invalid mount config|bind source path does not exist|statfs \S+ no such file|invalid field .* must be a key",
        "a directory cannot be mounted",
        "a directory of this host, on the machine where the engine runs",
        "check that it exists and that the account may enter it",
    ),
    Rule(
        r"docker-init|catatonit|container-init binary",
        "{engine} has no init program",
        "docker-init (a package of docker), catatonit for podman",
        "install it",
    ),
    Rule(
        r"exec: \"?python3|python3.*(not found|no such file)",
        "this is no vLLM image: it has no python3: {subject}",
        "an image in which python3 finds vllm",
        "check the digest",
        of_image=True,
    ),
    Rule(
        r"setting rlimit",
        "the engine may not raise the limits of a container",
        "an engine with the right to set nofile and memlock",
        "raise its own limits (LimitNOFILE, LimitMEMLOCK of its service), or lower container.open_files_max",
    ),
    Rule(
        r"unknown (shorthand )?flag|unknown option",
        "{engine} is too old",
        "docker 20.10 or podman 4.3, or newer",
        "update it",
    ),
)


def engine_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """What an engine itself said among the lines of a log or of its standard error, newest last, at most LINES_MAX."""
    clean = [clean_line(line).strip() for line in lines]
    said = [line for line in clean if _ENGINE_LINE.match(line)]
    return tuple((said or [line for line in clean if not _NO_NEWS.match(line)])[-LINES_MAX:])


def is_refusal(exit_status: int, lines: Sequence[str]) -> bool:
    """True if the engine's client ended because the engine refused, not because the server ended.

    Source: `docker run`, exit status: 125 the engine, 126 and 127 the command in the container; a missing device file
    is 127 too. A server may end with these numbers itself, so the engine must have said something.
    """
    return exit_status in (125, 126, 127) and any(_ENGINE_LINE.match(clean_line(line).strip()) for line in lines)


def engine_error(engine: str, action: str, lines: Sequence[str], *, subject: str = "") -> DeployError:
    """The error for what an engine refused. `engine`: its label, `action`: what it was to do, `subject`: with what.

    A NoImageError where it is the image itself, a ContainerError otherwise.
    """
    said = engine_lines(lines)
    text = "\n".join(said)
    found = "\n    ".join(said) or "nothing"
    names = {"engine": engine, "program": engine.split(" ", maxsplit=1)[0], "subject": subject}
    for rule in RULES:
        if re.search(rule.words, text, re.IGNORECASE):
            return (NoImageError if rule.of_image else ContainerError)(
                rule.problem.format(**names).removesuffix(": "),
                expected=rule.expected.format(**names),
                found=found,
                next_step=rule.next_step.format(**names),
            )
    return ContainerError(
        f"{engine} did not {action}" + (f": {subject}" if subject else ""),
        expected="exit status 0",
        found=found,
        next_step="run the command by hand: redline deploy render shows it",
    )
