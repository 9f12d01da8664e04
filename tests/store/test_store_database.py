"""The DuckDB file: made from trials, the same however it is made, and polite to whoever comes second."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
import statistics
import tempfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redline.errors import StoreError, UsageError
from redline.metrics import CATALOGUE, reading_of
from redline.model import (
    Outcome,
    Repeat,
    RequestRecord,
    RouterPin,
    SystemUnderTest,
    Trial,
    TrialStatus,
    with_status,
)
from redline.store.database import STORAGE_VERSION, ingest, query
from redline.store.trials import read_trial, write_trial
from tests.store.trial_examples import HOSTILE_TEXTS, dump, make_pin, make_record, make_trial, trials

ROOT = Path(__file__).parents[2]


# --- content ------------------------------------------------------------------------------------------------


def varied_trial(number: int) -> Trial:
    """A trial with everything that makes a metric undefined somewhere: failures, no chunk, one chunk, no score."""
    rng = random.Random(number)

    def record(index: int) -> RequestRecord:
        made = make_record(index, rng, chunk_count=rng.choice((1, 2, 3, 9, 30)))
        if number % 5 == 4:
            made = dataclasses.replace(made, score=None)
        if number % 5 == 3:
            made = dataclasses.replace(made, score=rng.choice((None, 0.0, 0.25, 1.0)))
        kind = rng.random()
        if kind < 0.1:
            return dataclasses.replace(made, outcome=rng.choice([it for it in Outcome if it is not Outcome.OK]))
        if kind < 0.2:
            return dataclasses.replace(made, chunk_ns=(), chunk_tokens=(), output_tokens=0)
        return made

    base = make_trial(f"v{number}", seed=number, request_count=1, repeat_count=1).repeats[0]
    repeats: list[Repeat] = []
    for index in range(rng.choice((1, 2, 3, 4, 5))):
        count = rng.choice((0, 1, 2, 7, 50, 99, 100, 101, 200))
        repeats.append(
            dataclasses.replace(
                base,
                index=index,
                records=tuple(record(item) for item in range(count)),
                drop_reason=rng.choice(("", "", "", "foreign CPU")),
            )
        )
    return make_trial(f"v{number}", repeats=tuple(repeats))


def test_sql_recomputes_every_metric(tmp_path: Path) -> None:
    """From the event times alone, SQL finds the same metrics as redline.metrics, undefined ones included."""
    made = [varied_trial(number) for number in range(40)]
    for trial in made:
        write_trial(tmp_path / "trials", trial)
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(tmp_path / "redline.db", "SELECT trial_id, repeat, metric, value FROM repeat_readings")
    found = {row[:3]: row[3] for row in rows}
    expected = {
        (trial.trial_id, repeat.index, name): value
        for trial in made
        for repeat in trial.repeats
        for name, metric in CATALOGUE.items()
        if (value := metric.formula(repeat)) is not None
    }
    assert len(rows) == len(found)
    assert found == pytest.approx(expected, rel=1e-12, abs=0)

    by_trial: dict[tuple[str, str], list[float]] = {}
    counted = {(trial.trial_id, repeat.index) for trial in made for repeat in trial.counted_repeats}
    for (trial_id, repeat, metric), value in found.items():
        if (trial_id, repeat) in counted:
            by_trial.setdefault((trial_id, metric), []).append(value)
    recomputed = {
        key: statistics.median(values) if len(values) >= 3 else statistics.fmean(values)
        for key, values in by_trial.items()
    }
    _, rows = query(tmp_path / "redline.db", "SELECT trial_id, metric, value FROM readings")
    assert {row[:2]: row[2] for row in rows} == pytest.approx(recomputed, rel=1e-12, abs=0)


def test_readings_are_those_of_the_catalogue(tmp_path: Path) -> None:
    """The readings table and the wide view hold redline.metrics.reading_of bit for bit, for every metric."""
    trial = make_trial()
    write_trial(tmp_path / "trials", trial)
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(tmp_path / "redline.db", "SELECT metric, value FROM readings")
    expected = {name: found.value for name in CATALOGUE if (found := reading_of(trial, name)) is not None}
    assert dict(rows) == expected
    columns, ((*values,),) = query(tmp_path / "redline.db", "SELECT * FROM trial_readings")
    assert set(CATALOGUE) <= set(columns), "schema.sql must name every metric of the catalogue"
    assert {name: values[columns.index(name)] for name in CATALOGUE} == expected


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((1.0, 0.0, 1.0, 1.0), {"item_score": 0.75, "exact_match": 0.75}),
        ((1.0, None, 1.0, 0.0), {"item_score": 2 / 3, "exact_match": 2 / 3}),
        ((1.0, 0.5, 0.25, None), {"item_score": 1.75 / 3}),
        ((None, None, None, None), {}),
    ],
    ids=["right or wrong", "one program was not run", "partly right", "not scored"],
)
def test_scores_that_are_partly_right_are_no_exact_matches(
    tmp_path: Path, scores: tuple[float | None, ...], expected: dict[str, float]
) -> None:
    """The mean of scores is always read, the share of exact answers only where each is right or wrong."""
    repeat = make_trial(request_count=4, repeat_count=1).repeats[0]
    records = tuple(
        dataclasses.replace(record, score=score) for record, score in zip(repeat.records, scores, strict=True)
    )
    trial = make_trial(repeats=(dataclasses.replace(repeat, records=records, drop_reason=""),))
    write_trial(tmp_path / "trials", trial)
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    for table in ("readings", "repeat_readings"):
        sql = f"SELECT metric, value FROM {table} WHERE metric IN ('item_score', 'exact_match')"
        assert dict(query(tmp_path / "redline.db", sql)[1]) == expected
    assert {name: CATALOGUE[name].formula(trial.repeats[0]) for name in expected} == expected


def test_figures_have_a_table(tmp_path: Path) -> None:
    """One row per figure, by the scorer's names, also strange ones; trials without figures have none."""
    figures = {"rouge1": 42.9865, "gen_len": 4016878.0, "it's; --": 1.0, "half \ud83d": 2.0}
    write_trial(tmp_path / "trials", make_trial("scored", figures=figures))
    write_trial(tmp_path / "trials", make_trial("timed"))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(tmp_path / "redline.db", "SELECT trial_id, figure, value FROM figures")
    assert {row[0] for row in rows} == {"scored"}
    assert {row[1]: row[2] for row in rows} == {
        "rouge1": 42.9865,
        "gen_len": 4016878.0,
        "it's; --": 1.0,
        "half \\ud83d": 2.0,
    }


