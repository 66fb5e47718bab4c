"""The output items of a response while they grow: each adds deltas and says which events that makes.

An item knows its place (`output_index`) and its id; it does not know the response or the order of the events' numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]


def event(kind: str, **fields: Any) -> Json:
    """An event of the stream, not yet numbered."""
    return {"type": kind, **fields}


class Item(ABC):
    """An output item. `status` is `in_progress` until it is closed."""

    prefix: str

    def __init__(self, output_index: int, suffix: str) -> None:
        self.output_index = output_index
        self.suffix = f"{suffix}{output_index:02x}"
        self.id = f"{self.prefix}_{self.suffix}"
        self.status = "in_progress"

    @abstractmethod
    def view(self) -> Json:
        """The item as it stands in `output`."""

    def added(self) -> Json:
        return event("response.output_item.added", output_index=self.output_index, item=self.view())

    def close(self, status: str) -> Iterator[Json]:
        """The events that end the item with `completed` or `incomplete`."""
        yield from self._finish()
        self.status = status
        yield event("response.output_item.done", output_index=self.output_index, item=self.view())

    @abstractmethod
    def _finish(self) -> Iterator[Json]:
        """The events that end what is open inside the item."""

    def _at(self, kind: str, **fields: Any) -> Json:
        return event(kind, item_id=self.id, output_index=self.output_index, **fields)


class _Part:
    """A content part that is one growing text; `kind` names its type, `events` the family of its events."""

    def __init__(self, item: Item, content_index: int, *, kind: str, key: str, events: str) -> None:
        self.item, self.content_index = item, content_index
        self.kind, self.key, self.events = kind, key, events
        self.pieces: list[str] = []
        self.logprobs: list[Json] = []

    def view(self) -> Json:
        view: Json = {"type": self.kind, self.key: "".join(self.pieces)}
        return view | {"annotations": [], "logprobs": list(self.logprobs)} if self.kind == "output_text" else view

    def added(self) -> Json:
        return self._at("response.content_part.added", part=self.view())

    def grow(self, delta: str, logprobs: list[Json]) -> Json:
        self.pieces.append(delta)
        self.logprobs += logprobs
        more = {"logprobs": logprobs} if self.kind == "output_text" else {}
        return self._at(f"{self.events}.delta", delta=delta, **more)

    def close(self) -> Iterator[Json]:
        view = self.view()
        more = {"logprobs": view["logprobs"]} if self.kind == "output_text" else {}
        yield self._at(f"{self.events}.done", **{self.key: view[self.key]}, **more)
        yield self._at("response.content_part.done", part=view)

    def _at(self, kind: str, **fields: Any) -> Json:
        where = {"item_id": self.item.id, "output_index": self.item.output_index, "content_index": self.content_index}
        return event(kind, **where, **fields)


class Message(Item):
    """The assistant's message: a text part, a refusal part or both, in the order in which they began."""

    prefix = "msg"

    def __init__(self, output_index: int, suffix: str) -> None:
        super().__init__(output_index, suffix)
        self.parts: dict[str, _Part] = {}

    def text(self, delta: str, logprobs: list[Json]) -> Iterator[Json]:
        yield from self._grow("output_text", "text", "response.output_text", delta, logprobs)

    def refusal(self, delta: str) -> Iterator[Json]:
        yield from self._grow("refusal", "refusal", "response.refusal", delta, [])

    def add_logprobs(self, logprobs: list[Json]) -> None:
        """Log-probabilities of tokens that came without text."""
        if "output_text" in self.parts:
            self.parts["output_text"].logprobs += logprobs

    def empty(self) -> Iterator[Json]:
        """Opens the text part of an answer without text."""
        part = self.parts["output_text"] = _Part(self, 0, kind="output_text", key="text", events="response.output_text")
        yield part.added()

    def view(self) -> Json:
        content = [part.view() for part in self.parts.values()]
        return {"id": self.id, "type": "message", "status": self.status, "role": "assistant", "content": content}

    def _grow(self, kind: str, key: str, events: str, delta: str, logprobs: list[Json]) -> Iterator[Json]:
        if kind not in self.parts:
            self.parts[kind] = _Part(self, len(self.parts), kind=kind, key=key, events=events)
            yield self.parts[kind].added()
        yield self.parts[kind].grow(delta, logprobs)

    def _finish(self) -> Iterator[Json]:
        for part in self.parts.values():
            yield from part.close()


class Reasoning(Item):
    """The model's reasoning text. There is never a summary: chat servers make none."""

    prefix = "rs"

    def __init__(self, output_index: int, suffix: str) -> None:
        super().__init__(output_index, suffix)
        self.part: _Part | None = None

    def text(self, delta: str) -> Iterator[Json]:
        if self.part is None:
            self.part = _Part(self, 0, kind="reasoning_text", key="text", events="response.reasoning_text")
            yield self.part.added()
        yield self.part.grow(delta, [])

    def view(self) -> Json:
        content = [] if self.part is None else [self.part.view()]
        return {"id": self.id, "type": "reasoning", "status": self.status, "summary": [], "content": content}

    def _finish(self) -> Iterator[Json]:
        if self.part is not None:
            yield from self.part.close()


class FunctionCall(Item):
    """One function call. A server that gives it no id gets one made from the item's."""

    prefix = "fc"

    def __init__(self, output_index: int, suffix: str, call_id: str, name: str) -> None:
        super().__init__(output_index, suffix)
        self.call_id = call_id or f"call_{self.suffix}"
        self.name = name
        self.pieces: list[str] = []

    def grow(self, delta: str) -> Iterator[Json]:
        self.pieces.append(delta)
        yield self._at("response.function_call_arguments.delta", delta=delta)

    def view(self) -> Json:
        call = {"call_id": self.call_id, "name": self.name, "arguments": "".join(self.pieces)}
        return {"id": self.id, "type": "function_call", "status": self.status, **call}

    def _finish(self) -> Iterator[Json]:
        arguments = "".join(self.pieces)
        yield self._at("response.function_call_arguments.done", name=self.name, arguments=arguments)
