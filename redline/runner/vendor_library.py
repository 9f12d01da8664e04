"""Asking a vendor's library: why it gives no reader, and what it answers, value by value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redline.errors import AcceleratorError


@dataclass(frozen=True, slots=True)
class Absent:
    """The vendor is not on this machine: `reason` says how that is known. Nothing is wrong."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The library or a device is here and cannot be used: `reason` says what it said, and what to do."""

    reason: str


class Questions:
    """Calls of a vendor's library about one device. A value that is not to be had is None, and remembered in `unread`.

    `is_gone`: whether an error means that the device or its driver is lost, which ends everything. Functions are named,
    not passed: one that this version of the library lacks is one more value that is not to be had.
    """

    def __init__(self, library: Any, device: str, is_gone: Callable[[Exception], bool]) -> None:
        self.library = library
        self._device = device
        self._is_gone = is_gone
        self.unread: list[str] = []

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The answer, or None. Raises AcceleratorError if the device is gone."""
        try:
            return getattr(self.library, name)(*arguments)
        except Exception as error:
            if self._is_gone(error):
                raise self._lost(f"{name}: {words_of(error)}") from error
            self.unread.append(f"{name}: {words_of(error)}")
            return None

    def number(self, unit: float, name: str, *arguments: Any) -> float | None:
        """The answer times `unit`; None where there is none, or it is no number (`N/A`)."""
        return scaled(self(name, *arguments), unit)

    def member(self, enumeration: str, name: str) -> Any:
        """A constant of the library, `AmdSmiClkType.GFX`; None in a version that lacks it, which its calls refuse."""
        return getattr(getattr(self.library, enumeration, None), name, None)

    def given(self, values: Mapping[str, float | None]) -> dict[str, float]:
        """The values that there are. Raises AcceleratorError if there is none: a device that says nothing is lost."""
        found = {name: value for name, value in values.items() if value is not None}
        if not found:
            raise self._lost("; ".join(self.unread[:3]) or "no value at all")
        return found

    def _lost(self, found: str) -> AcceleratorError:
        return AcceleratorError(
            f"the accelerator {self._device} is lost",
            expected="a device that answers its driver",
            found=found,
            next_step="look for Xid or amdgpu errors in dmesg, reset the device or reboot; then redline doctor",
        )


def scaled(value: Any, unit: float = 1) -> float | None:
    """A number times `unit`; None for anything else: libraries write `N/A`, or leave a value out."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value * unit


def words_of(error: Exception) -> str:
    """An error on one line: its class and what it says, which with a vendor's library may be anything."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - pynvml asks its library for the words, which may be gone
        said = ""
    return " ".join(f"{type(error).__name__}: {said}".split())
