"""The record of the nights: series, gaps, what a suspicion becomes, and the acceptance of a level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from checks.nightly import Outcome, SuspicionKind, owed
from flows import nights, nights_record
from flows.nights import answered, gaps, history_of, improvement_of, machine_changes, series_of, suspicion_of
from redline.errors import StoreError, UsageError
from redline.model import Comparison, Finding, LevelKind, Night, NightChange, NightReading
from redline.store.nights import read_nights, write_night
from tests.checks.policies import GPU

KEY = ("offline", "output_tokens_per_s")
HASH = "0" * 16


def night(number: int, value: float | None, build: str = "a", **changed) -> Night:
    """The night of 2026-10-(number + 1), one reading or none."""
    readings = () if value is None else (NightReading(KEY[0], HASH, KEY[1], value),)
    whole = Night(
        schema=1,
        run_id=f"202610{number + 1:02d}T020000-0000",
        date=f"2026-10-{number + 1:02d}",
        runner_class="cpu",
        series_id="s",
        sut_id=build,
        sut_label=f"vllm {build}",
        pin_id=build,
        trial_ids=(),
        notes={"kernel": "6.1"},
        readings=readings,
        findings=(),
        changes=(),
    )
    return replace(whole, **changed)


def quiet(count: int, **changed) -> list[Night]:
    """So many nights around 100 tok/s, CV 1 %."""
    values = 100 * np.exp(np.random.default_rng(5).normal(0, 0.01, count))
    return [night(number, float(value), **changed) for number, value in enumerate(values)]


def comparison(finding: Finding, high: float) -> Comparison:
    """What a gate said of the metric."""
    return Comparison(*KEY, finding, True, 100, 90, 0.1, 0.05, high, 0.02, 6, 10.0, 0.001, 0.02, "a gate")


def test_a_throughput_that_falls_is_suspected_and_named():
    """Higher is better is turned round; the last good build is that of a night before."""
    record = [*quiet(12, build="a"), *(night(12 + k, 90.0, "b") for k in range(3))]
    series = series_of(record, KEY, HASH)
    suspicion = suspicion_of(series, GPU, None)
    assert suspicion is not None
    assert suspicion.kind is SuspicionKind.STEP
    assert series.nights[suspicion.first_bad].date == "2026-10-13"
    assert series.nights[suspicion.last_good].sut_label == "vllm a"


def test_another_machine_version_or_argument_is_another_series():
    """What may not be compared is left out, records without readings included."""
    other = replace(quiet(1)[0], series_id="t")
    tonight = night(20, 100.0)
    assert history_of([other, *quiet(3)], tonight) == (*quiet(3), tonight)
    assert series_of(quiet(3), KEY, "f" * 16).readings == ()
    assert series_of([*quiet(3), night(3, None)], KEY, HASH).tonight == 2


def test_a_change_holds_from_the_night_it_names_on():
    """Run ids become indices of the nights that have a reading."""
    change = NightChange(KEY[0], HASH, KEY[1], LevelKind.REGRESSION, "20261005T020000-0000", 0.1)
    record = [*quiet(4), night(4, None), *(night(5 + k, 90.0) for k in range(8))]
    record[-1] = replace(record[-1], changes=(change,))
    series = series_of(record, KEY, HASH)
    assert [each.first for each in series.changes] == [4]
    assert suspicion_of(series, GPU, None) is None
    assert owed(series.changes) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("found", "problem", "outcome", "word"),
    [
        (comparison(Finding.REGRESSED, 0.15), "", Outcome.REGRESSED, "Confirmed"),
        (comparison(Finding.NO_WORSE, 0.01), "", Outcome.ENVIRONMENT, "Not the build"),
        (comparison(Finding.NO_WORSE, 0.15), "", Outcome.UNEXPLAINED, "too small a step"),
        (comparison(Finding.INCONCLUSIVE, 0.2), "", Outcome.OPEN, "Not settled"),
        (None, "the wheel is gone", Outcome.OPEN, "the wheel is gone"),
        (None, "", Outcome.ENVIRONMENT, "one build"),
    ],
)
def test_what_a_suspicion_becomes(found, problem, outcome, word):
    """The outcome, its words, and a change on record only where something was settled."""
    after = {"kernel": "6.2"}
    record = [*quiet(12), *(night(12 + k, 90.0, "b", notes=after) for k in range(3))]
    series = series_of(record, KEY, HASH)
    suspicion = suspicion_of(series, GPU, None)
    assert suspicion is not None
    result = answered(series, suspicion, found, problem)
    assert result.outcome is outcome
    assert word in result.finding.text
    assert (result.change is None) is (outcome is Outcome.OPEN)
    if outcome is Outcome.ENVIRONMENT:
        assert "kernel 6.1 -> 6.2" in result.finding.text
    if result.change is not None:
        assert result.change.first_run_id == series.nights[suspicion.first_bad].run_id
        assert result.change.size == pytest.approx(math.log(100 / 90), abs=0.02)


def test_nights_and_legs_that_did_not_run_are_findings():
    """A gap in the dates, and a series that has no reading tonight; the first night misses nothing."""
    tonight = night(6, None)
    words = [each.text for each in gaps(history_of(quiet(4), tonight), tonight, [KEY])]
    assert words[:2] == ["no night ran on 2026-10-05", "no night ran on 2026-10-06"]
    assert "Output throughput in offline has no valid reading tonight" in words[2]
    first = night(0, 100.0)
    assert gaps((first,), first, [KEY]) == ()


def test_a_better_level_goes_on_record():
    """Three nights 10 % faster: said, and the way back will be seen."""
    record = [*quiet(12), *(night(12 + k, 110.0, "b") for k in range(3))]
    found = improvement_of(series_of(record, KEY, HASH), GPU)
    assert found is not None
    assert "better since 2026-10-13" in found[0].text
    assert found[1].kind is LevelKind.IMPROVEMENT
    assert improvement_of(series_of(quiet(12), KEY, HASH), GPU) is None


def test_what_changed_on_the_machine_is_named():
    """Each note that differs, the missing one too."""
    assert machine_changes({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ("b 2 -> 3", "c unknown -> 4")


def test_a_night_is_written_once_and_read_in_order(tmp_path):
    """The record is append-only; a damaged night is named and ends the reading."""
    for each in reversed(quiet(3)):
        write_night(tmp_path, each)
    assert read_nights(tmp_path, "cpu") == tuple(quiet(3))
    assert read_nights(tmp_path, "h100") == ()
    with pytest.raises(StoreError, match="on record already"):
        write_night(tmp_path, quiet(1)[0])
    (tmp_path / "cpu" / "20261002T020000-0000.json").write_text("{")
    with pytest.raises(StoreError, match="20261002T020000-0000 cannot be read"):
        read_nights(tmp_path, "cpu")


def test_the_record_is_shown_and_a_level_accepted(tmp_path):
    """What is owed is shown; an acceptance needs a reason and settles it."""
    change = NightChange(KEY[0], HASH, KEY[1], LevelKind.REGRESSION, "20261003T020000-0000", 0.1)
    record = quiet(4)
    for each in [*record[:3], replace(record[3], changes=(change,))]:
        write_night(tmp_path / "nights", each)
    shown = "\n".join(nights_record.show(tmp_path, "cpu"))
    assert "regression +9.5 %" in shown
    with pytest.raises(UsageError, match="who and why"):
        nights_record.accept(tmp_path, "cpu", KEY, "ada", " ")
    with pytest.raises(UsageError, match="has read ttft_s_median"):
        nights_record.accept(tmp_path, "cpu", ("offline", "ttft_s_median"), "ada", "why")
    nights_record.accept(tmp_path, "cpu", KEY, "ada", "a correctness fix that is worth it")
    shown = "\n".join(nights_record.show(tmp_path, "cpu"))
    assert "accepted by ada: a correctness fix that is worth it" in shown
    assert "nothing" in shown
    assert nights.series_of(read_nights(tmp_path / "nights", "cpu"), KEY, HASH).tonight == 3
