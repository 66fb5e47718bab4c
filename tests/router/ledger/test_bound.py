"""What a call may cost at most is never less than what it can cost, whatever the client writes."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.auth import Caller
from router.errors import BadRequest
from router.ledger.bound import prompt_tokens, worst_nano
from router.ledger.pricing import Usage
from router.request import ClientRequest, Endpoint, parse_fields
from router.settings import Model
from router.upstream.model import ModelClient
from router.wire.body import Outgoing, outgoing

CALLER = Caller("k", "acme", None, frozenset(), True)
PRICE = {"input": 2.0, "cached_input": 0.2, "output": 8.0, "reasoning": 9.0, "image_input": 3.0}
TEMPLATE, MEDIA = 256, 4096
Json = dict[str, Any]
PROMPT: dict[str, Json] = {"chat": {"messages": []}, "completions": {"prompt": "a"}, "responses": {"input": "a"}}


def model(**more: Any) -> ModelClient:
    config = {"base_urls": ["http://127.0.0.1:1/v1"], "price": PRICE, "model": "m", "retries": 0, **more}

    async def build() -> ModelClient:  # its pool wants a running loop
        return ModelClient("m", Model.model_validate(config), None)

    return asyncio.run(build())


def request(endpoint: Endpoint, **fields: Any) -> ClientRequest:
    return raw_request(endpoint, json.dumps({"model": "m", **fields}).encode())


def raw_request(endpoint: Endpoint, body: bytes) -> ClientRequest:
    return ClientRequest(endpoint, body, [], CALLER, parse_fields(body))


def chat(content: Any = "hi", **fields: Any) -> ClientRequest:
    return request("chat", messages=[{"role": "user", "content": content}], **fields)


def sent(ask: ClientRequest, to: ModelClient) -> Outgoing:
    return outgoing(ask, to, bounded=True)


def inputs(ask: ClientRequest, to: ModelClient) -> int:
    return prompt_tokens(ask, to, sent(ask, to))


def worst(ask: ClientRequest, to: ModelClient) -> int:
    return worst_nano(ask, to, sent(ask, to), to.prices)


def answers(ask: ClientRequest, to: ModelClient) -> int:
    """Tokens of output that the bound leaves room for."""
    output = worst(ask, to) - to.prices.at_most(inputs(ask, to), 0)
    return output * 1_000_000 // to.prices.dearest_output


def image(data: str = "", **more: Any) -> Json:
    url = f"data:image/png;base64,{data}" if data else "https://example.com/cat.png"
    return {"type": "image_url", "image_url": {"url": url}, **more}


# --- any usage within the limits

choices = st.one_of(st.none(), st.integers(-3, 5))
texts = st.text(max_size=40)


@st.composite
def asked(draw: st.DrawFn) -> tuple[ClientRequest, int, int]:
    """A request, its tokens of prompt if each byte of text were one, and how many answers it asks for."""
    endpoint: Endpoint = draw(st.sampled_from(("chat", "completions", "responses", "embeddings")))
    fields: Json = {}
    count, images = 1, 0
    if endpoint == "chat":
        images = draw(st.integers(0, 2))
        parts: list[Json] = [{"type": "text", "text": draw(texts)}, *[image("QUJD" * 5)] * images]
        fields["messages"] = [{"role": "user", "content": parts}]
        words = parts[0]["text"]
    elif endpoint == "completions":
        prompts = draw(
            st.one_of(texts, st.lists(texts, min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1))
        )
        fields["prompt"] = prompts
        count = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str) else 1
        words = prompts if isinstance(prompts, str) else "".join(map(str, prompts))
        if isinstance(prompts, list) and isinstance(prompts[0], int):
            words = "x" * len(prompts)
    else:
        words = draw(texts)
        fields["input"] = words
    if endpoint != "embeddings":
        limit = draw(st.one_of(st.none(), st.integers(1, 50)))
        name = {"chat": draw(st.sampled_from(("max_tokens", "max_completion_tokens"))), "completions": "max_tokens"}
        if limit:
            fields[name.get(endpoint, "max_output_tokens")] = limit
    if endpoint in ("chat", "completions"):
        n, best_of = draw(choices), draw(choices) if endpoint == "completions" else None
        fields |= {key: value for key, value in (("n", n), ("best_of", best_of)) if value is not None}
        count *= max(1, n or 1, best_of or 1)
    tokens = len(words.encode("utf-8", "surrogatepass")) + images * MEDIA
    return request(endpoint, **fields), tokens, count


@settings(deadline=None)
@given(case=asked(), retries=st.integers(0, 3), cached=st.integers(0, 10**6), data=st.data())
def test_no_usage_within_the_bound_costs_more_than_was_reserved(
    case: tuple[ClientRequest, int, int], retries: int, cached: int, data: st.DataObject
) -> None:
    ask, tokens, count = case
    to = model(max_output_tokens=64, retries=retries, supports=["responses", "images", "n"])
    body = json.loads(sent(ask, to).body)
    limit = max(
        (body.get(name) or 0 for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")), default=0
    )
    assert limit > 0 or ask.endpoint == "embeddings"
    prompt = tokens + data.draw(st.integers(0, TEMPLATE))
    answer = 0 if ask.endpoint == "embeddings" else count * limit
    usage = Usage(
        prompt, answer, min(cached, prompt), data.draw(st.integers(0, answer)), data.draw(st.integers(0, prompt))
    )
    tried = retries * to.prices.cost(Usage(prompt, 0))
    assert to.prices.cost(usage) + tried <= worst(ask, to)


# --- the prompt


@pytest.mark.parametrize("text", ["plain", "ünïcödé", "日本語", "😀" * 9, '"\\\n\t\x01', "\u2028"])
def test_a_prompt_has_room_for_a_token_a_byte_however_it_is_written(text: str) -> None:
    for ascii_only in (True, False):
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}, ensure_ascii=ascii_only)
        assert inputs(raw_request("chat", body.encode()), model(max_output_tokens=1)) >= len(text.encode()) + TEMPLATE


@pytest.mark.parametrize("count", [1, 3])
def test_an_image_counts_as_configured_and_its_base64_does_not(count: int) -> None:
    pixels = base64.b64encode(bytes(100_000)).decode()
    to = model(max_output_tokens=1, supports=["images"])
    few = inputs(chat([{"type": "text", "text": "what is it?"}]), to)
    more = inputs(chat([{"type": "text", "text": "what is it?"}, *[image(pixels)] * count]), to)
    assert MEDIA * count <= more - few <= (MEDIA + 200) * count


@pytest.mark.parametrize(
    ("endpoint", "part"),
    [
        ("responses", {"type": "input_image", "image_url": "data:image/png;base64,DATA"}),
        ("chat", {"type": "image_url", "image_url": "data:image/png;base64,DATA"}),
        ("chat", {"type": "image_embeds", "image_embeds": "DATA"}),
    ],
)
def test_an_image_counts_likewise_however_it_is_said(endpoint: Endpoint, part: Json) -> None:
    written = json.loads(json.dumps(part).replace("DATA", "QUJD" * 10_000))
    field = {"chat": "messages", "responses": "input"}[endpoint]
    ask = request(endpoint, **{field: [{"role": "user", "content": [written]}]})
    assert MEDIA <= inputs(ask, model(max_output_tokens=1, supports=["responses"])) <= MEDIA + TEMPLATE + 400


@pytest.mark.parametrize(
    ("endpoint", "part"),
    [
        ("responses", {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,DATA"}),
        ("chat", {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,DATA"}}),
        ("chat", {"type": "input_audio", "input_audio": {"data": "DATA", "format": "wav"}}),
        ("chat", {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,DATA"}}),
    ],
)
def test_what_grows_with_its_length_is_counted_by_its_bytes(endpoint: Endpoint, part: Json) -> None:
    written = json.loads(json.dumps(part).replace("DATA", "QUJD" * 10_000))
    field = {"chat": "messages", "responses": "input"}[endpoint]
    ask = request(endpoint, **{field: [{"role": "user", "content": [written]}]})
    assert inputs(ask, model(max_output_tokens=1, supports=["responses"])) >= MEDIA + 40_000


def test_an_image_at_an_address_counts_too() -> None:
    assert inputs(chat([image()]), model(max_output_tokens=1)) >= MEDIA


@pytest.mark.parametrize(
    "hostile",
    [
        {"messages": [{"role": "user", "content": [image("QUJD"), {"type": "text", "text": "data:" + "x" * 50_000}]}]},
        {
            "messages": [
                {"role": "user", "content": "data:" + "x" * 50_000},
                {"role": "user", "content": [image("QUJD")]},
            ]
        },
        {
            "messages": [{"role": "user", "content": [image("QUJD")]}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"url": "data:" + "x" * 50_000}}}],
        },
        {
            "messages": [{"role": "user", "content": [image("QUJD")]}],
            "tools": [{"type": "image_url", "image_url": {"url": "data:" + "x" * 50_000}}],
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a", "image_url": {"url": "data:" + "x" * 50_000}}],
                }
            ]
        },
    ],
)
def test_text_that_looks_like_an_image_is_counted_as_text(hostile: Json) -> None:
    assert inputs(request("chat", **hostile), model(max_output_tokens=1)) >= 50_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image\\u005furl","image\\u005furl":{"url":"https://e.com/c.png"}}]}]}',
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"\\u0069nput_audio","\\u0069nput_audio":{"data":"QUJD"}}]}]}',
    ],
)
def test_an_image_whose_name_is_escaped_is_seen(body: bytes) -> None:
    assert inputs(raw_request("chat", body), model(max_output_tokens=1)) >= MEDIA


def test_several_media_in_one_part_all_count() -> None:
    part = {
        "type": "text",
        "text": "x",
        "image_url": {"url": "https://e.com/a"},
        "video_url": {"url": "https://e.com/b"},
    }
    assert inputs(chat([part]), model(max_output_tokens=1)) >= 2 * MEDIA


def test_a_prompt_has_no_more_tokens_than_the_context() -> None:
    assert inputs(chat("x" * 10_000), model(context_tokens=4096)) == 4096


def test_each_prompt_of_a_list_may_fill_the_context() -> None:
    ask = request("completions", prompt=["x" * 3000] * 10)
    assert inputs(ask, model(context_tokens=4096)) >= 10 * 3000


def test_embeddings_of_a_list_are_not_bounded_by_one_context() -> None:
    ask = request("embeddings", input=["x" * 3000] * 10)
    assert inputs(ask, model(context_tokens=4096)) >= 10 * 3000
    assert worst(ask, model(context_tokens=4096)) == model().prices.at_most(inputs(ask, model()), 0)


def test_media_in_a_body_that_is_nested_too_deeply_are_refused() -> None:
    deep = (
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}],"x":'
        + b"[" * 5000
        + b"]" * 5000
        + b"}"
    )
    to = model(max_output_tokens=1)
    with pytest.raises(BadRequest):
        inputs(raw_request("chat", deep), to)


# --- the answer


@pytest.mark.parametrize(
    ("endpoint", "fields", "expected"),
    [
        ("chat", {"max_tokens": 7}, 7),
        ("chat", {"max_completion_tokens": 7}, 7),
        ("chat", {"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ("chat", {"max_tokens": 7, "n": 3}, 21),
        ("chat", {"max_tokens": 7, "n": None}, 7),
        ("chat", {"max_tokens": None}, 64),
        ("chat", {}, 64),
        ("chat", {"max_tokens": 1000}, 1000),
        ("completions", {"prompt": "a", "max_tokens": 5, "n": 2, "best_of": 4}, 20),
        ("completions", {"prompt": ["a", "b", "c"], "max_tokens": 5}, 15),
        ("completions", {"prompt": ["a", "b"], "max_tokens": 5, "best_of": 3}, 30),
        ("completions", {"prompt": [1, 2, 3], "max_tokens": 5}, 5),
        ("completions", {"prompt": [[1, 2], [3]], "max_tokens": 5}, 10),
        ("completions", {"prompt": [], "max_tokens": 5}, 5),
        ("responses", {"max_output_tokens": 7}, 7),
        ("responses", {}, 64),
    ],
)
def test_the_answer_is_bounded_by_what_was_asked_for_times_the_answers(
    endpoint: Endpoint, fields: Json, expected: int
) -> None:
    prompt = PROMPT[endpoint]
    assert (
        answers(request(endpoint, **{**prompt, **fields}), model(max_output_tokens=64, supports=["responses"]))
        == expected
    )


@pytest.mark.parametrize(
    "fields", [{"n": -5}, {"n": -5, "best_of": -3}, {"n": 0}, {"best_of": -1}, {"n": 0, "best_of": 0}]
)
def test_fewer_than_no_answers_are_one(fields: Json) -> None:
    """Otherwise a request would reserve less than nothing, and make room for others."""
    ask = request("completions", prompt="a", max_tokens=5, **fields)
    assert answers(ask, model()) == 5


def test_the_context_bounds_an_answer_without_a_limit() -> None:
    assert answers(chat(), model(context_tokens=4096)) == 4096
    assert answers(chat(max_tokens=10**9), model(context_tokens=4096)) == 4096


def test_what_nothing_bounds_is_refused() -> None:
    with pytest.raises(BadRequest, match="set max_tokens") as caught:
        worst(chat(), model())
    assert caught.value.param == "max_tokens"


def test_a_limit_of_nought_bounds_nothing() -> None:
    """vLLM takes `max_completion_tokens: 0` for none."""
    assert answers(chat(max_completion_tokens=0), model(context_tokens=4096)) == 4096


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("chat", {"messages": [], "max_output_tokens": 1}),
        ("completions", {"prompt": "a", "max_output_tokens": 1}),
        ("completions", {"prompt": "a", "max_completion_tokens": 1}),
        ("responses", {"input": "a", "max_tokens": 1}),
        ("responses", {"input": "a", "max_completion_tokens": 1}),
    ],
)
def test_a_limit_that_the_api_does_not_read_bounds_nothing(endpoint: Endpoint, fields: Json) -> None:
    ask = request(endpoint, **fields)
    assert answers(ask, model(context_tokens=4096, supports=["responses"])) == 4096
    with pytest.raises(BadRequest, match="set max_tokens"):
        worst(ask, model(supports=["responses"]))


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses"])
def test_the_models_own_limit_goes_upstream_where_the_client_set_none(endpoint: Endpoint) -> None:
    prompt = PROMPT[endpoint]
    to = model(max_output_tokens=64, supports=["responses"])
    field = "max_output_tokens" if endpoint == "responses" else "max_tokens"
    out = sent(request(endpoint, **prompt), to)
    assert json.loads(out.body)[field] == out.output_limit == 64
    assert field not in json.loads(outgoing(request(endpoint, **prompt), to).body)


def test_a_translated_request_is_bounded_by_its_own_limit() -> None:
    to = model(max_output_tokens=64)
    out = sent(request("responses", input="a", max_output_tokens=9), to)
    assert out.dialect == "chat"
    assert answers(request("responses", input="a", max_output_tokens=9), to) == 9
    assert answers(request("responses", input="a"), to) == 64


# --- what `adapt` changes


def test_a_renamed_limit_still_bounds() -> None:
    adapt = {"rename": {"max_tokens": "max_completion_tokens"}}
    to = model(max_output_tokens=64, adapt=adapt)
    assert answers(chat(max_tokens=5), to) == 5
    assert answers(chat(), to) == 64
    assert json.loads(sent(chat(), to).body)["max_completion_tokens"] == 64


def test_a_limit_renamed_to_what_only_this_upstream_knows_bounds() -> None:
    to = model(max_output_tokens=64, adapt={"rename": {"max_tokens": "max_new_tokens"}})
    assert answers(chat(max_tokens=5), to) == 5
    assert answers(chat(), to) == 64


def test_a_limit_that_is_set_replaces_the_clients() -> None:
    to = model(adapt={"set": {"max_tokens": 40}})
    assert answers(chat(max_tokens=5), to) == 40
    assert answers(chat(), to) == 40


def test_a_dropped_limit_bounds_nothing() -> None:
    with pytest.raises(BadRequest):
        worst(chat(max_tokens=5), model(max_output_tokens=64, adapt={"drop": ["max_tokens"]}))
    assert answers(chat(max_tokens=5), model(context_tokens=100, adapt={"drop": ["max_tokens"]})) == 100


@pytest.mark.parametrize("adapt", [{"set": {"n": 4}}, {"rename": {"samples": "n"}}, {"set": {"best_of": 4}}])
def test_answers_that_adapt_asks_for_count(adapt: Json) -> None:
    assert answers(chat(max_tokens=5, samples=4), model(adapt=adapt)) == 20


def test_a_system_prompt_of_the_model_counts() -> None:
    to = model(max_output_tokens=1, adapt={"system_prompt": "x" * 5000})
    assert inputs(chat(), to) >= 5000
