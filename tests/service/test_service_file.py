"""service.toml as shipped: what stands in it, and the examples in its comments."""

from __future__ import annotations

from pathlib import Path

from flows.service.legs import labels_of
from flows.workspace import Workspace
from redline.builds.build_spec import parse_spec
from tests.service.gate_house import CHECKOUT, team_content


def test_the_examples_are_legs_that_would_run(tmp_path: Path) -> None:
    """Without their signs of comment they name runner classes, machines and builds that Redline knows."""
    written = (CHECKOUT / "service.toml").read_text()
    before, mark, examples = written.partition("# [[legs]]\n")
    assert mark
    lines = [line.removeprefix("#").strip() for line in (mark + examples).splitlines()]
    root = team_content(tmp_path / "content", before + "\n".join(lines))
    workspace = Workspace(root, root)
    first, *more = workspace.service().legs
    assert (first.runner, [leg.runner for leg in more]) == ("cpu", ["h100-8", "mi300x-8"])
    for leg in more:
        assert labels_of(workspace, leg.runner)[-1] == f"redline-{leg.runner}"
        filled = [leg.gate.replace("{sha}", "a" * 40), leg.nightly, leg.signoff.replace("{version}", "0.33.0")]
        assert all(parse_spec(each) for each in filled)
