"""Messages and tools to a prompt, through the checkpoint's chat template as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from serving.embedded.checkpoint import Checkpoint
from serving.embedded.errors import BadRequest, CheckpointError

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class ChatTemplate:
    """A compiled template with the names that transformers gives to every template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(source)
        self._special_tokens = special_tokens

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str:
        """The prompt up to where the answer starts. Raises BadRequest with the template's own complaint."""
        try:
            return self._template.render(
                messages=messages, tools=tools or None, add_generation_prompt=True, **self._special_tokens
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise BadRequest(f"The chat template refuses these messages: {error}", param="messages") from None


def load_chat_template(checkpoint: Checkpoint) -> ChatTemplate | None:
    """The checkpoint's template; None for a base model without one. Raises CheckpointError for a broken one."""
    if checkpoint.chat_template is None:
        return None
    special_tokens = {}
    for name in _SPECIAL_TOKENS:
        token = checkpoint.tokenizer_config.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            special_tokens[name] = content
    try:
        return ChatTemplate(checkpoint.chat_template, special_tokens)
    except TemplateSyntaxError as error:
        raise CheckpointError(f"{checkpoint.directory}: the chat template does not compile: {error}") from None


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers: jinja's own filter would escape HTML characters."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
