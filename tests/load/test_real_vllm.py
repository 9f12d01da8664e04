"""The engine against a real vLLM: every kind of prompt, several tokens a chunk, streamed and not."""

from __future__ import annotations

import pytest

from redline.datasets.skill_tasks import BEGIN_TOKEN_ID, encode
from redline.load.client import LoadPlan
from redline.load.worker import load_worker
from redline.metrics import itl_s, tpot_s, ttft_s
from redline.model import ChatPrompt, Outcome, Request, StampSource, TextPrompt, TokenCounts, TokenPrompt
from tests.deploy.test_real_vllm import launched

pytestmark = pytest.mark.vllm

INTERVAL = 3
TASK, ANSWER = "R:redline=", "enilder"


@pytest.fixture(scope="module")
def base_url(vllm_build, tmp_path_factory):
    """A real server that sends a chunk every third token."""
    folder = tmp_path_factory.mktemp("real")
    with launched(vllm_build, folder, folder, ("--stream-interval", str(INTERVAL))) as server:
        yield server.wait_ready().base_url


def driven(base_url: str, *requests: Request, **changes: object):
    """The window of these requests, one at a time."""
    plan = LoadPlan((base_url,), "tiny-skill", requests, 1, 60.0, **changes)
    with load_worker() as worker:
        return worker.run(plan)


def request(index: int, prompt, *, output_tokens: int = 16, ignore_eos: bool = True, stream: bool = True) -> Request:
    """One request of this test."""
    return Request(index, prompt, output_tokens, ignore_eos, 0, f"salt{index}", stream=stream)


def test_every_prompt_kind_is_answered_and_its_tokens_are_counted_by_chunk(base_url: str) -> None:
    """Chunks hold several tokens, their ids add up to the usage, ITL is per token, stamps are the kernel's."""
    tokens = TokenPrompt((BEGIN_TOKEN_ID, *encode(TASK)))
    chat = ChatPrompt((("user", TASK),))
    window = driven(base_url, request(0, tokens), request(1, TextPrompt(TASK)), request(2, chat))
    assert [record.outcome for record in window.records] == [Outcome.OK] * 3, window.records
    for record in window.records:
        assert record.output_tokens == sum(record.chunk_tokens) == 16
        # On a busy machine the server joins two steps in one chunk: several tokens, never more than were made.
        assert max(record.chunk_tokens) >= INTERVAL
        assert len(itl_s(record)) == 16 - record.chunk_tokens[0]
        assert (ttft_s(record) or 0.0) > 0 and (tpot_s(record) or 0.0) > 0
        assert list(record.chunk_ns) == sorted(record.chunk_ns)
    assert window.client.token_counts is TokenCounts.IDS
    assert window.client.stamps is StampSource.KERNEL
    assert not window.client.simulated


def test_the_answer_is_the_same_by_tokens_by_text_and_unstreamed(base_url: str) -> None:
    """One task, three ways to ask: the same right answer, and an unstreamed one has one chunk and no TPOT."""
    tokens = TokenPrompt((BEGIN_TOKEN_ID, *encode(TASK)))
    window = driven(
        base_url,
        request(0, tokens, ignore_eos=False),
        request(1, TextPrompt(TASK), ignore_eos=False),
        request(2, tokens, ignore_eos=False, stream=False),
    )
    assert [record.output_text for record in window.records] == [ANSWER] * 3, window.records
    whole = window.records[2]
    assert whole.outcome is Outcome.OK
    assert len(whole.chunk_ns) == 1 and whole.chunk_tokens == (whole.output_tokens,)
    assert tpot_s(whole) is None


def test_continuous_usage_counts_what_token_ids_count(base_url: str) -> None:
    """Where a build returns no ids, usage in every chunk gives the same counts; asked for both, they agree."""
    window = driven(base_url, request(0, TextPrompt(TASK)), continuous_usage=True)
    (record,) = window.records
    assert record.outcome is Outcome.OK, record
    assert record.output_tokens == sum(record.chunk_tokens) == 16


def test_a_model_that_is_not_served_is_an_http_error(base_url: str) -> None:
    """vLLM's own words are kept."""
    plan = LoadPlan((base_url,), "another", (request(0, TextPrompt(TASK)),), 1, 60.0)
    with load_worker() as worker:
        (record,) = worker.run(plan).records
    assert record.outcome is Outcome.HTTP_ERROR
    assert "404" in record.detail and "another" in record.detail
