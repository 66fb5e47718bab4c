"""However a completion is cut into chunks, its events are OpenAI's and end in the Response of the whole completion."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from router.errors import UpstreamFailed
from router.translate import ResponseStream, response, sse

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
REQUEST = {"model": "auto", "input": "hi", "stream": True, "include": ["message.output_text.logprobs"]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(delta: Json, finish_reason: str | None = None, **fields: Any) -> Json:
    return {"model": "big-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason} | fields]}


def call_delta(index: int, arguments: str = "", **fields: Any) -> Json:
    return {
        "tool_calls": [{"index": index, "function": {"arguments": arguments} | fields.pop("function", {})} | fields]
    }


def run(chunks: list[Json]) -> list[Json]:
    """All events of a stream, each of which OpenAI's types accept, numbered without a gap."""
    stream = ResponseStream(REQUEST, response_id="resp_ab", created_at=7)
    events = stream.start()
    for one in chunks:
        events += stream.feed(one)
    events += stream.finish()
    for event in events:
        assert EVENT.validate_python(event).type == event["type"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def token(text: str) -> Json:
    return {"token": text, "bytes": list(text.encode()), "logprob": -0.5, "top_logprobs": []}


PIECES = st.lists(st.text(min_size=1, max_size=3), max_size=4)
CALLS = st.lists(st.tuples(st.text("abc", min_size=1), PIECES), max_size=3)
FINISH = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@settings(deadline=None)
@given(reasoning=PIECES, text=PIECES, refusal=PIECES, calls=CALLS, finish_reason=FINISH, data=st.data())
def test_the_last_event_is_the_response_of_the_assembled_completion(
    reasoning: list[str],
    text: list[str],
    refusal: list[str],
    calls: list[tuple[str, list[str]]],
    finish_reason: str,
    data: st.DataObject,
) -> None:
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"reasoning_content": piece}) for piece in reasoning]
    chunks += [chunk({"content": piece}, logprobs={"content": [token(piece)]}) for piece in text]
    chunks += [chunk({"refusal": piece}) for piece in refusal]
    heads = [
        chunk(call_delta(index, id=f"c{index}", type="function", function={"name": name}))
        for index, (name, _) in enumerate(calls)
    ]
    left = {index: iter(parts) for index, (_, parts) in enumerate(calls)}
    turns = data.draw(st.permutations([index for index, (_, parts) in enumerate(calls) for _ in parts]))
    chunks += heads + [chunk(call_delta(index, next(left[index]))) for index in turns]
    chunks += [chunk({}, finish_reason), {"choices": [], "usage": USAGE}]

    message: Json = {"reasoning_content": "".join(reasoning), "content": "".join(text), "refusal": "".join(refusal)}
    message["tool_calls"] = [
        {"id": f"c{index}", "function": {"name": name, "arguments": "".join(parts)}}
        for index, (name, parts) in enumerate(calls)
    ]
    choice = {"message": message, "finish_reason": finish_reason, "logprobs": {"content": [token(t) for t in text]}}
    whole = {"model": "big-1", "choices": [choice], "usage": USAGE}
    events = run(chunks)
    assert events[-1]["response"] == response(REQUEST, whole, response_id="resp_ab", created_at=7)
    _check_that_deltas_add_up(events)


def _check_that_deltas_add_up(events: list[Json]) -> None:
    grown: dict[tuple[str, int], str] = {}
    for event in events:
        key = (event.get("item_id", ""), event.get("content_index", 0))
        if event["type"].endswith(".delta"):
            grown[key] = grown.get(key, "") + event["delta"]
        elif event["type"].endswith((".output_text.done", ".reasoning_text.done")):
            assert event["text"] == grown.get(key, "")
        elif event["type"].endswith(".refusal.done"):
            assert event["refusal"] == grown[key]
        elif event["type"].endswith(".function_call_arguments.done"):
            assert event["arguments"] == grown.get(key, "")
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: item["id"]) == sorted(events[-1]["response"]["output"], key=lambda i: i["id"])


def test_events_of_a_text_answer_come_in_openais_order() -> None:
    chunks = [chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop")]
    assert [event["type"].removeprefix("response.") for event in run(chunks)] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_reasoning_is_done_before_the_answer_begins() -> None:
    chunks = [chunk({"reasoning": "hm"}), chunk({"content": "a"}), chunk(call_delta(0, "{}", id="c", name="f"))]
    events = run(chunks)
    indexes = [event["output_index"] for event in events if event["type"].startswith("response.output_item")]
    assert indexes == [0, 0, 1, 1, 2, 2]


def test_text_that_resumes_after_reasoning_or_a_call_is_an_item_of_its_own() -> None:
    chunks = [
        chunk({"content": "a"}),
        chunk({"reasoning": "hm"}),
        chunk({"content": "b"}),
        chunk(call_delta(0, "{}", id="c", name="f")),
        chunk({"content": "c"}),
    ]
    output = run(chunks)[-1]["response"]["output"]
    kinds = ["message", "reasoning", "message", "function_call", "message"]
    assert [item["type"] for item in output] == kinds
    assert all(first["id"] != second["id"] for first, second in pairwise(output))


def test_a_token_without_text_gives_its_logprob_to_the_text_around_it() -> None:
    chunks = [
        chunk({"content": ""}, logprobs={"content": [token("\u00c3")]}),
        chunk({"content": "é"}, logprobs={"content": [token("©")]}),
        chunk({}, "stop", logprobs={"content": [token("</s>")]}),
    ]
    part = run(chunks)[-1]["response"]["output"][0]["content"][0]
    assert [entry["token"] for entry in part["logprobs"]] == ["\u00c3", "©", "</s>"]


def test_other_choices_are_left_out() -> None:
    other = {
        "model": "m",
        "choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "y"}}],
    }
    assert run([other])[-1]["response"]["output"][0]["content"][0]["text"] == "y"


def test_a_failure_reports_what_was_produced_and_ends_the_stream() -> None:
    stream = ResponseStream(REQUEST, response_id="resp_ab", created_at=7)
    stream.start()
    stream.feed(chunk({"content": "half"}))
    error = {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}
    failed, raised = stream.feed({"error": error})
    assert EVENT.validate_python(failed).response.error.code == "rate_limit_exceeded"
    assert EVENT.validate_python(raised).message == "slow down"
    assert failed["response"]["output"][0]["status"] == "incomplete"
    assert raised["error"] == error
    assert stream.feed(chunk({"content": "more"})) == stream.finish() == stream.fail(error) == []


@pytest.mark.parametrize("error", [{"error": "boom"}, {"message": "boom", "code": 7}])
def test_a_failure_of_any_shape_is_a_server_error(error: Json) -> None:
    failed, raised = ResponseStream(REQUEST, response_id="resp_ab", created_at=7).fail(error)
    assert failed["response"]["error"] == {"code": "server_error", "message": "boom"}
    assert EVENT.validate_python(raised).message == "boom"


def test_a_chunk_of_the_wrong_shape_is_the_upstreams_failure() -> None:
    stream = ResponseStream(REQUEST, response_id="resp_ab", created_at=7)
    with pytest.raises(UpstreamFailed, match="content"):
        stream.feed(chunk({"content": ["a"]}))


def test_an_event_is_framed_with_its_type() -> None:
    framed = sse({"type": "response.x", "delta": "é\n"})
    assert framed.decode() == 'event: response.x\ndata: {"type":"response.x","delta":"é\\n"}\n\n'
