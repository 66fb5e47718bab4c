"""The OpenAI surface over HTTP: answers, streams, log-probabilities, stops, counts."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionTokenLogprob

from serving.embedded.tokenizer import load_tokenizer
from tests.serving.embedded.conftest import eventually, metric
from tests.serving.embedded.tiny import CONTEXT_TOKENS

ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hé"}]}
SAMPLED: dict[str, Any] = {"temperature": 1.3, "seed": 5, "max_tokens": 60}
VARIANTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0, "max_tokens": 40},
    "sampled": SAMPLED,
    "several": {**SAMPLED, "n": 3},
    "logprobs": {**SAMPLED, "logprobs": True, "top_logprobs": 2},
    "stop": {**SAMPLED, "stop": ["e", "\ufffd"]},
    "tools": {**SAMPLED, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
}


@pytest.fixture(scope="module")
def letters(tiny_checkpoint: Path) -> dict[str, int]:
    """Token ids of a few letters."""
    tokenizer = load_tokenizer(tiny_checkpoint / "tokenizer.json")
    return {letter: tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "abc"}


def joined(chunks: list[ChatCompletionChunk], index: int) -> tuple[str, str | None, list[Any]]:
    """Text, finish reason and log-probabilities of one choice."""
    text, reason, tokens = "", None, []
    for choice in (choice for chunk in chunks for choice in chunk.choices if choice.index == index):
        text += choice.delta.content or ""
        reason = choice.finish_reason or reason
        tokens += (choice.logprobs.content or []) if choice.logprobs else []
    return text, reason, tokens


def tokens_of(answer: ChatCompletion) -> list[ChatCompletionTokenLogprob]:
    """The log-probabilities of the first choice."""
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    return logprobs.content or []


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_chat_stream_says_what_the_whole_answer_says(client: OpenAI, variant: dict[str, Any]) -> None:
    whole = client.chat.completions.create(**ASK, **variant)
    stream = client.chat.completions.create(**ASK, **variant, stream=True, stream_options={"include_usage": True})
    *chunks, last = list(stream)
    assert last.choices == []
    assert last.usage == whole.usage
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks)
    for choice in whole.choices:
        tokens = choice.logprobs.content if choice.logprobs else []
        assert joined(chunks, choice.index) == (choice.message.content, choice.finish_reason, tokens)
        first = next(chunk for chunk in chunks if chunk.choices[0].index == choice.index)
        assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")


@pytest.mark.parametrize("variant", [{**SAMPLED, "n": 2, "logprobs": 2}, {"temperature": 0}, {"stop": "a", **SAMPLED}])
def test_a_completion_stream_says_what_the_whole_completion_says(client: OpenAI, variant: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": ["on", "off"], **variant}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True))
    for choice in whole.choices:
        parts = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(part.text for part in parts) == choice.text
        assert parts[-1].finish_reason == choice.finish_reason
        if choice.logprobs is not None:
            tokens = [token for part in parts if part.logprobs for token in part.logprobs.tokens or []]
            offsets = [offset for part in parts if part.logprobs for offset in part.logprobs.text_offset or []]
            assert (tokens, offsets) == (choice.logprobs.tokens, choice.logprobs.text_offset)


def test_usage_counts_prompt_answer_and_end_token(client: OpenAI) -> None:
    answer = client.chat.completions.create(**ASK, max_completion_tokens=7, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    # "<|user|>hé", the end mark and "<|assistant|>": every byte is a token, the end mark is one.
    assert answer.usage.prompt_tokens == len("<|user|>hé".encode()) + 1 + len("<|assistant|>")
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (7, answer.usage.prompt_tokens + 7)
    ended = client.chat.completions.create(**ASK, logit_bias={"257": 100}, logprobs=True)
    assert ended.usage is not None
    assert (ended.usage.completion_tokens, ended.choices[0].message.content) == (1, "")
    assert ended.choices[0].finish_reason == "stop"
    assert [token.token for token in tokens_of(ended)] == ["<|im_end|>"]


def test_chat_log_probabilities_spell_the_answer_and_order_the_alternatives(client: OpenAI) -> None:
    answer = client.chat.completions.create(**ASK, **SAMPLED, logprobs=True, top_logprobs=20)
    tokens = tokens_of(answer)
    spelled = b"".join(bytes(token.bytes or []) for token in tokens).removesuffix(b"<|im_end|>")
    assert spelled.decode(errors="replace") == answer.choices[0].message.content
    for token in tokens:
        best = [entry.logprob for entry in token.top_logprobs]
        assert best == sorted(best, reverse=True)
        assert token.logprob <= best[0]
        assert 0 < sum(np.exp(best)) <= 1 + 1e-5


def test_a_greedy_answer_takes_the_most_probable_token_every_time(client: OpenAI) -> None:
    answer = client.chat.completions.create(**ASK, temperature=0, max_tokens=30, logprobs=True, top_logprobs=1)
    for token in tokens_of(answer):
        assert token.logprob == token.top_logprobs[0].logprob


def test_log_probabilities_do_not_depend_on_the_temperature(client: OpenAI) -> None:
    def first(temperature: float) -> float:
        answer = client.chat.completions.create(
            **ASK, temperature=temperature, logit_bias={"70": 100}, max_tokens=1, logprobs=True
        )
        return tokens_of(answer)[0].logprob

    assert first(0) == pytest.approx(first(2), abs=1e-5)


def test_echo_scores_the_prompt_as_generating_it_would(client: OpenAI, letters: dict[str, int]) -> None:
    bias = {str(token_id): 100 for token_id in letters.values()}
    written = client.completions.create(
        model="tiny", prompt="ab", max_tokens=8, temperature=0, logprobs=0, logit_bias=bias
    ).choices[0]
    echoed = client.completions.create(
        model="tiny", prompt="ab" + written.text, max_tokens=0, echo=True, logprobs=0
    ).choices[0]
    assert echoed.text == "ab" + written.text
    assert written.logprobs is not None
    assert echoed.logprobs is not None
    first, _, *scores = echoed.logprobs.token_logprobs or []
    assert first is None
    assert scores == pytest.approx(written.logprobs.token_logprobs, abs=1e-4)
    assert echoed.logprobs.text_offset == list(range(10))


def test_an_echo_shows_the_special_tokens_of_the_prompt(client: OpenAI) -> None:
    echoed = client.completions.create(model="tiny", prompt="a<|im_end|>b", max_tokens=0, echo=True, logprobs=0)
    choice = echoed.choices[0]
    assert choice.text == "a<|im_end|>b"
    assert choice.logprobs is not None
    assert (choice.logprobs.tokens, choice.logprobs.text_offset) == (["a", "<|im_end|>", "b"], [0, 1, 11])


def test_echo_of_a_long_prompt_is_scored_across_its_chunks(client: OpenAI) -> None:
    prompt = "é" * 300
    echoed = client.completions.create(model="tiny", prompt=prompt, max_tokens=2, echo=True, logprobs=1, stream=True)
    parts = [choice for chunk in echoed for choice in chunk.choices]
    assert "".join(part.text for part in parts).startswith(prompt)
    offsets = [offset for part in parts if part.logprobs for offset in part.logprobs.text_offset or []]
    assert offsets[:600] == [index // 2 for index in range(600)]


def test_token_ids_and_their_text_are_the_same_prompt(client: OpenAI, letters: dict[str, int]) -> None:
    ids = [letters[letter] for letter in "cab"]
    by_text = client.completions.create(model="tiny", prompt="cab", temperature=0)
    by_ids = client.completions.create(model="tiny", prompt=[ids, ids], temperature=0)
    assert [choice.text for choice in by_ids.choices] == [by_text.choices[0].text] * 2
    assert client.completions.create(model="tiny", prompt=ids, temperature=0).choices == by_text.choices


def test_a_seed_repeats_an_answer_and_choices_differ(client: OpenAI) -> None:
    def texts(seed: int) -> list[str | None]:
        answer = client.chat.completions.create(**{**ASK, **SAMPLED, "seed": seed, "n": 4})
        return [choice.message.content for choice in answer.choices]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert len(set(texts(1))) == 4


def test_a_tiny_top_p_is_greedy(client: OpenAI) -> None:
    greedy = client.chat.completions.create(**ASK, temperature=0, max_tokens=30)
    narrow = client.chat.completions.create(**ASK, temperature=1, top_p=1e-6, max_tokens=30)
    assert narrow.choices[0].message.content == greedy.choices[0].message.content


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_stop_string_ends_the_answer_before_itself(client: OpenAI, data: st.DataObject) -> None:
    free = client.chat.completions.create(**ASK, **SAMPLED).choices[0].message.content or ""
    start = data.draw(st.integers(0, len(free) - 1))
    stop = free[start : start + data.draw(st.integers(1, 4))]
    cut = client.chat.completions.create(**ASK, **SAMPLED, stop=[stop, "never there"])
    assert cut.choices[0].message.content == free[: free.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert (cut.choices[0].model_extra or {})["stop_reason"] == stop
    chunks = list(client.chat.completions.create(**ASK, **SAMPLED, stop=stop, stream=True))
    assert joined(chunks, 0)[0] == free[: free.index(stop)]


def test_without_a_limit_a_chat_may_fill_the_context_and_a_completion_stops_at_sixteen(client: OpenAI) -> None:
    long = "x" * (CONTEXT_TOKENS - 50)
    messages: Any = [{"role": "user", "content": long}]
    chat = client.chat.completions.create(model="tiny", messages=messages, extra_body={"ignore_eos": True})
    assert chat.usage is not None
    assert chat.usage.total_tokens == CONTEXT_TOKENS
    completion = client.completions.create(model="tiny", prompt="x", extra_body={"ignore_eos": True})
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 16


def test_embeddings_have_length_one_and_know_equal_texts(client: OpenAI) -> None:
    answer = client.embeddings.create(model="tiny", input=["same", "same", "other " * 100], encoding_format="float")
    vectors = np.array([entry.embedding for entry in answer.data])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[2], atol=1e-2)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 8 + 600


def test_embeddings_in_base64_are_the_same_numbers(client: OpenAI, tiny: str) -> None:
    plain = client.embeddings.create(model="tiny", input="text", encoding_format="float").data[0].embedding
    raw = httpx.post(f"{tiny}/v1/embeddings", json={"model": "tiny", "input": "text", "encoding_format": "base64"})
    packed = np.frombuffer(base64.b64decode(raw.json()["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(packed, plain, atol=1e-6)


def test_the_model_is_listed_with_its_context(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert (client.models.retrieve("tiny").model_extra or {})["max_model_len"] == CONTEXT_TOKENS


def test_text_parts_are_joined_and_developer_is_system(client: OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    split: Any = [{"role": "developer", "content": parts}, {"role": "user", "content": parts}]
    joined_up: Any = [{"role": "system", "content": "h\ni"}, {"role": "user", "content": "h\ni"}]
    answers = [
        client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=20)
        for messages in (split, joined_up)
    ]
    assert answers[0].choices == answers[1].choices
    assert answers[0].usage == answers[1].usage


def test_tools_lengthen_the_prompt_unless_the_choice_is_none(client: OpenAI) -> None:
    def prompt_tokens(**asked: Any) -> int:
        answer: ChatCompletion = client.chat.completions.create(**ASK, max_tokens=1, **asked)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    tools = [{"type": "function", "function": {"name": "f", "description": "é < ü", "parameters": {"type": "object"}}}]
    rendered = len(json.dumps(tools, ensure_ascii=False).encode())
    assert prompt_tokens(tools=tools) == prompt_tokens() + rendered
    assert prompt_tokens(tools=tools, tool_choice="none") == prompt_tokens()


def test_tool_arguments_reach_the_template_as_objects(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages: Any = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    usage = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1).usage
    assert usage is not None
    assert usage.prompt_tokens == len('<|assistant|>{"a": 1}') + 1 + len("<|assistant|>")


def test_a_request_id_is_taken_over(tiny: str) -> None:
    body = {**ASK, "max_tokens": 1}
    answer = httpx.post(f"{tiny}/v1/chat/completions", json=body, headers={"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.json()["id"] == "chatcmpl-abc-1"
    odd = httpx.post(f"{tiny}/v1/chat/completions", json=body, headers={"x-request-id": "<script>"})
    assert "<" not in odd.headers["x-request-id"]


def test_unknown_fields_and_nulls_are_ignored(tiny: str) -> None:
    body = {**ASK, "max_tokens": 1, "store": True, "user": "u", "stop": None, "n": None, "tools": None, "seed": None}
    assert httpx.post(f"{tiny}/v1/chat/completions", json=body).status_code == 200


def test_metrics_count_requests_tokens_and_first_tokens(client: OpenAI, tiny: str) -> None:
    def counts() -> list[float]:
        endpoint = {"endpoint": "/v1/chat/completions", "status": "200"}
        return [
            metric(tiny, "requests_total", **endpoint),
            metric(tiny, "tokens_total", kind="prompt"),
            metric(tiny, "tokens_total", kind="completion"),
            metric(tiny, "time_to_first_token_seconds_count"),
        ]

    eventually(lambda: metric(tiny, "sequences_running") == 0)
    before = counts()
    usage = client.chat.completions.create(**ASK, **SAMPLED, n=2).usage
    assert usage is not None
    expected = [1, 2 * usage.prompt_tokens, usage.completion_tokens, 2]
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == expected


def test_health_is_plain(tiny: str) -> None:
    assert httpx.get(f"{tiny}/health").json() == {"status": "ok"}
