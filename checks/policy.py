"""A policy: which metrics can block, within which margins, at which error rates, in how many pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from redline.metrics import CATALOGUE
from redline.model import require

PRIMARY_COUNT_MAX = 6  # the error rates in docs/method.md hold up to here

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class MetricPolicy:
    """One metric: how much worse still counts as no worse.

    `margin`: share, for a gate; `primary`: whether it can block. `stored_margin` and `stored_noise_share`
    serve the comparison with a stored baseline: the latter is the declared standard deviation of
    ln(new trial / baseline) when the same build is measured on another day.
    """

    __pydantic_config__ = _STRICT
    metric: str
    margin: float
    primary: bool
    stored_margin: float
    stored_noise_share: float

    def __post_init__(self) -> None:
        require(self.metric in CATALOGUE, f"metric must be one of {', '.join(sorted(CATALOGUE))}")
        require(0 < self.margin < 1, "margin must be in (0, 1): a share, 0.03 is 3 %")
        require(self.margin <= self.stored_margin < 1, "stored_margin must be in [margin, 1): a gate resolves more")
        require(0 < self.stored_noise_share < 1, "stored_noise_share must be in (0, 1)")


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """Error rates of one trial against a stored baseline, and the df the declared noise is worth."""

    __pydantic_config__ = _STRICT
    noise_df: float
    alpha_regressed: float
    alpha_no_worse: float

    def __post_init__(self) -> None:
        require(1 <= self.noise_df <= 1000, "noise_df must be in [1, 1000]")
        _require_alphas(self.alpha_regressed, self.alpha_no_worse)


@dataclass(frozen=True, slots=True)
class AccuracyPolicy:
    """`alpha`: one-sided; `share_min`: the share of the baseline's accuracy that counts as no worse."""

    __pydantic_config__ = _STRICT
    alpha: float
    share_min: float
    run_count: int

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 0.1, "alpha must be in (0, 0.1]")
        require(0.5 <= self.share_min < 1, "share_min must be in [0.5, 1)")
        require(1 <= self.run_count <= 100, "run_count must be in [1, 100]")


@dataclass(frozen=True, slots=True)
class NightlyPolicy:
    """When a night is suspected, and how the suspicion is put to the test.

    `nights_min`: nights on one level before anything is suspected; `window_nights`: how far back a step is looked
    for; `z_step`, `z_tonight`: thresholds of the step search and of tonight alone; `drift_nights`: nights averaged
    against the last release. The confirmation is a gate with `confirm_margin_scale` times the gate's margins, at
    most `confirm_pair_count_max` pairs and `confirm_alpha` over the suspected metrics.
    """

    __pydantic_config__ = _STRICT
    nights_min: int
    window_nights: int
    z_step: float
    z_tonight: float
    drift_nights: int
    confirm_margin_scale: float
    confirm_pair_count_max: int
    confirm_alpha: float

    def __post_init__(self) -> None:
        require(4 <= self.nights_min <= self.window_nights <= 365, "4 <= nights_min <= window_nights <= 365 must hold")
        require(2 <= self.z_tonight <= 10, "z_tonight must be in [2, 10]")
        require(2 <= self.z_step <= 10, "z_step must be in [2, 10]")
        require(2 <= self.drift_nights <= self.window_nights, "drift_nights must be in [2, window_nights]")
        require(0 < self.confirm_margin_scale <= 1, "confirm_margin_scale must be in (0, 1]")
        require(3 <= self.confirm_pair_count_max <= 100, "confirm_pair_count_max must be in [3, 100]")
        require(0 < self.confirm_alpha <= 0.025, "confirm_alpha must be in (0, 0.025]")


@dataclass(frozen=True, slots=True)
class SignoffPolicy:
    """A release is judged once, after `pair_count` pairs, whatever the first ones say."""

    __pydantic_config__ = _STRICT
    pair_count: int

    def __post_init__(self) -> None:
        require(5 <= self.pair_count <= 100, "pair_count must be in [5, 100]")


