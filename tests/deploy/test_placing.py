"""Which accelerators and CPUs each replica gets."""

from __future__ import annotations

from typing import Literal

import pytest

from redline.deploy.command import server_environment
from redline.deploy.host import seeing
from redline.deploy.placing import assign, shares_of, usable, visible_environment
from redline.errors import UsageError
from redline.model import Device
from tests.deploy.conftest import stand_in_recipe

VENDORS: tuple[Literal["nvidia"], Literal["amd"]] = ("nvidia", "amd")


def devices(count: int, vendor: Literal["nvidia", "amd"] = "nvidia") -> tuple[Device, ...]:
    """Accelerators with UUIDs as the vendors write them."""
    return tuple(Device(vendor, index, f"GPU-{index:08x}-aaaa", "H100 80GB HBM3", 80 << 30) for index in range(count))


def test_replicas_get_neighbours():
    """2 x TP4 on eight: the first four and the last four; 8 x TP1: one each; nobody shares."""
    eight = devices(8)
    assert assign(eight, 2, 4) == (eight[:4], eight[4:])
    assert assign(eight, 8, 1) == tuple((device,) for device in eight)
    assert assign(eight, 1, 2) == (eight[:2],)


def test_a_cpu_has_none_to_give():
    """Without accelerators each replica gets none."""
    assert assign((), 2, 1) == ((), ())


def test_too_few_are_refused():
    """A placement of eight on a host of four is refused before anything starts, and says what is there."""
    with pytest.raises(UsageError) as refused:
        assign(devices(4), 2, 4)
    assert "8: 2 x tensor parallel 4" in str(refused.value)
    assert "4 (H100 80GB HBM3" in str(refused.value)


@pytest.mark.parametrize("said", ["1,3", "GPU-00000001,GPU-00000003", "GPU-00000001-aaaa, 3"])
def test_what_a_scheduler_left_visible_is_kept(said: str):
    """By index, by UUID or by a prefix of one, in the scheduler's order."""
    eight = devices(8)
    assert usable(eight, {"CUDA_VISIBLE_DEVICES": said}) == (eight[1], eight[3])


@pytest.mark.parametrize("said", ["9", "GPU-0", "MIG-1234", "-1"])
def test_a_name_of_nothing_or_of_many_is_refused(said: str):
    """An index that is not there, a prefix of several, a part of an accelerator."""
    with pytest.raises(UsageError) as refused:
        usable(devices(8), {"CUDA_VISIBLE_DEVICES": said})
    assert "CUDA_VISIBLE_DEVICES" in str(refused.value)


def test_an_empty_choice_is_none_and_another_vendors_is_not_asked():
    """`CUDA_VISIBLE_DEVICES=` hides all NVIDIA devices; it says nothing about AMD's."""
    assert usable(devices(2), {"CUDA_VISIBLE_DEVICES": ""}) == ()
    amd = devices(2, "amd")
    assert usable(amd, {"CUDA_VISIBLE_DEVICES": ""}) == amd
    assert usable(amd, {"ROCR_VISIBLE_DEVICES": "1"}) == (amd[1],)
    assert usable(devices(2), {}) == devices(2)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_server_sees_its_devices_by_one_variable(vendor: Literal["nvidia", "amd"], tmp_path):
    """By UUID and by one variable of its vendor: whatever the caller had set for any vendor does not get in."""
    chosen = devices(4, vendor)[2:]
    name = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES"}[vendor]
    caller = {
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
        "HIP_VISIBLE_DEVICES": "0",
        "ROCR_VISIBLE_DEVICES": "1",
        "PATH": "/bin",
    }
    environment = server_environment(
        python=tmp_path / "bin" / "python",
        recipe=seeing(stand_in_recipe(tmp_path, "ok"), "cpu", chosen),
        platform="cpu",
        model=str(tmp_path),
        cache_dir=tmp_path,
        caller=caller,
    )
    assert {key: value for key, value in environment.items() if "VISIBLE" in key} == {
        name: "GPU-00000002-aaaa,GPU-00000003-aaaa"
    }
    assert visible_environment(()) == {}


@pytest.mark.parametrize(
    ("cpu_ids", "count", "expected"),
    [
        ((0, 1, 2, 3), 2, ((0, 1), (2, 3))),
        ((0, 1, 2), 2, ((0, 1), (2,))),
        ((0,), 2, ((0,), (0,))),
        ((4, 5, 6, 7, 8), 1, ((4, 5, 6, 7, 8),)),
    ],
)
def test_cpus_are_shared_evenly_where_there_are_enough(cpu_ids, count, expected):
    """Contiguous parts of nearly the same size; all for everybody where there are fewer CPUs than replicas."""
    assert shares_of(cpu_ids, count) == expected
