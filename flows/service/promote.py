"""Runs become baselines by a pull request that holds the evidence: `redline github promote`.

One pull request per runner class, on a branch that only Redline writes to. What an open one proposes already stays in
it unless the same scenario is proposed anew, or got another baseline since. The same promotion again changes nothing:
the moment of acceptance that the branch holds is kept.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from checks.differences import difference_statements
from flows.accept import Accepted, accepted_of, pin_path, write_accepted
from flows.request import Answer
from flows.service.proposing import branch_of, default_branch, open_proposal, path_in_repository
from flows.service.telling import told
from flows.workspace import Workspace, content_root
from redline.builds.pin_record import read_pin
from redline.content import convert, read_json
from redline.errors import ContentError, ExitCode, GitHubMissingError, UsageError
from redline.github import fields
from redline.github.client import GitHub, github_of, segment
from redline.github.environment import Environment
from redline.github.pulls import file_at, merge_base, propose
from redline.markdown import code, text
from redline.model import Baseline, BuildPin, Finding, RunnerFingerprint, SystemUnderTest
from reports.proposal import BaselineMove, Promotion, RunVerdict, promotion_body, promotion_title

BASELINE_BYTES_MAX = 5_000_000
BASELINES_MAX = 500
_PIN_ID = re.compile(r"[0-9a-f]{16}")

Files: TypeAlias = dict[str, bytes | None]


@dataclass(frozen=True, slots=True)
class _Desk:
    """One runner class's proposal in the making. `head`: the commit of the open pull request, empty without one.

    `parted`: the commit where it left the branch to merge into, empty without one. `draft`: a folder of our own that
    the proposed files are written to, as they would lie in the content.
    """

    github: GitHub
    workspace: Workspace
    runner_class: str
    head: str
    parted: str
    draft: Path

    def path(self, relative: Path) -> str:
        """The path in the repository of a file of the draft or of the content, given below the content's root."""
        return path_in_repository(self.workspace.root / relative)

    def on_branch(self, relative: Path) -> bytes | None:
        """A file as the open pull request has it; None if it has none. Raises GitHubError."""
        return self.at(relative, self.head)

    def at(self, relative: Path, commit: str) -> bytes | None:
        """A file at a commit; None if it has none, or there is no commit. Raises GitHubError."""
        if not commit:
            return None
        try:
            return file_at(self.github, self.path(relative), commit, bytes_max=BASELINE_BYTES_MAX)
        except GitHubMissingError:
            return None

    def blobs(self, folder: Path, commit: str) -> dict[str, str]:
        """Name -> blob of the JSON files right in a folder at a commit; none without the folder. Raises GitHubError."""
        try:
            listed = self.github.get(f"contents/{'/'.join(map(segment, self.path(folder).split('/')))}", ref=commit)
        except GitHubMissingError:
            return {}
        return {
            fields.text(each, "name"): fields.commit(each, "sha")
            for each in listed
            if fields.text(each, "type") == "file" and fields.text(each, "name").endswith(".json")
        }


def promote(environment: Environment, state_dir: Path, runs: Sequence[str], reason: str) -> Answer:
    """Propose the runs' readings as baselines; one pull request per runner class.

    Raises:
        UsageError: no such run, the runs do not belong together, or nobody says why.
        InvalidMeasurementError: a trial of a run is not valid, or a sign-off did not say yes.
        GitHubError: GitHub refuses or does not answer; the same promotion can be made again.
    """
    workspace = Workspace(content_root(), state_dir)
    accepted = accepted_of(workspace, runs, environment.actor, reason)
    lines = []
    with github_of(environment) as github, tempfile.TemporaryDirectory(prefix="redline-promote-") as folder:
        base = default_branch(environment, github)
        for runner_class in dict.fromkeys(each.baseline.runner_class for each in accepted):
            branch = branch_of("promote", runner_class)
            head = open_proposal(github, branch, base)
            parted = merge_base(github, base, head) if head else ""
            desk = _Desk(github, workspace, runner_class, head, parted, Path(folder))
            chosen = [each for each in accepted if each.baseline.runner_class == runner_class]
            lines.append(_proposed(desk, branch, base, chosen))
    return told(environment, "Promotion", lines, ExitCode.NO_WORSE)


def _proposed(desk: _Desk, branch: str, base: str, accepted: Sequence[Accepted]) -> str:
    """One line that says what was proposed where."""
    new = [each for each in accepted if not _is_accepted(desk.workspace, each.baseline)]
    if not new:
        return f"{code(desk.runner_class)}: these runs are its baselines already; nothing is proposed"
    moves: list[BaselineMove] = []
    files: Files = {}
    for each in new:
        move, written = _move(desk, each)
        moves.append(move)
        files |= written
    earlier, overtaken = _earlier(desk, {each.baseline.scenario for each in new})
    for move, written in earlier:
        moves.append(move)
        files |= written
    promotion = Promotion(desk.runner_class, tuple(moves))
    title, body = promotion_title(promotion), promotion_body(promotion)
    url = propose(desk.github, branch=branch, base=base, title=title, body=body, files=files)
    if not url:
        return f"{code(desk.runner_class)}: these runs are its baselines already; nothing is proposed"
    names = ", ".join(code(move.after.scenario) for move in moves)
    said = f"{code(desk.runner_class)}: {names} proposed as baselines in {url}"
    if overtaken:
        left_out = ", ".join(map(code, overtaken))
        said += f"; no longer proposed, because {text(base)} has another baseline since: {left_out}"
    return said


