"""The dearest that one call can get, known before it is made.

A token stands for at least one byte of UTF-8 text, so that a prompt has no more tokens than bytes; its chat template
and its images come on top, as configured. The answer is bounded by the output limit, reasoning included, times the
number of answers asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from router.errors import BadRequest
from router.ledger.pricing import PriceList
from router.request import ClientRequest, Fields, parse_fields
from router.settings import Adapt
from router.upstream.model import ModelClient
from router.wire.body import Dialect, Outgoing

# Kinds of content parts that an upstream reads instead of text: the field that holds one, and where in it the data are.
MEDIA: dict[str, tuple[str, str | None]] = {
    "image_url": ("image_url", "url"),
    "input_image": ("image_url", None),
    "input_audio": ("input_audio", "data"),
    "input_file": ("file_data", None),
    "file": ("file", "file_data"),
    "video_url": ("video_url", "url"),
    "audio_url": ("audio_url", "url"),
    "image_embeds": ("image_embeds", None),
}
IMAGES = ("image_url", "input_image", "image_embeds")  # whose tokens have nothing to do with their bytes
_MARKS = (b'o_url"', b'"image_embeds"')  # of those, what `ClientRequest.needs` does not look for
_HIDDEN = re.compile(rb"\\u00[2-7]")  # an escaped letter could hide a mark
_LIMITS: dict[Dialect, tuple[str, ...]] = {  # what each API reads; the others do not limit its answer
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "embeddings": (),
}
_ANSWERS = ("n", "best_of")


def worst_nano(request: ClientRequest, model: ModelClient, out: Outgoing, prices: PriceList) -> int:
    """Nano-dollars that a call with `out` and its retries cost at most, by what can be known before.

    Raises BadRequest when nothing bounds the answer.
    """
    inputs = prompt_tokens(request, model, out)
    outputs = 0 if request.endpoint == "embeddings" else _answer_tokens(request, model, out)
    retries = model.config.retries * prices.at_most(inputs, 0)  # tries that time out are charged their prompt
    return prices.at_most(inputs, outputs) + retries


def prompt_tokens(request: ClientRequest, model: ModelClient, out: Outgoing) -> int:
    """At most so many tokens of prompt."""
    size, media = len(out.body), 0
    if "images" in request.needs or _MARKS[0] in out.body or _MARKS[1] in out.body or _HIDDEN.search(out.body):
        media, encoded = _media(out.body)
        size -= encoded
    tokens = size + model.config.template_tokens + media * model.config.media_tokens
    context = model.config.context_tokens
    if context is None or request.endpoint == "embeddings":
        return tokens
    return min(tokens, context * _prompts(request.fields))


def _answer_tokens(request: ClientRequest, model: ModelClient, out: Outgoing) -> int:
    limit, answers = _asked(request, model, out)
    bounds = [bound for bound in (limit, model.config.context_tokens) if bound]  # some take a limit of 0 for none
    if not bounds:
        raise BadRequest(
            f"set max_tokens: a budget counts this request, and nothing else bounds the answer of '{model.name}'",
            param="max_tokens",
        )
    return min(bounds) * answers * _prompts(request.fields)


def _asked(request: ClientRequest, model: ModelClient, out: Outgoing) -> tuple[int | None, int]:
    """The limit of an answer that the upstream reads, and how many answers a prompt gets."""
    answers = max(1, request.choices, request.scalar("best_of", int) or 1)
    adapt, limits = model.config.adapt, _LIMITS[out.dialect]
    if _CLIENTS_OWN[out.dialect].isdisjoint(request.fields) and _ADAPTED.isdisjoint(_written(adapt)):
        return out.output_limit, answers
    final = parse_fields(out.body)
    names = (*limits, *(adapt.rename[name] for name in limits if name in adapt.rename))
    limit = max((_number(final, name) for name in names), default=0)
    return limit, max(answers, *(_number(final, name) for name in _ANSWERS))


_CLIENTS_OWN = {dialect: frozenset(sum(_LIMITS.values(), ())).difference(names) for dialect, names in _LIMITS.items()}
_ADAPTED = frozenset((*sum(_LIMITS.values(), ()), *_ANSWERS))


def _written(adapt: Adapt) -> Iterator[str]:
    """Fields that `adapt` may give another value; a dropped one bounds nothing, and `Outgoing` knows that."""
    yield from adapt.set
    for old, new in adapt.rename.items():
        yield old
        yield new


def _number(fields: Fields, name: str) -> int:
    """A field that is a whole number; else 0."""
    value = msgspec.json.decode(fields[name]) if name in fields else 0
    return value if type(value) is int else 0


def _prompts(fields: Fields) -> int:
    """A completions request with a list of prompts gets an answer to each."""
    raw = bytes(fields.get("prompt", b""))
    if not raw.startswith(b"[") or not (b'"' in raw or b"[" in raw[1:]):  # one text, or one list of token ids
        return 1
    return max(1, len(msgspec.json.decode(raw, type=list[msgspec.Raw])))


def _media(body: bytes) -> tuple[int, int]:
    """How many images, sounds and files there are, and how many bytes of the body are their data.

    Data count as such only where an upstream reads content: elsewhere the same form is text.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the request body cannot be read: {error}", code="invalid_json") from None
    prompt = [decoded.get("messages"), decoded.get("input")]
    count = sum(map(_media_of, _mappings(prompt)))
    return count, sum(_data_bytes(part) for messages in prompt for part in _parts(messages))


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _media_of(item: dict[str, Any]) -> int:
    """One for its type, and one for each field that would hold another."""
    kind = item.get("type")
    typed = isinstance(kind, str) and kind in MEDIA
    own = MEDIA[str(kind)][0] if typed else None
    return typed + sum(name in MEDIA and name != own for name in item)


def _parts(messages: Any) -> Iterator[dict[str, Any]]:
    """The content parts of messages, or of the items of the Responses API, which may be parts themselves."""
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield message
            for parts in (message.get("content"), message.get("output")):
                yield from (part for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict))


def _data_bytes(part: dict[str, Any]) -> int:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in IMAGES:
        return 0
    name, inside = MEDIA[kind]
    data = part.get(name)
    if isinstance(data, dict):
        data = data.get(inside)
    if not isinstance(data, str) or ("url" in name and not data.startswith("data:")):
        return 0
    return len(data)