def test_telemetry_and_replicas_have_tables(tmp_path: Path) -> None:
    """Every sample with its repeat, source and name, and every replica with its accelerators, as they were given."""
    made = make_trial("new")
    write_trial(tmp_path / "trials", made)
    bare = tuple(dataclasses.replace(repeat, telemetry=()) for repeat in made.repeats)
    write_trial(tmp_path / "trials", make_trial("old", repeats=bare, replicas=()))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(tmp_path / "redline.db", "FROM telemetry ORDER BY ALL")
    assert rows == sorted(
        ("new", repeat.index, sample.at_ns, sample.source, sample.name, sample.value)
        for repeat in made.repeats
        for sample in repeat.telemetry
    )
    _, rows = query(tmp_path / "redline.db", "FROM replicas ORDER BY ALL")
    assert rows == [("new", 0, "replica 0", ["GPU-1"], 24.5), ("new", 1, "replica 1", [], 0.0)]


def test_a_commit_and_a_router_stand_with_their_build_and_system(tmp_path: Path) -> None:
    """What spread the load and which source was built are columns, empty where nothing is known."""
    pinned = dataclasses.replace(make_pin("0.33.0"), commit="c0ffee1234" * 4)
    router = RouterPin("example/router@sha256:" + "ab" * 32, "plugins: [{type: queue-scorer}]\n")
    write_trial(tmp_path / "trials", make_trial("plain"))
    write_trial(tmp_path / "trials", make_trial("routed", sut=SystemUnderTest(pinned, router=router)))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    sql = "SELECT version, commit, router_image, router_config FROM systems JOIN pins USING (pin_id) ORDER BY version"
    assert query(tmp_path / "redline.db", sql)[1] == [
        ("0.32.0", "", "", ""),
        ("0.33.0", pinned.commit, router.image, router.config),
    ]
    assert read_trial(tmp_path / "trials" / "routed").sut == SystemUnderTest(pinned, router=router)


