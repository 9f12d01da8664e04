"""What is going on and how long is left: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from redline.units import format_duration


@dataclass(slots=True)
class Narrator:
    """Says each step once and keeps an estimate of what is left.

    `planned_s` is the sum of the steps' expected seconds; it grows or shrinks as the plan changes, and the
    estimate is scaled by how long the finished steps really took.
    """

    console: Console
    bar: Progress | None = None
    planned_s: float = 0.0
    done_s: float = 0.0
    spent_s: float = 0.0
    step: str = ""
    started_s: float = field(default_factory=time.monotonic)

    def plan(self, planned_s: float) -> None:
        """Set how many expected seconds are still to come."""
        self.planned_s = self.done_s + planned_s
        self._refresh()

    def say(self, message: str) -> None:
        """One line that stays on the screen."""
        elapsed = format_duration(time.monotonic() - self.started_s)
        self.console.print(f"[{elapsed:>12}] {message}", markup=False, highlight=False)

    def detail(self, message: str) -> None:
        """A passing remark: shown beside the bar, never as a line of its own."""
        self.step = message
        self._refresh()

    @contextmanager
    def doing(self, message: str, expected_s: float) -> Iterator[None]:
        """A step of the plan that is expected to take `expected_s` seconds."""
        left = self.left_s()
        self.step = message
        self.say(f"{message}" + (f" (about {format_duration(left)} left)" if left > 1 else ""))
        begin_s = time.monotonic()
        try:
            yield
        finally:
            self.spent_s += time.monotonic() - begin_s
            self.done_s += expected_s
            self._refresh()

    def left_s(self) -> float:
        """Seconds left by the plan, scaled by how the plan has held so far (between half and three times)."""
        scale = min(3.0, max(0.5, self.spent_s / self.done_s)) if self.done_s > 0 else 1.0
        return max(0.0, (self.planned_s - self.done_s) * scale)

    def _refresh(self) -> None:
        if self.bar is not None:
            total = max(self.planned_s, 1e-9)
            left = format_duration(self.left_s())
            self.bar.update(self.bar.task_ids[0], completed=self.done_s, total=total, step=self.step, left=left)


@contextmanager
def narrate(quiet: bool = False) -> Iterator[Narrator]:
    """A narrator on standard error; the bar lives only inside the context and only on a terminal."""
    console = Console(stderr=True, quiet=quiet, soft_wrap=True)
    if not console.is_terminal or quiet:
        yield Narrator(console)
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.fields[left]} left  {task.fields[step]}"))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        bar.add_task("run", total=1.0, step="starting", left="?")
        yield Narrator(console, bar)
    sys.stderr.flush()
