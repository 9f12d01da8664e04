"""A stand-in for NVIDIA's library, below the real Python wrapper: no NVIDIA driver or device is behind it.

The module under test calls the real `pynvml` (nvidia-ml-py), loaded a second time; only the C library that this opens
is replaced, so that structures, conversions, exceptions and argument orders are the real ones. Units and sentinel
values are those of nvml.h and the NVML API reference. The figures are made up in the size of an H200.
"""

# ruff: noqa: N802 - the names of the C library's functions, behind an underscore

from __future__ import annotations

import copy
import ctypes
import importlib.util
import sys
from typing import Any

import pynvml

NOT_SUPPORTED, NO_PERMISSION, INSUFFICIENT_SIZE = 3, 4, 7
DRIVER_NOT_LOADED, INVALID_ARGUMENT, GPU_IS_LOST, MISMATCH, UNKNOWN = 9, 2, 15, 18, 999
GIB = 1 << 30
UUIDS = tuple(f"GPU-0000000{index}-1111-2222-3333-444444444444" for index in range(8))
QUIET = {
    "name": b"NVIDIA H200",
    "bus_id": b"00000000:17:00.0",
    "memory": (140 * GIB, 139 * GIB, 1 * GIB),  # total, free, used
    "clocks": {0: 1980, 2: 3201},  # MHz: graphics, memory
    "clocks_max": {0: 1980, 2: 3201},
    "power_mw": 78_123,
    "caps_mw": (700_000, 700_000, 200_000, 700_000),  # enforced, default, least, most
    "energy_mj": 5_000_000_250,
    "temperature": 31,
    "slowdown": 90,
    "utilisation": (7, 3),  # percent: device, memory
    "reasons": 0x1,
    "violations_ns": {0: 1_500_000_000, 1: 0},
    "fields": {82: (1, 40)},  # number -> (type of value, value)
    "ecc": (1, 1),
    "ecc_errors": {0: 0, 1: 0},  # since the driver was loaded, ever
    "rows": (0, 0, 0, 0),
    "mig": (0, 0),
    "persistence": 1,
    "compute_mode": 0,
    "pcie": (5, 5, 16, 16),
    "links": 18,
    "processes": (),
    "vbios": b"96.00.AF.00.01",
}


