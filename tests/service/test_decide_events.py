"""Which event of whom starts the gate: payloads as GitHub sends them, answers of the local server."""

from __future__ import annotations

import json

import pytest

from redline.errors import UsageError
from tests.service.gate_house import (
    BASE_SHA,
    HEAD_SHA,
    NUMBER,
    SERVICE,
    changed,
    command,
    house,
    payload,
    team_content,
)


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


def _runners(step):
    return [row["runner"] for row in step.legs]


def test_a_label_of_somebody_allowed_starts_every_leg(tmp_path):
    """Two builds per runner class, by commit and by recorded pin, with the labels of its machines."""
    with house(tmp_path) as home:
        step = home.decide("pull_request_target", payload("pull_request_labeled"))
        assert step.legs == [
            {
                "runner": "h100-1",
                "labels": ["self-hosted", "linux", "x64", "redline-h100-1"],
                "suite": "",
                "scenarios": ["llama3.1-8b-offline-ci"],
                "select": "--scenario llama3.1-8b-offline-ci",
                "baseline": f"commit:{BASE_SHA}/cu130",
                "candidate": f"commit:{HEAD_SHA}/cu130",
                "number": NUMBER,
                "head_sha": HEAD_SHA,
                "base_sha": BASE_SHA,
                "job": f"leg h100-1 {BASE_SHA[:12]}..{HEAD_SHA}",
            },
            {
                "runner": "cpu",
                "labels": ["ubuntu-24.04"],
                "suite": "",
                "scenarios": ["offline-short"],
                "select": "--scenario offline-short",
                "baseline": "decision/baseline/pins/vllm-cpu.json",
                "candidate": "decision/candidate/pins/vllm-cpu.json",
                "number": NUMBER,
                "head_sha": HEAD_SHA,
                "base_sha": BASE_SHA,
                "job": f"leg cpu {BASE_SHA[:12]}..{HEAD_SHA}",
            },
        ]
        assert (step.output / "baseline" / "pins" / "vllm-cpu.json").exists()
        assert (step.output / "candidate" / "pins" / "vllm-cpu.json").exists()
        assert json.loads((step.output / "decision.json").read_text())["head_sha"] == HEAD_SHA
        assert home.api.writes() == []


def test_a_forks_commit_is_started_by_the_label_and_not_by_the_next_push(tmp_path):
    """The label is a word about the commit that it was put on; the next one waits, and its check run says for what."""
    with house(tmp_path, fork=True) as home:
        assert home.decide("pull_request_target", payload("pull_request_labeled_fork")).legs
        step = home.decide("pull_request_target", payload("pull_request_synchronize_fork"))
        assert step.legs == []
        assert home.check()["conclusion"] == "action_required"
        assert f"```\n/redline run {HEAD_SHA}\n```" in home.check()["output"]["summary"], "a line to be copied"
        assert home.comments() == ["/redline"]
        home.decide("pull_request_target", payload("pull_request_synchronize_fork"))
        assert len(home.state.check_runs) == 1


def test_a_push_between_label_and_reading_runs_nothing(tmp_path):
    """The label was for another commit than the one that is there now."""
    event = payload("pull_request_labeled_fork")
    with house(tmp_path, fork=True) as home:
        home.push("3" * 40)
        assert home.decide("pull_request_target", event).legs == []
        assert home.check("3" * 40)["conclusion"] == "action_required"
        assert home.checks(HEAD_SHA) == []


@pytest.mark.parametrize(
    ("name", "changes", "runs"),
    [
        ("pull_request_synchronize", {}, True),
        ("pull_request_synchronize", {"pull_request__labels": []}, False),
        ("pull_request_synchronize", {"sender__login": "sorter"}, False),
        ("pull_request_synchronize", {"sender__login": "stranger"}, False),
        ("pull_request_opened", {}, False),
        ("pull_request_labeled", {"label__name": "bug"}, False),
        ("pull_request_labeled", {"label__name": "REDLINE"}, True),
        ("pull_request_labeled", {"sender__login": "sorter"}, False),
        ("pull_request_labeled", {"action": "unlabeled"}, False),
        ("pull_request_labeled", {"action": "closed"}, False),
        ("workflow_dispatch", {}, True),
        ("workflow_dispatch", {"sender__login": "sorter"}, False),
        ("workflow_dispatch", {"ref": "refs/heads/fuse-sampler"}, False),
        ("workflow_dispatch", {"inputs__commit": "222222222"}, True),
        ("workflow_dispatch", {"inputs__commit": "333333333"}, False),
    ],
)
def test_events_of_a_branch_of_the_same_repository(tmp_path, name, changes, runs):
    """Who may, and how the pull request stands, decides; the label's own spelling does not."""
    event_name = "workflow_dispatch" if name == "workflow_dispatch" else "pull_request_target"
    with house(tmp_path) as home:
        step = home.decide(event_name, changed(payload(name), **changes))
        assert bool(step.legs) == runs
        assert step.answer.exit_code == 0
        assert home.comments() == ["/redline"]


@pytest.mark.parametrize(
    ("trigger", "name", "runs"),
    [
        ("always", "pull_request_opened", True),
        ("always", "pull_request_synchronize", True),
        ("always", "pull_request_synchronize_fork", False),
        ("command", "pull_request_labeled", False),
        ("command", "pull_request_synchronize", False),
    ],
)
def test_triggers(tmp_path, monkeypatch, trigger, name, runs):
    """`always` needs no label, but for a fork somebody's word; `command` knows no label at all."""
    content = team_content(tmp_path / trigger, SERVICE.replace('"label"', f'"{trigger}"'))
    monkeypatch.setenv("REDLINE_CONTENT", str(content))
    with house(tmp_path, fork=name.endswith("fork"), labels=()) as home:
        event = changed(payload(name), pull_request__labels=[])
        assert bool(home.decide("pull_request_target", event).legs) == runs


