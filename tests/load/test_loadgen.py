"""LoadGen's schedule and order are LoadGen's: recordings of the official package, and what the C++ standard says."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.load import loadgen

GOLDEN = json.loads(Path(__file__).with_name("golden_loadgen.json").read_text())
CASES: dict[str, Any] = GOLDEN["cases"]
PERFORMANCE = [name for name, case in CASES.items() if case["settings"]["mode"] == "performance"]
SERVER = [name for name in PERFORMANCE if CASES[name]["settings"]["scenario"] == "Server"]
OFFLINE = [name for name in PERFORMANCE if CASES[name]["settings"]["scenario"] == "Offline"]
SINGLE_STREAM = [name for name in PERFORMANCE if CASES[name]["settings"]["scenario"] == "SingleStream"]
ACCURACY = [name for name in CASES if name not in PERFORMANCE]
SEEDS = st.integers(0, 2**64 - 1)


class Case:
    """One recording: its settings as our functions take them, and what LoadGen did."""

    def __init__(self, name: str) -> None:
        self.settings: dict[str, Any] = CASES[name]["settings"]
        self.recorded: dict[str, Any] = CASES[name]["recorded"]
        self.qsl_seed, self.sample_index_seed, self.schedule_seed = self.settings["seeds"]
        self.loaded_count = min(self.settings["loaded_count"], self.settings["total_count"])
        self.duration_s = self.settings["min_duration_ms"] / 1000
        self.min_query_count: int = self.settings["min_query_count"]
        self.rate_per_s: float = self.settings["rate_per_s"]
        self.latency_ns: int = self.settings["latency_ns_expected"]
        self.selection: loadgen.Selection = self.settings["selection"]
        self.pass_size = self.loaded_count if self.selection == "equal-issue" else None

    def loaded(self) -> tuple[int, ...]:
        """What performance mode loads."""
        return loadgen.loaded_samples(self.loaded_count, self.qsl_seed)


def is_recorded(numbers: Sequence[int], recorded: dict[str, Any]) -> bool:
    """Whether a sequence is the one LoadGen made: first the part that reads well when it is not, then all of it."""
    assert list(numbers[: len(recorded["first"])]) == recorded["first"]
    assert len(numbers) == recorded["count"]
    return hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest() == recorded["sha256"]


def test_the_recordings_cover_what_is_claimed() -> None:
    """There are recordings of every scenario, mode and selection, and of tens of thousands of values."""
    kinds = {(s["scenario"], s["mode"], s["selection"]) for s in (case["settings"] for case in CASES.values())}
    for selection in ("with-replacement", "equal-issue"):
        assert {("Server", "performance", selection), ("Server", "accuracy", selection)} <= kinds
        assert {("Offline", "performance", selection), ("Offline", "accuracy", selection)} <= kinds
        assert ("SingleStream", "performance", selection) in kinds
    assert {("Server", "performance", "unique"), ("Offline", "performance", "unique")} <= kinds
    assert sum(case["recorded"]["order"]["count"] for case in CASES.values()) > 150_000
    assert GOLDEN["mlcommons-loadgen"] == "6.0.17"


# --- against the recordings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERFORMANCE)
def test_the_same_samples_are_loaded_as_by_loadgen(name: str) -> None:
    """Performance mode loads one set, in LoadGen's order."""
    case = Case(name)
    (recorded,) = case.recorded["loaded"]
    assert is_recorded(case.loaded(), recorded)


@pytest.mark.parametrize("name", SERVER)
def test_server_asks_the_same_samples_at_the_same_nanoseconds(name: str) -> None:
    """Number of queries, their order, every due time and the end of the schedule are LoadGen's."""
    case = Case(name)
    (count,) = case.recorded["generated_query_count"]
    if case.selection == "unique":  # LoadGen then ignores both minima
        assert count == case.loaded_count
    else:
        sized = loadgen.server_query_count(
            case.rate_per_s, case.duration_s, case.min_query_count, case.schedule_seed, case.pass_size
        )
        assert sized == count
    order = loadgen.sample_order(
        case.loaded(), count, case.sample_index_seed, case.selection, min_query_count=case.min_query_count
    )
    assert is_recorded(order, case.recorded["order"])
    due_ns = loadgen.server_offsets_ns(count + 1, case.rate_per_s, case.schedule_seed)
    assert is_recorded(due_ns[:-1], case.recorded["due_ns"])
    assert [due_ns[-1]] == case.recorded["generated_query_duration"]


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_is_one_query_of_the_same_samples(name: str) -> None:
    """The one query's size, padding included, and its order are LoadGen's."""
    case = Case(name)
    assert case.recorded["generated_query_count"] == [1]
    (count,) = case.recorded["generated_samples_per_query"]
    if case.selection == "unique":
        assert count == case.loaded_count
    else:
        sized = loadgen.offline_sample_count(case.rate_per_s, case.duration_s, case.min_query_count, case.pass_size)
        assert sized == count
    order = loadgen.offline_order(
        case.loaded(), count, case.sample_index_seed, equal_issue=case.selection == "equal-issue"
    )
    assert is_recorded(order, case.recorded["order"])


