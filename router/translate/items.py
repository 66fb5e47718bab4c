"""`instructions` and `input` of a Responses request as chat messages.

Two choices are worth knowing. `developer` becomes `system`, which every chat template has and OpenAI treats alike.
Reasoning items are dropped: the next turn may go to another model, and many chat servers refuse unknown message fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.errors import BadRequest
from router.translate.fields import Json, expect, one_of, optional, present, required

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def messages(body: Json) -> list[Json]:
    """The chat messages, instructions first; raises BadRequest naming the item and the part at fault."""
    chat: list[Json] = []
    if body.get("instructions"):
        chat.append({"role": "system", "content": body["instructions"]})
    source = body.get("input")
    if source is None:
        raise BadRequest("Missing required parameter: input.", param="input", code="missing_required_parameter")
    if isinstance(source, str):
        chat.append({"role": "user", "content": source})
        return chat
    if not isinstance(source, list):
        raise BadRequest("input must be a string or an array of items.", param="input", code="invalid_type")
    for index, item in enumerate(source):
        _add_item(chat, expect(item, dict, f"input[{index}]"), f"input[{index}]")
    if not chat:
        raise BadRequest("input has no message: send at least one.", param="input", code="empty_array")
    return chat


def _add_item(chat: list[Json], item: Json, path: str) -> None:
    kind = optional(item, "type", str, path) or "message"
    if kind == "message":
        _add_message(chat, item, path)
    elif kind == "function_call":
        _add_call(chat, item, path)
    elif kind == "function_call_output":
        output = _content(present(item, "output", path), f"{path}.output")
        chat.append({"role": "tool", "tool_call_id": required(item, "call_id", str, path), "content": output})
    elif kind != "reasoning":
        raise _unknown_item(kind, f"{path}.type")


def _add_message(chat: list[Json], item: Json, path: str) -> None:
    role = _ROLES[one_of(required(item, "role", str, path), tuple(_ROLES), f"{path}.role")]
    content = present(item, "content", path)
    if role != "assistant":
        chat.append({"role": role, "content": _content(content, f"{path}.content")})
        return
    message = _assistant(content, f"{path}.content")
    if chat and chat[-1].get("content", "") is None:
        chat[-1].update(
            message
        )  # the text of a turn whose function calls came first: the calls stay next to their outputs
    else:
        chat.append(message)


def _add_call(chat: list[Json], item: Json, path: str) -> None:
    """One assistant turn is one chat message: the call joins the text and the calls just before it."""
    if not chat or chat[-1]["role"] != "assistant":
        chat.append({"role": "assistant", "content": None})
    function = {"name": required(item, "name", str, path), "arguments": required(item, "arguments", str, path)}
    call = {"id": required(item, "call_id", str, path), "type": "function", "function": function}
    chat[-1].setdefault("tool_calls", []).append(call)


def _assistant(content: Any, path: str) -> Json:
    """Output parts are pieces of one text, and chat keeps a refusal in a field of its own."""
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    text, refusal = [], []
    for index, part in enumerate(expect(content, list, path)):
        where = f"{path}[{index}]"
        kind = required(expect(part, dict, where), "type", str, where)
        if one_of(kind, ("output_text", "refusal", "input_text"), f"{where}.type") == "refusal":
            refusal.append(required(part, "refusal", str, where))
        else:
            text.append(required(part, "text", str, where))
    message: Json = {"role": "assistant", "content": "".join(text)}
    return message | {"refusal": "".join(refusal)} if refusal else message


def _content(content: Any, path: str) -> str | list[Json]:
    """A string stays one, and so becomes a single text part, which the simplest chat server takes too."""
    if isinstance(content, str):
        return content
    parts = [_part(part, f"{path}[{index}]") for index, part in enumerate(expect(content, list, path))]
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def _part(part: Any, path: str) -> Json:
    kind = required(expect(part, dict, path), "type", str, path)
    return _PARTS[one_of(kind, tuple(_PARTS), f"{path}.type")](part, path)


def _text(part: Json, path: str) -> Json:
    return _rest(part, "annotations", "logprobs") | {"type": "text", "text": required(part, "text", str, path)}


def _image(part: Json, path: str) -> Json:
    if part.get("file_id") is not None:
        raise _no_files(f"{path}.file_id", "image_url, a URL or a data URL")
    image = {"url": required(part, "image_url", str, path)}
    detail = optional(part, "detail", str, path)
    if detail is not None:
        image["detail"] = detail
    return _rest(part, "image_url", "detail", "file_id") | {"type": "image_url", "image_url": image}


def _file(part: Json, path: str) -> Json:
    for key in ("file_id", "file_url"):
        if part.get(key) is not None:
            raise _no_files(f"{path}.{key}", "file_data, a data URL, and filename")
    file = {"file_data": required(part, "file_data", str, path)}
    filename = optional(part, "filename", str, path)
    if filename is not None:
        file["filename"] = filename
    return {"type": "file", "file": file}


def _audio(part: Json, path: str) -> Json:
    return _rest(part) | {"type": "input_audio", "input_audio": required(part, "input_audio", dict, path)}


_PARTS: dict[str, Callable[[Json, str], Json]] = {
    "input_text": _text,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
    "output_text": _text,
}


def _no_files(param: str, instead: str) -> BadRequest:
    message = f"{param} is not supported: files are not stored or fetched here. Send {instead}."
    return BadRequest(message, param=param, code="unsupported_parameter")


def _rest(part: Json, *known: str) -> Json:
    """The fields of a part that the translation does not know, such as a prompt-cache breakpoint."""
    return {key: value for key, value in part.items() if key not in ("type", *known) and value is not None}


def _unknown_item(kind: str, param: str) -> BadRequest:
    if kind == "item_reference":
        return BadRequest("item_reference needs stored items, and none are stored here: send the item.", param=param)
    known = "message, function_call, function_call_output, reasoning"
    message = f"{param} is {kind!r}; this gateway translates to chat completions, which have: {known}."
    return BadRequest(message, param=param, code="unsupported_item")
