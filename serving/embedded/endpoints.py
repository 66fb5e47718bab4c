"""The HTTP endpoints: body to prompt and parameters, the engine's outputs to an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel

from serving.embedded.engine import Engine, Submission
from serving.embedded.errors import BadRequest, EngineStopped, PayloadTooLarge, UnknownModel
from serving.embedded.middleware import request_id
from serving.embedded.protocol import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    parse_body,
    sampling_params,
    split_prompts,
)
from serving.embedded.responses import (
    Answer,
    ChatAnswer,
    CompletionAnswer,
    Envelope,
    Json,
    embedding_list,
    model_card,
    usage,
)
from serving.embedded.sampling import SamplingParams
from serving.embedded.sequence import Delta
from serving.embedded.streaming import EventStream, answer_events, unless_disconnected

Params = ParamSpec("Params")
Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)

MAX_BODY_BYTES = 32 * 1024 * 1024
# Checking and tokenizing this many bytes stays well below a millisecond; more of it leaves the event loop.
_INLINE_BYTES = 8 * 1024
CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that hung up: it appears in the metrics only."""


@dataclass(frozen=True)
class Endpoints:
    """The handlers of one app. `created` is the model's time in seconds, as in OpenAI's objects."""

    engine: Engine
    model: str
    created: int

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        raw = await _read_body(request)
        body, prompt_ids = await _off_loop(len(raw), self._parse_chat, raw)
        tools = bool(body.offered_tools())
        answer = ChatAnswer(
            self._envelope(request, "chatcmpl"),
            self.engine.tokenizer,
            choices=body.choices,
            with_logprobs=bool(body.logprobs),
            tools=tools,
            parallel_tool_calls=body.parallel_tool_calls is not False,
        )
        return await self._generate(request, body, [prompt_ids], answer)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        raw = await _read_body(request)
        body, prompts = await _off_loop(len(raw), self._parse_completion, raw)
        answer = CompletionAnswer(
            self._envelope(request, "cmpl"), self.engine.tokenizer, with_logprobs=body.logprobs is not None
        )
        return await self._generate(request, body, prompts, answer, echo=bool(body.echo))

    async def embeddings(self, request: Request) -> Response:
        """POST /v1/embeddings."""
        raw = await _read_body(request)
        body, prompts = await _off_loop(len(raw), self._parse_embedding, raw)
        submission = self.engine.embed(prompts)
        try:
            vectors = await unless_disconnected(request, submission.last_outputs())
        finally:
            submission.close()
        if vectors is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        prompt_tokens = sum(map(len, prompts))
        return _json(embedding_list(self.model, vectors, prompt_tokens, as_base64=body.encoding_format == "base64"))

    async def models(self) -> Response:
        """GET /v1/models."""
        return _json({"object": "list", "data": [self._card()]})

    async def one_model(self, name: str) -> Response:
        """GET /v1/models/{name}."""
        self._check_model(name)
        return _json(self._card())

    async def health(self) -> Response:
        """GET /health: 200 while the engine computes."""
        if not self.engine.alive:
            raise EngineStopped("The engine's thread is not running.")
        return _json({"status": "ok"})

    async def metrics(self) -> Response:
        """GET /metrics."""
        return Response(self.engine.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _generate(
        self,
        request: Request,
        body: GenerationRequest,
        prompts: Sequence[list[int]],
        answer: Answer,
        *,
        echo: bool = False,
    ) -> Response:
        stream = bool(body.stream)
        drawn = [(prompt_ids, self._sampling_params(body, prompt_ids)) for prompt_ids in prompts]
        submission = self.engine.generate(drawn, choices=body.choices, stream=stream, echo=echo)
        prompt_tokens = sum(map(len, prompts))
        if stream:
            events = answer_events(answer, submission, prompt_tokens=prompt_tokens, include_usage=body.include_usage)
            return EventStream(events, submission.close)
        return await _whole(request, answer, submission, prompt_tokens)

    def _parse_chat(self, raw: bytes) -> tuple[ChatRequest, list[int]]:
        body = parse_body(ChatRequest, raw)
        self._check_model(body.model)
        body.refuse_unsupported()
        template = self.engine.chat_template
        if template is None:
            raise BadRequest(f"{self.model} has no chat template; use /v1/completions.", param="messages")
        text = template.render(body.template_messages(), body.offered_tools())
        return body, self.engine.tokenize(text, "messages", add_special_tokens=False)

    def _parse_completion(self, raw: bytes) -> tuple[CompletionRequest, list[list[int]]]:
        body = parse_body(CompletionRequest, raw)
        self._check_model(body.model)
        body.refuse_unsupported()
        return body, self._prompts(split_prompts(body.prompt, "prompt", choices=body.choices), "prompt")

    def _parse_embedding(self, raw: bytes) -> tuple[EmbeddingRequest, list[list[int]]]:
        body = parse_body(EmbeddingRequest, raw)
        self._check_model(body.model)
        if body.dimensions not in (None, self.engine.hidden_size):
            raise BadRequest(f"{self.model} has vectors of {self.engine.hidden_size} numbers only.", param="dimensions")
        return body, self._prompts(split_prompts(body.input, "input"), "input")

    def _prompts(self, entries: Sequence[str | list[int]], param: str) -> list[list[int]]:
        prompts = []
        for entry in entries:
            if isinstance(entry, str):
                prompts.append(self.engine.tokenize(entry, param, add_special_tokens=True))
            else:
                self.engine.check_prompt(entry, param)
                prompts.append(entry)
        return prompts

    def _sampling_params(self, body: GenerationRequest, prompt_ids: Sequence[int]) -> SamplingParams:
        return sampling_params(
            body,
            self.engine.defaults,
            prompt_tokens=len(prompt_ids),
            context_tokens=self.engine.context_tokens,
            vocab_size=self.engine.vocab_size,
        )

    def _check_model(self, name: str) -> None:
        if name != self.model:
            raise UnknownModel(f"The model {name!r} does not exist; this engine serves {self.model!r}.", param="model")

    def _envelope(self, request: Request, prefix: str) -> Envelope:
        return Envelope(id=f"{prefix}-{request_id(request.scope)}", model=self.model, created=int(time.time()))

    def _card(self) -> Json:
        return model_card(self.model, self.created, self.engine.context_tokens)


async def _whole(request: Request, answer: Answer, submission: Submission[Delta], prompt_tokens: int) -> Response:
    try:
        deltas = await unless_disconnected(request, submission.last_outputs())
    finally:
        submission.close()
    if deltas is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    completion_tokens = sum(delta.token_count for delta in deltas)
    return _json(answer.whole(deltas, usage(prompt_tokens, completion_tokens)))


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


async def _off_loop(size: int, work: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    """Run the work here if its input is small, on a thread if it is not."""
    if size <= _INLINE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def _json(content: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
