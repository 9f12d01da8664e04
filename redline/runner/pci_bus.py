"""What the PCI bus shows of accelerators, with or without a driver. Source: /sys/bus/pci/devices, sysfs-bus-pci(5)."""

from __future__ import annotations

import re
from pathlib import Path

PCI_DEVICES = Path("/sys/bus/pci/devices")
VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")
"""VGA, 3D and other display controllers, and processing accelerators: the first two bytes of the class."""

_BUS_ID = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)


def bus_id(text: str) -> str:
    """A bus id as the kernel writes it, `0000:17:00.0`; NVML's has eight digits of domain. Empty for another text."""
    found = _BUS_ID.fullmatch(text.strip())
    if found is None:
        return ""
    domain, bus, device, function = found.groups()
    return f"{int(domain or '0', 16):04x}:{bus.lower()}:{device.lower()}.{function}"


def numa_node(device: str, root: Path = PCI_DEVICES) -> int:
    """The NUMA node of a device by its bus id; -1 where the kernel does not say."""
    try:
        return int((root / device / "numa_node").read_text(encoding="utf-8")) if device else -1
    except (OSError, ValueError):
        return -1


def accelerators(root: Path = PCI_DEVICES) -> tuple[str, ...]:
    """`nvidia 0000:17:00.0`, `amd ...` of every display or processing device of the two vendors, in bus order."""
    found = []
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return ()
    for entry in entries:
        try:
            vendor = VENDORS.get((entry / "vendor").read_text(encoding="utf-8").strip())
            kind = (entry / "class").read_text(encoding="utf-8").strip()[:6]
        except OSError:
            continue
        if vendor is not None and kind in _CLASSES:
            found.append(f"{vendor} {entry.name}")
    return tuple(found)
