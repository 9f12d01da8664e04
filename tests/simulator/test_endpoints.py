"""Every endpoint over real sockets: what it answers, and that tokens, usage, counters and log agree."""

from __future__ import annotations

import io
import time
import wave

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from redline.simulator.process import simulator
from redline.simulator.settings import parse_settings
from tests.simulator.asking import QUICK, body, counters, streamed


def sound(seconds: float) -> bytes:
    """A silent WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(8000)
        audio.writeframes(bytes(2 * round(8000 * seconds)))
    return buffer.getvalue()


def test_it_says_what_it_is(client):
    """Every answer is marked; version and models say that it is a stand-in."""
    version, models = client.get("/version"), client.get("/v1/models")
    assert version.json() == {"version": "0.32.0", "simulator": "redline"}
    [model] = models.json()["data"]
    assert (model["id"], model["owned_by"]) == ("tiny", "redline-simulate")
    answers = [version, models, client.get("/nothing"), client.delete("/health"), client.post("/v1/completions")]
    assert [entry.status_code for entry in answers] == [200, 200, 404, 405, 400]
    assert all(entry.headers["x-redline-simulator"] == "1" for entry in answers)


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")])
def test_it_is_healthy(client, method, path):
    """Health and ping answer 200 without a body."""
    response = client.request(method, path)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]], "three words here", ["three words here"]])
def test_a_completion_streams_a_chunk_a_token(client, prompt):
    """One event a token, the last with its reason, then usage, then [DONE]; a prompt is ids or words."""
    answer = streamed(client, json=body(prompt=prompt))
    choices = [event["choices"][0] for event in answer.token_events]
    assert [choice["text"] for choice in choices] == [f" t{1000 + index}" for index in range(8)]
    assert [choice["finish_reason"] for choice in choices] == [None] * 7 + ["length"]
    assert answer.events[-1]["usage"] == {"prompt_tokens": 3, "total_tokens": 11, "completion_tokens": 8}
    assert answer.events[-1]["choices"] == []
    assert len(answer.events) == 9
    assert answer.done
    assert {event["object"] for event in answer.events} == {"text_completion"}


def test_usage_comes_only_if_asked_for(client):
    """Without stream_options there is no usage event."""
    answer = streamed(client, json=body(stream_options=None))
    assert (len(answer.events), answer.done) == (8, True)
    assert not any("usage" in event for event in answer.events)


def test_continuous_usage_counts_the_tokens_so_far(client, change):
    """Each chunk says how many tokens there were."""
    change("timing", tokens_per_chunk=3)
    options = {"include_usage": True, "continuous_usage_stats": True}
    answer = streamed(client, json=body(stream_options=options))
    assert [event["usage"]["completion_tokens"] for event in answer.events] == [3, 6, 8, 8]


@pytest.mark.parametrize("per_chunk", [1, 3, 8, 20])
def test_token_ids_are_returned(client, change, per_chunk):
    """The prompt's ids come with the first chunk, the tokens' with each; all tokens come, in whole chunks."""
    change("timing", tokens_per_chunk=per_chunk)
    answer = streamed(client, json=body(return_token_ids=True))
    choices = [event["choices"][0] for event in answer.token_events]
    assert [choice["prompt_token_ids"] for choice in choices] == [[5, 6, 7]] + [None] * (len(choices) - 1)
    assert [token for choice in choices for token in choice["token_ids"]] == list(range(1000, 1008))
    assert [len(choice["token_ids"]) for choice in choices[:-1]] == [per_chunk] * (len(choices) - 1)
    assert "".join(choice["text"] for choice in choices).split() == [f"t{token}" for token in range(1000, 1008)]


def test_long_answers_repeat_their_names(client, change):
    """After a thousand tokens names and ids come again, and nothing is lost."""
    change("timing", ttft_s=0, itl_s=0, tokens_per_chunk=7)
    answer = streamed(client, json=body(max_tokens=2500, return_token_ids=True))
    ids = [token for event in answer.token_events for token in event["choices"][0]["token_ids"]]
    assert ids == [1000 + index % 1000 for index in range(2500)]


def test_a_whole_completion_says_the_same(client):
    """Without streaming: the same text, ids and usage in one JSON."""
    content = client.post("/v1/completions", json=body(stream=False, stream_options=None, return_token_ids=True)).json()
    [choice] = content["choices"]
    assert choice["text"].split() == [f"t{token}" for token in range(1000, 1008)]
    assert (choice["token_ids"], choice["prompt_token_ids"]) == (list(range(1000, 1008)), [5, 6, 7])
    assert (choice["finish_reason"], content["object"]) == ("length", "text_completion")
    assert content["usage"] == {"prompt_tokens": 3, "total_tokens": 11, "completion_tokens": 8}


def test_the_end_of_sequence_can_come_early(client, change):
    """With eos_after_tokens an answer stops there, unless the request ignores it."""
    change("serving", eos_after_tokens=5)
    early, ignoring = streamed(client, json=body(ignore_eos=False)), streamed(client, json=body())
    assert early.events[-1]["usage"]["completion_tokens"] == 5
    assert early.token_events[-1]["choices"][0]["finish_reason"] == "stop"
    assert ignoring.events[-1]["usage"]["completion_tokens"] == 8


def test_a_chat_begins_with_its_role(client):
    """First a role and no token, then the content; images are counted."""
    parts = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]
    request = body(
        messages=[{"role": "user", "content": parts}, {"role": "system", "content": "be brief"}], max_tokens=3
    )
    del request["prompt"]
    before = counters(client)
    answer = streamed(client, "/v1/chat/completions", json=request)
    deltas = [event["choices"][0]["delta"] for event in answer.token_events]
    assert deltas == [{"role": "assistant", "content": ""}] + [{"content": f" t{1000 + index}"} for index in range(3)]
    assert answer.events[-1]["usage"]["prompt_tokens"] == 3 + 256 + 2
    assert {event["object"] for event in answer.events} == {"chat.completion.chunk"}
    assert counters(client)["vllm:mm_cache_queries_total"] == before["vllm:mm_cache_queries_total"] + 1


def test_a_whole_chat_is_one_message(client):
    """Without streaming: one message; without a maximum: the default number of tokens."""
    messages = [{"role": "user", "content": "hello"}]
    content = client.post("/v1/chat/completions", json={"messages": messages}).json()
    [choice] = content["choices"]
    assert choice["message"]["role"] == "assistant"
    assert len(choice["message"]["content"].split()) == content["usage"]["completion_tokens"] == 32


def test_a_transcription_streams_deltas(client):
    """An upload is taken apart; each event has a delta, the last a reason; usage counts the sound's length."""
    form = {"model": "tiny", "stream": "true", "stream_include_usage": "true", "max_completion_tokens": "3"}
    answer = streamed(client, "/v1/audio/transcriptions", data=form, files={"file": ("a.wav", sound(2.0))})
    choices = [event["choices"][0] for event in answer.token_events]
    assert [choice["delta"]["content"] for choice in choices] == [" t1000", " t1001", " t1002"]
    assert [choice.get("finish_reason") for choice in choices] == [None, None, "length"]
    assert answer.events[-1]["usage"] == {"prompt_tokens": 100, "total_tokens": 103, "completion_tokens": 3}
    assert {event["object"] for event in answer.events} == {"transcription.chunk"}
    assert answer.done