def _is_accepted(workspace: Workspace, baseline: Baseline) -> bool:
    """True if it is the baseline already, whoever accepted it and why."""
    now = workspace.baseline(baseline.runner_class, baseline.scenario)
    if now is None:
        return False
    return now == replace(baseline, accepted_at=now.accepted_at, accepted_by=now.accepted_by, reason=now.reason)


def _move(desk: _Desk, accepted: Accepted) -> tuple[BaselineMove, Files]:
    """What is proposed for one scenario, and the files that say so."""
    relative = write_accepted(desk.draft, accepted).relative_to(desk.draft)
    pin = pin_path(Path(), accepted.baseline)
    files: Files = {desk.path(each): (desk.draft / each).read_bytes() for each in (relative, pin) if _in(desk, each)}
    baseline = accepted.baseline
    there = desk.on_branch(relative)
    earlier = _same(desk, relative, there, baseline) if there is not None else None
    if earlier is not None:
        baseline, files[desk.path(relative)] = earlier, there
    before = desk.workspace.baseline(baseline.runner_class, baseline.scenario)
    verdicts, differences = _verdicts(desk.workspace, accepted), _differences(desk.workspace, before, accepted)
    return BaselineMove(before, baseline, verdicts, differences), files


def _in(desk: _Desk, relative: Path) -> bool:
    return (desk.draft / relative).exists()


def _same(desk: _Desk, relative: Path, there: bytes, baseline: Baseline) -> Baseline | None:
    """What the branch holds, if that is this very promotion at an earlier moment; None for anything else."""
    try:
        earlier = _parsed(desk, relative, there)
    except UsageError:
        return None  # damaged by somebody, and replaced now
    return earlier if replace(earlier, accepted_at="") == replace(baseline, accepted_at="") else None


def _parsed(desk: _Desk, relative: Path, content: bytes) -> Baseline:
    """A baseline of the branch, which others may have written to. Raises UsageError if it is not what its name says."""
    try:
        baseline = convert(json.loads(content), Baseline, relative.name)
        problem = ""
    except ContentError as error:
        problem = f"{error.problem}: {error.found}"
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}"
    else:
        if (baseline.runner_class, baseline.scenario) != (desk.runner_class, relative.stem):
            problem = "the baseline of something else"
        elif _PIN_ID.fullmatch(baseline.pin_id) is None:
            problem = "a pin_id that is none"
        if not problem:
            return baseline
    raise UsageError(
        f"the open proposal holds a {relative.name} that is no baseline of {desk.runner_class}",
        expected="what Redline proposed",
        found=problem,
        next_step="mend the file on its branch, or close that pull request and delete its branch",
    )


def _earlier(desk: _Desk, without: set[str]) -> tuple[list[tuple[BaselineMove, Files]], list[str]]:
    """What the open pull request proposes for other scenarios, which stays as it is; and what of it is overtaken.

    It proposes what differs from the commit where it left the branch to merge into: every other file is an older state
    of that branch. Overtaken is a scenario whose baseline was changed there since: proposed again, it would undo that.
    """
    if not desk.head:
        return [], []
    folder = Path("baselines") / desk.runner_class
    below = desk.blobs(folder, desk.parted)
    changed = [name for name, blob in desk.blobs(folder, desk.head).items() if below.get(name) != blob]
    found, overtaken = [], []
    for name in sorted(changed)[:BASELINES_MAX]:
        relative = folder / Path(name).name
        content = desk.on_branch(relative)
        path = desk.workspace.root / relative
        own = path.read_bytes() if path.exists() else None
        if relative.stem in without or content is None or own == content:
            continue
        if own != desk.at(relative, desk.parted):
            overtaken.append(relative.stem)
            continue
        baseline = _parsed(desk, relative, content)
        files: Files = {desk.path(relative): content}
        pin = pin_path(Path(), baseline)
        if not (desk.workspace.root / pin).exists() and (record := desk.on_branch(pin)) is not None:
            files[desk.path(pin)] = record
        before = desk.workspace.baseline(desk.runner_class, relative.stem)
        found.append((BaselineMove(before, baseline, earlier=True), files))
    return found, overtaken


# --- the evidence -----------------------------------------------------------------------------------------------


def _verdicts(workspace: Workspace, accepted: Accepted) -> tuple[RunVerdict, ...]:
    """What the runs were judged to be; nothing for a run whose record is not in this state directory."""
    found = []
    for run_id in dict.fromkeys(trial.run_id for trial in accepted.trials):
        try:
            record = read_json(workspace.report_path(run_id).with_suffix(".json"))
            finding = Finding(record["finding"])
        except (ContentError, KeyError, ValueError):
            continue
        found.append(RunVerdict(run_id, str(record.get("kind", "")), finding, str(record.get("reason", ""))))
    return tuple(found)


def _differences(workspace: Workspace, before: Baseline | None, accepted: Accepted) -> tuple[str, ...]:
    """What is not the same about the two systems and their machines, in words."""
    if before is None:
        return ()
    machines = ([RunnerFingerprint(before.fingerprint)], [trial.fingerprint for trial in accepted.trials])
    pin = _pin_of(workspace, before)
    if pin is None:
        return (f"the pin of {before.sut_label} is not on record: its packages cannot be compared",)
    after = replace(accepted.trials[0].sut, models=())
    return difference_statements(SystemUnderTest(pin, before.extra_args), after, runners=machines)


def _pin_of(workspace: Workspace, baseline: Baseline) -> BuildPin | None:
    try:
        return read_pin(pin_path(workspace.root, baseline))
    except ContentError:
        return None
