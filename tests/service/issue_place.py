"""A repository with a nightly over two runner classes, its record, and a local GitHub: what its issues become."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.request import Answer
from flows.service import issues
from redline.github.environment import read_environment
from redline.github.waiting import Clock
from redline.model import Finding, Night, NightFinding
from redline.store.nights import write_night
from tests.checks.night_records import THROUGHPUT, day, halves, night, nights, owing, suspected
from tests.fakes.github_api import GitHubApi, Identity

SERVICE = 'issue_label = "nightly-finding"\n' + "".join(
    f'[[legs]]\nrunner = "{name}"\nnightly = "nightly"\n' for name in ("h100", "mi300x")
)
Record = Mapping[str, Sequence[Night]]


class Place:
    """A repository with a service, its state directory, and a GitHub; each `sync` is one night's job."""

    def __init__(self, folder: Path, api: GitHubApi) -> None:
        self.folder, self.api = folder, api
        self.state_dir = folder / "state"
        self.waits: list[float] = []
        self.run_id = 0

    def sync(self, record: Record, number: int | None) -> Answer:
        """What the job says after these nights were collected; what stood in the state directory is replaced."""
        for path in self.state_dir.glob("nights/*/*.json"):
            path.unlink()
        for recorded in record.values():
            for each in halves(recorded):
                write_night(self.state_dir / "nights", each)
        return self.again(number)

    def again(self, number: int | None) -> Answer:
        """The job once more, as a person starts it again."""
        self.run_id += 1
        variables = self.api.variables("schedule", {}, self.folder / "job", run_id=self.run_id)
        clock = Clock(sleep=self.waits.append)
        date = None if number is None else day(number)
        return issues.sync(read_environment(variables), self.state_dir, date, clock=clock)

    @property
    def issues(self) -> list[dict[str, Any]]:
        """Every issue, oldest first."""
        return [self.api.state.issues[number] for number in sorted(self.api.state.issues)]

    def comments(self, index: int = 0) -> list[str]:
        """The comments on an issue."""
        return [each["body"] for each in self.api.state.comments_of(self.issues[index]["number"])]

    def told(self) -> list[tuple[Any, ...]]:
        """What readers see, apart from the run that said it last."""
        of_run = re.compile(r"runs/\d+")
        return [
            (each["title"], each["state"], of_run.sub("", each["body"]), [of_run.sub("", c) for c in self.comments(n)])
            for n, each in enumerate(self.issues)
        ]


@contextmanager
def issue_place(folder: Path) -> Iterator[Place]:
    """A GitHub, and a token that may write issues and nothing else."""
    with GitHubApi() as api:
        api.state.tokens = dict.fromkeys(api.state.tokens, Identity(permissions={"issues": "write"}))
        yield Place(folder, api)


def write_content(root: Path) -> None:
    """The least that is a team's content: a service with two runner classes."""
    (root / "scenarios").mkdir(parents=True)
    (root / "service.toml").write_text(SERVICE)


def both(count: int) -> dict[str, list[Night]]:
    """Quiet nights of both classes."""
    return {name: nights(count, name) for name in ("h100", "mi300x")}


def confirmed(record: dict[str, list[Night]], name: str = "h100", key: tuple[str, str] = THROUGHPUT) -> None:
    """Let the last night of a class confirm that night 10 brought a regression."""
    record[name][-1] = suspected(record[name], key, 10, Finding.REGRESSED)


def one_more_night(record: dict[str, list[Night]], *owed: tuple[str, str]) -> int:
    """Another night of both classes; h100 says what is still owed. Its number."""
    number = max(len([each for each in every if each.trial_ids]) for every in record.values())
    for name, every in record.items():
        every.append(night(number, name))
        if name == "h100" and owed:
            every[-1] = owing(every, *owed)
    return number


def many(count: int) -> dict[str, list[Night]]:
    """So many scenarios of h100 that each lost answers of their own."""
    record = both(13)
    found = [NightFinding("target", f"skill-{number:02d}", "", "40 of 43 reached") for number in range(count)]
    record["h100"] = [replace(record["h100"][0], date=day(12), findings=tuple(found))]
    return record
