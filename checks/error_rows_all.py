"""Every row of the error table but Otava's, which `flows.verify` adds: Otava is a program, not a formula."""

from __future__ import annotations

from checks.error_rows_gate import gate_rows, signoff_rows, stored_rows
from checks.error_rows_nightly import nightly_rows
from checks.error_rows_other import accuracy_rows, bisection_rows, threshold_rows
from checks.error_rows_rivals import night_rows, pull_request_rows
from checks.error_table import Row
from checks.policy import Policy


def pure_rows(cpu: Policy, gpu: Policy) -> tuple[Row, ...]:
    """The rows in the order of the table, under the shipped policies `cpu` and `gpu`."""
    return (
        *gate_rows(cpu, gpu),
        *stored_rows(cpu),
        *signoff_rows(gpu),
        *nightly_rows(cpu, gpu),
        *accuracy_rows(gpu),
        *threshold_rows(gpu),
        *bisection_rows(gpu),
        *pull_request_rows(gpu),
        *night_rows(gpu),
    )
