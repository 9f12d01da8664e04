"""The accelerators that a runner class uses, from recorded answers of the vendors' libraries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.machine import devices_of, fingerprint_here, fingerprint_of
from redline.errors import InfrastructureError
from redline.model import HealthyHost, RunnerClass
from redline.runner.accelerators import Opener
from redline.runner.fingerprint import read_fingerprint
from redline.runner.nvidia import open_reader
from tests.fakes.nvml_answers import UUIDS, NvmlLibrary, pynvml_over

TWO_H200 = RunnerClass(
    "h200-2", "", "cuda", "gpu", 1, 0.1, 2, 0, "H200", 2, healthy=HealthyHost(device_model="NVIDIA H200")
)


def machine_of(*models: str) -> tuple[Opener, ...]:
    """A machine with NVIDIA accelerators of these models."""
    library = NvmlLibrary(len(models))
    for device, model in zip(library.devices, models, strict=True):
        device["name"] = model.encode()
    return (lambda: open_reader(pynvml_over(library)),)


@pytest.fixture(autouse=True)
def _no_choice_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def uuids(runner_class: RunnerClass, openers: tuple[Opener, ...]) -> list[str]:
    """The UUIDs of what the class uses."""
    return [device.uuid for device in devices_of(runner_class, openers)]


def test_accelerators_of_other_models_are_left_alone() -> None:
    """A host with a card for its screen, or with two kinds of boards, serves on those of the class."""
    mixed = machine_of("NVIDIA T400", "NVIDIA H200", "NVIDIA L40S", "NVIDIA H200", "NVIDIA H200")
    assert uuids(TWO_H200, mixed) == [UUIDS[1], UUIDS[3]]


def test_only_those_that_were_left_visible_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which a scheduler named them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,0,1")
    mixed = machine_of("NVIDIA T400", "NVIDIA H200", "NVIDIA L40S", "NVIDIA H200", "NVIDIA H200")
    assert uuids(TWO_H200, mixed) == [UUIDS[4], UUIDS[1]]


def test_too_few_of_the_model_are_refused_with_what_is_there() -> None:
    """One of two, beside others that do not count."""
    with pytest.raises(InfrastructureError) as refused:
        devices_of(TWO_H200, machine_of("NVIDIA L40S", "NVIDIA H200", "NVIDIA L40S"))
    assert "expected: 2 x NVIDIA H200" in str(refused.value)
    assert "found: 1 that can be used; 2 x NVIDIA L40S" in str(refused.value)


def test_a_machine_of_another_class_is_called_so() -> None:
    """None of the model at all: the class is wrong, not the number."""
    with pytest.raises(InfrastructureError, match="is not of runner class h200-2") as refused:
        devices_of(TWO_H200, machine_of("NVIDIA L40S", "NVIDIA L40S", "NVIDIA T400"))
    assert "2 x NVIDIA L40S, 1 x NVIDIA T400" in str(refused.value)


def test_a_class_that_names_no_model_takes_the_first() -> None:
    """And one of CPUs takes none."""
    mixed = machine_of("NVIDIA T400", "NVIDIA H200", "NVIDIA L40S")
    assert uuids(replace(TWO_H200, healthy=None), mixed) == [UUIDS[0], UUIDS[1]]
    assert uuids(RunnerClass("cpu", "", "cpu", "cpu", 2, 0.1, 2, 0), mixed) == []


def test_a_plan_is_for_the_accelerators_that_are_here() -> None:
    """What a gate on this host would find of its past, its plan finds; elsewhere it is the machine without any."""
    of_class = machine_of("NVIDIA H200", "NVIDIA H200")
    assert fingerprint_here(TWO_H200, openers=of_class) == fingerprint_of(TWO_H200, openers=of_class)
    assert fingerprint_of(TWO_H200, openers=of_class).facts["accelerator"] == "cuda"
    assert fingerprint_here(TWO_H200, openers=machine_of("NVIDIA L40S")).facts == read_fingerprint().facts
    assert fingerprint_here(TWO_H200, serves=False, openers=of_class).facts == read_fingerprint().facts
