"""What the steps of the gate work with, the names they share, and what `decide` leaves beside the pins."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from flows.workspace import Workspace, content_root
from redline.github.client import GitHub
from redline.github.environment import Environment
from redline.model import COMMIT_SHA, LegSettings, ServiceSettings, require
from redline.whole_file import write_whole

CHECK_NAME = "Redline gate"
"""The check run's name: what a branch's protection rule requires."""
COMMENT_MARKER = "<!-- redline:gate -->"
LEG_ARTIFACT = "leg-"
DECISION_ARTIFACT = "decision"
DECISION_FILE = "decision.json"


@dataclass(frozen=True, slots=True)
class Desk:
    """One step's surroundings: the job, the API, and the default branch's reviewed content."""

    environment: Environment
    github: GitHub
    workspace: Workspace
    settings: ServiceSettings

    @property
    def gate_legs(self) -> MappingProxyType[str, LegSettings]:
        """The legs of the gate, by runner class."""
        return MappingProxyType({leg.runner: leg for leg in self.settings.legs if leg.gate})


def workspace_of_content() -> Workspace:
    """The reviewed content; these steps keep no state. Raises UsageError."""
    root = content_root()
    return Workspace(root, root)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate was started for: for whoever reads the artifact, not for `publish`, as any leg could replace it.

    `number` is 0 and the commits are empty where nothing was started.
    """

    schema: int
    number: int
    head_sha: str
    base_sha: str
    runners: tuple[str, ...]

    def __post_init__(self) -> None:
        require(self.schema == 1, "schema must be 1")
        require(self.number >= 0, "number must not be negative")
        for sha in (self.head_sha, self.base_sha):
            require(not sha or COMMIT_SHA.fullmatch(sha) is not None, "a commit is 40 hex digits, or empty")


NOTHING = Decision(1, 0, "", "", ())


def write_decision(folder: Path, decision: Decision) -> None:
    """Keep it in a folder that is uploaded, which is then never empty. Raises OSError."""
    write_whole(folder / DECISION_FILE, json.dumps(asdict(decision), indent=1) + "\n")
