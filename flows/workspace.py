"""Where everything lies: content in the checkout, what is produced in the state directory."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from checks.policy import Policy
from redline import content
from redline.builds.extras import read_extras
from redline.errors import ContentError, UsageError
from redline.model import Baseline, Dataset, Recipe, RunnerClass, Scenario, ServiceSettings, Suite

CHECKOUT = Path(__file__).resolve().parents[1]
CONTENT_VARIABLE = "REDLINE_CONTENT"
DATASETS_VARIABLE = "REDLINE_DATASETS"


def content_root() -> Path:
    """Where scenarios, recipes, runner classes, policies and baselines lie: $REDLINE_CONTENT, else the checkout.

    A team keeps its own content in its own repository and still runs an unchanged Redline.
    Raises UsageError if the variable names no directory.
    """
    root = Path(os.environ.get(CONTENT_VARIABLE) or CHECKOUT).resolve()
    if not (root / "scenarios").is_dir():
        raise UsageError(
            f"${CONTENT_VARIABLE} names no content",
            expected="a directory with scenarios/, recipes/, runners/ and checks/policies/",
            found=str(root),
            next_step=f"correct or unset {CONTENT_VARIABLE}",
        )
    return root


def _in_service_words(error: ContentError, legs: object) -> ContentError:
    """The same with a leg's runner class instead of its place, and service.toml instead of our own type's name."""

    def leg(place: re.Match[str]) -> str:
        index = int(place[1])
        found = legs[index] if isinstance(legs, list) and index < len(legs) else None
        runner = found.get("runner") if isinstance(found, dict) else None
        return f"legs[{runner}]" if isinstance(runner, str) else f"legs[number {index + 1}]"

    def words(text: str) -> str:
        text = re.sub(r"\blegs\.(\d+)", leg, text.replace("ServiceSettings", "service.toml"))
        return text.replace("key '(top level)' is wrong", "it does not fit together").replace("'(top level)' in ", "")

    return ContentError(
        words(error.problem), expected=words(error.expected), found=error.found, next_step=words(error.next_step)
    )


@dataclass(frozen=True, slots=True)
class Workspace:
    """`root` holds the reviewed content; `state_dir` everything that a run produces, never deleted by Redline."""

    root: Path
    state_dir: Path

    @property
    def trials_dir(self) -> Path:
        """One directory per trial, immutable."""
        return self.state_dir / "trials"

    @property
    def nights_dir(self) -> Path:
        """One file per night and runner class, immutable."""
        return self.state_dir / "nights"

    @property
    def justifications_dir(self) -> Path:
        """One file per regression that was taken all the same, immutable."""
        return self.state_dir / "justifications"

    @property
    def database_path(self) -> Path:
        """The DuckDB file; it can be deleted and is rebuilt from the trials."""
        return self.state_dir / "redline.duckdb"

    @property
    def calibrations_dir(self) -> Path:
        """One calibration of the load client per machine."""
        return self.state_dir / "calibrations"

    @property
    def datasets_dir(self) -> Path:
        """One directory per prepared data set: $REDLINE_DATASETS, else of the state directory.

        A machine's jobs may share the first one and need not be able to write there.
        """
        shared = os.environ.get(DATASETS_VARIABLE)
        return Path(shared).resolve() if shared else self.state_dir / "datasets"

    def datasets_dir_of(self, definition: Dataset) -> Path:
        """Where one set is kept: what Redline brings is prepared by whoever uses it first, so never where all share."""
        return self.state_dir / "datasets" if definition.bundled else self.datasets_dir

    @property
    def stand_ins_dir(self) -> Path:
        """Tiny models made on this machine, one directory per model and version of the script that makes it."""
        return self.state_dir / "stand-ins"

    def report_path(self, run_id: str) -> Path:
        """The Markdown report of one run."""
        return self.state_dir / "reports" / f"{run_id}.md"

    def log_dir(self, run_id: str) -> Path:
        """Logs of one run's servers."""
        return self.state_dir / "logs" / run_id

    def scenario(self, name: str) -> Scenario:
        """A scenario by name. Raises ContentError."""
        return content.scenario(self.root / "scenarios" / f"{name}.toml")

    def recipe(self, name: str) -> Recipe:
        """A recipe by name. Raises ContentError."""
        return content.recipe(self.root / "recipes" / f"{name}.toml")

    def dataset(self, name: str) -> Dataset:
        """A data set by name: of the content, else one that comes with Redline. Raises ContentError."""
        own = self.root / "datasets" / f"{name}.toml"
        shipped = CHECKOUT / "datasets" / f"{name}.toml"
        return content.dataset(shipped if shipped.exists() and not own.exists() else own)

    def suite(self, name: str) -> Suite:
        """A suite by name: of the content, else one that comes with Redline. Raises ContentError."""
        own = self.root / "suites" / f"{name}.toml"
        shipped = CHECKOUT / "suites" / f"{name}.toml"
        return content.suite(shipped if shipped.exists() and not own.exists() else own)

    def runner_class(self, name: str) -> RunnerClass:
        """A runner class by name. Raises ContentError."""
        return content.runner_class(self.root / "runners" / f"{name}.toml")

    def policy(self, name: str) -> Policy:
        """A policy by name. Raises ContentError."""
        return content.load(self.root / "checks" / "policies" / f"{name}.toml", Policy)

    def baseline_path(self, runner_class: str, scenario: str) -> Path:
        """Where the accepted baseline of a scenario lies, whether it exists or not."""
        return self.root / "baselines" / runner_class / f"{scenario}.json"

    def baseline(self, runner_class: str, scenario: str) -> Baseline | None:
        """The accepted baseline, or None if there is none. Raises ContentError for a damaged one."""
        path = self.baseline_path(runner_class, scenario)
        return content.read_baseline(path) if path.exists() else None

    def service(self) -> ServiceSettings:
        """What the service runs, and who may start it: `service.toml`. Raises ContentError."""
        path = self.root / "service.toml"
        if not path.exists():
            raise ContentError(
                f"{path}: no such file",
                expected="what the service runs: at least one [[legs]] (docs/github.md)",
                found="nothing",
                next_step="copy Redline's own service.toml, and name your runner classes",
            )
        raw = content.read_toml(path)
        try:
            return content.convert(raw, ServiceSettings, str(path))
        except ContentError as error:
            raise _in_service_words(error, raw.get("legs")) from error

    def suites(self) -> tuple[Suite, ...]:
        """Every suite, in order of name. Raises ContentError."""
        return tuple(self.suite(path.stem) for path in sorted((self.root / "suites").glob("*.toml")))

    def extras(self, recipe: Recipe) -> dict[str, str]:
        """The locks of extra packages that a recipe names, by platform. Raises ContentError."""
        found = {}
        for platform, name in recipe.extras.items():
            own = self.root / name
            found[platform] = read_extras(own if own.exists() else CHECKOUT / name)
        return found

    def model_path(self, model: str) -> str:
        """An absolute path for a model directory of the checkout; a hub id or another path as it is."""
        for root in (self.root, CHECKOUT):
            if (root / model).is_dir():
                return str((root / model).resolve())
        return model
