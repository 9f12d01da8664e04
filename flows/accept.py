"""Baselines as people handle them: accept a run, list what is accepted, find the build that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.acceptable import acceptable_trials
from flows.workspace import Workspace, content_root
from redline import content
from redline.builds.resolve import write_pin
from redline.errors import InvalidMeasurementError, UsageError
from redline.metrics import CATALOGUE, reading_of
from redline.model import Baseline, BuildPin, Trial
from redline.units import format_value


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accepting runs makes of one scenario on one runner class, and the trials that it is made of."""

    baseline: Baseline
    trials: tuple[Trial, ...]

    @property
    def pin(self) -> BuildPin:
        """The build that was measured."""
        return self.trials[0].sut.pin


def accept(state_dir: Path, run_ids: Sequence[str], who: str, reason: str) -> tuple[Path, ...]:
    """Write the runs' readings as baselines, one file per scenario; returns their paths. Raises as `accepted_of`."""
    workspace = Workspace(content_root(), state_dir)
    return tuple(write_accepted(workspace.root, each) for each in accepted_of(workspace, run_ids, who, reason))


def accepted_of(workspace: Workspace, run_ids: Sequence[str], who: str, reason: str) -> tuple[Accepted, ...]:
    """The baselines that these runs would be, in the order in which they were measured. Nothing is written.

    Raises:
        UsageError: no such run, the runs do not belong together, or nobody says why.
        InvalidMeasurementError: a trial of a run is not valid, or a sign-off did not say yes: no evidence that it may
            be released.
    """
    if not who.strip() or not reason.strip():
        raise UsageError(
            "a baseline says who accepted it and why",
            expected="a name and a reason",
            found=f"by {who!r}, because {reason!r}",
            next_step="say both: --by NAME --reason TEXT",
        )
    found = [trial for run_id in run_ids for trial in acceptable_trials(workspace, run_id)]
    trials = list({trial.trial_id: trial for trial in found}.values())
    accepted = []
    for runner_class, scenario in dict.fromkeys((trial.runner_class, trial.scenario) for trial in trials):
        chosen = [trial for trial in trials if (trial.runner_class, trial.scenario) == (runner_class, scenario)]
        baseline = _baseline_of(chosen, workspace.scenario(scenario).metrics, who, reason)
        accepted.append(Accepted(baseline, tuple(chosen)))
    return tuple(accepted)


def write_accepted(root: Path, accepted: Accepted) -> Path:
    """Write a baseline, and its pin beside it, below `root`/baselines; the baseline's path."""
    baseline, pin = accepted.baseline, accepted.pin
    path = Workspace(root, root).baseline_path(baseline.runner_class, baseline.scenario)
    content.write_baseline(path, baseline)
    if pin.reinstallable:
        write_pin(pin_path(root, baseline), pin)
    return path


def pin_path(root: Path, baseline: Baseline) -> Path:
    """Where the whole pin of a baseline lies, whether it does or not."""
    return Workspace(root, root).baseline_path(baseline.runner_class, "x").parent / "pins" / f"{baseline.pin_id}.json"


def _baseline_of(trials: Sequence[Trial], metrics: Sequence[str], who: str, reason: str) -> Baseline:
    first = trials[0]
    for name, values in (
        ("system under test", {trial.sut.sut_id for trial in trials}),
        ("machine", {trial.fingerprint.fingerprint_id for trial in trials}),
        ("scenario hash", {trial.scenario_hash for trial in trials}),
    ):
        if len(values) > 1:
            raise UsageError(
                f"the runs do not belong together: more than one {name}",
                expected=f"one {name}",
                found=", ".join(sorted(values)),
                next_step="accept runs of one build on one machine",
            )
    readings = {
        metric: tuple(reading.value for trial in trials if (reading := reading_of(trial, metric)) is not None)
        for metric in metrics
    }
    return Baseline(
        schema=1,
        scenario=first.scenario,
        scenario_hash=first.scenario_hash,
        runner_class=first.runner_class,
        fingerprint_id=first.fingerprint.fingerprint_id,
        fingerprint=dict(first.fingerprint.facts),
        sut_label=first.sut.label,
        pin_id=first.sut.pin.pin_id,
        build=_build_summary(first.sut.pin),
        extra_args=first.sut.extra_args,
        trial_ids=tuple(trial.trial_id for trial in trials),
        readings=_positive(first.scenario, readings),
        item_scores=item_scores(trials),
        accepted_by=who,
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
    )