def test_partial_and_invalid_trials_are_kept_and_marked(tmp_path: Path) -> None:
    """Whatever became of a trial, it goes in with its status and its validity readings."""
    write_trial(tmp_path / "trials", make_trial("good"))
    write_trial(tmp_path / "trials", with_status(make_trial("bad"), TrialStatus.INVALID, "client late"))
    write_trial(tmp_path / "trials", make_trial("cut", repeats=(), status=TrialStatus.PARTIAL))
    assert ingest(tmp_path / "trials", tmp_path / "redline.db").added == 3
    _, rows = query(tmp_path / "redline.db", "SELECT trial_id, status, detail FROM trials ORDER BY ALL")
    assert rows == [("bad", "invalid", "client late"), ("cut", "partial", ""), ("good", "valid", "")]
    assert query(tmp_path / "redline.db", "SELECT count(*) FROM validity WHERE ok")[1] == [(3,)]


def test_pin_can_be_installed_from_the_database(tmp_path: Path) -> None:
    """The lock of every build stands in the database once, whole, whoever asked for it by which name."""
    for number in range(3):
        write_trial(tmp_path / "trials", make_trial(f"t{number}", pin=make_pin(spec=f"asked {number}")))
        ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(tmp_path / "redline.db", "SELECT pin_id, lock FROM pins")
    assert rows == [(make_pin().pin_id, make_pin().lock)]
    assert query(tmp_path / "redline.db", "SELECT count(*) FROM systems")[1] == [(1,)]


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_names(tmp_path: Path, text: str) -> None:
    """Quotes, SQL, separators, NUL and broken Unicode in names are stored as text and do nothing else."""
    directory = tmp_path / "it's [a] *dir* %s"
    write_trial(directory, make_trial(text=text))
    database = directory / "the 'db'; --.duckdb"
    assert ingest(directory, database).added == 1
    _, rows = query(database, "SELECT scenario, runner_class FROM trials")
    shown = text.encode("utf-8", "backslashreplace").decode()
    assert rows == [("offline-short" + shown, "cpu" + shown)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    given_trials=st.lists(trials(chunk_tokens_max=100), max_size=4, unique_by=lambda trial: trial.trial_id.casefold())
)
@pytest.mark.slow
def test_every_storable_trial_is_ingestible(given_trials: list[Trial]) -> None:
    """What the trial store accepts the database accepts, extreme numbers and hostile text included."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "trials").mkdir()
        for trial in given_trials:
            write_trial(directory / "trials", trial)
        report = ingest(directory / "trials", directory / "redline.db")
        assert (report.added, report.damaged) == (len(given_trials), ())
        (_, ((count,),)) = query(directory / "redline.db", "SELECT count(*) FROM requests")
        assert count == sum(len(repeat.records) for trial in given_trials for repeat in trial.repeats)


# --- idempotence and rebuilding -----------------------------------------------------------------------------


@pytest.mark.slow
def test_rebuild_gives_the_same_content(tmp_path: Path) -> None:
    """A file grown day by day and one made afresh say exactly the same, in every table and view."""
    for number in range(12):
        pin = make_pin(f"0.{number % 3}.0")
        write_trial(tmp_path / "trials", make_trial(f"t{11 - number}", seed=number, pin=pin, text=f" {number % 2}"))
        if number % 4 == 0:
            ingest(tmp_path / "trials", tmp_path / "grown.db")
    ingest(tmp_path / "trials", tmp_path / "grown.db")
    ingest(tmp_path / "trials", tmp_path / "fresh.db")
    grown = dump(tmp_path / "grown.db")
    assert grown == dump(tmp_path / "fresh.db")
    assert len(grown["trials"]) == 12
    assert ingest(tmp_path / "trials", tmp_path / "grown.db").skipped == 12
    assert dump(tmp_path / "grown.db") == grown


def test_damaged_trials_are_skipped_counted_and_named(tmp_path: Path) -> None:
    """A truncated trial keeps nothing else out, leaves no trace, and goes in once it is mended."""
    for name in ("a", "b", "c"):
        write_trial(tmp_path / "trials", make_trial(name))
    file = tmp_path / "trials" / "b" / "requests.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    (tmp_path / "trials" / "notes").mkdir()
    report = ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert report.added == 2
    assert [item.path.name for item in report.damaged] == ["b", "notes"]
    assert "requests.parquet" in report.damaged[0].problem
    assert query(tmp_path / "redline.db", "SELECT count(*) FROM requests WHERE trial_id = 'b'")[1] == [(0,)]
    file.write_bytes(content)
    report = ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert (report.added, report.skipped, len(report.damaged)) == (1, 2, 1)


def test_a_trial_that_changed_is_reported(tmp_path: Path) -> None:
    """Another content under an id that was ingested is named as such; the database keeps what it has."""
    path = write_trial(tmp_path / "trials", make_trial(seed=1))
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    before = dump(tmp_path / "redline.db")
    shutil.rmtree(path)
    write_trial(tmp_path / "trials", make_trial(seed=2))
    report = ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert "differs" in report.damaged[0].problem
    assert dump(tmp_path / "redline.db") == before


def test_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A file made with other tables or another metric catalogue is not mixed with new rows."""
    write_trial(tmp_path / "trials", make_trial())
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    with duckdb.connect(str(tmp_path / "redline.db")) as connection:
        connection.execute("UPDATE about SET value = 'older' WHERE key = 'catalogue'")
    with pytest.raises(StoreError, match="another version") as caught:
        ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert "redline db rebuild" in caught.value.next_step


