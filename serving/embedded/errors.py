"""Every error the embedded engine raises on purpose, and how a client sees it.

EngineError                        500 server_error
├── BadRequest                     400 invalid_request_error
│   ├── ContextLengthExceeded      400 context_length_exceeded
│   └── PayloadTooLarge            413 request_too_large
├── UnknownModel                   404 model_not_found
├── TooManyRequests                429 rate_limit_exceeded (with Retry-After)
└── EngineStopped                  503 engine_stopped
CheckpointError                    never reaches a client: a folder that cannot be served
"""

from __future__ import annotations

from typing import Any, ClassVar


class EngineError(Exception):
    """An error with an OpenAI body. `message` names the thing and the fix; `param` the request field at fault."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def body(self) -> dict[str, Any]:
        """The OpenAI error object: `{"error": {"message", "type", "param", "code"}}`."""
        return error_body(self.message, type_=self.type, param=self.param, code=self.code)


class BadRequest(EngineError):
    status = 400
    type = "invalid_request_error"
    code: ClassVar[str | None] = None


class ContextLengthExceeded(BadRequest):
    code = "context_length_exceeded"


class PayloadTooLarge(BadRequest):
    status = 413
    code = "request_too_large"


class UnknownModel(EngineError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class TooManyRequests(EngineError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry_after_s = 1


class EngineStopped(EngineError):
    status = 503
    code = "engine_stopped"


class CheckpointError(Exception):
    """A folder that is not a usable checkpoint; the text names the file and the fix."""


def error_body(message: str, *, type_: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}
