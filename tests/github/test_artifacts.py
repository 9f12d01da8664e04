"""Runs and artifacts: fetched whole or not at all, and never with the token at the host that keeps them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from redline.errors import ArtifactError, GitHubError, GitHubMissingError
from redline.github.archive import ArchiveLimits
from redline.github.artifacts import artifacts_of, fetch, run_of, runs_of
from tests.fakes.github_api import TOKEN, Fault


@pytest.fixture
def leg(api, tmp_path):
    """A leg's folder."""
    (tmp_path / "leg" / "trials").mkdir(parents=True)
    (tmp_path / "leg" / "leg.json").write_text("{}")
    (tmp_path / "leg" / "trials" / "a.json").write_text("[]" * 10_000)
    return tmp_path / "leg"


@pytest.fixture
def run(api, leg) -> int:
    """A run that uploaded it."""
    run = api.state.run(display_title="Gate of pull request 7")
    api.state.upload(run["id"], "leg-cpu", leg)
    return run["id"]


@pytest.fixture
def room(tmp_path):
    """Where to put it."""
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def test_a_runs_artifacts_come_oldest_first(api, github, leg):
    """From every page; a name that comes twice comes twice."""
    run = api.state.run()
    for number in range(130):
        api.state.upload(run["id"], f"leg-{number % 100}", leg if not number else b"")
    api.state.upload(api.state.run()["id"], "leg-of-another-run", b"")
    found = artifacts_of(github, run["id"])
    assert [each.name for each in found] == [f"leg-{number % 100}" for number in range(130)]
    assert found[0].digest.startswith("sha256:")
    assert found[0].run_id == run["id"]


def test_an_artifact_comes_as_it_was_uploaded(api, github, run, leg, room):
    """Every file, and nothing beside the folder."""
    (artifact,) = artifacts_of(github, run)
    fetch(github, artifact, room / "leg")
    for path in leg.rglob("*"):
        if path.is_file():
            assert (room / "leg" / path.relative_to(leg)).read_bytes() == path.read_bytes()
    assert [path.name for path in room.iterdir()] == ["leg"]


def test_the_token_stays_with_the_api(api, github, run, room):
    """The host that keeps the files sees no token; it refuses whoever brings one."""
    fetch(github, artifacts_of(github, run)[0], room / "leg")
    assert all(each.headers["authorization"] == f"Bearer {TOKEN}" for each in api.asked)
    (fetched,) = api.fetched
    assert "authorization" not in fetched.headers
    assert TOKEN not in str(fetched)


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 403}, {"drop": "before"}, {"cut": 100}])
def test_a_download_that_breaks_off_starts_again(api, github, run, room, waits, fault):
    """With a new address: the old one may have expired."""
    api.faults.append(Fault("GET", "/.*", storage=True, times=2, **fault))
    fetch(github, artifacts_of(github, run)[0], room / "leg")
    assert len(api.fetched) == 3
    assert api.count("GET", "actions/artifacts/.*/zip") == 3
    assert waits == [1.0, 2.0]


def test_a_download_that_never_ends_well_is_an_error(api, github, run, room):
    """Bounded; the error does not hold the signed address; nothing is left."""
    api.faults.append(Fault("GET", "/.*", drop="before", storage=True, times=100))
    with pytest.raises(GitHubError, match="breaks off") as caught:
        fetch(github, artifacts_of(github, run)[0], room / "leg")
    assert "secret-of-the-storage" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert len(api.fetched) == 6
    assert list(room.iterdir()) == []


def test_more_than_was_allowed_is_not_fetched(api, github, run, room):
    """By what the API says, by the header, and by what really comes."""
    (artifact,) = artifacts_of(github, run)
    limits = ArchiveLimits(archive_bytes_max=artifact.size_bytes - 1)
    with pytest.raises(ArtifactError, match="too large"):
        fetch(github, artifact, room / "leg", limits=limits)
    assert api.fetched == []
    with pytest.raises(ArtifactError, match="too large"):
        fetch(github, replace(artifact, size_bytes=1), room / "leg", limits=limits)
    assert len(api.fetched) == 1
    assert list(room.iterdir()) == []


