"""How long an AMD accelerator was held back, from the counters of its firmware."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from redline.runner.vendor_library import scaled

KINDS = {
    "power": ("ppt_residency_acc",),
    "thermal": ("socket_thm_residency_acc", "vr_thm_residency_acc", "hbm_thm_residency_acc"),
    "hardware": ("prochot_residency_acc",),
}
"""Counters that grow by one in every round of the firmware in which it holds clocks back for that reason."""

ROUNDS = "accumulation_counter"


class Residencies:
    """One device's counters from sample to sample.

    The share of the firmware's rounds since the last sample, times the time that passed, is the time held back: what
    one round takes is not documented. Source: AMD SMI, amdsmi_violation_status_t, and how it makes its percentages.
    """

    def __init__(self) -> None:
        self._before: dict[str, float] = {}
        self._at_s = 0.0
        self._spent_s = dict.fromkeys(KINDS, 0.0)

    def values(self, metrics: Mapping[str, Any], now_s: float | None = None) -> dict[str, float]:
        """`throttled_*` since the last sample, `violation_*_s` since the first; {} where the device does not count.

        The first sample has nothing to compare with: its violations are 0 and nothing is said of `throttled_*`.
        """
        now_s = time.monotonic() if now_s is None else now_s
        names = (ROUNDS, *(name for counters in KINDS.values() for name in counters))
        counted = {name: value for name in names if (value := scaled(metrics.get(name))) is not None}
        before, passed_s = self._before, now_s - self._at_s
        if ROUNDS not in counted:
            return {}
        self._before, self._at_s = counted, now_s
        rounds = counted[ROUNDS] - before.get(ROUNDS, counted[ROUNDS])
        found: dict[str, float] = {}
        for kind, counters in KINDS.items():
            known = [name for name in counters if name in counted]
            if not known:
                continue
            held = [counted[name] - before[name] for name in known if name in before]
            if held and rounds > 0:  # 0 rounds, or fewer after a reset: nothing is known of this stretch
                share = min(1.0, max(0.0, max(held) / rounds))
                self._spent_s[kind] += share * passed_s
                found[f"throttled_{kind}"] = float(share > 0)
            if kind != "hardware":
                found[f"violation_{kind}_s"] = self._spent_s[kind]
        return found
