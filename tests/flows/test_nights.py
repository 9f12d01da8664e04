"""The record of the nights: series, gaps, what a suspicion becomes, and the acceptance of a level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from checks.night_findings import (
    answered,
    finding_of,
    gaps,
    improvement_of,
    machine_changes,
    settled_half,
    still_owed,
)
from checks.night_series import history_of, one_build, series_of, suspicion_of, went_back, whole
from checks.nightly import Outcome, SuspicionKind, owed
from flows import nights_record
from redline.errors import StoreError, UsageError
from redline.model import (
    AccuracyComparison,
    Comparison,
    Finding,
    LevelKind,
    Night,
    NightChange,
    NightFinding,
    NightReading,
)
from redline.store.nights import read_nights, write_night
from tests.checks.policies import GPU

KEY = ("offline", "output_tokens_per_s")
HASH = "0" * 16
WAIT_S = 600.0  # other tests measure on this machine
ANSWERS = AccuracyComparison(
    scenario="skill",
    finding=Finding.NO_WORSE,
    item_count=100,
    baseline=0.9,
    candidate=0.9,
    change=0.0,
    change_low=-0.01,
    change_high=0.01,
    lost_count=0,
    gained_count=0,
    worse_p=0.5,
    alpha=0.025,
    share_min=0.99,
    share_finding=Finding.NO_WORSE,
    items_needed=None,
)


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
        (comparison(Finding.INVALID, 0.0), "", Outcome.OPEN, "Not settled"),
    ],
)
def test_what_a_suspicion_becomes(found, problem, outcome, word):
    """The outcome, its words, and a change on record only where something was settled."""
    after = {"kernel": "6.2"}
    record = [*quiet(12), *(night(12 + k, 90.0, "b", notes=after) for k in range(3))]
    series = series_of(record, KEY, HASH)
    suspicion = suspicion_of(series, GPU, None)
    assert suspicion is not None
    result = answered(series, suspicion, found, against="vllm a", problem=problem)
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
    assert words[:2] == ["there is no night of 2026-10-05 on record", "there is no night of 2026-10-06 on record"]
    assert "Output throughput in offline has no valid reading tonight" in words[2]
    first = night(0, 100.0)
    assert gaps((first,), first, [KEY]) == ()


def test_a_leg_that_was_left_out_is_missed():
    """What was read within the last nights is expected, whatever tonight's command names."""
    tonight = night(4, None)
    assert "no valid reading tonight" in gaps(history_of(quiet(4), tonight), tonight, [])[0].text


def test_one_build_is_asked_of_every_night_between():
    """The good build tonight does not excuse what another build did in between."""
    same = [*quiet(12), *(night(12 + k, 90.0) for k in range(3))]
    other = [*quiet(12), *(night(12 + k, 90.0, "b") for k in range(2)), night(14, 90.0)]
    for record, one in ((same, True), (other, False)):
        series = series_of(record, KEY, HASH)
        suspicion = suspicion_of(series, GPU, None)
        assert suspicion is not None
        assert one_build(series, suspicion) is one
        assert bool(went_back(series, suspicion)) is not one


def test_an_open_suspicion_is_remembered_until_it_is_settled():
    """Last night's undecided gate: its first night bounds the last good one, and an acceptance clears it."""
    opened = NightFinding(Outcome.OPEN.value, *KEY, "", first_run_id=night(12, None).run_id)
    record = [*quiet(12), replace(night(12, 92.0, "b"), findings=(opened,)), night(13, 80.0, "b")]
    suspicion = suspicion_of(series_of(record, KEY, HASH), GPU, None)
    assert suspicion is not None
    assert suspicion.last_good < 12


def test_what_a_regression_costs_is_said_every_night_until_it_is_paid_or_accepted():
    """Confirmed, it stays owed; a better level pays; below half the margin nothing is said."""
    change = NightChange(KEY[0], HASH, KEY[1], LevelKind.REGRESSION, night(8, None).run_id, 0.1)
    record = [*quiet(8), replace(night(8, 90.0), changes=(change,)), *(night(9 + k, 90.0) for k in range(3))]
    found = still_owed(series_of(record, KEY, HASH), GPU, None)
    assert found is not None
    assert "still 9.5 % worse than accepted, on record since 2026-10-09" in found.text
    paid = replace(change, kind=LevelKind.IMPROVEMENT, first_run_id=night(10, None).run_id, size=-0.1)
    record[-1] = replace(record[-1], changes=(paid,))
    assert still_owed(series_of(record, KEY, HASH), GPU, None) is None


