"""A stand-in for the Python module `amdsmi` of ROCm: no AMD driver or device is behind it.

Functions, argument orders, keys, enumerations, exceptions and units are those of amdsmi 7.0.2 (amdsmi_interface.py and
amdsmi_exception.py of its wheel) and of the AMD SMI API reference; what a chip does not have is the text `N/A`, as the
real module makes it of the largest number. The figures are made up in the size of an MI300X.
"""

from __future__ import annotations

import copy
import enum
from types import SimpleNamespace
from typing import Any

GIB = 1 << 30
NOT_SUPPORTED, NO_PERM, NOT_INIT, DRIVER_NOT_LOADED, NO_DATA = 2, 10, 32, 34, 40
NAMES = {
    NOT_SUPPORTED: "AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported",
    NO_PERM: "AMDSMI_STATUS_NO_PERM - Permission Denied",
    NOT_INIT: "AMDSMI_STATUS_NOT_INIT - Device not initialized",
    DRIVER_NOT_LOADED: "AMDSMI_STATUS_DRIVER_NOT_LOADED - Driver not loaded",
    NO_DATA: "AMDSMI_STATUS_NO_DATA - No data was found for given input",
}


class AmdSmiLibraryException(Exception):  # noqa: N818 - the real one's name
    def __init__(self, err_code: int) -> None:
        super().__init__(err_code)
        self.err_code = err_code

    def __str__(self) -> str:
        return f"Error code:\n\t{self.err_code} | {NAMES[self.err_code]}"


class AmdSmiClkType(enum.IntEnum):
    SYS = 0
    GFX = 0
    MEM = 4


class AmdSmiTemperatureType(enum.IntEnum):
    EDGE = 0
    HOTSPOT = 1
    VRAM = 2


class AmdSmiTemperatureMetric(enum.IntEnum):
    CURRENT = 0
    CRITICAL = 5


class AmdSmiMemoryType(enum.IntEnum):
    VRAM = 0


class AmdSmiLinkType(enum.IntEnum):
    AMDSMI_LINK_TYPE_INTERNAL = 0
    AMDSMI_LINK_TYPE_PCIE = 1
    AMDSMI_LINK_TYPE_XGMI = 2


METRICS = {
    "temperature_hotspot": 41,
    "temperature_mem": 36,
    "average_gfx_activity": 25,
    "average_socket_power": "N/A",
    "current_socket_power": 142,
    "current_gfxclk": 132,
    "current_gfxclks": [132, 2100, 131, "N/A", "N/A", "N/A", "N/A", "N/A"],
    "current_uclk": 900,
    "accumulation_counter": 1_000_000,
    "prochot_residency_acc": 0,
    "ppt_residency_acc": 400,
    "socket_thm_residency_acc": 0,
    "vr_thm_residency_acc": 0,
    "hbm_thm_residency_acc": 0,
}
QUIET: dict[str, Any] = {
    "asic": {
        "market_name": "AMD Instinct MI300X",
        "vendor_id": "0x1002",
        "asic_serial": "0x11E4E4B0DD6D7D2E",
        "target_graphics_version": "gfx942",
    },
    "board": {"product_name": "AMD Instinct MI300X OAM", "model_number": "102-G30211-0C"},
    "bdf": "0000:05:00.0",
    "node_id": "N/A",
    "memory_total": 192 * GIB,
    "memory_used": 283 << 20,
    "metrics": METRICS,
    "clocks": {
        AmdSmiClkType.GFX: {"clk": 132, "min_clk": 500, "max_clk": 2100, "clk_locked": False, "clk_deep_sleep": "N/A"},
        AmdSmiClkType.MEM: {"clk": 900, "min_clk": 900, "max_clk": 1300, "clk_locked": "N/A", "clk_deep_sleep": "N/A"},
    },
    "power": {"socket_power": 142, "current_socket_power": 142, "average_socket_power": "N/A"},
    "caps": {
        "power_cap": 750_000_000,
        "default_power_cap": 750_000_000,
        "dpm_cap": 0,
        "min_power_cap": 0,
        "max_power_cap": 750_000_000,
    },
    "temperatures": {(1, 0): 41, (2, 0): 36, (1, 5): 100},
    "energy": {"energy_accumulator": 1_000_000, "counter_resolution": 15.3, "timestamp": 1},
    "ecc_enabled": 0x1,
    "ecc": {"correctable_count": 3, "uncorrectable_count": 0, "deferred_count": 0},
    "pages": [],
    "compute": "SPX",
    "memory_partition": "NPS1",
    "perf": "AMDSMI_DEV_PERF_LEVEL_AUTO",
    "pcie": {
        "pcie_static": {"max_pcie_width": 16, "max_pcie_speed": 32000, "pcie_interface_version": 5, "slot_type": "OAM"},
        "pcie_metric": {"pcie_width": 16, "pcie_speed": 32000, "pcie_replay_count": 0},
    },
    "violations": {
        "active_ppt_pwr": False,
        "active_socket_thrm": False,
        "active_vr_thrm": "N/A",
        "active_hbm_thrm": False,
        "active_prochot_thrm": False,
    },
    "processes": [],
}