@dataclass(frozen=True, slots=True)
class Policy:
    """How a runner class decides: `checks/policies/<name>.toml`. As it stands it is the gate's.

    `for_confirmation` and `for_signoff` are the same policy for the other two uses.

    `alpha_regressed`: of a whole suite, split evenly over its primaries; `alpha_no_worse`: of each metric
    (a suite passes only if all do, which needs no correction). `pair_count_min` is the first look; `fixed`:
    one look, at `pair_count_max`.
    """

    name: str
    description: str
    metrics: tuple[MetricPolicy, ...]
    alpha_regressed: float
    alpha_no_worse: float
    pair_count_min: int
    pair_count_max: int
    fixed: bool
    stored: StoredPolicy
    accuracy: AccuracyPolicy
    nightly: NightlyPolicy
    signoff: SignoffPolicy

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "name must not be empty")
        require(bool(self.metrics), "metrics must name at least one metric")
        names = [item.metric for item in self.metrics]
        require(len(set(names)) == len(names), "metrics must name each metric once")
        require(any(item.primary for item in self.metrics), "at least one metric must be primary")
        _require_alphas(self.alpha_regressed, self.alpha_no_worse)
        require(3 <= self.pair_count_min <= self.pair_count_max, "pair_count_min must be in [3, pair_count_max]")
        require(self.pair_count_max <= 100, "pair_count_max must be at most 100")

    @property
    def primary_count(self) -> int:
        """How many metrics can block."""
        return sum(item.primary for item in self.metrics)

    def of(self, metric: str) -> MetricPolicy:
        """The entry of a metric. Raises ValueError if the policy has none."""
        for item in self.metrics:
            if item.metric == metric:
                return item
        raise ValueError(f"policy {self.name} has no entry for {metric}: add one under [[metrics]]")

    def missing(self, metrics: Iterable[str]) -> tuple[str, ...]:
        """The metrics this policy has no entry for: ask before measuring."""
        known = {item.metric for item in self.metrics}
        return tuple(metric for metric in metrics if metric not in known)

    def primaries(self, judged: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """The (scenario, metric) keys among `judged` that can block, in order: ask before measuring.

        Raises:
            ValueError: none or more than 6, for which no error rate is stated; or a metric without an entry.
        """
        found = tuple(key for key in judged if self.of(key[1]).primary)
        if not 1 <= len(found) <= PRIMARY_COUNT_MAX:
            raise ValueError(
                f"a suite needs 1 to {PRIMARY_COUNT_MAX} primary metrics, found {len(found)}: "
                "choose fewer scenarios or make some metrics descriptive in the policy"
            )
        return found

    def for_confirmation(self) -> Policy:
        """The gate that a suspected night is put to: narrower margins, a smaller error, more pairs."""
        margins = [replace(item, margin=item.margin * self.nightly.confirm_margin_scale) for item in self.metrics]
        return replace(
            self,
            name=f"{self.name}, confirmation",
            metrics=tuple(margins),
            alpha_regressed=self.nightly.confirm_alpha,
            pair_count_max=max(self.nightly.confirm_pair_count_max, self.pair_count_min),
        )

    def for_signoff(self) -> Policy:
        """The release's: a fixed number of pairs and one look, so that the plain 95 % intervals hold."""
        count = self.signoff.pair_count
        return replace(
            self,
            name=f"{self.name}, sign-off",
            pair_count_min=min(self.pair_count_min, count),
            pair_count_max=count,
            fixed=True,
        )

    def looks(self, pair_count_limit: int) -> tuple[int, ...]:
        """The numbers of pairs at which a suite of at most `pair_count_limit` pairs is judged."""
        if self.fixed:
            return (self.pair_count_max,)
        return tuple(range(min(self.pair_count_min, pair_count_limit), pair_count_limit + 1))


def _require_alphas(alpha_regressed: float, alpha_no_worse: float) -> None:
    require(0 < alpha_no_worse < 0.05, "alpha_no_worse must be in (0, 0.05)")
    # Then "regressed" implies an estimate above half the margin: lower > 0 and upper >= margin leave no less.
    require(0 < alpha_regressed <= alpha_no_worse, "alpha_regressed must be in (0, alpha_no_worse]")
    # The two bounds are printed as one "95 % interval".
    require(alpha_regressed + alpha_no_worse <= 0.05, "alpha_regressed + alpha_no_worse must be at most 0.05")
