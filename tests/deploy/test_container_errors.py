"""Each refusal of an engine, in its own recorded words, is an error with a next step."""

from __future__ import annotations

import pytest

from redline.deploy.container_errors import LINES_MAX, RULES, engine_error, engine_lines, is_refusal
from redline.errors import ContainerError, NoImageError

DAEMON = "docker: Error response from daemon: "
OCI = f"{DAEMON}failed to create shim task: OCI runtime create failed: runc create failed: "
REFERENCE = "registry.example/vllm@sha256:aaaa"
SPOKEN = [
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "does not run",
    ),
    (
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "
            '"http://%2Fvar%2Frun%2Fdocker.sock/v1.50/info": dial unix /var/run/docker.sock: connect: permission denied'
        ),
        "may not use",
    ),
    (f"Error response from daemon: manifest for {REFERENCE} not found: manifest unknown", "there is no such image"),
    (f"Error: initializing source docker://{REFERENCE}: reading manifest: manifest unknown", "there is no such image"),
    (
        f'Error response from daemon: failed to resolve reference "{REFERENCE}": {REFERENCE}: not found',
        "there is no such image",
    ),
    ("docker: invalid reference format", "there is no such image"),
    (f"{DAEMON}No such image: {REFERENCE}", "no longer on this machine"),
    (f"Error: {REFERENCE}: image not known", "no longer on this machine"),
    (
        (
            "Error response from daemon: pull access denied for vllm/x, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied"
        ),
        "refuses this account",
    ),
    (f"Error: initializing source docker://{REFERENCE}: unauthorized: authentication required", "refuses this account"),
    ("Error response from daemon: toomanyrequests: You have reached your pull rate limit.", "no more pulls"),
    ("failed to register layer: write /usr/lib/x.so: no space left on device", "disk of docker 28.2 is full"),
    ('Error response from daemon: Get "https://registry.invalid/v2/": dial tcp: no such host', "cannot be reached"),
    ('Error response from daemon: Get "http://127.0.0.1:5/v2/": connect: connection refused', "cannot be reached"),
    ("Error response from daemon: no matching manifest for linux/arm64/v8", "another kind of machine"),
    (
        'Error: choosing an image from manifest list: no image found in manifest list for architecture "arm64"',
        "another kind of machine",
    ),
    (
        f'Error response from daemon: failed to resolve reference "{REFERENCE}": dial tcp: lookup r: no such host',
        "cannot be reached",
    ),
    (f'{DAEMON}could not select device driver "" with capabilities: [[gpu]]', "does not know NVIDIA"),
    (f'{DAEMON}could not select device driver "cdi" with capabilities: []', "does not read CDI"),
    ("Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=GPU-1", "no CDI specification"),
    (f"{DAEMON}CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1.", "no CDI specification"),
    (f"{OCI}nvidia-container-cli: device error: GPU-1: unknown device: unknown.", "does not know one of these"),
    (f"{OCI}nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0", "driver is too old"),
    (f"{OCI}nvidia-container-cli: initialization error: nvml error: driver not loaded", "toolkit failed"),
    (
        f'{DAEMON}error gathering device information while adding custom device "/dev/kfd": no such file or directory',
        "no AMD accelerator",
    ),
    ("Error: stat /dev/kfd: no such file or directory", "no AMD accelerator"),
    (f'{DAEMON}Conflict. The container name "/x" is already in use by container "y".', "has this name already"),
    ('Error: creating container storage: the container name "x" is already in use by y.', "has this name already"),
    (f"{DAEMON}Requested CPUs are not available - requested 99, available: 0-1", "cannot have these CPUs"),
    (f"{DAEMON}unable to find user nobody9: no matching entries in passwd file", "no such user"),
    (f'{DAEMON}invalid mount config for type "bind": bind source path does not exist: /x', "cannot be mounted"),
    ("Error: statfs /nowhere/y: no such file or directory", "cannot be mounted"),
    (f'{DAEMON}exec: "docker-init": executable file not found in $PATH', "no init program"),
    (f'{OCI}unable to start container process: exec: "python3": executable file not found in $PATH', "no python3"),
    (f"{OCI}error during container init: error setting rlimits: operation not permitted", "raise the limits"),
    ("unknown flag: --gpus", "too old"),
]


OF_IMAGES = {"there is no such image", "another kind of machine", "no python3"}
"""What no other state of the host would mend: the build's. Everything else is the place's."""


@pytest.mark.parametrize(("text", "problem"), SPOKEN, ids=[problem for _, problem in SPOKEN])
def test_words_of_engines(text, problem):
    """The problem is named, the engine's words are shown, and something can be done about it."""
    error = engine_error(
        "docker 28.2", "run", ["", text, "", "Run 'docker run --help' for more information"], subject=REFERENCE
    )
    assert problem in error.problem
    assert text[:60] in error.found
    assert "--help" not in error.found
    assert error.next_step
    assert error.expected
    assert "{" not in str(error)
    assert type(error) is (NoImageError if problem in OF_IMAGES else ContainerError)


def test_every_rule_was_spoken():
    """No rule is only imagined: each is what some recorded words lead to."""
    led_to = {engine_error("e 1", "run", [text], subject="s").next_step for text, _ in SPOKEN}
    assert {rule.next_step.format(program="e", engine="e 1", subject="s") for rule in RULES} == led_to


def test_unknown_words_are_shown():
    """An engine that says something new is quoted, bounded and without control characters."""
    lines = ["progress", *(f"Error: new trouble {index} \x1b[31m\u202e" for index in range(9))]
    error = engine_error("podman 6.0", "run the container", lines, subject="s")
    assert error.problem == "podman 6.0 did not run the container: s"
    assert len(engine_lines(lines)) == LINES_MAX
    assert "new trouble 8" in error.found
    assert "\x1b" not in error.found
    assert "\u202e" not in error.found


def test_the_servers_own_end_is_no_refusal():
    """A server may end with 125 to 127 itself, and may talk of errors: only the engine's own line decides."""
    assert is_refusal(127, [f"{DAEMON}anything"])
    assert not is_refusal(1, [f"{DAEMON}anything"])
    assert not is_refusal(127, ["sh: vllm: not found"])
