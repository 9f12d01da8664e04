"""The command line of a container, word by word: docker and podman, CPU, NVIDIA and AMD."""

from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from redline.deploy.container_command import ContainerSpec, Engine, Mount, run_options, shown, words
from redline.errors import UsageError
from redline.model import ContainerSettings, Device

DOCKER = Engine("docker", "docker")
PODMAN = Engine("podman", "podman")
ROOTLESS = Engine("podman", "podman", rootless=True)
H100 = tuple(Device("nvidia", index, f"GPU-aaaa-{index}", "NVIDIA H100 80GB HBM3", 1) for index in range(2))
MI300X = tuple(Device("amd", index, f"GPU-00000000000000a{index}", "AMD Instinct MI300X", 1) for index in range(2))
SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "/m", "--no-enable-prefix-caching")
SPEC = ContainerSpec(
    name="redline-x-0",
    image="vllm/vllm-openai@sha256:" + "a" * 64,
    platform="cpu",
    settings=ContainerSettings(),
    working_dir=Path("/state/empty"),
    labels={"redline.run": "r1", "redline.name": "x"},
    mounts=(Mount(Path("/state"), read_only=False), Mount(Path("/m"), read_only=True)),
    environment={"VLLM_CACHE_ROOT": "/state/vllm", "A": "with space"},
    secrets=("HF_TOKEN",),
)
CUDA = replace(SPEC, platform="cuda", devices=H100)
ROCM = replace(SPEC, platform="rocm", devices=MI300X, group_ids=(109, 44, 44))


def line(engine: Engine, spec: ContainerSpec) -> tuple[str, ...]:
    """The command line."""
    return words(run_options(engine, spec, SERVER))


def values(command: tuple[str, ...], option: str) -> list[str]:
    """What an option is given, each time it stands before the image."""
    before = command[: command.index(SPEC.image)]
    return [before[index + 1] for index, word in enumerate(before) if word == option]


def by(spec: ContainerSpec, how: str) -> ContainerSpec:
    """The same with a way of letting accelerators in."""
    return replace(spec, settings=ContainerSettings(devices=how))


def test_cpu_with_docker():
    """Every word of it, in order."""
    expected = (
        *("docker", "run", "--rm", "--init", "--name", "redline-x-0"),
        *("--label", "redline.name=x", "--label", "redline.run=r1"),
        *("--pull", "never", "--log-driver", "none", "--network", "host", "--ipc", "host"),
        *("--ulimit", "nofile=65536:65536", "--cap-add", "SYS_NICE"),
        *("--security-opt", "label=disable", "--security-opt", "seccomp=unconfined"),
        *("--mount", "type=bind,source=/state,target=/state", "--mount", "type=bind,source=/m,target=/m,readonly"),
        *("--workdir", "/state/empty", "--env", "VLLM_CACHE_ROOT=/state/vllm", "--env", "A=with space"),
        *("--env", "HF_TOKEN", "--entrypoint", "python3", SPEC.image),
        *SERVER[1:],
    )
    assert line(DOCKER, SPEC) == expected


def test_podman_passes_no_proxies_of_its_own():
    """Podman would pass the caller's proxies by itself; docker knows no such option."""
    assert "--http-proxy=false" in line(PODMAN, SPEC)
    assert "--http-proxy=false" not in line(DOCKER, SPEC)


@pytest.mark.parametrize("spec", [SPEC, CUDA, ROCM])
@pytest.mark.parametrize("engine", [DOCKER, PODMAN, ROOTLESS])
def test_never_everything(engine, spec):
    """No container is privileged, and none is reached through a forwarded port."""
    command = line(engine, spec)
    assert "--privileged" not in command
    assert values(command, "--network") == ["host"]
    assert not {"-p", "--publish"} & set(command)


def test_rights_are_those_that_are_asked_for():
    """CUDA keeps the engine's profile of system calls; ROCm may look into its own processes; all bind memory."""
    assert values(line(DOCKER, CUDA), "--security-opt") == ["label=disable"]
    assert values(line(DOCKER, CUDA), "--cap-add") == ["SYS_NICE"]
    assert values(line(DOCKER, ROCM), "--security-opt") == ["label=disable", "seccomp=unconfined"]
    assert values(line(DOCKER, ROCM), "--cap-add") == ["SYS_NICE", "SYS_PTRACE"]


