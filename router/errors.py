"""Every error the gateway raises on purpose, and how a client sees it.

    RouterError                      500 server_error
    ├── BadRequest                   400 invalid_request_error
    │   └── PayloadTooLarge          413
    ├── Unauthorized                 401 invalid_api_key
    ├── Forbidden                    403 permission_denied
    ├── NotFound                     404
    │   └── UnknownModel             404 model_not_found
    ├── MethodNotAllowed             405
    ├── Conflict                     409 conflict
    ├── TooManyRequests              429 rate_limit_exceeded (with Retry-After)
    ├── BudgetSpent                  429 insufficient_quota (with Retry-After)
    ├── Unavailable                  503 service_unavailable: something the gateway needs, not a model
    └── UpstreamFailed               502 upstream_error
        ├── UpstreamUnavailable      503 upstream_unavailable
        └── UpstreamTimeout          504 upstream_timeout
    ConfigError                      never reaches a client: a configuration that cannot be used

Upstream 4xx answers are not exceptions: they are forwarded as they came.
"""

from __future__ import annotations

from typing import Any, ClassVar


class RouterError(Exception):
    """An error with an OpenAI body. `message` names the thing and the fix; `param` the request field at fault.

    `headers`: what the answer carries beside Retry-After.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.error_code = code if code is not None else self.code
        self.retry_after_s = retry_after_s
        self.headers = headers

    def body(self) -> dict[str, Any]:
        """The OpenAI error object: `{"error": {"message", "type", "param", "code"}}`."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.error_code}}


class BadRequest(RouterError):
    status = 400
    type = "invalid_request_error"
    code: ClassVar[str | None] = None


class PayloadTooLarge(BadRequest):
    status = 413
    code = "request_too_large"


class Unauthorized(RouterError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(RouterError):
    status = 403
    type = "invalid_request_error"
    code = "permission_denied"


class NotFound(RouterError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class UnknownModel(NotFound):
    code = "model_not_found"


class MethodNotAllowed(RouterError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(RouterError):
    status = 409
    type = "invalid_request_error"
    code = "conflict"


class TooManyRequests(RouterError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class Unavailable(RouterError):
    status = 503
    type = "service_unavailable"
    code = "service_unavailable"


class BudgetSpent(RouterError):
    """`budget` does not pay for a call; `student`: its student may answer instead of the teacher."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def __init__(self, message: str, budget: str, *, student: bool, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.budget = budget
        self.student = student


class UpstreamFailed(RouterError):
    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamUnavailable(UpstreamFailed):
    status = 503
    code = "upstream_unavailable"


class UpstreamTimeout(UpstreamFailed):
    status = 504
    code = "upstream_timeout"


class ConfigError(Exception):
    """A configuration that cannot be used; the text is one problem a line, each with its YAML path."""
