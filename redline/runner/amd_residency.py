"""How long an AMD accelerator was held back, from the counters of its firmware."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redline.runner.vendor_library import scaled

KINDS = {
    "power": ("ppt_residency_acc",),
    "thermal": (
        "socket_thm_residency_acc",
        "vr_thm_residency_acc",
        "hbm_thm_residency_acc",
        "prochot_residency_acc",
    ),
}
"""Counters that grow by one in every round of the firmware in which it holds clocks back for that reason.

PROCHOT, the hardware's own protection, is among those for heat as AMD SMI counts it (`active_prochot_thrm`).
"""

ROUNDS = "accumulation_counter"


class Residencies:
    """One device's counters from sample to sample.

    The share of the firmware's rounds since the last sample, times the time that passed, is the time held back: what
    one round takes is not documented. No flag is told for each sample: it would stand for the whole stretch since the
    sample before, which may lie before this window, and one round in it would look like all of it. What the counters
    grew by between two samples of a window is of that window, whatever happened between windows.
    Source: AMD SMI, amdsmi_violation_status_t, and how it makes its percentages.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._at_s = 0.0
        self._spent_s = dict.fromkeys(KINDS, 0.0)

    def values(self, metrics: Mapping[str, Any], now_s: float | None = None) -> dict[str, float]:
        """`violation_*_s` since the first sample, which only ever grow; {} where the device does not count.

        A first sample has nothing to compare with and adds nothing. One that the firmware did not renew is passed
        over: the next one is compared with the last that was new.
        """
        now_s = time.monotonic() if now_s is None else now_s
        names = (ROUNDS, *(name for counters in KINDS.values() for name in counters))
        counted = {name: value for name in names if (value := scaled(metrics.get(name))) is not None}
        if ROUNDS not in counted:
            return {}
        before, passed_s = self._before, now_s - self._at_s
        rounds = counted[ROUNDS] - before.get(ROUNDS, counted[ROUNDS])
        if rounds != 0 or not before:
            self._before, self._at_s = counted, now_s
        found: dict[str, float] = {}
        for kind, counters in KINDS.items():
            known = [name for name in counters if name in counted]
            held = [counted[name] - before[name] for name in known if name in before]
            if held and rounds > 0:  # 0 rounds, or fewer after a reset: nothing is known of this stretch
                self._spent_s[kind] += min(1.0, max(0.0, max(held) / rounds)) * passed_s
            if known:
                found[f"violation_{kind}_s"] = self._spent_s[kind]
        return found
