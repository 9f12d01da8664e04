"""What the reader of an answer does next: one step per thing that stands against it, the most urgent first."""

from __future__ import annotations

from collections.abc import Sequence

from redline.model import Finding
from reports.answer_rows import PASSES
from reports.answer_words import accepted, finding_of, link, worst_first
from reports.data import Leg, NextStep, PublishedAnswer, ReportKind
from reports.markdown import Safe, code, text

_RUN = Safe("`/redline run`")
_ACCEPT = Safe("`/redline accept-regression <reason>`")
_NAME_CHARS_MAX = 60
_COMMAND_CHARS_MAX = 500
_LEGS_MAX = 3


def steps(answer: PublishedAnswer) -> tuple[Safe, ...]:
    """The steps as Markdown without a full stop, never none.

    On a pull request they are comments that anybody allowed can write there; elsewhere what the reports advise.
    """
    on_pull_request = answer.change is not None and answer.change.number > 0
    if answer.outdated and on_pull_request:
        return (Safe(f"Measure the newest commit: comment {_RUN}"),)
    standing = [leg for leg in worst_first(answer.legs) if not _settled(answer, leg)]
    if not standing:
        return _when_passed(answer)
    found = _comments(answer, standing) if on_pull_request else _advice(answer, standing)
    return tuple(dict.fromkeys(found)) or (Safe("Read the whole report below"),)


def _settled(answer: PublishedAnswer, leg: Leg) -> bool:
    taken = accepted(answer) is not None and finding_of(leg) is Finding.REGRESSED
    return taken or finding_of(leg) in PASSES


def _when_passed(answer: PublishedAnswer) -> tuple[Safe, ...]:
    if answer.chosen:
        return (Safe(f"Measure the whole: comment {_RUN}"),)
    if answer.kind is not ReportKind.SIGNOFF:
        return (Safe("Nothing to do"),)
    run_ids = [leg.report.run_id for leg in answer.legs if leg.report is not None and leg.report.run_id]
    signing = (Safe(f"Put a name under it: {code(f'redline sign {run_id}')}") for run_id in run_ids[:_LEGS_MAX])
    return tuple(signing) or (Safe("Put a name under it: `redline sign`"),)


def _comments(answer: PublishedAnswer, standing: Sequence[Leg]) -> list[Safe]:
    """What to do on a pull request."""
    found: list[Safe] = []
    for leg in standing:
        match finding_of(leg):
            case Finding.REGRESSED:
                meant = f"accept it with a reason: comment {_ACCEPT}"
                meant = f"measure the whole, which alone can be accepted: comment {_RUN}" if answer.chosen else meant
                found += [
                    Safe(f"Fix it and push; or, if the loss is meant, {meant}"),
                    Safe("What moved, and what differs between the two builds, stands under Evidence in the report"),
                ]
            case Finding.ERROR:
                found.append(_failed(answer, leg))
            case Finding.INVALID:
                told = "`redline doctor` there names the programs that disturb it"
                found.append(
                    Safe(f"Mend what the broken validity rules name on {_runner(leg)} ({told}); then comment {_RUN}")
                )
            case Finding.INCONCLUSIVE:
                found.append(
                    Safe(f"Comment {_RUN} to measure again; on a quieter machine fewer pairs decide. It is not a pass")
                )
            case _:
                found += _of_report(leg)
    return found


def _failed(answer: PublishedAnswer, leg: Leg) -> Safe:
    where = link("the job's log", leg.url, answer.url) if leg.url and answer.url else Safe("the job's log")
    read = "mend what its error names" if leg.report is not None else f"read {where}"
    return Safe(f"Nothing is said about the build by {_runner(leg)}: {read}, then comment {_RUN}")


def _advice(answer: PublishedAnswer, standing: Sequence[Leg]) -> list[Safe]:
    """What to do where there is no pull request: the reports' own steps, and how to measure it again."""
    found: list[Safe] = []
    for leg in standing[:_LEGS_MAX]:
        if leg.report is None:
            where = link("the job's log", leg.url, answer.url) if leg.url and answer.url else Safe("the job's log")
            found.append(Safe(f"See why the job of {_runner(leg)} died: read {where}, then start it again"))
            continue
        found += _of_report(leg)
        if not leg.report.next_steps:
            again = NextStep("Once it is mended, measure it again", leg.report.repeat_command)
            found.append(_shown(again))
    return found


def _of_report(leg: Leg) -> list[Safe]:
    return [_shown(step) for step in leg.report.next_steps[:_LEGS_MAX]] if leg.report is not None else []


def _shown(step: NextStep) -> Safe:
    if not step.command:
        return text(step.text)
    return Safe(f"{text(step.text)}: {code(step.command, limit=_COMMAND_CHARS_MAX)}")


def _runner(leg: Leg) -> Safe:
    return code(leg.runner_class, _NAME_CHARS_MAX)
