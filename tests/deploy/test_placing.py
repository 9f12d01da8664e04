"""Which accelerators and CPUs each replica gets."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.deploy.command import server_environment
from redline.deploy.cpu_topology import Core
from redline.deploy.host import seeing
from redline.deploy.placing import VISIBLE_VARIABLES, assign, shares_of, usable, visible_environment
from redline.errors import UsageError
from redline.model import Device
from tests.deploy.conftest import stand_in_recipe

VENDORS: tuple[Literal["nvidia"], Literal["amd"]] = ("nvidia", "amd")
ANYWHERE: frozenset[int] = frozenset()


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
    """`CUDA_VISIBLE_DEVICES=` hides all NVIDIA devices and says nothing of AMD's, as AMD's variables of NVIDIA's."""
    assert usable(devices(2), {"CUDA_VISIBLE_DEVICES": ""}) == ()
    amd = devices(2, "amd")
    assert usable(amd, {"CUDA_VISIBLE_DEVICES": ""}) == amd
    assert usable(amd, {"HIP_VISIBLE_DEVICES": ""}) == ()
    assert usable(devices(2), {"HIP_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "1"}) == devices(2)
    assert usable(devices(2), {}) == devices(2)
    assert usable((), {"CUDA_VISIBLE_DEVICES": "0"}) == ()


@pytest.mark.parametrize(
    "variable", ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"]
)
def test_every_variable_by_which_amds_are_chosen_is_read(variable: str):
    """ROCm has four; Ray sets HIP_, Slurm ROCR_, and HIP reads CUDA_ too."""
    amd = devices(4, "amd")
    assert usable(amd, {variable: "3,1"}) == (amd[3], amd[1])
    assert usable(amd, {variable: "gpu-00000002"}) == (amd[2],)


def test_variables_that_agree_are_one_choice():
    """Schedulers set two of them to the same list, or to the same devices by other names."""
    amd = devices(4, "amd")
    said = {"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": "2, 3", "CUDA_VISIBLE_DEVICES": "GPU-00000002,3"}
    assert usable(amd, said) == (amd[2], amd[3])


@pytest.mark.parametrize("second", ["0,1", "3,2", "2", ""])
def test_variables_that_disagree_are_refused(second: str):
    """Counted from all, or among what the first one left? Nobody can say, so nothing is measured."""
    with pytest.raises(UsageError) as refused:
        usable(devices(4, "amd"), {"ROCR_VISIBLE_DEVICES": "2,3", "HIP_VISIBLE_DEVICES": second})
    assert "ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES choose different" in str(refused.value)
    assert f"HIP_VISIBLE_DEVICES={second!r}" in str(refused.value)


@pytest.mark.parametrize("said", ["0,0", "0,GPU-00000000", "1,0,1"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_an_accelerator_that_is_named_twice_is_refused(said: str, vendor: Literal["nvidia", "amd"]):
    """Two replicas would be on one accelerator."""
    with pytest.raises(UsageError, match="twice"):
        usable(devices(2, vendor), {VISIBLE_VARIABLES[vendor]: said})


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


def alone(count: int) -> list[Core]:
    """Cores of one thread each, on a machine without NUMA."""
    return [Core((cpu,)) for cpu in range(count)]


def two_sockets(client_cpu: int = 223) -> list[Core]:
    """Two sockets of 56 cores of two threads, numbered as Linux does: 0 to 55, 56 to 111, then the second threads.

    One CPU is the load client's.
    """
    cores = [tuple(cpu for cpu in (core, core + 112) if cpu != client_cpu) for core in range(112)]
    return [Core(threads, index // 56, len(threads) == 2) for index, threads in enumerate(cores)]


@pytest.mark.parametrize(
    ("count", "replicas", "expected"),
    [
        (4, 2, ((0, 1), (2, 3))),
        (3, 2, ((0, 1), (2,))),
        (1, 2, ((0,), (0,))),
        (5, 1, ((0, 1, 2, 3, 4),)),
    ],
)
def test_cpus_are_shared_evenly_where_there_are_enough(count, replicas, expected):
    """Contiguous parts of nearly the same size; all for everybody where there are fewer CPUs than replicas."""
    assert shares_of(alone(count), [ANYWHERE] * replicas) == expected


def test_each_replica_of_eight_has_whole_cores_beside_its_accelerator():
    """2 x 56 cores of two threads, eight GPUs, four on a node: 14 cores each, none shared, none of the other node."""
    cores = two_sockets()
    shares = shares_of(cores, [frozenset({index // 4}) for index in range(8)])
    assert shares[0] == (*range(14), *range(112, 126))
    assert [len(share) for share in shares] == [28, 28, 28, 28, 28, 28, 26, 28]
    for index, share in enumerate(shares):
        assert all(cpu % 112 // 56 == index // 4 for cpu in share), "its own node"
        assert {cpu % 112 for cpu in share if cpu < 112} == {cpu % 112 for cpu in share if cpu >= 112}, "whole cores"
    every = [cpu for share in shares for cpu in share]
    assert len(every) == len(set(every)) == 222
    assert {111, 223} & set(every) == set(), "the load client's core is nobody's"


def test_two_servers_of_four_accelerators_have_a_socket_each():
    """2 x TP4: whichever order the nodes are in. One server over both nodes has both."""
    first, second = shares_of(two_sockets(), [frozenset({1}), frozenset({0})])
    assert second == (*range(56), *range(112, 168))
    assert first == (*range(56, 111), *range(168, 223))
    assert shares_of(two_sockets(), [frozenset({0, 1})]) == ((*range(111), *range(112, 223)),)


def test_replicas_whose_nodes_overlap_share_them_evenly():
    """Accelerators 0 to 2 on one node, 3 to 5 on both: half of all cores each, no core twice."""
    first, second = shares_of(two_sockets(), [frozenset({0}), frozenset({0, 1})])
    assert (len(first), len(second)) == (112, 110)
    assert set(first) & set(second) == set()
    third = shares_of(two_sockets(), [frozenset({0}), frozenset({1}), frozenset({0, 1})])
    assert [len(share) for share in third] == [74, 74, 74]


@pytest.mark.parametrize("home", [frozenset(), frozenset({7})])
def test_a_node_that_is_unknown_or_has_no_cpus_of_ours_is_any(home: frozenset[int]):
    """A driver that does not say, a node of memory alone, a process that may not use that node: nobody has no CPUs."""
    shares = shares_of(two_sockets(), [home, home])
    assert [len(share) for share in shares] == [112, 110]


def test_a_small_machine_gives_every_cpu_away():
    """On four cores of two threads, one of them the client's, its core's other thread is an eighth of all: used."""
    cores = [Core((0, 4)), Core((1, 5)), Core((2, 6)), Core((3,), whole=False)]
    assert shares_of(cores, [ANYWHERE]) == ((0, 1, 2, 3, 4, 5, 6),)
    assert shares_of(cores, [ANYWHERE] * 2) == ((0, 1, 4, 5), (2, 3, 6))
    halves = [Core((cpu,), whole=False) for cpu in range(4)]  # a job that was given one thread of every core
    assert shares_of(halves, [ANYWHERE] * 2) == ((0, 1), (2, 3))


@given(
    cores=st.lists(st.tuples(st.integers(1, 2), st.integers(-1, 3), st.booleans()), min_size=1, max_size=12),
    homes=st.lists(st.frozensets(st.integers(0, 4), max_size=3), min_size=1, max_size=6),
)
def test_nobody_goes_without_and_nobody_shares_where_there_is_enough(cores, homes):
    """Whatever the machine: each replica has CPUs, all of them ours, and two share one only if their cores are few."""
    numbers = itertools.count()
    there = [Core(tuple(itertools.islice(numbers, size)), node, whole) for size, node, whole in cores]
    shares = shares_of(there, homes)
    usable_cpus = {cpu for core in there for cpu in core.cpu_ids}
    assert len(shares) == len(homes)
    assert all(share and set(share) <= usable_cpus for share in shares)
    for first, second in itertools.combinations(shares, 2):
        assert first == second or not set(first) & set(second)
