"""Policies: the shipped ones load, and an impossible one does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.policy import Policy
from redline.content import load
from redline.errors import ContentError
from redline.metrics import CATALOGUE
from tests.checks.policies import CPU, FOLDER, GPU, THREE


@pytest.mark.parametrize("policy", [CPU, GPU], ids=["cpu", "gpu"])
def test_shipped_policies_name_every_speed_metric(policy):
    """A scenario may list any speed metric of the catalogue: the policy has an entry for each."""
    assert policy.missing(set(CATALOGUE) - {"exact_match", "item_score"}) == ()
    assert (FOLDER / f"{policy.name}.toml").exists()
    assert len(policy.primaries(THREE)) == 3


def test_gpu_margins_are_the_methods():
    """3 % for throughput, TPOT and E2E medians, 5 % for the TTFT median, 10 % for p99."""
    margins = {item.metric: item.margin for item in GPU.metrics}
    assert (margins["output_tokens_per_s"], margins["tpot_s_median"], margins["e2e_s_median"]) == (0.03, 0.03, 0.03)
    assert (margins["ttft_s_median"], margins["ttft_s_p99"]) == (0.05, 0.10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ()}, "at least one metric"),
        ({"metrics": (*CPU.metrics, CPU.metrics[0])}, "each metric once"),
        ({"metrics": tuple(replace(item, primary=False) for item in CPU.metrics)}, "must be primary"),
        ({"alpha_regressed": 0.03}, "alpha_no_worse"),
        ({"alpha_no_worse": 0.04}, "at most 0.05"),
        ({"alpha_no_worse": 0.0}, "alpha_no_worse"),
        ({"pair_count_min": 2}, "pair_count_min"),
        ({"pair_count_min": 11}, "pair_count_min"),
        ({"pair_count_max": 101}, "pair_count_max"),
        ({"name": " "}, "name"),
    ],
)
def test_impossible_policies_are_refused(changes, message):
    """Error rates that do not hold, budgets that cannot be looked at and doubled metrics raise."""
    with pytest.raises(ValueError, match=message):
        replace(CPU, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0.0}, "margin"),
        ({"margin": 3.0}, "a share"),
        ({"stored_margin": 0.05}, "stored_margin"),
        ({"metric": "speed"}, "one of"),
        ({"stored_noise_share": 0.0}, "stored_noise_share"),
    ],
)
def test_impossible_metrics_are_refused(changes, message):
    """A margin of 300 %, a stored margin tighter than the gate's and an unknown metric raise."""
    with pytest.raises(ValueError, match=message):
        replace(CPU.of("output_tokens_per_s"), **changes)


def test_a_policy_file_with_an_unknown_key_is_refused(tmp_path):
    """A mistyped key is an error that names it, at the top and inside a metric."""
    text = (FOLDER / "cpu.toml").read_text()
    for number, (old, new) in enumerate([("fixed =", "fixd ="), ("primary =", "primry =")]):
        path = tmp_path / f"{number}.toml"
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ContentError, match=new.split()[0]):
            load(path, Policy)


def test_a_metric_without_an_entry_is_named():
    """Asking a policy for a metric it has no entry for names policy and metric."""
    assert CPU.missing(["exact_match", "tpot_s_median"]) == ("exact_match",)
    with pytest.raises(ValueError, match="policy cpu has no entry for exact_match"):
        CPU.of("exact_match")