@pytest.mark.parametrize("name", SINGLE_STREAM)
def test_single_stream_asks_the_same_samples(name: str) -> None:
    """The number of queries held ready, the enforced minimum and the order are LoadGen's."""
    case = Case(name)
    count = loadgen.single_stream_query_count(case.latency_ns, case.duration_s, case.min_query_count, case.pass_size)
    assert [count] == case.recorded["generated_query_count"]
    minimum = case.min_query_count
    if case.pass_size is not None:
        minimum = loadgen.single_stream_min_query_count(case.latency_ns, case.duration_s, minimum, case.pass_size)
    assert minimum == case.recorded["order"]["count"]
    order = loadgen.sample_order(case.loaded(), count, case.sample_index_seed, case.selection, min_query_count=minimum)
    assert is_recorded(order[:minimum], case.recorded["order"])


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_mode_asks_every_sample_once_in_the_same_order(name: str) -> None:
    """The sets that are loaded one after the other, and the order within each, are LoadGen's."""
    case = Case(name)
    equal_issue = case.selection == "equal-issue"
    sets = loadgen.accuracy_sets(case.settings["total_count"], case.loaded_count, case.qsl_seed)
    assert len(sets) == len(case.recorded["loaded"])
    order: list[int] = []
    for loaded, recorded in zip(sets, case.recorded["loaded"], strict=True):
        assert is_recorded(loaded, recorded)
        if case.settings["scenario"] == "Offline":
            order += loadgen.offline_order(
                loaded, len(loaded), case.sample_index_seed, equal_issue=equal_issue, accuracy=True
            )
        else:
            order += loadgen.accuracy_order(loaded, case.sample_index_seed, equal_issue=equal_issue)
    assert is_recorded(order, case.recorded["order"])


# --- against standards and published figures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "draws", "value"),
    [
        # ISO C++ [rand.predef]: the 10000th draw of a default-constructed std::mt19937 (seed 5489).
        (5489, 10_000, 4123659995),
        (5489, 1, 3499211612),
        (5489 + 2**32, 1, 3499211612),
    ],
)
def test_the_generator_is_the_standards(seed: int, draws: int, value: int) -> None:
    """The C++ standard's own check value comes out, and only the low 32 bits of a seed count."""
    rng = loadgen.Mt19937(seed)
    assert [rng.next32() for _ in range(draws)][-1] == value


def test_an_offline_rate_set_too_high_makes_the_run_long() -> None:
    """Red Hat's Whisper run on eight H200 in MLPerf v6.0: target_qps 1400 made 924,000 samples for 600 s."""
    assert loadgen.offline_sample_count(1400.0, 600.0, 1633) == 924_000


def test_offline_is_padded_to_whole_data_sets() -> None:
    """In equal issue a query of one sample more than the data set becomes two data sets; a whole one stays."""
    assert loadgen.offline_sample_count(1.0, 0.0, 101, pass_size=100) == 200
    assert loadgen.offline_sample_count(1.0, 0.0, 100, pass_size=100) == 100


def test_canonical_joins_two_words_and_stays_below_one() -> None:
    """The first word is the low half; the share is what a C++ compiler computes in doubles."""
    words, rng = loadgen.Mt19937(7), loadgen.Mt19937(7)
    for _ in range(1000):
        low, high = float(words.next32()), float(words.next32())
        share = rng.canonical()
        assert share == (low + high * 2.0**32) / 2.0**64
        assert 0.0 <= share < 1.0


@given(SEEDS, st.integers(1, 2**32))
def test_bounded_integers_are_below_their_bound(seed: int, count: int) -> None:
    """Whatever the bound, up to all of 32 bits."""
    rng = loadgen.Mt19937(seed)
    assert all(0 <= rng.below(count) < count for _ in range(20))


