"""AMD's accelerators, read through AMD SMI.

Source: AMD SMI Python API reference and the wrapper `amdsmi` 7.0.2. It comes with ROCm and is loaded from there, since
it has to match the driver's library. It speaks in MHz, watts (caps in microwatts), microjoules, percent and bytes;
everything here leaves in base units. A value it does not have is the text `N/A`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from redline.errors import AcceleratorError
from redline.model import Device, DeviceHealth
from redline.runner import pci_bus
from redline.runner.amd_health import clocks_hz, energy_j, health, power_cap_w, power_w, process_ids, temperatures_c
from redline.runner.amd_import import import_amdsmi
from redline.runner.amd_residency import Residencies
from redline.runner.vendor_library import Absent, Failed, Questions, scaled, words_of

KFD = Path("/dev/kfd")
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
GONE = ("AMDSMI_STATUS_NOT_INIT", "AMDSMI_STATUS_DRIVER_NOT_LOADED")
"""No value of this device will come any more."""


def open_reader(library: Any = None, kfd: Path = KFD) -> AmdReader | Absent | Failed:
    """A reader of this machine's AMD accelerators, or why there is none. Never raises.

    `kfd`: the driver's device file; without it there is nothing that AMD SMI could read.
    """
    doing = "cannot be imported"
    try:
        amdsmi = library or import_amdsmi()
        doing = "cannot be used"
        amdsmi.amdsmi_init()
    except Exception as error:  # noqa: BLE001 - importing it alone may raise KeyError, OSError or AttributeError
        said = f"amdsmi {doing} ({words_of(error)})"
        if not kfd.exists():
            return Absent(f"no AMD driver on this machine: no {kfd}, and {said}")
        return Failed(
            f"AMD's driver is here ({kfd}), but {said}; install amd-smi-lib of the ROCm on this host "
            "(/opt/rocm/share/amd_smi), or set ROCM_PATH to where it is"
        )
    reader = AmdReader(amdsmi)
    if reader.devices() or reader.problems:
        return reader
    reader.close()
    return Absent("AMD SMI works and shows no accelerator")


class AmdReader:
    """AMD's accelerators of this machine; see AcceleratorReader. `amdsmi`: the module, initialised.

    A device split by a compute partition (CPX) is as many devices, each with its own memory and UUID.
    """

    vendor: Literal["nvidia", "amd"] = "amd"

    def __init__(self, amdsmi: Any, nodes: Path = KFD_NODES) -> None:
        self._amdsmi = amdsmi
        self._nodes = nodes
        self._open = True
        self._handles: dict[str, Any] = {}
        self._devices: dict[str, Device] = {}
        self._residencies: dict[str, Residencies] = {}
        problems: list[str] = []
        for index, handle in enumerate(self._all_handles(problems)):
            try:
                device = self._device(index, handle)
            except Exception as error:  # noqa: BLE001 - one broken accelerator does not hide the others
                problems.append(f"AMD accelerator {index} cannot be read: {words_of(error)}")
                continue
            self._handles[device.uuid] = handle
            self._devices[device.uuid] = device
            self._residencies[device.uuid] = Residencies()
        self.problems = tuple(problems)

    def _all_handles(self, problems: list[str]) -> list[Any]:
        try:
            return list(self._amdsmi.amdsmi_get_processor_handles())
        except Exception as error:  # noqa: BLE001
            problems.append(f"AMD SMI does not list its accelerators: {words_of(error)}")
            return []

    def _device(self, index: int, handle: Any) -> Device:
        amdsmi = self._amdsmi
        asic = amdsmi.amdsmi_get_gpu_asic_info(handle)
        bus_id = pci_bus.bus_id(str(amdsmi.amdsmi_get_gpu_device_bdf(handle)))
        return Device(
            vendor="amd",
            index=index,
            uuid=self._uuid(handle, asic),
            model=self._model(handle, asic),
            memory_bytes=int(amdsmi.amdsmi_get_gpu_memory_total(handle, amdsmi.AmdSmiMemoryType.VRAM)),
            pci_bus_id=bus_id,
            numa_node=pci_bus.numa_node(bus_id),
        )

    def _model(self, handle: Any, asic: Mapping[str, Any]) -> str:
        name = str(asic.get("market_name", ""))
        if name and name != "N/A" and not name.startswith("0x"):
            return name
        with suppress(Exception):
            board = str(self._amdsmi.amdsmi_get_gpu_board_info(handle)["product_name"])
            return board if board and board != "N/A" else name
        return name or "unknown"

    def _uuid(self, handle: Any, asic: Mapping[str, Any]) -> str:
        """`GPU-` and 16 hex digits, as ROCR_VISIBLE_DEVICES takes it: the kernel's own number, else the chip's serial.

        `amdsmi_get_gpu_device_uuid` gives another one, which the runtime does not know.
        """
        with suppress(Exception):
            node = self._amdsmi.amdsmi_get_gpu_kfd_info(handle)["node_id"]
            properties = (self._nodes / str(node) / "properties").read_text(encoding="utf-8")
            numbers = dict(line.split(" ", 1) for line in properties.splitlines() if " " in line)
            if number := int(numbers["unique_id"]):
                return f"GPU-{number:016x}"
        return f"GPU-{int(str(asic['asic_serial']), 16):016x}"

    def devices(self) -> tuple[Device, ...]:
        """The accelerators in AMD SMI's order."""
        return tuple(self._devices.values())

    def sample(self, uuid: str) -> Mapping[str, float]:
        """See AcceleratorReader. Violations count from the first sample of this reader, and there are no flags.

        `amdsmi_get_violation_status` samples for a tenth of a second; the counters that it reads are in the metrics.
        """
        handle, ask = self._handle(uuid), self._questions(uuid)
        metrics = ask("amdsmi_get_gpu_metrics_info", handle) or {}
        graphics_hz, memory_hz = clocks_hz(ask, handle, metrics)
        temperature, memory_temperature = temperatures_c(ask, handle, metrics)
        values: dict[str, float | None] = {
            "graphics_clock_hz": graphics_hz,
            "memory_clock_hz": memory_hz,
            "power_w": power_w(ask, handle, metrics),
            "power_cap_w": power_cap_w((ask("amdsmi_get_power_cap_info", handle) or {}).get("power_cap")),
            "energy_j": energy_j(ask("amdsmi_get_energy_count", handle)),
            "temperature_c": temperature,
            "memory_temperature_c": memory_temperature,
            "utilisation_share": scaled(metrics.get("average_gfx_activity"), 0.01),
            "memory_used_bytes": ask.number(
                1, "amdsmi_get_gpu_memory_usage", handle, ask.member("AmdSmiMemoryType", "VRAM")
            ),
        }
        values |= self._residencies[uuid].values(metrics)
        return ask.given(values)

    def process_ids(self, uuid: str) -> tuple[int, ...] | None:
        """See AcceleratorReader. Those of other users are visible to root only."""
        return process_ids(self._questions(uuid), self._handle(uuid))

    def inspect(self, uuid: str) -> DeviceHealth:
        """See AcceleratorReader."""
        return health(self._questions(uuid), self._handle(uuid), self._devices[uuid])

    def close(self) -> None:
        """See AcceleratorReader."""
        if self._open:
            self._open = False
            with suppress(Exception):
                self._amdsmi.amdsmi_shut_down()

    def _handle(self, uuid: str) -> Any:
        if uuid not in self._handles:
            raise AcceleratorError(
                "no such AMD accelerator on this machine",
                expected=", ".join(self._handles) or "none is here",
                found=uuid,
                next_step="redline doctor lists them",
            )
        return self._handles[uuid]

    def _questions(self, uuid: str) -> Questions:
        return Questions(self._amdsmi, f"{self._devices[uuid].model} {uuid}", _is_gone)


def _is_gone(error: Exception) -> bool:
    return any(name in str(error) for name in GONE)
