"""The key of somebody else's server: sent where it is asked for, repeated nowhere."""

from __future__ import annotations

import pytest

from redline.errors import LoadError
from redline.load.transfer import encode_plan
from redline.load.worker import load_worker
from redline.model import Outcome
from tests.load.hostile_server import GOOD, Talk, good, hostile_server
from tests.load.windows import plan_of, requests


def test_the_api_key_comes_from_its_variable_and_is_nowhere_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gets it with each request that may carry it; plan and answer hold nothing of it."""
    key = "sk-very-secret-31415"
    monkeypatch.setenv("REDLINE_API_KEY", f"{key}\n")
    seen: list[str | None] = []

    def script(talk: Talk) -> None:
        while talk.read_request():
            seen.append(talk.headers.get("authorization"))
            said = b"you sent " + str(seen[-1]).encode()
            talk.send(GOOD if len(seen) < 3 else b"HTTP/1.1 403 No\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    with hostile_server(script) as server, load_worker() as worker:
        plan = plan_of(server.url, requests(3), 1, with_api_key=True)
        window = worker.run(plan)
        worker.run(plan_of(server.url, requests(1), 1))
    assert seen == [f"Bearer {key}"] * 3 + [None]
    assert key not in encode_plan(plan).decode()
    assert key not in repr(window)
    assert [record.outcome for record in window.records] == [Outcome.OK, Outcome.OK, Outcome.HTTP_ERROR]
    assert window.records[2].detail.endswith("you sent Bearer [API key]")


def test_a_key_that_is_none_disturbs_only_who_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of ours is measured whatever the variable holds; where the key is asked for, it is refused unsaid."""
    monkeypatch.setenv("REDLINE_API_KEY", "two words-31415")
    with hostile_server(good) as server, load_worker() as worker:
        window = worker.run(plan_of(server.url, requests(2), 1))
        with pytest.raises(LoadError) as caught:
            worker.run(plan_of(server.url, requests(2), 1, with_api_key=True))
    assert [record.outcome for record in window.records] == [Outcome.OK] * 2
    assert "REDLINE_API_KEY" in str(caught.value)
    assert "31415" not in str(caught.value)
