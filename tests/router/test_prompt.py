"""What estimators look at is the same live and from the record of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.query import Query
from router.auth import ANYBODY, Caller
from router.prompt import query_of
from router.request import ClientRequest, Endpoint, parse_fields

TOOL = {"type": "function", "function": {"name": "look", "parameters": {}}}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "said"},
    {"role": "user", "content": [{"type": "text", "text": "second"}, {"type": "image_url", "image_url": {"url": "u"}}]},
]


def live(endpoint: Endpoint, body: dict[str, Any], caller: Caller = ANYBODY) -> Query:
    data = json.dumps({"model": "auto"} | body).encode()
    return ClientRequest(endpoint, data, [], caller, parse_fields(data)).query("auto")


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        (
            "chat",
            {"messages": CHAT, "tools": [TOOL, TOOL], "max_tokens": 9},
            {
                "system": "Be brief.",
                "last": "second",
                "whole": "first\nsaid\nsecond",
                "turns": 2,
                "tools": 2,
                "output_tokens": 9,
                "needs": frozenset({"tools", "images"}),
            },
        ),
        ("completions", {"prompt": "once"}, {"last": "once", "whole": "once"}),
        ("responses", {"input": "ask", "instructions": "kindly"}, {"system": "kindly", "last": "ask", "whole": "ask"}),
        ("chat", {"messages": []}, {"last": "", "whole": ""}),
        ("chat", {"messages": [{"role": "system", "content": "s"}]}, {"system": "s", "last": "", "turns": 0}),
    ],
)
def test_a_request_shows_its_texts_and_its_structure(
    endpoint: Endpoint, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    query = live(endpoint, body)
    assert {name: getattr(query, name) for name in expected} == expected
    record = {"model": "auto"} | body
    assert query == query_of(record, needs=query.needs, tenant=query.tenant, key=query.key, route="auto")