def test_file_that_is_no_database(tmp_path: Path) -> None:
    """A damaged file is a StoreError that says how to rebuild it, for writer and reader alike."""
    write_trial(tmp_path / "trials", make_trial())
    (tmp_path / "redline.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="cannot be used") as caught:
        ingest(tmp_path / "trials", tmp_path / "redline.db")
    assert "redline db rebuild" in caught.value.next_step
    with pytest.raises(StoreError, match="cannot be used"):
        query(tmp_path / "redline.db", "SELECT 1")


def test_missing_directory_and_database_are_usage_errors(tmp_path: Path) -> None:
    """A mistyped path is said to be that, and no empty database is left behind."""
    with pytest.raises(UsageError, match="not a directory"):
        ingest(tmp_path / "none", tmp_path / "redline.db")
    with pytest.raises(UsageError, match="no database"):
        query(tmp_path / "redline.db", "SELECT 1")
    assert not (tmp_path / "redline.db").exists()


def test_storage_format_is_the_portable_one(tmp_path: Path) -> None:
    """The file is written in the format that older versions of DuckDB read too."""
    write_trial(tmp_path / "trials", make_trial())
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    _, rows = query(
        tmp_path / "redline.db", "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
    )
    assert rows[0][0].startswith(STORAGE_VERSION)


# --- queries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "SELCT 1",
        "SELECT nothing FROM trials",
        "DELETE FROM trials",
        "CREATE TABLE mine (a INTEGER)",
        "COPY trials TO '{directory}/out.csv'",
        "SELECT * FROM read_text('{directory}/secret')",
        "ATTACH '{directory}/other.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ],
)
def test_query_reads_this_file_and_nothing_else(tmp_path: Path, sql: str) -> None:
    """Wrong SQL and SQL that would write, or reach another file or the network, end in DuckDB's own message."""
    write_trial(tmp_path / "trials", make_trial())
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    (tmp_path / "secret").write_text("secret")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        query(tmp_path / "redline.db", sql.format(directory=tmp_path))
    assert "Error" in caught.value.found
    assert sorted(tmp_path.iterdir()) == before
    assert query(tmp_path / "redline.db", "SELECT count(*) FROM trials")[1] == [(1,)]


def test_query_returns_columns_and_rows(tmp_path: Path) -> None:
    """Column names come in order, also without rows; an empty statement has neither."""
    write_trial(tmp_path / "trials", make_trial())
    ingest(tmp_path / "trials", tmp_path / "redline.db")
    columns, rows = query(tmp_path / "redline.db", "SELECT trial_id, 1 AS one FROM trials WHERE trial_id = ?", ("x",))
    assert (columns, rows) == (("trial_id", "one"), [])
    assert query(tmp_path / "redline.db", "  ") == ((), [])


def test_reading_of_a_hostile_score_is_undefined(tmp_path: Path) -> None:
    """A score of NaN makes its metric undefined for that trial; the rest of the trial goes in."""
    trial = make_trial()
    records = tuple(dataclasses.replace(record, score=math.nan) for record in trial.repeats[1].records)
    trial = dataclasses.replace(trial, repeats=(dataclasses.replace(trial.repeats[1], records=records),))
    path = write_trial(tmp_path / "trials", trial)
    assert math.isnan(read_trial(path).repeats[0].records[0].score or 0.0)
    assert ingest(tmp_path / "trials", tmp_path / "redline.db").added == 1
    _, rows = query(tmp_path / "redline.db", "SELECT metric FROM readings")
    assert "exact_match" not in {metric for (metric,) in rows}
    assert len(rows) == len(CATALOGUE) - 2  # neither it nor the mean of scores
