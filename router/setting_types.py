"""What the blocks of the configuration are made of: the base class, and texts that are checked on reading."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from redis.connection import parse_url


class Block(BaseModel):
    """A YAML mapping: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


PriceUsd = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", value):
        raise ValueError("a name is letters, digits and ._:/- (an '@' would read as an operating point)")
    return value


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected http(s)://host[:port][/path], such as http://127.0.0.1:8000/v1")
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("a URL has neither spaces nor characters outside ASCII")
    _require_port(parts)
    return value.rstrip("/")


def _require_port(parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port of a URL is a number from 0 to 65535") from None


def _redis_url(value: str) -> str:
    if value == "embedded":
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("expected redis://…, rediss://…, unix://… or embedded")
    _require_port(parts)
    parse_url(value)  # type: ignore[no-untyped-call]  # untyped there; ValueError for options it does not know
    return value


def _server_url(value: str) -> str:
    if value == "embedded":
        raise ValueError("expected redis://…, rediss://… or unix://…; `embedded` can only be redis.url")
    return _redis_url(value)


Name = Annotated[str, AfterValidator(_name)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
ServerUrl = Annotated[str, AfterValidator(_server_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
