"""The models in this repository are what their scripts say."""

from __future__ import annotations

import json
import subprocess

import pytest

from redline.datasets import skill_tasks
from tests.models import script

MODELS = ("speed-llama", "tiny-skill")


def test_speed_llama_is_its_scripts_output(checkout, tmp_path):
    """Writing models/speed-llama anew gives exactly the files that are committed."""
    written = script("make_speed_llama").write(tmp_path)
    committed = sorted((checkout / "models" / "speed-llama").iterdir())
    assert sorted(path.name for path in written) == [path.name for path in committed]
    for path in committed:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("model", MODELS)
def test_tokenizer_fits_the_model(checkout, model):
    """The tokenizer has one token per row of the model's embedding, numbered without a gap."""
    folder = checkout / "models" / model
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    assert sorted(vocabulary.values()) == list(range(size))


def test_tiny_skill_speaks_the_datasets_vocabulary(checkout):
    """The trained model's tokens have the ids with which the dataset encodes its prompts."""
    vocabulary = json.loads((checkout / "models/tiny-skill/tokenizer.json").read_text())["model"]["vocab"]
    assert vocabulary == skill_tasks.TOKEN_IDS


def test_tiny_skill_was_trained_with_the_defaults(checkout):
    """The script's defaults are the arguments that the shipped model records."""
    arguments = json.loads((checkout / "models/tiny-skill/train.json").read_text())["args"]
    source = (checkout / "models/train_tiny_skill.py").read_text()
    for line in (
        f"steps: int = {arguments['steps']}",
        f"batch_size: int = {arguments['bs']}",
        "learning_rate: float = 2e-3",
        f"hidden_size: int = {arguments['hid']}",
        f"layers: int = {arguments['layers']}",
        f"threads: int = {arguments['threads']}",
        f"seed: int = {arguments['seed']}",
    ):
        assert line in source
    assert arguments["lr"] == 2e-3


@pytest.mark.vllm
def test_training_starts_and_writes_a_model(checkout, tmp_path, vllm_build):
    """Three steps with the vLLM build's own PyTorch end with a model of the shipped shape, twice the same."""
    contents = []
    for name in ("first", "again"):
        command = [vllm_build.python, "models/train_tiny_skill.py", "--out", tmp_path / name, "--steps", "3"]
        subprocess.run(
            [str(part) for part in command], cwd=checkout, check=True, timeout=300, stdout=subprocess.DEVNULL
        )
        contents.append((tmp_path / name / "model.safetensors").read_bytes())
    assert contents[0] == contents[1]
    shipped = checkout / "models" / "tiny-skill"
    assert len(contents[0]) == (shipped / "model.safetensors").stat().st_size
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "first" / name).read_bytes() == (shipped / name).read_bytes()
