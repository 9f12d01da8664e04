"""What a step of the service says: lines of the job's log, and the same as a list in the job's summary.

GitHub's runner reads a log line that starts with `::`, or holds `##[` anywhere, as a command to itself. An outsider's
text must be able to be neither, so whatever is printed goes through `log_line`.

Source: github.com/actions/runner, src/Runner.Common/ActionCommand.cs (TryParseV2, TryParse).
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.request import Answer
from redline import markdown
from redline.errors import ExitCode, RedlineError
from redline.github.environment import Environment, write_summary

LINE_CHARS_MAX = 600
SUMMARY_CHARS_MAX = 200_000


def log_line(text: str) -> str:
    """One line that the runner takes for nothing but text."""
    plain = markdown.one_line(text, LINE_CHARS_MAX).replace("##[", "# #[").replace("::", ": :")
    return plain.lstrip()


def told(environment: Environment, heading: str, lines: Iterable[str], exit_code: ExitCode) -> Answer:
    """The answer of a step; the same lines, which are Markdown made by us, also stand in the job's summary."""
    said = tuple(lines)
    page = "\n".join((f"### {heading}", "", *(f"- {line}" for line in said), ""))
    write_summary(environment, page[:SUMMARY_CHARS_MAX])
    return Answer(tuple(log_line(line) for line in said), exit_code)


def in_words(error: RedlineError) -> markdown.Safe:
    """What went wrong and what to do next, as one line of Markdown."""
    parts = (error.problem, f"expected {error.expected}" if error.expected else "", error.next_step)
    return markdown.text("; ".join(part for part in parts if part))