def test_a_draft_is_gated_by_a_command_alone(tmp_path):
    """Nobody waits for the speed of a draft unless he says so."""
    with house(tmp_path) as home:
        home.state.pulls[NUMBER]["draft"] = True
        assert home.decide("pull_request_target", payload("pull_request_labeled")).legs == []
        assert home.checks() == []
        assert _runners(home.decide("issue_comment", command("/redline run"))) == ["h100-1", "cpu"]


def test_nothing_to_compare_is_said_and_blocks_nothing(tmp_path, monkeypatch):
    """A pull request that leaves the recorded pin as it is has nothing to measure where that pin is the build."""
    service = SERVICE.replace(
        'runner = "h100-1"\ngate = "commit:{sha}/cu130"', 'runner = "h100-1"\nnightly = "nightly"'
    )
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "pins-only", service)))
    with house(tmp_path) as home:
        home.push("4" * 40, BASE_SHA)
        event = changed(payload("pull_request_labeled"), pull_request__head__sha="4" * 40)
        step = home.decide("pull_request_target", event)
        assert step.legs == []
        assert home.check("4" * 40)["conclusion"] == "neutral"
        assert "the same build" in step.summary


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}", "cannot be measured"),
        (b'{"schema": 1, "@everyone": "</details>"}', "cannot be measured"),
        (b"[" * 100_000, "cannot be measured"),
        (None, "is not there"),
    ],
)
def test_a_pin_that_is_none_stops_every_leg(tmp_path, content, said):
    """The other runner classes alone would be an answer that leaves this one out."""
    with house(tmp_path) as home:
        if content is None:
            home.state.commit_tree(home.state.tree({}), [HEAD_SHA], branch="fuse-sampler", sha="5" * 40)
            home.state.pulls[NUMBER]["head"]["sha"] = "5" * 40
        else:
            home.push("5" * 40, files={"pins/vllm-cpu.json": content})
        event = changed(payload("pull_request_labeled"), pull_request__head__sha="5" * 40)
        step = home.decide("pull_request_target", event)
        assert step.legs == []
        assert home.check("5" * 40)["conclusion"] == "failure"
        assert said in home.check("5" * 40)["output"]["summary"]
        assert "@everyone" not in home.check("5" * 40)["output"]["summary"]
        assert list(step.output.rglob("pins/*.json")) == [step.output / "baseline" / "pins" / "vllm-cpu.json"]


@pytest.mark.parametrize("number", [" 7", "7 ", "07", "7\n", "+7", ""])
def test_a_number_that_the_runs_title_would_not_show_is_refused(tmp_path, number):
    """The title repeats it as it was typed: legs would start whose answer nobody could tell anybody."""
    with house(tmp_path) as home:
        with pytest.raises(UsageError):
            home.decide("workflow_dispatch", changed(payload("workflow_dispatch"), inputs__number=number))
        assert home.api.asked == []


def test_a_closed_pull_request_starts_nothing(tmp_path):
    """A label on a merged pull request is book-keeping."""
    with house(tmp_path) as home:
        home.state.pulls[NUMBER]["state"] = "closed"
        assert home.decide("pull_request_target", payload("pull_request_labeled")).legs == []


HOSTILE = (
    "$(curl x) `id`\n::set-output name=run::true\n##[set-env]x @everyone ]]> ${{ secrets.X }} <!-- redline:gate -->"
)


def test_hostile_titles_branches_and_labels_change_nothing(tmp_path):
    """Outsiders' text in a payload is not even read."""
    plain, hostile = payload("pull_request_labeled"), payload("pull_request_labeled")
    pull = hostile["pull_request"]
    pull |= {"title": HOSTILE, "body": HOSTILE * 2_000}
    pull["head"] |= {"ref": HOSTILE, "label": HOSTILE}
    pull["labels"].append({"name": HOSTILE})
    with house(tmp_path) as home:
        expected = home.decide("pull_request_target", plain)
        home.state.pulls[NUMBER] |= {"title": HOSTILE}
        home.state.pulls[NUMBER]["head"]["ref"] = HOSTILE
        step = home.decide("pull_request_target", hostile)
        assert step.outputs == expected.outputs
        assert step.answer == expected.answer
        assert step.summary == expected.summary


@pytest.mark.parametrize(
    "changes",
    [
        {"pull_request__number": "7; rm -rf"},
        {"pull_request__number": True},
        {"pull_request__head__sha": "2" * 39 + "\n"},
        {"pull_request__head__sha": "$(curl x)"},
        {"sender__login": "../../orgs/acme"},
        {"sender": None},
        {"pull_request": []},
    ],
)
def test_a_payload_that_is_none_starts_nothing(tmp_path, changes):
    """It is refused before anybody is asked, and the error repeats nothing of it."""
    event = payload("pull_request_labeled")
    with house(tmp_path) as home:
        with pytest.raises(UsageError) as caught:
            home.decide("pull_request_target", changed(event, **changes))
        assert home.api.asked == []
        assert "curl" not in str(caught.value)
        assert "rm -rf" not in str(caught.value)
