"""The body that goes upstream: the client's own bytes where nothing changes, else only the fields that must.

The gateway's additions (usage in streams, log-probabilities for a gate) come first, then the model's `adapt` block,
which has the last word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from router.errors import BadRequest
from router.prompt import OUTPUT_LIMITS
from router.request import ClientRequest, Fields
from router.settings import Adapt
from router.translate import chat_request
from router.upstream.model import ModelClient
from router.wire.logprobs import ALTERNATIVES

Dialect = Literal["chat", "completions", "responses", "embeddings"]

PATHS: Mapping[Dialect, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "responses": "/responses",
    "embeddings": "/embeddings",
}
LIMIT_FIELD: Mapping[Dialect, str] = {
    "chat": "max_tokens",
    "completions": "max_tokens",
    "responses": "max_output_tokens",
}
_NO_ADAPT = Adapt()
_OFF = (b"null", b"false")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as one model gets it. `hides_*`: what the gateway asked for and the client must not see.

    `output_limit`: the longest answer that it allows, in tokens, where it says so.
    """

    dialect: Dialect
    body: bytes
    stream: bool
    hides_usage: bool = False
    hides_logprobs: bool = False
    output_limit: int | None = None

    @property
    def path(self) -> str:
        return PATHS[self.dialect]


def outgoing(
    request: ClientRequest,
    model: ModelClient,
    *,
    scored: bool = False,
    entropies: bool = False,
    background: bool = False,
    bounded: bool = False,
) -> Outgoing:
    """`request` for `model`. `scored`: its log-probabilities are needed, with alternatives for `entropies`;
    `background`: not streamed, chat if possible; `bounded`: the answer must have a limit, the model's own where the
    client set none.

    Raises BadRequest where a Responses request cannot be said in chat, or what has to be changed cannot be read.
    """
    try:
        return _outgoing(request, model, scored, entropies, background, bounded)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the request body cannot be read: {error}", code="invalid_json") from None


def _outgoing(
    request: ClientRequest, model: ModelClient, scored: bool, entropies: bool, background: bool, bounded: bool
) -> Outgoing:
    dialect = _dialect(request, model, scored or background)
    translated = dialect != request.endpoint
    fields: Fields = chat_request(_decoded(request)) if translated else request.fields
    stream = request.stream and not background
    changes: Fields = {}
    if model.upstream_name != request.model:
        changes["model"] = model.upstream_name
    if request.stream and background:
        fields = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
    hides_usage = stream and dialect in ("chat", "completions") and not _asks_for_usage(fields)
    if hides_usage:
        changes["stream_options"] = _options(fields) | {"include_usage": True}
    hides_logprobs = scored and _raw(fields.get("logprobs")) in _OFF
    if hides_logprobs:
        changes |= _logprobs(dialect, ALTERNATIVES if entropies else 0)
    limit = output_limit(fields) if bounded else None
    if bounded and limit is None and dialect in LIMIT_FIELD and model.config.max_output_tokens is not None:
        limit = changes[LIMIT_FIELD[dialect]] = model.config.max_output_tokens
    shadow = model.config.shadow.set if background else {}
    if not (changes or shadow or translated) and fields is request.fields and _passes_as_it_came(request, model):
        return Outgoing(dialect, request.body, stream, output_limit=limit)
    final = _adapted({**fields, **changes}, model.config.adapt, dialect) | shadow
    if bounded and (shadow or model.config.adapt != _NO_ADAPT):
        limit = output_limit(final)
    return Outgoing(dialect, msgspec.json.encode(final), stream, hides_usage and not translated, hides_logprobs, limit)


def output_limit(fields: Fields) -> int | None:
    """The largest output limit among a request's fields, in tokens."""
    limits = [_raw(fields[name]) for name in OUTPUT_LIMITS if name in fields]
    return max((int(limit) for limit in limits if limit.isdigit()), default=None)


def _passes_as_it_came(request: ClientRequest, model: ModelClient) -> bool:
    """A body that names its model twice does not: the upstream might read the other name."""
    return model.config.adapt == _NO_ADAPT and request.body.count(b'"model"') == 1


def translates(request: ClientRequest) -> bool:
    """Whether a Responses request can be said in chat."""
    try:
        chat_request(_decoded(request))
    except BadRequest:
        return False
    return True


def _logprobs(dialect: Dialect, alternatives: int) -> Fields:
    """The fields that ask for log-probabilities; the completions API cannot ask without an alternative."""
    if dialect == "chat":
        return {"logprobs": True, "top_logprobs": alternatives} if alternatives else {"logprobs": True}
    return {"logprobs": max(1, alternatives)} if dialect == "completions" else {}


def _dialect(request: ClientRequest, model: ModelClient, as_chat: bool) -> Dialect:
    if request.endpoint == "responses" and (as_chat or "responses" not in model.supports):
        return "chat"
    return request.endpoint


def _decoded(request: ClientRequest) -> dict[str, Any]:
    return {name: request.value(name) for name in request.fields}


def _raw(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _options(fields: Fields) -> dict[str, Any]:
    options = msgspec.json.decode(_raw(fields.get("stream_options")))
    return options if isinstance(options, dict) else {}


def _asks_for_usage(fields: Fields) -> bool:
    return "stream_options" in fields and _options(fields).get("include_usage") is True


def _adapted(fields: Fields, adapt: Adapt, dialect: Dialect) -> Fields:
    for name in adapt.drop:
        fields.pop(name, None)
    for old, new in adapt.rename.items():
        if old in fields:
            value = fields.pop(old)
            fields.setdefault(new, value)
    fields.update(adapt.set)
    if adapt.system_prompt is not None:
        _set_system_prompt(fields, adapt.system_prompt, dialect)
    return fields


def _set_system_prompt(fields: Fields, prompt: str, dialect: Dialect) -> None:
    if dialect == "responses":
        fields["instructions"] = prompt
    if dialect != "chat":
        return
    messages = msgspec.json.decode(_raw(fields["messages"]))
    kept = [m for m in messages if not (isinstance(m, dict) and m.get("role") in ("system", "developer"))]
    fields["messages"] = [{"role": "system", "content": prompt}, *kept]
