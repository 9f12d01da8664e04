"""What changed since the last good night: build range, packages, machine, arguments; and what is not known of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from checks.lock_diff import PackageChange, package_changes
from flows.service.changes import Evidence, changes_of, compare_url, read_pin
from redline.model import RouterPin, SystemUnderTest
from redline.store.trials import read_trial, write_trial
from tests.service.overview_history import BAD, GOOD, LAST, State, make_state, night, pin, regressed

SOURCE = "vllm-project/vllm"


@pytest.fixture
def state(tmp_path: Path) -> State:
    """An empty state directory."""
    return make_state(tmp_path)


def evidence(version: str, commit: str = "") -> Evidence:
    """A night whose build has this version and commit."""
    build = pin(version, commit=commit)
    return Evidence(night(LAST, 100.0, build), build, None)


def test_builds_packages_and_machine_are_compared(state: State):
    """Commits of the pins make the link; packages come ranked; facts and notes of the machine are told apart."""
    nights = regressed()
    state.write_trial(nights[-4], GOOD, numa_nodes="1")
    state.write_trial(nights[-1], BAD, numa_nodes="2")
    found = changes_of(nights, nights[-1], state.state / "trials", SOURCE)
    assert (found.good_date, found.good_build, found.build) == ("2026-11-19", GOOD.label, BAD.label)
    assert found.link == f"https://github.com/{SOURCE}/compare/{'a' * 40}...{'b' * 40}"
    assert found.refs == f"{'a' * 12}...{'b' * 12}"
    assert found.packages == ("torch 2.13.0 -> 2.14.0", "xgrammar 0.1.30 added", "ray 2.50.0 removed")
    assert found.machine[0].startswith("numa nodes 1 -> 2 (another machine")
    assert found.machine[1] == "gpu driver 570 -> 575"
    assert found.arguments == found.unknown == ()
    assert not found.nothing


def test_the_same_night_again_changes_nothing(state: State):
    """One build on one machine: nothing is listed, and there is no link to compare it with itself."""
    nights = [night("2026-11-21", 100.0), night(LAST, 100.0)]
    for each in nights:
        state.write_trial(each, GOOD)
    found = changes_of(nights, nights[-1], state.state / "trials", SOURCE)
    assert found.nothing and found.link == "" and found.good_date == "2026-11-21"


def test_arguments_models_and_routers_are_compared(state: State):
    """Another series says why it is another one."""
    nights = [night("2026-11-21", 100.0, series_id="old"), night(LAST, 100.0)]
    state.write_trial(nights[0], GOOD)
    trials = state.state / "trials"
    router = RouterPin("registry.example/llm-d/picker@sha256:" + "0" * 64, "kind: EndpointPickerConfig")
    sut = SystemUnderTest(GOOD, ("--max-num-seqs", "2"), (("gptoss", "models/tiny"),), router)
    state.write_trial(replace(nights[1], trial_ids=("other",)), GOOD)
    write_trial(trials, replace(read_trial(trials / "other"), trial_id=nights[1].trial_ids[0], sut=sut))
    found = changes_of(nights, nights[-1], trials, SOURCE)
    assert found.arguments == (
        "server arguments: none -> --max-num-seqs 2",
        "model of gptoss: the recipe's own -> models/tiny",
        f"router: none -> {router.image}",
    )


def test_what_cannot_be_read_is_said(state: State):
    """Without trials the nights' notes are compared; without pins the packages are not known; the page goes on."""
    nights = regressed()
    found = changes_of(nights, nights[-1], state.state / "trials", SOURCE)
    assert found.machine == ("gpu_driver 570 -> 575",)
    assert [each.split(":")[0] for each in found.unknown] == [
        "packages",
        "the machine's facts",
        "server arguments and models",
    ]
    assert found.link == ""  # the labels' versions are no releases


def test_a_pin_is_believed_only_if_it_is_what_its_name_says(state: State):
    """A name that leaves the folder, a damaged file and another pin's content are no pins."""
    pins = state.state / "trials" / "pins"
    state.write_trial(night(LAST, 100.0), GOOD)
    assert read_pin(state.state / "trials", GOOD.pin_id) == replace(GOOD, spec="")
    (pins / "0123456789abcdef.json").write_text((pins / f"{GOOD.pin_id}.json").read_text())
    (pins / f"{BAD.pin_id}.json").write_text("[]")
    for name in ("0123456789abcdef", BAD.pin_id, "../pins/" + GOOD.pin_id, "f" * 16, ""):
        assert read_pin(state.state / "trials", name) is None


def test_a_trial_id_cannot_lead_out_of_the_folder(state: State):
    """A record may name any trial; only plain names are looked for."""
    nights = [night("2026-11-21", 100.0), night(LAST, 100.0)]
    for each in nights:
        state.write_trial(each, GOOD)
    inside = state.state / "trials" / nights[0].trial_ids[0]
    inside.rename(state.state / "elsewhere")
    moved = [replace(nights[0], trial_ids=("../elsewhere",)), nights[1]]
    assert "server arguments and models: the nights' trials cannot be read" in (
        changes_of(moved, moved[-1], state.state / "trials", SOURCE).unknown
    )


@pytest.mark.parametrize(
    ("good", "bad", "refs"),
    [
        (evidence("0.33.0", "a" * 40), evidence("0.33.1", "b" * 40), f"{'a' * 40}...{'b' * 40}"),
        (evidence("0.33.0"), evidence("0.33.1+cu129"), "v0.33.0...v0.33.1"),
        (evidence("0.33.0"), evidence("0.33.1", "b" * 40), "v0.33.0...v0.33.1"),
        (evidence("0.33.1.dev40+g2f3f441f8"), evidence("0.33.1.dev52+g4ba787ec9"), "2f3f441f8...4ba787ec9"),
        (evidence("0.33.0"), evidence("0.33.0"), ""),
        (evidence("0.33.0", "a" * 40), evidence("0.33.1", "a" * 40), ""),
        (evidence("0.33.1.dev40"), evidence("0.33.1.dev52"), ""),
    ],
)
def test_a_link_names_what_is_known(good: Evidence, bad: Evidence, refs: str):
    """Commits of the pins, else commits or releases in the versions, else no link: never a guess."""
    assert compare_url(SOURCE, good, bad) == (f"https://github.com/{SOURCE}/compare/{refs}" if refs else "")


def test_package_changes_are_ranked_and_leave_the_build_out():
    """Nearest to the hardware first; other files of one version count only where none is shared."""
    before = {"vllm": ("1", ("a",)), "zlib": ("1", ("a",)), "torch": ("1", ("a",)), "ray": ("2", ("a", "b"))}
    after = {"vllm": ("2", ("b",)), "torch": ("2", ("c",)), "ray": ("2", ("b", "c")), "numpy": ("3", ("d",))}
    found = package_changes(before, after, builds=frozenset({"vllm"}))
    assert found == (
        PackageChange("torch", "1", "2"),
        PackageChange("numpy", "", "3"),
        PackageChange("zlib", "1", ""),
    )
    (rebuilt,) = package_changes({"torch": ("1", ("a",))}, {"torch": ("1", ("b",))})
    assert rebuilt.words == "torch 1: other files of the same version"