class NvmlLibrary:
    """What `CDLL("libnvidia-ml.so.1")` would give: functions that write through pointers and return a code.

    `devices`: what each says. `errors`: function name, or (name, index of the device) -> the code it returns instead.
    `missing`: functions that this driver's library does not have.
    """

    def __init__(self, count: int = 1, **changes: Any) -> None:
        self.devices = [copy.deepcopy(QUIET) | {"uuid": UUIDS[index].encode()} | changes for index in range(count)]
        self.errors: dict[Any, int] = {}
        self.missing: set[str] = set()
        self.shut_down_count = 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name in self.missing or f"_{name}" not in dir(type(self)):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            handle = arguments[0] if arguments and isinstance(arguments[0], pynvml_copy.c_nvmlDevice_t) else None
            index = None if handle is None else (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1
            code = self.errors.get(name, self.errors.get((name, index), self.errors.get(("*", index), 0)))
            if code:
                return code
            answer = getattr(self, f"_{name}")
            if index is None:
                return answer(*arguments) or 0
            return answer(self.devices[index], *arguments[1:]) or 0

        return call

    # --- the library ---

    def _nvmlInitWithFlags(self, flags):
        return 0

    def _nvmlShutdown(self):
        self.shut_down_count += 1

    def _nvmlErrorString(self, code):
        return b"an error"

    def _nvmlSystemGetDriverVersion(self, text, size):
        text.value = b"580.95.05"

    def _nvmlSystemGetCudaDriverVersion_v2(self, number):
        number._obj.value = 13000

    def _nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.devices)

    def _nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        if code := self.errors.get(("nvmlDeviceGetHandleByIndex_v2", index.value), 0):
            return code
        ctypes.cast(ctypes.byref(handle._obj), ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1
        return 0

    # --- one device ---

    def _nvmlDeviceGetUUID(self, device, text, size):
        text.value = device["uuid"]

    def _nvmlDeviceGetName(self, device, text, size):
        text.value = device["name"]

    def _nvmlDeviceGetVbiosVersion(self, device, text, size):
        text.value = device["vbios"]

    def _nvmlDeviceGetPciInfo_v3(self, device, info):
        info._obj.busId = device["bus_id"]

    def _nvmlDeviceGetMemoryInfo(self, device, info):
        info._obj.total, info._obj.free, info._obj.used = device["memory"]

    def _nvmlDeviceGetClockInfo(self, device, kind, value):
        value._obj.value = device["clocks"][kind.value]

    def _nvmlDeviceGetMaxClockInfo(self, device, kind, value):
        value._obj.value = device["clocks_max"][kind.value]

    def _nvmlDeviceGetPowerUsage(self, device, value):
        value._obj.value = device["power_mw"]

    def _nvmlDeviceGetEnforcedPowerLimit(self, device, value):
        value._obj.value = device["caps_mw"][0]

    def _nvmlDeviceGetPowerManagementDefaultLimit(self, device, value):
        value._obj.value = device["caps_mw"][1]

    def _nvmlDeviceGetPowerManagementLimitConstraints(self, device, least, most):
        least._obj.value, most._obj.value = device["caps_mw"][2:]

    def _nvmlDeviceGetTotalEnergyConsumption(self, device, value):
        value._obj.value = device["energy_mj"]

    def _nvmlDeviceGetTemperature(self, device, sensor, value):
        value._obj.value = device["temperature"]

    def _nvmlDeviceGetTemperatureThreshold(self, device, kind, value):
        assert kind.value == 1, "the threshold at which it slows down"
        value._obj.value = device["slowdown"]

    def _nvmlDeviceGetUtilizationRates(self, device, rates):
        rates._obj.gpu, rates._obj.memory = device["utilisation"]

    def _nvmlDeviceGetCurrentClocksEventReasons(self, device, bits):
        bits._obj.value = device["reasons"]

    def _nvmlDeviceGetViolationStatus(self, device, policy, status):
        status._obj.referenceTime, status._obj.violationTime = 1, device["violations_ns"][policy.value]

    def _nvmlDeviceGetFieldValues(self, device, count, values):
        members = {0: "dVal", 1: "uiVal", 3: "ullVal", 4: "sllVal"}
        for value in values._obj:
            kind, number = device["fields"].get(value.fieldId, (None, None))
            value.nvmlReturn = NOT_SUPPORTED if kind is None else 0
            if kind is not None:
                value.valueType = kind
                setattr(value.value, members[kind], number)

    def _nvmlDeviceGetEccMode(self, device, now, pending):
        now._obj.value, pending._obj.value = device["ecc"]

    def _nvmlDeviceGetTotalEccErrors(self, device, error_kind, counter, value):
        assert error_kind.value == 1, "uncorrected"
        value._obj.value = device["ecc_errors"][counter.value]

    def _nvmlDeviceGetRemappedRows(self, device, *values):
        for value, number in zip(values, device["rows"], strict=True):
            value._obj.value = number

    def _nvmlDeviceGetRetiredPages(self, device, cause, count, pages):
        found = device.get("pages", {}).get(cause.value, ())
        count._obj.value = len(found)
        if pages is None:
            return INSUFFICIENT_SIZE if found else 0
        pages[: len(found)] = found
        return 0

    def _nvmlDeviceGetRetiredPagesPendingStatus(self, device, pending):
        pending._obj.value = device.get("pages_pending", 0)

    def _nvmlDeviceGetMigMode(self, device, now, pending):
        now._obj.value, pending._obj.value = device["mig"]

    def _nvmlDeviceGetMaxMigDeviceCount(self, device, count):
        count._obj.value = 7

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, device, index, handle):
        if index.value >= device.get("mig_instances", 0):
            return 6  # not found
        ctypes.cast(ctypes.byref(handle._obj), ctypes.POINTER(ctypes.c_void_p))[0] = 1000 + index.value
        return 0

    def _nvmlDeviceGetPersistenceMode(self, device, state):
        state._obj.value = device["persistence"]

    def _nvmlDeviceGetComputeMode(self, device, mode):
        mode._obj.value = device["compute_mode"]

    def _nvmlDeviceGetCurrPcieLinkGeneration(self, device, value):
        value._obj.value = device["pcie"][0]

    def _nvmlDeviceGetMaxPcieLinkGeneration(self, device, value):
        value._obj.value = device["pcie"][1]

    def _nvmlDeviceGetCurrPcieLinkWidth(self, device, value):
        value._obj.value = device["pcie"][2]

    def _nvmlDeviceGetMaxPcieLinkWidth(self, device, value):
        value._obj.value = device["pcie"][3]

    def _nvmlDeviceGetNvLinkState(self, device, link, active):
        if link >= device["links"]:
            return INVALID_ARGUMENT
        active._obj.value = 1
        return 0

    def _nvmlDeviceGetNvLinkVersion(self, device, link, version):
        version._obj.value = 4

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, device, count, processes):
        return self._list(device["processes"], count, processes)

    def _nvmlDeviceGetGraphicsRunningProcesses_v3(self, device, count, processes):
        return self._list(device.get("graphics", ()), count, processes)

    def _list(self, pids, count, processes):
        if processes is None and pids:
            count._obj.value = len(pids)
            return INSUFFICIENT_SIZE
        for place, pid in enumerate(pids):
            processes[place].pid, processes[place].usedGpuMemory = pid, 0xFFFFFFFFFFFFFFFF
        count._obj.value = len(pids)
        return 0


def _second_pynvml() -> Any:
    """A copy of the wrapper of its own: the one that the product uses keeps its state."""
    spec = importlib.util.spec_from_file_location("pynvml_over_a_stand_in", pynvml.__file__)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its exceptions are made through this
    spec.loader.exec_module(module)
    return module


pynvml_copy: Any = _second_pynvml()


def pynvml_over(library: NvmlLibrary) -> Any:
    """The real wrapper over a stand-in library. One at a time: it is a module."""
    pynvml_copy._nvmlGetFunctionPointer_cache.clear()
    pynvml_copy.nvmlLib = library
    return pynvml_copy