def test_a_file_without_a_stated_length_is_bounded_too(api, github, room):
    """An answer of the API itself, without a redirect."""
    api.faults.append(Fault("GET", "actions/artifacts/1/zip", page="x" * 5_000, times=2))
    with pytest.raises(ArtifactError, match="too large"):
        github.download("actions/artifacts/1/zip", room / "file", 4_999)
    assert list(room.iterdir()) == []
    github.download("actions/artifacts/1/zip", room / "file", 5_000)
    assert (room / "file").read_bytes() == b"x" * 5_000


def test_what_does_not_fit_its_digest_is_refused(api, github, run, room):
    """And what has none cannot be compared."""
    (artifact,) = artifacts_of(github, run)
    with pytest.raises(ArtifactError, match="not what was uploaded"):
        fetch(github, replace(artifact, digest=f"sha256:{hashlib.sha256(b'').hexdigest()}"), room / "leg")
    assert list(room.iterdir()) == []
    fetch(github, replace(artifact, digest=""), room / "leg")


def test_an_expired_artifact_is_missing(api, github, leg, room):
    """As the list says, and as the server says when it has just expired."""
    run = api.state.run()
    artifact = api.state.upload(run["id"], "leg-cpu", leg, expired=True)
    with pytest.raises(GitHubMissingError, match="expired"):
        fetch(github, artifacts_of(github, run["id"])[0], room / "leg")
    assert api.count("GET", "actions/artifacts/.*/zip") == 0
    with pytest.raises(GitHubMissingError, match="expired"):
        fetch(github, replace(artifacts_of(github, run["id"])[0], expired=False), room / "leg")
    assert artifact["expired"]


def test_a_dangerous_artifact_leaves_nothing(api, github, room):
    """A name that leads out of the folder."""
    run = api.state.run()
    archive = b"PK\5\6" + bytes(18)
    api.state.upload(run["id"], "leg-empty", archive)
    api.state.upload(run["id"], "leg-cpu", b"no zip file")
    empty, damaged = artifacts_of(github, run["id"])
    with pytest.raises(ArtifactError):
        fetch(github, damaged, room / "leg")
    assert list(room.iterdir()) == []
    fetch(github, empty, room / "leg")


def test_a_redirect_to_an_unencrypted_host_is_refused(api, github, room):
    """Unless all of it is on this machine."""
    moved = {"location": "http://192.0.2.1/file"}
    api.faults.append(Fault("GET", "actions/artifacts/1/zip", 302, headers=moved))
    with pytest.raises(GitHubError, match="unencrypted"):
        github.download("actions/artifacts/1/zip", room / "file", 100)


def test_redirects_of_a_download_end(api, github, run, room):
    """A circle at the host that keeps the files."""
    api.faults.append(Fault("GET", "/.*", 302, headers={"location": "?again"}, storage=True, times=1_000))
    with pytest.raises(GitHubError, match="redirects"):
        fetch(github, artifacts_of(github, run)[0], room / "leg")


def test_runs_come_newest_first_and_bounded(api, github):
    """Of one workflow, of one branch, event and status, no more pages than needed."""
    for number in range(250):
        api.state.run(workflow="nightly.yml", display_title=f"night {number}", event="schedule")
    api.state.run(workflow="gate.yml")
    api.state.run(workflow="nightly.yml", display_title="tried", event="workflow_dispatch", head_branch="other")
    api.state.run(workflow="nightly.yml", display_title="tonight", event="schedule", conclusion=None)
    found = runs_of(github, "nightly.yml", branch="main", event="schedule", status="completed", count_max=3)
    assert [each.display_title for each in found] == ["night 249", "night 248", "night 247"]
    assert len(api.asked) == 1
    newest = runs_of(github, "nightly.yml", count_max=1)[0]
    assert (newest.display_title, newest.conclusion) == ("tonight", "")
    assert len(runs_of(github, "nightly.yml", count_max=1_000)) == 252


def test_one_run_is_read(api, github, run):
    """With its title, which `run-name` fixes."""
    assert run_of(github, run).display_title == "Gate of pull request 7"
    with pytest.raises(GitHubMissingError):
        run_of(github, 999_999)