@pytest.mark.parametrize("engine", [DOCKER, PODMAN])
@pytest.mark.parametrize("how", ["", "cdi"])
def test_nvidia(engine, how):
    """Exactly the chosen accelerators, by UUID: `--gpus` for docker, CDI for podman and where it is asked for."""
    command = line(engine, by(CUDA, how))
    if engine is DOCKER and not how:
        assert values(command, "--gpus") == ['"device=GPU-aaaa-0,GPU-aaaa-1"']
        assert next(csv.reader(values(command, "--gpus"))) == ["device=GPU-aaaa-0,GPU-aaaa-1"]
        assert values(command, "--device") == []
        assert not [entry for entry in values(command, "--env") if "VISIBLE" in entry]
    else:
        assert values(command, "--gpus") == []
        assert values(command, "--device") == ["nvidia.com/gpu=GPU-aaaa-0", "nvidia.com/gpu=GPU-aaaa-1"]
        assert [entry for entry in values(command, "--env") if "VISIBLE" in entry] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert values(command, "--ulimit") == ["nofile=65536:65536", "memlock=-1:-1"]


@pytest.mark.parametrize(
    ("engine", "how", "devices", "groups"),
    [
        (DOCKER, "", ["/dev/kfd", "/dev/dri"], ["44", "109"]),
        (DOCKER, "rocm", ["/dev/kfd", "/dev/dri"], ["44", "109"]),
        (DOCKER, "cdi", ["amd.com/gpu=all"], ["44", "109"]),
        (PODMAN, "", ["/dev/kfd", "/dev/dri"], ["44", "109"]),
        (ROOTLESS, "", ["/dev/kfd", "/dev/dri"], ["keep-groups"]),
        (ROOTLESS, "cdi", ["amd.com/gpu=all"], ["keep-groups"]),
    ],
)
def test_amd(engine, how, devices, groups):
    """The device files and the numbers of their groups; the runtime's one variable chooses among them by UUID."""
    command = line(engine, by(ROCM, how))
    assert values(command, "--device") == devices
    assert values(command, "--group-add") == groups
    chosen = [entry for entry in values(command, "--env") if "VISIBLE" in entry]
    assert chosen == ["ROCR_VISIBLE_DEVICES=GPU-00000000000000a0,GPU-00000000000000a1"]


@pytest.mark.parametrize(
    ("engine", "spec", "words_of_it"),
    [
        (DOCKER, CUDA, ["--gpus", "all"]),
        (PODMAN, CUDA, ["--device", "nvidia.com/gpu=all"]),
        (DOCKER, ROCM, ["--device", "/dev/kfd", "--device", "/dev/dri"]),
    ],
)
def test_no_devices_named_means_all(engine, spec, words_of_it):
    """As for a process: who names no accelerators gets the host's."""
    command = line(engine, replace(spec, devices=()))
    assert " ".join(words_of_it) in " ".join(command)
    assert "ROCR_VISIBLE_DEVICES" not in " ".join(command)


@pytest.mark.parametrize(
    ("engine", "spec", "found"),
    [
        (PODMAN, by(CUDA, "gpus"), "gpus"),
        (DOCKER, by(CUDA, "rocm"), "rocm"),
        (DOCKER, by(ROCM, "gpus"), "gpus"),
        (DOCKER, replace(CUDA, devices=MI300X), "AMD Instinct MI300X (amd), AMD Instinct MI300X (amd)"),
    ],
)
def test_ways_that_do_not_exist(engine, spec, found):
    """What an engine would ignore or misunderstand is refused: podman 4 takes --gpus and gives none."""
    with pytest.raises(UsageError) as caught:
        line(engine, spec)
    assert caught.value.found == found


def test_settings():
    """Shared memory of its own, open files, a user and CPUs are said where they are asked for."""
    settings = ContainerSettings(shm_bytes=16_000_000_000, open_files_max=2048, user="1000:1000")
    command = line(DOCKER, replace(SPEC, settings=settings, cpu_ids=(2, 3)))
    assert values(command, "--shm-size") == ["16000000000b"]
    assert values(command, "--ipc") == []
    assert values(command, "--ulimit") == ["nofile=2048:2048"]
    assert values(command, "--user") == ["1000:1000"]
    assert values(command, "--cpuset-cpus") == ["2,3"]


def test_rootless_limits_are_the_callers():
    """An ordinary account may raise no limit; asking for it would refuse every start."""
    assert values(line(ROOTLESS, CUDA), "--ulimit") == ["host"]


@pytest.mark.parametrize("path", ["/plain", "/with,comma", '/with"quote', "/with space", "/with=equals"])
def test_mounts_of_any_path(path):
    """Engines read the value as one CSV record: source and target come back as they were."""
    fields = next(csv.reader([Mount(Path(path), read_only=True).text]))
    assert fields == ["type=bind", f"source={path}", f"target={path}", "readonly"]


def test_shown_is_what_is_run():
    """For people one option stands on a line, and a shell reads the same words from it."""
    options = run_options(DOCKER, CUDA, SERVER)
    text = shown(options)
    assert tuple(shlex.split(text.replace("\\\n", " "))) == words(options)
    assert "  --env 'A=with space' \\\n" in text
    assert "  --model /m \\\n" in text
    assert text.endswith("--no-enable-prefix-caching\n")
