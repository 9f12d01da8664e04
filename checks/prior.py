"""What past rounds say about the noise of a paired difference: the variance prior."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy import special

from redline.model import require

PRIOR_DF_MAX = 10.0  # however long the history, it never outweighs 11 pairs of today


@dataclass(frozen=True, slots=True)
class VariancePrior:
    """The expected variance of D (a squared log) and the degrees of freedom it is worth; df 0: no history."""

    df: float
    variance: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.df) and self.df >= 0, "df must be finite and not negative")
        require(math.isfinite(self.variance) and self.variance >= 0, "variance must be finite and not negative")
        require(self.df == 0 or self.variance > 0, "a prior that counts needs a positive variance")

    @property
    def known(self) -> bool:
        """True if there is any history."""
        return self.df > 0

    def scaled(self, multiplier: float) -> VariancePrior:
        """The same prior for a day `multiplier` times as noisy (in variance)."""
        return VariancePrior(self.df, self.variance * multiplier)


NO_PRIOR = VariancePrior(0.0, 0.0)


def fit_prior(history: Iterable[tuple[float, float]]) -> VariancePrior:
    """The prior from (variance of D, its df) of past gate and A/A rounds; NO_PRIOR without usable rounds.

    The df-weighted median of variance * df / median of chi-square(df): robust against odd rounds, and a true
    effect in a round does not bias it, because the variance is taken around that round's own mean.

    Source: moderated variances, Smyth 2004 (doi:10.2202/1544-6115.1027), with a median for the scale.
    """
    rounds = [(s2, df) for s2, df in history if df >= 1 and s2 > 0 and math.isfinite(s2)]
    df_total = sum(df for _, df in rounds)
    if df_total == 0:
        return NO_PRIOR
    centred = sorted((s2 * df / (2.0 * float(special.gammaincinv(df / 2.0, 0.5))), df) for s2, df in rounds)
    weight = 0.0
    for variance, df in centred:
        weight += df
        if weight >= df_total / 2:
            return VariancePrior(PRIOR_DF_MAX * df_total / (PRIOR_DF_MAX + df_total), variance)
    raise AssertionError("a weighted median exists")
