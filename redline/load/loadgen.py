"""MLPerf LoadGen's schedule and sample order, bit for bit, without LoadGen. Pure.

LoadGen decides everything before a run, from three seeds: `qsl` which samples are loaded, `sample_index` the
order they are asked for, `schedule` when. With the same seeds and settings a run driven by Redline asks the
same samples at the same nanoseconds. Only the low 32 bits of a seed count, as in std::mt19937.

The C++ standard fixes std::mt19937 but neither the distributions nor std::shuffle. This is libstdc++ as the
Linux wheels of mlcommons-loadgen are built with it (6.0.17: GCC 14.2): Lemire's uniform integers, which it has
since GCC 11, shuffles of two swaps a draw, one division for a uniform double. Other standard libraries (LoadGen on
macOS or Windows) may give another order. The logarithm is the C library's, in LoadGen as in Python.

Covered: Server, Offline and SingleStream, performance and accuracy mode, equal issue, unique samples. Left out:
MultiStream, issuing one same sample and the seeds of the audit TEST05, which no scenario of Redline has.
Sources: `loadgen.cc` and `test_settings_internal.cc` of mlcommons/inference, bits/uniform_int_dist.h,
bits/stl_algo.h and bits/random.tcc of GCC. Checked against recordings of the official package in tests/load.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, TypeAlias

from redline.model import require
from redline.units import NS_PER_S, nanoseconds

STATE_WORDS = 624
WORD_MASK = 0xFFFFFFFF
OFFLINE_SLACK = 1.1
SINGLE_STREAM_SLACK = 2.0
SINGLE_STREAM_DURATIONS_GENERATED = 2

Selection: TypeAlias = Literal["with-replacement", "equal-issue", "unique"]
"""How LoadGen picks samples in performance mode: its default; `sample_concatenate_permutation`, which MLPerf
wants for language models (each sample once per pass); `performance_issue_unique` (each sample once)."""


class Mt19937:
    """std::mt19937 and the libstdc++ algorithms that LoadGen feeds from it.

    CPython's generator is the same one behind another seeding, so it runs on a state seeded as in C++.
    Source: Matsumoto and Nishimura 1998, `init_genrand` of their mt19937ar.c.
    """

    __slots__ = ("_generator",)

    def __init__(self, seed: int) -> None:
        state = [seed & WORD_MASK]
        for index in range(1, STATE_WORDS):
            last = state[-1]
            state.append((1812433253 * (last ^ (last >> 30)) + index) & WORD_MASK)
        self._generator = random.Random()
        self._generator.setstate((3, (*state, STATE_WORDS), None))

    def next32(self) -> int:
        """The next word, in [0, 2**32)."""
        return self._generator.getrandbits(32)

    def below(self, count: int) -> int:
        """A uniform integer in [0, count), for count in [1, 2**32]: std::uniform_int_distribution.

        Source: Lemire, ACM Transactions on Modeling and Computer Simulation 29 (1), 2019; libstdc++ since GCC 11.
        """
        product = self.next32() * count
        low = product & WORD_MASK
        if low < count:
            threshold = ((1 << 32) - count) % count
            while low < threshold:
                product = self.next32() * count
                low = product & WORD_MASK
        return product >> 32

    def canonical(self) -> float:
        """A uniform float in [0, 1) of 53 bits: std::generate_canonical<double, 53>, two words, the low one first."""
        share = float(self._generator.getrandbits(64)) / 2.0**64
        return share if share < 1.0 else math.nextafter(1.0, 0.0)

    def shuffle(self, items: list[int]) -> None:
        """Shuffle a list in place: std::shuffle.

        Up to 65535 items libstdc++ takes two swap positions from one draw. With an even number of items an odd
        number of swaps is to be done, and the first is done alone.
        """
        count = len(items)
        if count == 0:
            return
        if WORD_MASK // count < count:
            for index in range(1, count):
                other = self.below(index + 1)
                items[index], items[other] = items[other], items[index]
            return
        first = 1
        if count % 2 == 0:
            other = self.below(2)
            items[1], items[other] = items[other], items[1]
            first = 2
        for index in range(first, count, 2):
            both = self.below((index + 1) * (index + 2))
            for position, other in zip((index, index + 1), divmod(both, index + 2), strict=True):
                items[position], items[other] = items[other], items[position]


# --- which samples ------------------------------------------------------------------------------------------


def loaded_samples(sample_count: int, qsl_seed: int) -> tuple[int, ...]:
    """The samples of performance mode in the order they are loaded, shape (sample_count,): a permutation.

    `sample_count` is performance_sample_count, at most the data set's size. LoadGen takes the first that many
    samples of the data set, not a random choice. Source: loadgen.cc, GenerateLoadableSets.
    """
    return tuple(_permutation(sample_count, Mt19937(qsl_seed)))


def accuracy_sets(sample_count: int, set_size: int, qsl_seed: int) -> tuple[tuple[int, ...], ...]:
    """The sets of samples that accuracy mode loads one after the other, `set_size` each but for the last.

    `sample_count` is the size of the data set, `set_size` performance_sample_count.
    Source: loadgen.cc, GenerateLoadableSets and RunAccuracyMode.
    """
    require(set_size >= 1, "set_size must be at least 1")
    samples = loaded_samples(sample_count, qsl_seed)
    return tuple(samples[start : start + set_size] for start in range(0, len(samples), set_size))


def sample_order(
    loaded: Sequence[int],
    request_count: int,
    sample_index_seed: int,
    selection: Selection,
    *,
    min_query_count: int,
) -> tuple[int, ...]:
    """The samples of Server and SingleStream in performance mode, shape (request_count,).

    Even where it picks with replacement, LoadGen has shuffled once for `unique` and once per pass that
    `min_query_count` (its setting, before any padding) needs, so that setting decides the order too. In equal
    issue these passes are used in turn; requests beyond the last pass start again with the first.
    Raises ValueError for more unique requests than samples. Source: loadgen.cc, GenerateQueries.
    """
    require(bool(loaded), "loaded must hold at least one sample")
    require(min_query_count >= 1, "min_query_count must be at least 1")
    count = len(loaded)
    rng = Mt19937(sample_index_seed)
    unique = _permutation(count, rng)
    passes = _passes(count if selection == "unique" else min_query_count, count, rng)
    if selection == "unique":
        require(request_count <= count, f"{request_count} unique requests from {count} samples")
        positions = unique[:request_count]
    elif selection == "equal-issue":
        positions = [passes[index % len(passes)] for index in range(request_count)]
    else:
        positions = [rng.below(count) for _ in range(request_count)]
    return tuple(loaded[position] for position in positions)


def accuracy_order(loaded: Sequence[int], sample_index_seed: int, *, equal_issue: bool) -> tuple[int, ...]:
    """The samples of one set of accuracy mode in Server and SingleStream: each once.

    LoadGen seeds anew for every set of `accuracy_sets`. Source: loadgen.cc, GenerateQueries.
    """
    rng = Mt19937(sample_index_seed)
    drawn = [_permutation(len(loaded), rng) for _ in ("accuracy", "unique", "equal issue")]
    return tuple(loaded[position] for position in drawn[2 if equal_issue else 0])


def offline_order(
    loaded: Sequence[int],
    sample_count: int,
    sample_index_seed: int,
    *,
    equal_issue: bool,
    accuracy: bool = False,
) -> tuple[int, ...]:
    """The samples of Offline's one query, shape (sample_count,): the loaded ones over and over.

    In equal issue each repetition is shuffled by itself, and `sample_count` is a multiple of their number
    (`offline_sample_count`). Accuracy mode issues each loaded sample once. Source: loadgen.cc, GenerateQueries.
    """
    require(bool(loaded), "loaded must hold at least one sample")
    rng = Mt19937(sample_index_seed)
    for _ in range(3 if accuracy else 2):  # made by LoadGen before it comes to Offline, and not used there
        _permutation(len(loaded), rng)
    order: list[int] = []
    for _ in range(sample_count // len(loaded)):
        repetition = list(loaded)
        if equal_issue:
            rng.shuffle(repetition)
        order += repetition
    return tuple(order) + tuple(loaded[: sample_count % len(loaded)])


def _permutation(count: int, rng: Mt19937) -> list[int]:
    """0 to count - 1, shuffled."""
    positions = list(range(count))
    rng.shuffle(positions)
    return positions


def _passes(request_count: int, count: int, rng: Mt19937) -> list[int]:
    """Whole passes, at least request_count positions: each pass shuffles the one before it again.

    Source: loadgen.cc, SampleDistributionEqualIssue.
    """
    positions = list(range(count))
    passes: list[int] = []
    while len(passes) < request_count:
        rng.shuffle(positions)
        passes += positions
    return passes


# --- when, and how many -------------------------------------------------------------------------------------


def server_offsets_ns(request_count: int, rate_per_s: float, schedule_seed: int) -> tuple[int, ...]:
    """Due times of Server, shape (request_count,), ascending: the first at 0, then exponential gaps.

    Each gap is cut to whole nanoseconds before it is added.
    Source: loadgen.cc, ScheduleDistribution and GenerateQueries; std::exponential_distribution of libstdc++.
    """
    return tuple(islice(_server_due_ns(rate_per_s, schedule_seed), request_count))


def _server_due_ns(rate_per_s: float, schedule_seed: int) -> Iterator[int]:
    require(math.isfinite(rate_per_s) and rate_per_s > 0, "rate_per_s must be positive")
    rng = Mt19937(schedule_seed)
    due_ns = 0
    while True:
        yield due_ns
        due_ns += int(-math.log(1.0 - rng.canonical()) / rate_per_s * NS_PER_S)


def server_query_count(
    rate_per_s: float, duration_s_min: float, min_query_count: int, schedule_seed: int, pass_size: int | None = None
) -> int:
    """How many queries Server issues: `min_query_count`, and until one is due at or after `duration_s_min`.

    `pass_size`: in equal issue, the number of loaded samples; the count is then a multiple of it.
    `duration_s_min` in whole milliseconds, as LoadGen has it. Source: loadgen.cc, GenerateQueries.
    """
    due_ns = _server_due_ns(rate_per_s, schedule_seed)
    return _generated_count(due_ns, nanoseconds(duration_s_min), min_query_count, pass_size)


def single_stream_query_count(
    latency_ns_expected: int, duration_s_min: float, min_query_count: int, pass_size: int | None = None
) -> int:
    """How many queries SingleStream holds ready: it stops earlier, once both minima are met.

    The count is for twice the duration at the expected latency. `pass_size` as in `server_query_count`; that
    many more are then issued even if `min_query_count` is a multiple of it already.
    Source: test_settings_internal.cc, the constructor; loadgen.cc, GenerateQueries.
    """
    rate_per_s = NS_PER_S / latency_ns_expected
    if pass_size is not None:
        min_query_count = single_stream_min_query_count(latency_ns_expected, duration_s_min, min_query_count, pass_size)
    period_ns = int(1.0 / rate_per_s * NS_PER_S)
    require(period_ns >= 1, "latency_ns_expected must be at least a nanosecond")
    due_ns = (index * period_ns for index in _naturals())
    duration_ns = SINGLE_STREAM_DURATIONS_GENERATED * nanoseconds(duration_s_min)
    return _generated_count(due_ns, duration_ns, min_query_count, pass_size)


def single_stream_min_query_count(
    latency_ns_expected: int, duration_s_min: float, min_query_count: int, pass_size: int
) -> int:
    """LoadGen's own min_query_count of SingleStream in equal issue, a multiple of `pass_size`; `sample_order` needs it.

    Source: test_settings_internal.cc, the constructor.
    """
    expected = int(SINGLE_STREAM_SLACK * duration_s_min * (NS_PER_S / latency_ns_expected))
    return (max(min_query_count, expected) // pass_size + 1) * pass_size


def offline_sample_count(
    rate_per_s: float, duration_s_min: float, min_query_count: int, pass_size: int | None = None
) -> int:
    """How many samples Offline's one query has: enough for 1.1 times `duration_s_min` at the expected rate.

    A rate set too high makes the run long instead of failing it. `pass_size`: in equal issue, the number of
    loaded samples; the count is then rounded up to a multiple of it.
    Source: test_settings_internal.cc, the constructor; loadgen.cc, GenerateQueries.
    """
    count = max(min_query_count, int(OFFLINE_SLACK * duration_s_min * rate_per_s))
    return count if pass_size is None else _rounded_up(count, pass_size)


def _generated_count(due_ns: Iterable[int], duration_ns: int, min_query_count: int, pass_size: int | None) -> int:
    """How many of the due times GenerateQueries takes: past the duration, past the minimum, whole passes."""
    require(min_query_count >= 1, "min_query_count must be at least 1")
    count_min = min_query_count if pass_size is None else _rounded_up(min_query_count, pass_size)
    for count, last_due_ns in enumerate(due_ns, start=1):
        if last_due_ns >= duration_ns and count >= count_min:
            return count
        if pass_size is not None and count >= count_min:
            count_min += pass_size
    raise ValueError("the due times must not end")


def _rounded_up(count: int, step: int) -> int:
    require(step >= 1, "pass_size must be at least 1")
    return -(-count // step) * step


def _naturals() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1
