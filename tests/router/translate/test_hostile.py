"""Whatever JSON a client or a model's server sends, the only errors are the client's 400 and the upstream's failure."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import BadRequest, UpstreamFailed
from router.translate import ResponseStream, chat_request, response, sse

KNOWN_WORDS = """
    type role user assistant content text message input_text input_image image_url function function_call call_id name
    arguments output allowed_tools mode tools format json_schema schema choices delta index logprobs token bytes id
    tool_calls finish_reason usage error code reasoning refusal top_logprobs prompt_tokens_details
"""
KNOWN_FIELDS = """
    model input instructions tools tool_choice text reasoning include metadata stream stream_options top_logprobs n
    previous_response_id background truncation max_output_tokens parallel_tool_calls
"""
WORDS, FIELDS = (st.sampled_from(names.split()) for names in (KNOWN_WORDS, KNOWN_FIELDS))
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(fields=st.dictionaries(FIELDS, JSON, max_size=3), items=st.none() | st.lists(st.dictionaries(WORDS, JSON)))
def test_any_request_is_translated_or_a_bad_request(fields: dict[str, Any], items: list[Any] | None) -> None:
    body = {"model": "m", "input": items or "hi"} | fields
    with suppress(BadRequest):
        chat_request(body)
        ended = response(body, {"choices": [{"message": {}}]}, response_id="resp_1", created_at=1)
        sse({"type": "response.completed", "response": ended})


@settings(deadline=None)
@given(
    chunks=st.lists(JSON | st.fixed_dictionaries({"choices": st.lists(st.dictionaries(WORDS, JSON)), "usage": JSON}))
)
def test_any_stream_ends_or_is_the_upstreams_failure(chunks: list[Any]) -> None:
    stream = ResponseStream({"model": "m", "input": "hi", "top_logprobs": 1}, response_id="resp_1", created_at=1)
    events = stream.start()
    try:
        for chunk in chunks:
            events += stream.feed(chunk)
    except UpstreamFailed as error:
        events += stream.fail(error.body())
    events += stream.finish()
    assert events[-1]["type"] in ("response.completed", "response.incomplete", "error")
    assert all(sse(event).endswith(b"\n\n") for event in events)
