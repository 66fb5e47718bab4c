"""A client's request: parsed just enough to route it, everything else kept as the bytes that came.

The body is decoded one level deep (`dict[str, msgspec.Raw]`, under 1 us for 1 kB). Fields the gateway does not know
pass through untouched. A `ClientRequest` is also the `RequestView` that policies look at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from policies.query import Query
from router.auth import Caller
from router.errors import BadRequest
from router.prompt import LARGEST, OUTPUT_LIMITS, PROMPT_FIELD, TOOL_FIELDS, bounded, opening_text, query_of
from router.texts import texts

Endpoint = Literal["chat", "completions", "responses", "embeddings"]
Fields = dict[str, Any]

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode

T = TypeVar("T", str, bool, int)
_SCALARS: Mapping[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind | None) for kind in (str, bool, int)
}
_JSON_NAMES: Mapping[type, str] = {str: "string", bool: "boolean", int: "integer"}

IMAGE_MARKS = (b'"image_url"', b'"input_image"', b'"input_audio"', b'"input_file"', b'"file"')
DATA_URL = re.compile(rb'"data:[^"]*"')
BYTES_PER_IMAGE = 4096  # what an image's tokens weigh as text, whatever its base64 weighs


def parse_fields(body: bytes) -> Fields:
    """The top level of a JSON object. Raises BadRequest for anything else."""
    try:
        body.decode()
        return dict(_decode_fields(body))
    except UnicodeDecodeError as error:
        raise BadRequest(f"the request body is not UTF-8 (byte {error.start})", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the request body is nested too deeply", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"the request body is not a JSON object: {error}", code="invalid_json") from None


class ClientRequest:
    """One parsed request. Reading a field that has the wrong type raises BadRequest with its name."""

    __slots__ = (
        "_conversation",
        "_headers",
        "_needs",
        "_prompt_bytes",
        "_query",
        "_texts",
        "body",
        "caller",
        "endpoint",
        "fields",
        "model",
        "output_tokens",
        "stream",
    )

    def __init__(
        self, endpoint: Endpoint, body: bytes, headers: list[tuple[bytes, bytes]], caller: Caller, fields: Fields
    ) -> None:
        self.endpoint = endpoint
        self.body = body
        self.caller = caller
        self.fields = fields
        self._headers = headers
        self._needs: frozenset[str] | None = None
        self._prompt_bytes: int | None = None
        self._conversation: bytes | None = None
        self._query: Query | None = None
        self._texts: str | None = None
        model = self.scalar("model", str)
        if not model:
            raise BadRequest("you must provide a model: a route or a model listed at /v1/models", param="model")
        self.model: str = model
        self.stream: bool = self.scalar("stream", bool) or False
        self.output_tokens: int | None = self._output_limit()
        if PROMPT_FIELD[endpoint] not in fields:
            raise BadRequest(f"you must provide '{PROMPT_FIELD[endpoint]}'", param=PROMPT_FIELD[endpoint])
        if endpoint == "chat" and not bytes(fields["messages"]).startswith(b"["):
            raise BadRequest("'messages' must be an array", param="messages")

    @property
    def choices(self) -> int:
        """How many answers are asked for (`n`)."""
        return self.scalar("n", int) or 1

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    @property
    def prompt_bytes(self) -> int:
        if self._prompt_bytes is None:
            self._prompt_bytes = self._measure_prompt()
        return self._prompt_bytes

    def _measure_prompt(self) -> int:
        prompt = self.fields[PROMPT_FIELD[self.endpoint]]
        size = len(prompt)
        if "images" in self.needs:
            size -= sum(len(match) - BYTES_PER_IMAGE for match in DATA_URL.findall(bytes(prompt)))
        return size + len(self.fields.get("tools", b"")) + len(self.fields.get("instructions", b""))

    @property
    def needs(self) -> frozenset[str]:
        if self._needs is None:
            self._needs = frozenset(self._find_needs())
        return self._needs

    def header(self, name: str) -> str | None:
        value = self.raw_header(name.encode("latin-1", "replace"))
        return None if value is None else value.decode("latin-1")

    def raw_header(self, name: bytes) -> bytes | None:
        """As it came; `name` in lower case."""
        for key, value in self._headers:
            if key == name:
                return value
        return None

    def text(self) -> str:
        if self._texts is None:
            prompt = self.value("instructions"), self.value(PROMPT_FIELD[self.endpoint])
            self._texts = "\n".join(part for item in prompt for part in texts(item))
        return self._texts

    def conversation(self) -> bytes:
        """The caller and the messages up to the first of the user (for completions all of the prompt).

        Of ids and images, and of what cannot be read, the bytes count: it is asked for after the answer, too.
        """
        if self._conversation is None:
            prompt = PROMPT_FIELD[self.endpoint]
            try:
                said = opening_text(self.value(prompt))
            except BadRequest:
                said = ""
            said = said or bounded(bytes(self.fields[prompt]).decode())
            self._conversation = b"%b\0%b" % (self.caller.tenant.encode(), said.encode("utf-8", "surrogatepass"))
        return self._conversation

    def query(self, route: str) -> Query:
        """What an estimator looks at; decoded once."""
        if self._query is None:
            read = (PROMPT_FIELD[self.endpoint], "instructions", *OUTPUT_LIMITS, *TOOL_FIELDS)
            request = {name: self.value(name) for name in read if name in self.fields}
            caller = self.caller
            self._query = query_of(
                request, self.endpoint, needs=self.needs, tenant=caller.tenant, key=caller.name, route=route
            )
        return self._query

    def value(self, name: str) -> Any:
        """A field decoded whole; None where it is missing. Raises BadRequest when it is nested too deeply."""
        raw = self.fields.get(name)
        if raw is None:
            return None
        try:
            return _decode_any(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadRequest(f"'{name}' cannot be read: {error}", param=name) from None

    def scalar(self, name: str, kind: type[T]) -> T | None:
        """A field of a simple type; None where it is missing or null. Raises BadRequest for another type, and for an
        integer that no arithmetic would hold."""
        raw = self.fields.get(name)
        if raw is None:
            return None
        try:
            value: T | None = _SCALARS[kind].decode(raw)
        except msgspec.DecodeError:
            raise BadRequest(f"'{name}' must be of type {_JSON_NAMES[kind]}", param=name) from None
        if isinstance(value, int) and abs(value) > LARGEST:
            raise BadRequest(f"'{name}' is out of range", param=name)
        return value

    def _output_limit(self) -> int | None:
        limits = [limit for name in OUTPUT_LIMITS if (limit := self.scalar(name, int)) is not None]
        if any(limit < 0 for limit in limits):
            raise BadRequest("the output limit cannot be negative", param="max_tokens")
        return limits[0] if limits else None

    def _find_needs(self) -> Iterator[str]:
        fields = self.fields
        if any(len(fields.get(name, b"")) > len(b"null") for name in TOOL_FIELDS):
            yield "tools"
        if b'"json_' in bytes(fields.get("response_format", b"")) or b'"json_' in bytes(fields.get("text", b"")):
            yield "json_schema"
        prompt = bytes(fields[PROMPT_FIELD[self.endpoint]])
        if any(mark in prompt for mark in IMAGE_MARKS):
            yield "images"
        wants_logprobs = bytes(fields.get("logprobs", b"null")) not in (b"null", b"false")
        if wants_logprobs or b"logprobs" in bytes(fields.get("include", b"")) or "top_logprobs" in fields:
            yield "logprobs"
        if bytes(fields.get("n", b"1")) not in (b"1", b"null") or "best_of" in fields:
            yield "n"
