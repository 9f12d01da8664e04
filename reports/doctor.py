"""The page of `redline doctor`: what is wrong in full, what is in order in a few lines. Values in, plain text out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from redline.markdown import one_line
from redline.model import HostFinding, Severity

COLUMNS = 110
_TAB = 10
_CHARS_MAX = 4_000


def doctor_lines(findings: Sequence[HostFinding], *, runner: str) -> tuple[str, ...]:
    """The page, line by line, no line wider than COLUMNS unless one word is. `runner`: the class, empty for none.

    Texts of drivers and process names are cleaned: none can move the cursor or start a line of its own.
    """
    return tuple(_lines(findings, runner))


def _lines(findings: Sequence[HostFinding], runner: str) -> Iterator[str]:
    counts = {severity: sum(each.severity is severity for each in findings) for severity in Severity}
    told = [
        f"{counts[severity]} {severity.value}"
        + ("s" if counts[severity] > 1 and severity is not Severity.UNFIT else "")
        for severity in (Severity.UNFIT, Severity.WARNING, Severity.NOTE)
        if counts[severity]
    ]
    fit = "NOT fit to measure" if counts[Severity.UNFIT] else "fit to measure"
    yield f"this machine is {fit}" + (f" as {runner}" if runner else "") + (f": {', '.join(told)}" if told else "")
    for each in findings:
        if each.severity is Severity.OK:
            continue
        yield from _wrapped(each.severity.value, f"{each.topic}: {each.found}")
        yield from _wrapped("", each.effect)
        if each.mend:
            yield from _wrapped("", f"mend: {each.mend}")
    fine = "; ".join(f"{each.topic}: {each.found}" for each in findings if each.severity is Severity.OK)
    if fine:
        yield from _wrapped(Severity.OK.value, fine)


def _wrapped(label: str, said: str) -> list[str]:
    return textwrap.wrap(
        one_line(said, _CHARS_MAX),
        COLUMNS,
        initial_indent=f"{label:<{_TAB}}",
        subsequent_indent=" " * _TAB,
        break_long_words=False,
        break_on_hyphens=False,
    )
