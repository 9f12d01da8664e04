"""The description of a system in MLPerf's fields: what was captured, and the word unknown for what was not. Pure.

Source: SYSTEM_DESC_REQUIRED_FIELDS of MLCommons' submission checker, mlcommons/inference; 26 of the 35 fields may not
be empty there, two must be of its own words (`status`, `system_type`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redline.errors import ContentError

UNKNOWN = "unknown: not captured by Redline"
NONE_ON_CPU = "none: served on the CPU"
NAME_CHARACTERS_MAX = 128
TOLD_APART = (
    " Another system of this export would have the same name: {} tells them apart, and src/ says how each was served."
)
STATUSES = ("available", "preview", "rdi")
SYSTEM_TYPES = ("datacenter", "edge", "datacenter,edge", "edge,datacenter")

FIELDS = (
    "division",
    "submitter",
    "status",
    "system_name",
    "system_type",
    "system_type_detail",
    "number_of_nodes",
    "host_processor_model_name",
    "host_processors_per_node",
    "host_processor_core_count",
    "host_processor_frequency",
    "host_processor_caches",
    "host_processor_interconnect",
    "host_memory_capacity",
    "host_memory_configuration",
    "host_storage_capacity",
    "host_storage_type",
    "host_networking",
    "host_networking_topology",
    "host_network_card_count",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_frequency",
    "accelerator_host_interconnect",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "accelerator_memory_capacity",
    "accelerator_memory_configuration",
    "accelerator_on-chip_memories",
    "cooling",
    "framework",
    "operating_system",
    "other_software_stack",
    "hw_notes",
    "sw_notes",
)

_SLUG = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What a run knows of its system. `machine` and `notes`: the fingerprint's facts and notes, empty for an endpoint
    that somebody else started, whose machine nobody looked at. `accelerator`: as the runner class names it, empty on a
    CPU. `framework`: vLLM's distribution and version. `python_version`: what it runs in, empty if unknown. `suffix`:
    what tells it from another system that would have its name, empty if none has.
    """

    division: str
    submitter: str
    machine: Mapping[str, str]
    notes: Mapping[str, str]
    accelerator: str
    accelerator_count: int
    framework: str
    python_version: str = ""
    suffix: str = ""

    @property
    def name(self) -> str:
        """What the system is called: `8xH200_vllm-0.14.1`, or by its processor; letters, digits, dots, dashes.

        At most 128 characters, the suffix whole.
        """
        what = f"{self.accelerator_count}x{self.accelerator}" if self.accelerator else self.machine.get("cpu_model", "")
        parts = (_slug(what) or "unknown-machine", _slug(self.framework))
        end = f"_{self.suffix}" if self.suffix else ""
        return "_".join(parts)[: NAME_CHARACTERS_MAX - len(end)] + end


def system_description(facts: SystemFacts, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of MLPerf's system description. `overrides`: typed by the submitter; the notes name them.

    Raises ContentError for an override that contradicts the command, is no text or number, or is no word of MLPerf's.
    """
    _check(facts, overrides)
    found = dict.fromkeys(FIELDS, UNKNOWN) | _host(facts) | _accelerator(facts)
    found |= {
        "division": facts.division,
        "submitter": facts.submitter,
        "status": "rdi",
        "system_name": facts.name,
        "system_type": "datacenter",
        "framework": facts.framework,
        "other_software_stack": f"Python {facts.python_version}" if facts.python_version else UNKNOWN,
        "sw_notes": "MLPerf-style, not verified by MLCommons. Captured by Redline; status and system_type are its own "
        "choice, since MLPerf has no word for unknown there."
        + (TOLD_APART.format(facts.suffix) if facts.suffix else ""),
        "hw_notes": "MLPerf-style, not verified by MLCommons. Captured by Redline"
        + ("; the accelerators are those that the runner class names." if facts.accelerator else "."),
    }
    found |= overrides
    if typed := sorted(overrides.keys() - {"hw_notes"}):
        found["hw_notes"] = f"{found['hw_notes']} Typed by the submitter, not captured: {', '.join(typed)}.".strip()
    return found


def _host(facts: SystemFacts) -> dict[str, str]:
    machine = facts.machine
    if not machine:
        return {}
    kernel = facts.notes.get("kernel", "")
    return {
        "number_of_nodes": "1",
        "host_processor_model_name": machine.get("cpu_model", UNKNOWN),
        "host_processor_core_count": _with(machine, "cpu_count", "{} logical CPUs that Redline may use"),
        "host_memory_capacity": _with(machine, "memory_gib", "{} GiB"),
        "host_processor_caches": UNKNOWN,
        "operating_system": f"Linux {kernel}" if kernel else UNKNOWN,
    }


def _accelerator(facts: SystemFacts) -> dict[str, str]:
    if facts.accelerator:
        return {
            "accelerators_per_node": str(facts.accelerator_count),
            "accelerator_model_name": facts.accelerator,
        }
    if not facts.machine:
        return {}
    fields = [field for field in FIELDS if field.startswith("accelerator_")]
    return {"accelerators_per_node": "0"} | dict.fromkeys(fields, NONE_ON_CPU)


def _with(machine: Mapping[str, str], key: str, form: str) -> str:
    return form.format(machine[key]) if machine.get(key) else UNKNOWN


def _slug(text: str) -> str:
    return _SLUG.sub("-", text).strip("-.")


def _check(facts: SystemFacts, overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _wrong(key, "a text or a number", repr(value))
    for key, wanted in (("division", facts.division), ("submitter", facts.submitter)):
        if key in overrides and str(overrides[key]).lower() != wanted.lower():
            raise _wrong(key, f"{wanted!r}, as the command says", repr(overrides[key]))
    for key, words in (("status", STATUSES), ("system_type", SYSTEM_TYPES)):
        if key in overrides and overrides[key] not in words:
            raise _wrong(key, f"one of {'; '.join(words)}", repr(overrides[key]))


def _wrong(key: str, expected: str, found: str) -> ContentError:
    return ContentError(
        f"field {key!r} of the system's description is wrong",
        expected=expected,
        found=found,
        next_step="correct it in the file given with --system",
    )
