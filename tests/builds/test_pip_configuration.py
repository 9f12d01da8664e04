"""pip's configuration, asked of a real pip, handed to uv."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from redline.builds import pip_configuration
from redline.builds.pip_configuration import PipConfiguration, uv_arguments, uv_environment, without_credentials
from redline.builds.uv_process import UvSetup, run_uv

_VARIABLES = ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "PIP_TRUSTED_HOST")

_PIP_CONF = """\
[global]
index-url = https://user:hunter2@mirror.example/simple
extra-index-url =
    file:///srv/simple
    file:///srv/more/simple
find-links = /srv/wheels /srv/other
cert = /etc/ssl/own.pem
trusted-host = mirror.example
[install]
find-links = /srv/install-only
[download]
find-links = /srv/not-for-us
"""


@pytest.fixture
def pip_conf(tmp_path: Path) -> dict[str, str]:
    """The environment of this process, with a pip configuration file of its own and no PIP_ variables."""
    path = tmp_path / "pip.conf"
    path.write_text(_PIP_CONF)
    rest = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    return {**rest, "PIP_CONFIG_FILE": str(path)}


def test_what_a_real_pip_says_is_understood(pip_conf: dict[str, str]) -> None:
    """Several entries on one or several lines, file addresses and the section of `pip install` are all read."""
    found = pip_configuration.read(environment=pip_conf)
    assert found.index_url == "https://user:hunter2@mirror.example/simple"
    assert found.extra_index_urls == ("file:///srv/simple", "file:///srv/more/simple")
    assert found.find_links == ("/srv/install-only",)
    assert found.cert == "/etc/ssl/own.pem"
    assert found.trusted_hosts == ("mirror.example",)
    assert not found.no_index


def test_variables_outrank_files(pip_conf: dict[str, str]) -> None:
    """`:env:.find-links` replaces `global.find-links` and `install.find-links`, as it does in pip."""
    found = pip_configuration.read(environment={**pip_conf, "PIP_FIND_LINKS": "/a  /b\n/c", "PIP_NO_INDEX": "true"})
    assert found.find_links == ("/a", "/b", "/c")
    assert found.no_index


def test_an_interpreter_without_pip_leaves_the_variables(tmp_path: Path) -> None:
    """An environment made by uv has no pip: the PIP_ variables are then all there is."""
    run_uv(["venv", "bare", "--python", sys.executable], setup=UvSetup(os.environ), directory=tmp_path, timeout_s=60)
    found = pip_configuration.read(
        tmp_path / "bare" / "bin" / "python",
        {"PIP_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple", "PIP_INDEX_URL": ""},
    )
    assert found == PipConfiguration(extra_index_urls=("https://a.example/simple", "https://b.example/simple"))


def test_a_password_is_never_printed(pip_conf: dict[str, str]) -> None:
    """The printed form of a configuration shows that there is a password, never which."""
    text = repr(pip_configuration.read(environment=pip_conf))
    assert "hunter2" not in text
    assert "https://***@mirror.example/simple" in text
    assert without_credentials("see ssh://me:pw@host/x and file:///y") == "see ssh://***@host/x and file:///y"


def test_uv_gets_everything_pip_knows() -> None:
    """Each of pip's settings arrives in uv's variable for it, with all indexes counting alike."""
    configuration = PipConfiguration(
        index_url="https://a.example/simple",
        extra_index_urls=("file:///b", "file:///c"),
        find_links=("/d", "https://e.example/links"),
        cert="/f.pem",
        trusted_hosts=("a.example",),
        no_index=True,
    )
    assert uv_environment(configuration, {"HOME": "/h"}) == {
        "HOME": "/h",
        "UV_INDEX_URL": "https://a.example/simple",
        "UV_EXTRA_INDEX_URL": "file:///b file:///c",
        "UV_FIND_LINKS": "/d,https://e.example/links",
        "SSL_CERT_FILE": "/f.pem",
        "UV_INSECURE_HOST": "a.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert uv_arguments(configuration) == ("--no-index",)
    assert uv_arguments(PipConfiguration()) == ()


def test_what_was_said_to_uv_itself_stays() -> None:
    """A user who configured uv through its own variables is not overruled by pip's configuration."""
    configuration = PipConfiguration(index_url="https://pip.example/simple", find_links=("/pip",))
    current = {"UV_DEFAULT_INDEX": "https://uv.example/simple", "UV_FIND_LINKS": "/uv"}
    assert uv_environment(configuration, current) == {**current, "UV_INDEX_STRATEGY": "unsafe-best-match"}
