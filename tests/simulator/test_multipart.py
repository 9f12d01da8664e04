"""Uploads: the fields of multipart/form-data, and what is none."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redline.simulator.multipart import FIELD_COUNT_MAX, MultipartError, parse_form

TYPE = "multipart/form-data; boundary=xyz"


@given(content=st.binary(max_size=300), text=st.text("abc \n", max_size=20))
def test_what_httpx_sends_is_read(content, text):
    """Whatever bytes a file has, it comes out as it went in, with its name; a text is a text."""
    files, data = {"file": ("a b.wav", content)}, {"stream": text}
    request = httpx.Request("POST", "http://x", files=files, data=data)
    form = parse_form(request.headers["content-type"], request.read())
    assert (form["file"].content, form["file"].filename) == (content, "a b.wav")
    assert (form["stream"].text, form["stream"].filename) == (text.strip(), None)


def part(head: str, content: bytes = b"1") -> bytes:
    """One field, framed."""
    return b"--xyz\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "words"),
    [
        ("application/json", b"{}", "not multipart"),
        ("multipart/form-data", b"", "not multipart"),
        (TYPE, b"", "does not end"),
        (TYPE, part("content-disposition: form-data; name=a"), "does not end"),
        (TYPE, part("content-type: x") + b"--xyz--\r\n", "no name"),
        (TYPE, b"--xyz\r\nno head--xyz--\r\n", "does not end"),
        (TYPE, b"--xyz\r\nno head\r\n--xyz--\r\n", "no head"),
        (TYPE, part("a: " + "b" * 9000) + b"--xyz--\r\n", "too long"),
        (TYPE, part('content-disposition: form-data; name="a"') * (FIELD_COUNT_MAX + 1) + b"--xyz--\r\n", "more than"),
    ],
)
def test_what_is_no_form_is_refused(content_type, body, words):
    """Each with its reason."""
    with pytest.raises(MultipartError, match=words):
        parse_form(content_type, body)