def process(pid: int, vram_bytes: int) -> dict[str, Any]:
    """One entry of the process list."""
    return {
        "name": "python3",
        "pid": pid,
        "mem": vram_bytes,
        "engine_usage": {"gfx": 0, "enc": 0},
        "memory_usage": {"gtt_mem": 2 << 20, "cpu_mem": 0, "vram_mem": vram_bytes},
        "cu_occupancy": 0,
    }


class AmdSmi:
    """The module. `devices`: what each says; `errors`: function, or (function, index of the device) -> code it raises.

    `missing`: names that this version of the module does not have.
    """

    AmdSmiClkType = AmdSmiClkType
    AmdSmiTemperatureType = AmdSmiTemperatureType
    AmdSmiTemperatureMetric = AmdSmiTemperatureMetric
    AmdSmiMemoryType = AmdSmiMemoryType
    AmdSmiLinkType = AmdSmiLinkType

    def __init__(self, count: int = 1, **changes: Any) -> None:
        self.devices = [copy.deepcopy(QUIET) | changes for _ in range(count)]
        for index, device in enumerate(self.devices):
            if index:
                device["asic"] = QUIET["asic"] | {"asic_serial": f"0x{0x11E4E4B0DD6D7D2E + index:016X}"}
        self.errors: dict[Any, int] = {}
        self.missing: set[str] = set()
        self.shut_down_count = 0

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "__dict__").get("missing", ()):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def _answer(self, name: str, handle: Any, key: str) -> Any:
        self._fail(name, handle.value - 1)
        return copy.deepcopy(self.devices[handle.value - 1][key])

    def _fail(self, name: str, index: int | None = None) -> None:
        code = self.errors.get(name, self.errors.get((name, index), self.errors.get(("*", index), 0)))
        if code:
            raise AmdSmiLibraryException(code)

    # --- the library ---

    def amdsmi_init(self, flag=2):
        self._fail("amdsmi_init")

    def amdsmi_shut_down(self):
        self.shut_down_count += 1

    def amdsmi_get_processor_handles(self):
        self._fail("amdsmi_get_processor_handles")
        return [SimpleNamespace(value=index + 1) for index in range(len(self.devices))]

    def amdsmi_get_rocm_version(self):
        return (True, "7.0.2")

    # --- one device ---

    def amdsmi_get_gpu_asic_info(self, processor_handle):
        return self._answer("amdsmi_get_gpu_asic_info", processor_handle, "asic")

    def amdsmi_get_gpu_board_info(self, processor_handle):
        return self._answer("amdsmi_get_gpu_board_info", processor_handle, "board")

    def amdsmi_get_gpu_device_bdf(self, processor_handle):
        return self._answer("amdsmi_get_gpu_device_bdf", processor_handle, "bdf")

    def amdsmi_get_gpu_kfd_info(self, processor_handle):
        node = self._answer("amdsmi_get_gpu_kfd_info", processor_handle, "node_id")
        return {"kfd_id": 53458, "node_id": node, "current_partition_id": 0}

    def amdsmi_get_gpu_memory_total(self, processor_handle, mem_type):
        assert mem_type is AmdSmiMemoryType.VRAM
        return self._answer("amdsmi_get_gpu_memory_total", processor_handle, "memory_total")

    def amdsmi_get_gpu_memory_usage(self, processor_handle, mem_type):
        assert mem_type is AmdSmiMemoryType.VRAM
        return self._answer("amdsmi_get_gpu_memory_usage", processor_handle, "memory_used")

    def amdsmi_get_gpu_metrics_info(self, processor_handle):
        return self._answer("amdsmi_get_gpu_metrics_info", processor_handle, "metrics")

    def amdsmi_get_clock_info(self, processor_handle, clock_type):
        return self._answer("amdsmi_get_clock_info", processor_handle, "clocks")[clock_type]

    def amdsmi_get_power_info(self, processor_handle):
        return self._answer("amdsmi_get_power_info", processor_handle, "power")

    def amdsmi_get_power_cap_info(self, processor_handle):
        return self._answer("amdsmi_get_power_cap_info", processor_handle, "caps")

    def amdsmi_get_temp_metric(self, processor_handle, sensor_type, metric):
        return self._answer("amdsmi_get_temp_metric", processor_handle, "temperatures")[sensor_type, metric]

    def amdsmi_get_energy_count(self, processor_handle):
        return self._answer("amdsmi_get_energy_count", processor_handle, "energy")

    def amdsmi_get_violation_status(self, processor_handle):
        return self._answer("amdsmi_get_violation_status", processor_handle, "violations")

    def amdsmi_get_gpu_ecc_enabled(self, processor_handle):
        return self._answer("amdsmi_get_gpu_ecc_enabled", processor_handle, "ecc_enabled")

    def amdsmi_get_gpu_total_ecc_count(self, processor_handle):
        return self._answer("amdsmi_get_gpu_total_ecc_count", processor_handle, "ecc")

    def amdsmi_get_gpu_bad_page_info(self, processor_handle):
        return self._answer("amdsmi_get_gpu_bad_page_info", processor_handle, "pages")

    def amdsmi_get_gpu_compute_partition(self, processor_handle):
        return self._answer("amdsmi_get_gpu_compute_partition", processor_handle, "compute")

    def amdsmi_get_gpu_memory_partition(self, processor_handle):
        return self._answer("amdsmi_get_gpu_memory_partition", processor_handle, "memory_partition")

    def amdsmi_get_gpu_perf_level(self, processor_handle):
        return self._answer("amdsmi_get_gpu_perf_level", processor_handle, "perf")

    def amdsmi_get_pcie_info(self, processor_handle):
        return self._answer("amdsmi_get_pcie_info", processor_handle, "pcie")

    def amdsmi_get_gpu_process_list(self, processor_handle):
        return self._answer("amdsmi_get_gpu_process_list", processor_handle, "processes")

    def amdsmi_get_gpu_driver_info(self, processor_handle):
        self._fail("amdsmi_get_gpu_driver_info", processor_handle.value - 1)
        return {"driver_name": "amdgpu", "driver_version": "6.14.14", "driver_date": "N/A"}

    def amdsmi_get_gpu_vbios_info(self, processor_handle):
        self._fail("amdsmi_get_gpu_vbios_info", processor_handle.value - 1)
        return {
            "name": "N/A",
            "build_date": "2025/02/19 18:27",
            "part_number": "113-M3000100-103",
            "version": "022.040",
        }

    def amdsmi_topo_get_link_type(self, processor_handle_src, processor_handle_dst):
        return {"hops": 1, "type": int(AmdSmiLinkType.AMDSMI_LINK_TYPE_XGMI)}
