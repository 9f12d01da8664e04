"""What a leg may hand in: everything. What it can change by it: its own text."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from io import BytesIO

import pytest

from flows.service.desk import Decision, write_decision
from tests.reports import situations
from tests.reports.markup import LINKED, prose, structure
from tests.service.gate_house import BASE_SHA, HEAD_SHA, NEXT_SHA, NUMBER, house, measured, team_content

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


@pytest.fixture(autouse=True)
def _content(tmp_path, monkeypatch):
    """The default branch's reviewed content."""
    monkeypatch.setenv("REDLINE_CONTENT", str(team_content(tmp_path / "content")))


HOSTILE = "</details> @everyone [x](http://evil.example) <img src=//evil.example> #1 ]]> <!-- redline:gate --> `$(id)`"


def _zip(entries):
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


def _link(name="leg.json", target="/etc/passwd"):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return _zip([(entry, target)])


@pytest.mark.parametrize(
    "content",
    [
        b"no zip at all",
        _zip([("../../leg.json", "{}")]),
        _zip([("/etc/cron.d/x", "* * * * *")]),
        _link(),
        _zip([("a", b"\0" * 300_000_000)]),
        _zip([(f"trials/{index}", b"") for index in range(10_000)]),
        _zip([("leg.json", "[" * 90_000)]),
        _zip([("leg.json", json.dumps({"schema": 1, "@everyone": HOSTILE}))]),
        _zip([("leg.json", b"\xff\xfe" * 60_000)]),
        _zip([]),
    ],
    ids=["no-zip", "climbing", "absolute", "link", "bomb", "many", "deep", "unknown-key", "binary", "empty"],
)
def test_an_artifact_that_is_none_is_a_leg_with_a_problem(tmp_path, content):
    """Nothing of it is on the page, nothing lies outside the scratch folder, and the other leg is told."""
    with house(tmp_path) as home:
        run = measured(home)
        home.leg(run, content, "h100-1")
        step = home.publish(run)
        assert step.answer.exit_code == 0
        assert home.check()["conclusion"] == "failure"
        assert "h100-1" in home.gate_comments()[0]
        assert "everyone" not in home.gate_comments()[0]


@pytest.mark.parametrize(
    "record",
    [
        {"number": 8},
        {"repository": "acme/other"},
        {"runner_class": "h100-1"},
        {"kind": "nightly"},
        {"run_id": "../../../etc/passwd"},
        {"run_id": "20260101T000000-none"},
        {"head_sha": ""},
        {"head_sha": "f" * 40},
        {"head_sha": NEXT_SHA},
        {"base_sha": "f" * 40},
        {"base_sha": ""},
        {"head_sha": "HEAD"},
        {"schema": 2},
        {"extra": HOSTILE},
    ],
    ids=lambda record: next(iter(record)),
)
def test_a_leg_that_says_it_is_another_is_not_believed(tmp_path, record):
    """Number, repository, runner class, kind, run and commit must be those that GitHub told us."""
    with house(tmp_path) as home:
        home.publish(measured(home, **record))
        assert home.check()["conclusion"] == "failure"
        assert "No worse" not in home.gate_comments()[0]
        assert "everyone" not in home.gate_comments()[0]
        assert "f" * 12 not in home.gate_comments()[0]
        assert (len(home.checks(HEAD_SHA)), len(home.state.check_runs)) == (1, 1)
        assert len(home.gate_comments()) == 1


def test_a_leg_under_another_legs_name_is_not_believed(tmp_path):
    """The runner class in the folder must be the artifact's name."""
    with house(tmp_path) as home:
        run = home.gate_run()
        home.leg(run, home.leg_folder(runner="cpu"), "h100-1")
        home.publish(run)
        assert "another runner class" in home.gate_comments()[0]


