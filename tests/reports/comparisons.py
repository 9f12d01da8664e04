"""Comparisons as a gate finds them, for the situations of a report."""

from __future__ import annotations

from redline.model import AccuracyComparison, Comparison, Finding


def compared(
    scenario: str,
    metric: str,
    finding: Finding,
    readings: tuple[float, float],
    effect: tuple[float, float, float],
    *,
    margin: float = 0.10,
    detectable: float = 0.052,
    p: float = 0.5,
    pairs: int = 4,
    primary: bool = True,
    pairs_needed: int | None = None,
    warnings: tuple[str, ...] = (),
) -> Comparison:
    """A comparison; `effect` is (estimate, low, high)."""
    return Comparison(
        scenario=scenario,
        metric=metric,
        finding=finding,
        primary=primary,
        baseline=readings[0],
        candidate=readings[1],
        effect=effect[0],
        effect_low=effect[1],
        effect_high=effect[2],
        margin=margin,
        pair_count=pairs,
        df=pairs - 1 + 5.5,
        p_two_sided=p,
        effect_detectable=detectable,
        method=f"paired trials, Huber location, look {pairs} of 8",
        pairs_needed=pairs_needed,
        prior_df=5.5,
        warnings=warnings,
    )


NO_PRIOR = "no history of this scenario's noise, so a plain paired t test was used: run the gate again on this runner"
FEW_FOR_P99 = "the p99 of 24 requests rests on 1 of them: raise request_count before trusting it"
SPEED = (
    compared(
        "offline-short", "output_tokens_per_s", Finding.NO_WORSE, (412.3, 409.8), (0.0061, -0.0213, 0.0343), p=0.581
    ),
    compared("server-short", "ttft_s_median", Finding.NO_WORSE, (0.0463, 0.0459), (-0.0086, -0.0402, 0.0241), p=0.512),
    compared(
        "server-short",
        "ttft_s_p99",
        Finding.NO_WORSE,
        (0.1312, 0.1349),
        (0.0282, -0.0911, 0.1633),
        margin=0.25,
        detectable=0.184,
        p=0.544,
        primary=False,
        warnings=(FEW_FOR_P99,),
    ),
    compared(
        "server-short",
        "tpot_s_median",
        Finding.NO_WORSE,
        (0.0181, 0.0185),
        (0.0221, 0.0037, 0.0409),
        p=0.021,
        detectable=0.031,
    ),
    compared("server-short", "e2e_s_median", Finding.NO_WORSE, (0.3211, 0.3240), (0.0090, -0.0187, 0.0375), p=0.43),
)
FAST = compared(
    "offline-short", "output_tokens_per_s", Finding.IMPROVED, (412.3, 448.1), (-0.0799, -0.1042, -0.0549), p=0.0004
)
ACCURACY = AccuracyComparison(
    scenario="accuracy-tiny",
    finding=Finding.NO_WORSE,
    item_count=1000,
    baseline=0.954,
    candidate=0.953,
    change=-0.001,
    change_low=-0.0052,
    change_high=0.0032,
    lost_count=3,
    gained_count=2,
    worse_p=0.344,
    alpha=0.025,
    share_min=0.99,
    share_finding=Finding.NO_WORSE,
    items_needed=None,
    examples=(("copy-17", "badge", "badge", "badg"), ("sort-4", "abdf", "abfd", "abdf")),
)