def test_a_night_is_one_a_date_and_later_than_the_last():
    """A second night of one date and a clock that went back are refused with what to do."""
    with pytest.raises(UsageError, match="2026-10-03 is on record"):
        history_of(quiet(3), replace(night(3, None), date="2026-10-03"))
    with pytest.raises(UsageError, match="clock is behind"):
        history_of(quiet(3), night(1, None))


def test_both_halves_of_a_night_are_one():
    """The readings are kept first; what was found joins them, and an acceptance stays apart."""
    found = NightFinding("missing", "", "", "words")
    base = quiet(2)
    assert whole([*base, settled_half(base[1], [found], [])]) == (base[0], replace(base[1], findings=(found,)))


@pytest.mark.parametrize(
    ("answers", "broken", "findings", "unjudged", "finding"),
    [
        ((), (), (), (), Finding.NO_WORSE),
        ((), (), (), ("x",), Finding.NO_BASELINE),
        ((), ("a rule",), (), ("x",), Finding.INVALID),
        ((), (), (NightFinding("owed", "", "", "still"),), (), Finding.REGRESSED),
        ((Finding.INVALID,), (), (), (), Finding.INVALID),
        ((Finding.REGRESSED,), ("a rule",), (), (), Finding.REGRESSED),
        ((Finding.INCONCLUSIVE,), (), (), ("x",), Finding.INCONCLUSIVE),
    ],
)
def test_a_night_passes_only_what_it_judged(answers, broken, findings, unjudged, finding):
    """What is worse comes first; what was broken, undecided or never judged is no pass."""
    compared = [replace(ANSWERS, finding=each) for each in answers]
    assert finding_of((), compared, broken, findings, unjudged)[0] is finding


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
        nights_record.accept(tmp_path, "cpu", KEY, "ada", " ", WAIT_S)
    with pytest.raises(UsageError, match="has read ttft_s_median"):
        nights_record.accept(tmp_path, "cpu", ("offline", "ttft_s_median"), "ada", "why", WAIT_S)
    nights_record.accept(tmp_path, "cpu", KEY, "ada", "a correctness fix that is worth it", WAIT_S)
    shown = "\n".join(nights_record.show(tmp_path, "cpu"))
    assert "accepted by ada: a correctness fix that is worth it" in shown
    assert "nothing" in shown
    assert series_of(read_nights(tmp_path / "nights", "cpu"), KEY, HASH).tonight == 3


def test_an_acceptance_covers_no_night_that_was_not_seen(tmp_path):
    """Neither one that another machine is measuring meanwhile and hands in later, nor one that nobody looked at."""
    regressions = [
        NightChange(KEY[0], HASH, KEY[1], LevelKind.REGRESSION, f"2026100{day}T020000-0000", 0.1) for day in (3, 5)
    ]
    seen = [*quiet(4)[:3], replace(quiet(4)[3], changes=(regressions[0],))]
    for each in seen:
        write_night(tmp_path / "nights", each)
    write_night(tmp_path / "nights", settled_half(seen[3], seen[3].findings, seen[3].changes))
    for other in ("2026-10-03", "2026-10-05"):
        with pytest.raises(UsageError, match="another one than the one that was looked at"):
            nights_record.accept(tmp_path, "cpu", KEY, "ada", "why", WAIT_S, seen=other)
    path = nights_record.accept(tmp_path, "cpu", KEY, "ada", "worth it", WAIT_S, seen="2026-10-04")
    under_way = replace(quiet(5)[4], changes=(regressions[1],))
    write_night(tmp_path / "nights", under_way)
    recorded = whole(read_nights(tmp_path / "nights", "cpu"))
    assert [each.run_id for each in recorded[-2:]] == [path.stem, under_way.run_id]
    assert owed(series_of(recorded, KEY, HASH).changes) == pytest.approx(0.1), "the second regression, not the first"