def _positive(scenario: str, readings: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
    """The readings that there are. Raises InvalidMeasurementError for one that is not positive."""
    for metric, values in readings.items():
        if any(value <= 0 for value in values):
            raise InvalidMeasurementError(
                f"{scenario} cannot be a baseline",
                expected=f"{metric} above 0",
                found=", ".join(map(str, values)),
                next_step="a baseline that answers nothing right can fail nobody: look at the model",
            )
    return {metric: values for metric, values in readings.items() if values}


def _build_summary(pin: BuildPin) -> dict[str, str]:
    """What a reviewer needs to see of a pin."""
    summary = {
        "distribution": pin.distribution,
        "version": pin.version,
        "platform": pin.platform,
        "python_version": pin.python_version,
    }
    return summary | ({"wheel_sha256": pin.wheel_sha256} if pin.wheel_sha256 else {"url": pin.url or ""})


def item_scores(trials: Sequence[Trial]) -> dict[str, float]:
    """Item -> mean score over the trials' counted repeats; empty if nothing was scored.

    Items are named by their place in the test set: the scenario's hash fixes which item that is.
    """
    scores: dict[str, list[float]] = {}
    for trial in trials:
        for repeat in trial.counted_repeats:
            for record in repeat.records:
                if record.score is not None:
                    scores.setdefault(f"{record.index:05d}", []).append(record.score)
    return {key: sum(values) / len(values) for key, values in sorted(scores.items())}


def accepted_build(state_dir: Path, runner: str, scenarios: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """(the path of the recorded pin, further server arguments) of the accepted baselines of these scenarios.

    Raises UsageError if nothing is accepted, or more than one system is, or one whose models were replaced.
    """
    workspace = Workspace(content_root(), state_dir)
    accepted = [each for name in scenarios if (each := workspace.baseline(runner, name)) is not None]
    found = {(each.pin_id, tuple(each.extra_args), each.sut_label) for each in accepted}
    if len(found) != 1:
        raise UsageError(
            "the last release is not known from the baselines",
            expected=f"one accepted build for {', '.join(scenarios)} on {runner}",
            found=", ".join(sorted(label for _, _, label in found)) or "no accepted baseline",
            next_step="say it: --release BUILD",
        )
    ((_, extra_args, label),) = found
    own = accepted[0].build
    if label != " ".join([f"{own.get('distribution')} {own.get('version')}", *extra_args]):
        raise UsageError(
            "the last release was accepted with replaced models, which a baseline does not keep",
            expected="a release that serves the recipes' own models",
            found=label,
            next_step="say what it is: --release BUILD --release-model RECIPE=DIR",
        )
    path = pin_path(workspace.root, accepted[0])
    if not path.exists():
        raise UsageError(
            "the last release cannot be installed again",
            expected=f"its recorded pin, {path}",
            found=f"{label}, accepted without one",
            next_step="say which build it is: --release BUILD",
        )
    return str(path), extra_args


def show(runner: str) -> Iterator[str]:
    """A line or two per accepted baseline of a runner class."""
    directory = content_root() / "baselines" / runner
    paths = sorted(directory.glob("*.json"))
    if not paths:
        yield f"no baselines for runner class {runner}"
        yield "  measure with `redline run`, then `redline baseline accept latest --reason ...`"
    for path in paths:
        baseline = content.read_baseline(path)
        yield f"{baseline.scenario}: {baseline.sut_label}, accepted by {baseline.accepted_by} at {baseline.accepted_at}"
        yield f"  because: {baseline.reason}"
        for metric, values in baseline.readings.items():
            shown = ", ".join(format_value(value, CATALOGUE[metric].unit) for value in values)
            yield f"  {CATALOGUE[metric].label}: {shown}"
