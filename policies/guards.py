"""Hard guards, asked before any policy: whether a request fits the student at all."""

from __future__ import annotations

from dataclasses import dataclass

from policies.base import RequestView

MISFITS = frozenset({"tools", "json_schema", "images", "logprobs", "n", "output", "context", "responses"})
"""Every reason for which a request cannot go to the student."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model can take. `context_tokens` None: unknown, not checked; `bytes_per_token` turns bytes into tokens."""

    supports: frozenset[str]
    context_tokens: int | None
    max_output_tokens: int | None
    bytes_per_token: float

    def misfit(self, request: RequestView) -> str | None:
        """The first reason why the request does not fit ('tools', 'context', …), None when it does."""
        missing = request.needs - self.supports
        if missing:
            return min(missing)
        output_tokens = request.output_tokens or 0
        if self.max_output_tokens is not None and output_tokens > self.max_output_tokens:
            return "output"
        if self.context_tokens is None:
            return None
        prompt_tokens = request.prompt_bytes / self.bytes_per_token
        return "context" if prompt_tokens + output_tokens > self.context_tokens else None