def test_a_report_of_other_commits_builds_is_not_believed(tmp_path):
    """Where pins know their commits they must be the two that were asked for."""
    report = situations.no_worse()
    assert report.candidate is not None and report.baseline is not None
    other = replace(report.candidate, pin=replace(report.candidate.pin, commit="e" * 40))
    own = replace(report.candidate, pin=replace(report.candidate.pin, commit=HEAD_SHA))
    base = replace(report.baseline, pin=replace(report.baseline.pin, commit=BASE_SHA))
    with house(tmp_path) as home:
        home.publish(measured(home, replace(report, baseline=base, candidate=other), "h100-1"))
        assert "builds of other commits" in home.gate_comments()[0]
        home.publish(measured(home, replace(report, baseline=base, candidate=own), "h100-1"))
        assert home.check()["conclusion"] == "success"


def test_a_forged_report_is_only_text(tmp_path):
    """Mentions, links, markup and our own marker in its strings make nothing of a page but its words."""
    with house(tmp_path) as home:
        run = measured(home, _saying(HOSTILE))
        home.publish(run)
        page, check = home.gate_comments()[0], home.check()
        home.leg_folder(_saying("harmless")).rename(tmp_path / "leg-cpu")
        home.publish(run, tmp_path)
        assert structure(page) == structure(home.gate_comments()[0])
        assert _linked(page) == []
        assert "@everyone" in page
        assert len(home.gate_comments()) == 1
        for place in ("summary", "text"):
            assert _linked(check["output"][place]) == []


def _linked(page):
    """What GitHub would link in a page, but for the pull request's own number, which is ours."""
    return [run for run in prose(page) if LINKED.search(run.replace("pull request #7", ""))]


def _saying(words):
    """A report that says these words wherever a leg may choose them."""
    report = situations.regressed()
    assert report.candidate is not None
    return replace(
        report,
        verdict=replace(report.verdict, reason=words, evidence=(words,), warnings=(words,)),
        error=words,
        data_location=words,
        repeat_command=words,
        policy=words,
        candidate=replace(report.candidate, extra_args=(words,)),
    )


@pytest.mark.parametrize("forged", ["a pass", "what was decided"])
def test_a_leg_does_not_choose_the_commit_that_its_verdict_is_written_on(tmp_path, forged):
    """Whoever was asked to measure one commit claims to have measured the next, which nobody has read.

    Its job's name, which GitHub keeps, says otherwise; the artifact `decision` any leg could have replaced.
    """
    with house(tmp_path) as home:
        run = home.gate_run()
        home.push(NEXT_SHA)
        other = "c" * 40
        home.leg(run, home.leg_folder(head_sha=NEXT_SHA, base_sha=other))
        if forged == "what was decided":
            decision = tmp_path / "forged"
            write_decision(decision, Decision(1, NUMBER, NEXT_SHA, other, ("cpu",)))
            home.state.upload(run["id"], "decision", decision)
        home.publish(run)
        assert home.checks(NEXT_SHA) == []
        assert home.check(HEAD_SHA)["conclusion"] == "failure"
        assert "another commit than was asked for" in home.gate_comments()[0]
        assert other[:12] not in home.gate_comments()[0]


def test_folders_that_were_downloaded_before_are_held_to_the_same(tmp_path):
    """`--legs DIR`: a link in place of a file, or of the folder, is not followed."""
    with house(tmp_path) as home:
        run = home.gate_run()
        home.leg(run, None, "cpu")
        home.leg(run, None, "h100-1")
        legs = tmp_path / "legs"
        legs.mkdir()
        good = home.leg_folder()
        good.rename(legs / "leg-cpu")
        (legs / "leg-h100-1").symlink_to(home.leg_folder(runner="h100-1"))
        home.publish(run, legs)
        assert home.check()["conclusion"] == "failure"
        reports = legs / "leg-cpu" / "reports"
        reports.rename(tmp_path / "elsewhere")
        reports.symlink_to(tmp_path / "elsewhere")
        home.publish(run, legs)
        assert "holds links" in home.gate_comments()[0]