def test_a_whole_transcription_is_a_text(client):
    """Without streaming: the text and the seconds of sound."""
    content = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", sound(3.0))}).json()
    assert len(content["text"].split()) == 32
    assert content["usage"] == {"type": "duration", "seconds": 3}


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"model": "other"}, 404, "`other` does not exist"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": ["a", "b"]}, 400, "batches"),
        ({"prompt": [1, "a"]}, 400, "batches"),
        ({"prompt": [-1]}, 400, "batches"),
        ({"prompt": {}}, 400, "prompt"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": "8"}, 400, "max_tokens"),
        ({"max_tokens": 40000}, 400, "maximum context length"),
        ({"stream": "yes"}, 400, "stream must be true or false"),
        ({"stream": False}, 400, "Stream options"),
        ({"stream_options": []}, 400, "stream_options"),
        ({"n": 2}, 400, "n must be 1"),
    ],
)
def test_a_wrong_completion_is_refused_as_vllm_does(client, changes, status, word):
    """OpenAI's form of an error, and the connection goes on."""
    response = client.post("/v1/completions", json=body(**changes))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, status)
    assert word in error["message"]
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "arguments", "word"),
    [
        ("/v1/completions", {"content": b"{"}, "not JSON"),
        ("/v1/completions", {"content": b"[" * 200_000}, "not JSON"),
        ("/v1/completions", {"content": b"3"}, "not a JSON object"),
        ("/v1/chat/completions", {"json": {"messages": []}}, "messages"),
        ("/v1/chat/completions", {"json": {"messages": [{"content": "x"}]}}, "role"),
        ("/v1/chat/completions", {"json": {"messages": [{"role": "user", "content": [{"type": "x"}]}]}}, "'x'"),
        ("/v1/audio/transcriptions", {"json": {}}, "multipart"),
        ("/v1/audio/transcriptions", {"files": {"other": b"x"}}, "file must be"),
        ("/v1/audio/transcriptions", {"files": {"file": ("a", b"")}}, "file must be"),
        ("/v1/audio/transcriptions", {"files": {"file": b"x"}, "data": {"max_completion_tokens": "-1"}}, "at least 1"),
        ("/tokenize", {"json": {}}, "prompt"),
    ],
)
def test_a_wrong_body_is_refused(client, path, arguments, word):
    """What is no request of the endpoint is answered 400 and says why."""
    response = client.post(path, **arguments)
    assert response.status_code == 400
    assert word in response.json()["error"]["message"]


def test_tokens_are_words(client):
    """/tokenize counts a token a word."""
    content = client.post("/tokenize", json={"prompt": "one two  three"}).json()
    assert (content["count"], content["tokens"]) == (3, [1000, 1001, 1002])


