"""LoadGen's logs become values, and logs of a run that was cut off are refused, never half read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from redline.errors import LoadError
from redline.load.loadgen_logs import DETAIL, SUMMARY, GeneratedQueries, log_tail, read_logs

RUN = """
import sys, mlperf_loadgen as lg
scenario, mode, token_count, folder = sys.argv[1:]
settings, output, logs = lg.TestSettings(), lg.LogOutputSettings(), lg.LogSettings()
settings.scenario, settings.mode = getattr(lg.TestScenario, scenario), getattr(lg.TestMode, mode)
settings.server_target_qps = settings.offline_expected_qps = 20000.0
settings.min_duration_ms, settings.min_query_count, settings.qsl_rng_seed = 0, 500, 5
settings.use_token_latencies, settings.ttft_latency, settings.tpot_latency = True, 10**10, 10**10
output.outdir, output.copy_summary_to_stdout, logs.log_output = folder, False, output
def issue(ids, samples):
    for each in ids:
        if scenario == "Server":
            lg.FirstTokenComplete([lg.QuerySampleResponse(each, 0, 0)])
        lg.QuerySamplesComplete([lg.QuerySampleResponse(each, 0, 0, int(token_count))])
sut, qsl = lg.ConstructFastSUT(issue, lambda: None), lg.ConstructQSL(20, 20, lambda _: None, lambda _: None)
lg.StartTestWithLogSettings(sut, qsl, settings, logs, "")
"""


def run(folder: Path, scenario: str = "Server", mode: str = "PerformanceOnly", token_count: int = 9) -> Path:
    """A folder with the logs of a real run that was answered at once."""
    folder.mkdir()
    command = [sys.executable, "-c", RUN, scenario, mode, str(token_count), str(folder)]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def server_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of a Server run, to be read only."""
    return run(tmp_path_factory.mktemp("logs") / "server")


@pytest.fixture
def copied(server_dir: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(server_dir, tmp_path / "copied"))


def test_a_server_run_is_read_whole(server_dir: Path) -> None:
    """Judgement, rates, every percentile, early stopping of TTFT and TPOT, what was generated and the settings."""
    logs = read_logs(server_dir)
    assert (logs.scenario, logs.mode, logs.errors) == ("Server", "performance", ())
    assert logs.version.startswith("6.0.")
    assert logs.effective["qsl_rng_seed"] == 5
    assert logs.generated[0].query_count == 500
    result = logs.result
    assert result is not None
    assert result.valid
    assert result.min_duration_met and result.min_queries_met and result.early_stopping_met
    assert result.perf_constraints_met is True
    assert result.early_stopping == {"ttft": "* Run successful.", "tpot": "* Run successful."}
    for percentiles in (result.latency_ns, result.ttft_ns, result.tpot_ns):
        assert sorted(percentiles) == [50.0, 90.0, 95.0, 97.0, 99.0, 99.9]
        assert list(percentiles.values()) == sorted(percentiles.values())
    assert result.tokens_per_s == pytest.approx(result.samples_per_s * 9 * 500 / 499, rel=1e-4)
    assert result.scheduled_samples_per_s is not None


def test_an_offline_run_has_one_query_and_no_ttft(tmp_path: Path) -> None:
    """Its rates are of all samples over the longest latency; nothing is said about first tokens."""
    logs = read_logs(run(tmp_path / "offline", "Offline"))
    assert logs.generated == (GeneratedQueries(1, 500, 50_000),)
    assert logs.result is not None
    assert logs.result.query_count == 1
    assert logs.result.tokens_per_s == pytest.approx(9 * logs.result.samples_per_s, rel=1e-4)
    assert (logs.result.ttft_ns, logs.result.tpot_ns, logs.result.perf_constraints_met) == ({}, {}, None)


def test_an_accuracy_run_has_no_result(tmp_path: Path) -> None:
    """LoadGen judges nothing in accuracy mode."""
    logs = read_logs(run(tmp_path / "accuracy", mode="AccuracyOnly"))
    assert (logs.mode, logs.result, logs.generated[0].query_count) == ("accuracy", None, 20)


def test_errors_of_a_run_are_read(tmp_path: Path) -> None:
    """One for each sample that was completed without a token."""
    logs = read_logs(run(tmp_path / "errors", "Offline", token_count=0))
    assert len(logs.errors) == 500
    assert "record 0 as number of tokens" in logs.errors[0]


@pytest.mark.parametrize("name", [SUMMARY, DETAIL])
def test_a_missing_log_is_a_load_error(copied: Path, name: str) -> None:
    """It names the file."""
    (copied / name).unlink()
    with pytest.raises(LoadError, match=f"cannot be read: {name}"):
        read_logs(copied)


@pytest.mark.parametrize("name", [SUMMARY, DETAIL])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 0.995])
def test_a_log_that_ends_anywhere_is_a_load_error(copied: Path, name: str, share: float) -> None:
    """A run that was cut off has no result, however much of its log is there."""
    content = (copied / name).read_bytes()
    (copied / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LoadError, match="incomplete"):
        read_logs(copied)


def test_a_log_that_lost_its_last_entries_is_a_load_error(copied: Path) -> None:
    """Whole lines may be missing too: the count of errors is the last thing a run says."""
    lines = (copied / DETAIL).read_text().splitlines(keepends=True)
    (copied / DETAIL).write_text("".join(lines[:-1]))
    with pytest.raises(LoadError, match="incomplete") as caught:
        read_logs(copied)
    assert "num_errors" in caught.value.expected


def test_a_summary_that_says_otherwise_is_a_load_error(copied: Path) -> None:
    """Summary and detail log of two runs are no run."""
    text = (copied / SUMMARY).read_text()
    (copied / SUMMARY).write_text(text.replace("Result is : VALID", "Result is : INVALID"))
    with pytest.raises(LoadError, match="incomplete"):
        read_logs(copied)


def test_the_tail_is_words_whatever_state_the_log_is_in(copied: Path, tmp_path: Path) -> None:
    """Keys and values of the last entries; a log that is cut off or absent is no reason to fail."""
    assert log_tail(copied).endswith("num_errors: 0")
    content = (copied / DETAIL).read_bytes()
    (copied / DETAIL).write_bytes(content[:-300])
    assert "result_completed_tokens_per_second" in log_tail(copied)
    assert "no detail log" in log_tail(tmp_path)