def test_bounded_integers_are_uniform() -> None:
    """12,000 draws of a die: chi-square with 5 degrees of freedom below its 99.9 % quantile, 20.5."""
    rng = loadgen.Mt19937(3)
    counts = Counter(rng.below(6) for _ in range(12_000))
    assert sum((counts[face] - 2000) ** 2 / 2000 for face in range(6)) < 20.5


# --- what holds for all settings ----------------------------------------------------------------------------


@given(SEEDS, st.integers(0, 300))
def test_loaded_samples_are_a_permutation(seed: int, count: int) -> None:
    """Each sample once."""
    assert sorted(loadgen.loaded_samples(count, seed)) == list(range(count))


@given(SEEDS, st.integers(1, 50), st.integers(1, 50))
def test_accuracy_sets_are_a_partition(seed: int, count: int, set_size: int) -> None:
    """Each sample in one set, no set larger than asked."""
    sets = loadgen.accuracy_sets(count, set_size, seed)
    assert sorted(sample for loaded in sets for sample in loaded) == list(range(count))
    assert all(1 <= len(loaded) <= set_size for loaded in sets)


@given(SEEDS, st.integers(1, 40), st.integers(1, 200))
def test_each_pass_of_equal_issue_is_a_permutation(seed: int, count: int, request_count: int) -> None:
    """Whole passes hold each sample once; two samples never differ in use by more than one."""
    loaded = loadgen.loaded_samples(count, 1)
    order = loadgen.sample_order(loaded, request_count, seed, "equal-issue", min_query_count=request_count)
    assert len(order) == request_count
    for start in range(0, request_count - count + 1, count):
        assert sorted(order[start : start + count]) == list(range(count))


def test_passes_beyond_the_minimum_start_again_with_the_first() -> None:
    """A minimum of one data set gives one permutation, however long the run: LoadGen repeats it."""
    order = loadgen.sample_order(range(50), 150, 9, "equal-issue", min_query_count=50)
    assert order[:50] == order[50:100] == order[100:]


@given(SEEDS, st.floats(1e-3, 1e5), st.integers(0, 60))
def test_due_times_start_at_zero_and_ascend(seed: int, rate_per_s: float, count: int) -> None:
    """The first query is due at once, no later one before an earlier one; more queries only append."""
    due_ns = loadgen.server_offsets_ns(count, rate_per_s, seed)
    assert len(due_ns) == count
    assert list(due_ns) == sorted(due_ns)
    assert due_ns[:1] == (0,)[:count]
    assert loadgen.server_offsets_ns(count + 5, rate_per_s, seed)[:count] == due_ns


@given(SEEDS, st.integers(0, 2000), st.integers(1, 50), st.one_of(st.none(), st.integers(1, 70)))
def test_server_runs_past_its_minima_and_no_further(
    seed: int, duration_ms: int, min_query_count: int, pass_size: int | None
) -> None:
    """The last query is due at or after the duration, and a pass (or a query) less would not have been enough."""
    count = loadgen.server_query_count(40.0, duration_ms / 1000, min_query_count, seed, pass_size)
    due_ns = loadgen.server_offsets_ns(count, 40.0, seed)
    step = pass_size or 1
    assert count % step == 0
    assert count >= min_query_count
    assert due_ns[-1] >= duration_ms * 1_000_000
    shorter = count - step
    assert shorter < min_query_count or due_ns[shorter - 1] < duration_ms * 1_000_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: loadgen.sample_order(range(3), 4, 0, "unique", min_query_count=4),
        lambda: loadgen.sample_order((), 4, 0, "equal-issue", min_query_count=4),
        lambda: loadgen.sample_order(range(3), 4, 0, "equal-issue", min_query_count=0),
        lambda: loadgen.offline_order((), 4, 0, equal_issue=True),
        lambda: loadgen.accuracy_sets(3, 0, 0),
        lambda: loadgen.server_offsets_ns(1, 0.0, 0),
        lambda: loadgen.server_offsets_ns(1, float("nan"), 0),
        lambda: loadgen.server_query_count(1.0, 0.0, 0, 0),
        lambda: loadgen.offline_sample_count(1.0, 1.0, 1, pass_size=0),
    ],
)
def test_impossible_settings_are_refused(call: Any) -> None:
    """No sample, no rate, no minimum or too few samples is an error, never an empty or endless schedule."""
    with pytest.raises(ValueError, match=r"must|unique"):
        call()
