"""A scenario for which the load client has no room is refused before anything is installed."""

from __future__ import annotations

import resource
import shutil
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flows.client_fit import client_needs, require_room
from flows.plan import Options, Wanted, make_plan
from flows.workload import Work, work_of
from flows.workspace import CHECKOUT, Workspace
from redline.errors import ExitCode, UsageError
from redline.load.bodies import http_request
from redline.load.http1 import request_bytes
from redline.model import (
    Arm,
    AudioPrompt,
    ChatPrompt,
    Concurrency,
    DatasetItems,
    Item,
    Prompt,
    TextPrompt,
    TokenPrompt,
)

CONTENT = Workspace(CHECKOUT, Path("nothing-is-kept"))
OFFLINE = CONTENT.scenario("gptj-stand-in-offline")
TOKENS_OF_ANSWER = 128


def asked(prompt: Prompt, request_count: int, **changes: object) -> Work:
    """One item, asked so many times."""
    workload = DatasetItems("gptj-stand-in", 24, TOKENS_OF_ANSWER)
    scenario = replace(OFFLINE, request_count=request_count, workload=workload, **changes)
    return Work(scenario, (Item("one", prompt, ""),) * request_count)


@pytest.mark.parametrize(
    "prompt",
    [
        TokenPrompt(tuple(range(10_000, 12_000))),
        TextPrompt("An article about cafés. " * 300),
        ChatPrompt((("system", "Sort it."), ("user", "A mug. " * 300)), ("data:image/png;base64," + "A" * 50_000,)),
        AudioPrompt(bytes(20_000)),
    ],
    ids=["token ids", "text", "chat", "audio"],
)
def test_prompts_are_estimated_as_they_are_sent(prompt: Prompt) -> None:
    """Within a quarter of the bytes of the requests themselves, of which the client holds every one."""
    work = asked(prompt, 3)
    sent = sum(
        len(request_bytes(http_request(httpx.URL("http://127.0.0.1:9"), each, "model")))
        for each in work.requests(0, "salt")
    )
    assert client_needs(work).payload_bytes == pytest.approx(sent, rel=0.25)


@pytest.mark.parametrize("name", ["offline-short", "accuracy-tiny"])
def test_made_up_prompts_are_estimated_too(name: str) -> None:
    """Without making them; their answers count as long as they may be."""
    scenario = CONTENT.scenario(name)
    work = work_of(CONTENT, scenario)
    needs, first = client_needs(work), work.requests(0, "salt")
    prompts = [each.prompt.token_ids for each in first if isinstance(each.prompt, TokenPrompt)]
    assert needs.payload_bytes >= len(first) * 4 * min(map(len, prompts))
    assert needs == client_needs(Work(scenario))


def test_what_has_no_room_is_refused_with_what_it_takes() -> None:
    """Memory by the audio that is held once for each request, and descriptors by the requests in flight."""
    huge = asked(AudioPrompt(bytes(50_000_000)), 200_000)
    with pytest.raises(UsageError) as caught:
        require_room(huge)
    message = str(caught.value)
    for told in ("gptj-stand-in-offline does not fit", "MiB", "200000 requests", "a shorter form", "more memory"):
        assert told in message, message
    assert caught.value.exit_code is ExitCode.USAGE


def test_more_open_connections_than_there_can_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed loop needs one for each request in flight, beside those that the client keeps for itself."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 264))
    require_room(asked(TokenPrompt((1,)), 1000, arrivals=Concurrency(200)))
    with pytest.raises(UsageError, match="more open connections than the system allows"):
        require_room(asked(TokenPrompt((1,)), 1000, arrivals=Concurrency(201)))


def test_a_plan_that_is_to_start_is_checked_and_one_to_be_looked_at_is_not(tmp_path: Path) -> None:
    """Before anything is installed: no folder of builds, no log; the scenario is named."""
    shutil.copytree(CHECKOUT / "checks" / "policies", tmp_path / "checks" / "policies")
    for folder in ("scenarios", "recipes", "runners"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    path = tmp_path / "scenarios" / "offline-short.toml"
    path.write_text(path.read_text().replace("output_tokens = 32", "output_tokens = 2000000000"))
    state = tmp_path / "state"
    options = Options(state, ("offline-short",), "cpu", 1.0, False, True, "redline", "redline run")
    wanted, workspace = (Wanted(Arm.SINGLE, "http://127.0.0.1:9"),), Workspace(tmp_path, state)
    with pytest.raises(UsageError, match="scenario offline-short does not fit this machine"):
        make_plan("run", workspace, options, wanted)
    assert not state.exists()
    assert make_plan("run", workspace, options, wanted, to_start=False).scenarios[0].name == "offline-short"
