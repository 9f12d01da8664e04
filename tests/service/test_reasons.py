"""Reasons on their way from the gate's runs into the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.service.reasons import reasons_of, take_reason
from redline.github.client import GitHub
from redline.store.justifications import list_justifications, write_justification
from redline.store.merge import merge_lock
from tests.fakes.github_api import REPOSITORY, TOKEN, GitHubApi
from tests.store.merge_examples import content_of, make_justification, make_leg


class Gate:
    """A repository with a gate, its runs, and who takes the reasons."""

    def __init__(self, api: GitHubApi, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.github = GitHub(api.url, TOKEN, REPOSITORY)

    def run(self, *, leg: str | None = "skipped", **changes: Any) -> int:
        """A run of a comment, with the end of its leg."""
        run = self.api.state.run(**{"event": "issue_comment"} | changes)
        self.api.state.job(run["id"], "decide")
        self.api.state.job(run["id"], "leg", leg)
        return int(run["id"])

    def decision(self, run_id: int, reason: str = "the sampler is exact now") -> dict[str, Any]:
        """What `decide` leaves."""
        folder = self.folder / f"decision-{len(self.api.state.artifacts)}"
        write_justification(folder / "justifications", make_justification(reason))
        (folder / "decision.json").write_text("{}")
        return self.api.state.upload(run_id, "decision", folder)

    def offered(self, known: frozenset[int] = frozenset()) -> list[int]:
        """The artifacts that reasons are taken from."""
        return [artifact.id for _, artifact in reasons_of(self.github, "main", known).found]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """With GitHub at hand."""
    with GitHubApi() as api:
        found = Gate(api, tmp_path)
        with found.github:
            yield found


@pytest.mark.parametrize("conclusion", ["success", "failure"])
def test_a_reason_of_a_run_without_a_leg_is_taken(gate: Gate, conclusion: str) -> None:
    """Also where the step failed after it had written it: the comment was refused, for instance."""
    made = gate.decision(gate.run(conclusion=conclusion))
    assert gate.offered() == [made["id"]]
    assert gate.offered(frozenset({made["id"]})) == []


@pytest.mark.parametrize("leg", ["success", "failure", "cancelled", None])
def test_a_run_that_measured_gives_no_reason(gate: Gate, leg: str | None) -> None:
    """A leg could have put another artifact in its place; it is remembered, so as not to be looked at again."""
    made = gate.decision(gate.run(leg=leg))
    found = reasons_of(gate.github, "main", ())
    assert found.found == ()
    assert found.of_measurements == {made["id"]}


@pytest.mark.parametrize(
    "changes", [{"event": "pull_request_target"}, {"head_branch": "other"}, {"workflow": "ci.yml"}], ids=str
)
def test_other_runs_give_no_reason(gate: Gate, changes: dict[str, Any]) -> None:
    """Other events, branches and workflows, which anybody may have started on anything."""
    gate.decision(gate.run(**changes))
    assert reasons_of(gate.github, "main", ()).found == ()


def test_of_two_artifacts_of_one_name_none_is_taken(gate: Gate) -> None:
    """Nobody knows which of them `decide` left; nor of one that has expired."""
    run = gate.run()
    gate.decision(run)
    gate.decision(run, "quite another reason")
    gate.decision(gate.run())["expired"] = True
    assert gate.offered() == []


def test_comments_that_are_no_commands_hide_nothing(gate: Gate) -> None:
    """Hundreds of skipped runs since: the reason is found, and not one of them is asked about."""
    made = gate.decision(gate.run())
    for _ in range(250):
        gate.run(conclusion="skipped")
    assert gate.offered() == [made["id"]]
    assert gate.api.count("GET", r"actions/runs/\d+/.*") == 1


def test_what_was_not_looked_at_is_said(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that is met is no silence."""
    monkeypatch.setattr("flows.service.reasons.RUNS_MAX", 2)
    made = gate.decision(gate.run())
    made["created_at"] = "2026-01-01T00:00:00Z"
    for _ in range(3):
        gate.run()
    (remark,) = reasons_of(gate.github, "main", ()).remarks
    assert "were not looked for: more than 2 runs of gate.yml" in remark


def test_nothing_but_reasons_is_taken(gate: Gate, tmp_path: Path) -> None:
    """Trials, nights and reports beside them stay where they are, and nothing is left behind."""
    folder = make_leg(tmp_path / "decision", "evil")
    (folder / "decision.json").write_text(json.dumps({"schema": 1}))
    gate.api.state.upload(gate.run(), "decision", folder)
    (found,) = reasons_of(gate.github, "main", ()).found
    state = tmp_path / "state"
    with merge_lock(state):
        merged = take_reason(gate.github, state, state / ".collecting", found)
    assert not isinstance(merged, str) and merged.refused == ()
    assert len(list_justifications(state / "justifications")) == 1
    assert [name for name in content_of(state) if not name.startswith("justifications/")] == []
    assert list((state / ".collecting").iterdir()) == []


def test_a_reason_that_cannot_be_had_is_named(gate: Gate, tmp_path: Path) -> None:
    """No archive at all: one line, and it is tried again next time."""
    gate.api.state.upload(gate.run(), "decision", b"no archive")
    (found,) = reasons_of(gate.github, "main", ()).found
    with merge_lock(tmp_path / "state"):
        said = take_reason(gate.github, tmp_path / "state", tmp_path / "state" / ".collecting", found)
    assert isinstance(said, str) and said.startswith(f"not collected: reasons of run {found[0].id} (")