def test_counters_agree_with_what_was_served(client, change):
    """Tokens, requests, phases and cache hits add up over streamed and whole answers."""
    change("serving", prefix_cache_hit_share=0.5)
    before = counters(client)
    for stream in (True, False):
        client.post("/v1/completions", json=body(prompt=[1] * 10, stream=stream, stream_options=None)).read()
    after = counters(client)
    grown = {name: value - before[name] for name, value in after.items() if value != before[name]}
    assert grown["vllm:prompt_tokens_total"] == 20
    assert grown["vllm:generation_tokens_total"] == 16
    assert grown['vllm:request_success_total{finished_reason="length"}'] == 2
    assert (grown["vllm:prefix_cache_queries_total"], grown["vllm:prefix_cache_hits_total"]) == (20, 10)
    assert grown["vllm:inter_token_latency_seconds_count"] == 14
    for phase in ("request_queue_time", "request_prefill_time", "request_decode_time", "time_to_first_token"):
        assert after[f"vllm:{phase}_seconds_count"] - before[f"vllm:{phase}_seconds_count"] == 2
    whole = grown["vllm:e2e_request_latency_seconds_sum"]
    parts = grown["vllm:time_to_first_token_seconds_sum"] + grown["vllm:request_decode_time_seconds_sum"]
    assert whole == pytest.approx(parts, abs=1e-9)
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0


def test_metrics_are_prometheus_text(client):
    """The official parser reads them, and buckets end in the count."""
    streamed(client, json=body())
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    histogram = families["vllm:e2e_request_latency_seconds"]
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in histogram.samples}
    name = "vllm:e2e_request_latency_seconds"
    assert values[f"{name}_bucket", "+Inf"] == values[f"{name}_count", None] >= 1
    assert values[f"{name}_bucket", "0.3"] <= values[f"{name}_bucket", "+Inf"]
    assert families["vllm:prompt_tokens"].samples[0].labels == {"engine": "0", "model_name": "tiny"}


def test_the_log_agrees_with_what_came(client, running):
    """Keyed by x-request-id, due in order, sent when due or later, and before it was received."""
    arrivals_ns = []
    start_ns = time.monotonic_ns()
    with client.stream("POST", "/v1/completions", json=body(), headers={"x-request-id": "mine-1"}) as response:
        arrivals_ns += [time.monotonic_ns() for _ in response.iter_raw()]
    [entry] = running.log()
    assert (entry.request_id, entry.end, len(entry.due_ns)) == ("mine-1", "finished", 8)
    assert start_ns < entry.first_byte_ns <= entry.received_ns < entry.due_ns[0]
    assert [due_ns - entry.received_ns for due_ns in entry.due_ns] == [5_000_000 + 2_000_000 * n for n in range(8)]
    assert all(sent_ns >= due_ns for due_ns, sent_ns in zip(entry.due_ns, entry.sent_ns, strict=True))
    assert list(entry.sent_ns) == sorted(entry.sent_ns)
    assert entry.sent_ns[0] <= arrivals_ns[0]
    assert entry.end_ns == entry.sent_ns[-1] <= arrivals_ns[-1]


def test_both_forms_of_the_log_agree(client, running):
    """JSON and binary hold the same times; a reset empties the log."""
    for name in ("a", "b" * 200):
        streamed(client, json=body(), headers={"x-request-id": name})
    plain, binary = running.log(), running.binary_log(reset=True)
    assert [entry.request_id for entry in plain] == ["a", "b" * 96]
    assert [row["id"].decode() for row in binary.requests] == ["a", "b" * 96]
    assert [row["end"] for row in binary.requests] == [b"finished"] * 2
    assert binary.due_ns.tolist() == [due_ns for entry in plain for due_ns in entry.due_ns]
    assert binary.sent_ns.tolist() == [sent_ns for entry in plain for sent_ns in entry.sent_ns]
    assert [row["chunk_first"] for row in binary.requests] == [0, 8]
    assert [row["received_ns"] for row in binary.requests] == [entry.received_ns for entry in plain]
    assert running.log() == ()


def test_requests_without_a_name_are_numbered(client, running):
    """The key is a serial number, and the answer's id holds it."""
    answer = streamed(client, json=body())
    [entry] = running.log()
    assert answer.events[0]["id"] == f"cmpl-{entry.request_id}"
    assert entry.request_id.isdigit()


def test_a_key_is_asked_for_under_v1_only():
    """As vLLM: 401 under /v1 without the key, health and metrics for everybody; its own settings are protected."""
    with (
        simulator(parse_settings(QUICK), api_key="secret") as running,
        httpx.Client(base_url=running.base_url, trust_env=False) as client,
    ):
        refused = client.post("/v1/completions", json=body())
        assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
        paths = {path: client.get(path).status_code for path in ("/v1/models", "/health", "/metrics", "/simulator/log")}
        assert paths == {"/v1/models": 401, "/health": 200, "/metrics": 200, "/simulator/log": 401}
        assert client.get("/v1/models", headers={"authorization": "Bearer wrong"}).status_code == 401
        assert streamed(client, json=body(), headers={"authorization": "Bearer secret"}).done
        assert len(running.log()) == 1
