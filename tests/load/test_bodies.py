"""What a server is asked: each field only where the scenario wants it, so that older scenarios send what they did."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from redline.load.bodies import http_request
from redline.model import AudioPrompt, ChatPrompt, Prompt, Request, TextPrompt, TokenPrompt
from redline.simulator.multipart import parse_form

URL = httpx.URL("http://a")
PLAIN = Request(3, TokenPrompt((5, 6)), 16, False, 0, "salt")
CHAT = ChatPrompt((("system", "Be brief."), ("user", "What is it?")), ("data:image/png;base64,AA", "data:,B"))
AUDIO = AudioPrompt(b"RIFF", "one.wav", "audio/wav", "de")


def body_of(request: Request) -> dict[str, Any]:
    """The JSON that is sent."""
    return dict(json.loads(http_request(URL, request, "m").content))


def form_of(request: Request) -> dict[str, str]:
    """The text fields of the form that is sent."""
    sent = http_request(URL, request, "m")
    return {name: each.text for name, each in parse_form(sent.headers["content-type"], sent.content).items()}


@pytest.mark.parametrize("prompt", [PLAIN.prompt, TextPrompt("Hello"), CHAT], ids=["tokens", "text", "chat"])
def test_greedy_decoding_to_the_end_needs_no_more(prompt: Prompt) -> None:
    """What a scenario does not ask for is not sent: older scenarios ask what they always asked."""
    body = body_of(replace(PLAIN, prompt=prompt))
    assert body["temperature"] == 0
    assert not body.keys() & {"top_p", "min_tokens", "skip_special_tokens", "seed"}


@pytest.mark.parametrize("prompt", [PLAIN.prompt, TextPrompt("Hello"), CHAT], ids=["tokens", "text", "chat"])
@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"output_tokens_min": 4}, {"min_tokens": 4}),
        ({"top_p": 0.9}, {"top_p": 0.9}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"keep_special_tokens": True}, {"skip_special_tokens": False}),
    ],
    ids=",".join,
)
def test_what_is_asked_for_is_sent_and_nothing_else_changes(
    prompt: Prompt, changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    """One field more, or another value, for each wish."""
    request = replace(PLAIN, prompt=prompt)
    assert body_of(replace(request, **changes)) == body_of(request) | fields


def test_a_chat_puts_the_text_before_the_pictures() -> None:
    """MLPerf's reference does: the order decides the token ids. Turns before the last stay plain text."""
    body = body_of(replace(PLAIN, prompt=CHAT))
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "image_url", "image_url": {"url": "data:,B"}},
            ],
        },
    ]
    assert body["max_completion_tokens"] == 16
    assert "max_tokens" not in body


def test_a_chat_without_pictures_is_plain_text() -> None:
    """A server that knows no parts understands it."""
    turns = body_of(replace(PLAIN, prompt=replace(CHAT, image_urls=())))["messages"]
    assert [turn["content"] for turn in turns] == ["Be brief.", "What is it?"]


def test_speech_is_uploaded_with_its_language() -> None:
    """The file as it is, its name, its language, and what else the scenario says."""
    sent = http_request(URL, replace(PLAIN, prompt=AUDIO, temperature=0.2), "m")
    file = parse_form(sent.headers["content-type"], sent.content)["file"]
    assert (file.content, file.filename) == (b"RIFF", "one.wav")
    form = form_of(replace(PLAIN, prompt=AUDIO, temperature=0.2))
    assert {name: form[name] for name in ("model", "language", "temperature", "max_completion_tokens", "stream")} == {
        "model": "m",
        "language": "de",
        "temperature": "0.2",
        "max_completion_tokens": "16",
        "stream": "true",
    }
    assert "stream" not in form_of(replace(PLAIN, prompt=AUDIO, stream=False))
