"""What a client may ask: OpenAI's request bodies, checked, and how they become prompts and sampling parameters.

Unknown fields are ignored. What is known but cannot be honoured (images, a forced JSON schema or tool) is refused: an
answer that only looks as if it had been honoured would be worse.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.embedded.checkpoint import GenerationDefaults
from serving.embedded.errors import BadRequest, ContextLengthExceeded
from serving.embedded.sampling import SamplingParams

MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 64
MAX_STOPS = 4
MAX_SEQUENCES = 2048
"""OpenAI's limit of inputs in one request; here prompts times choices."""
COMPLETION_DEFAULT_TOKENS = 16
"""OpenAI's and vLLM's default of `max_tokens` for /v1/completions."""

Body = TypeVar("Body", bound=BaseModel)
NonEmpty = Annotated[str, Field(min_length=1)]
Prompt = str | list[str] | list[int] | list[list[int]]
Penalty = Annotated[float, Field(ge=-2, le=2)]
# The parts of a pydantic location that name a branch of a union, not a field of the request.
_BRANCH = re.compile(r"str|constrained-str|(list|dict)\[.*")


class _Strict(BaseModel):
    """JSON types as they are: `"0.5"` is no number, `1` no boolean."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Open(_Strict):
    """Fields that are not ours stay, for the chat template."""

    model_config = ConfigDict(extra="allow")


class ContentPart(_Open):
    type: str
    text: str | None = None


class FunctionCall(_Open):
    name: str
    arguments: str


class MessageToolCall(_Open):
    function: FunctionCall


class Message(_Open):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: list[MessageToolCall] | None = None


class Function(_Open):
    name: NonEmpty
    parameters: dict[str, Any] | None = None


class Tool(_Open):
    type: Literal["function"]
    function: Function


class ResponseFormat(_Open):
    type: str


class StreamOptions(_Strict):
    include_usage: bool | None = None


class GenerationRequest(_Strict):
    """What chat and plain completions share."""

    default_max_tokens: ClassVar[int | None] = None
    prompt_param: ClassVar[str] = "prompt"

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    seed: int | None = None
    stop: NonEmpty | Annotated[list[NonEmpty], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def token_limit(self) -> int | None:
        """The largest answer asked for."""
        return self.max_tokens

    @abstractmethod
    def alternatives(self) -> int | None:
        """How many alternatives a token is reported with; None: no log-probabilities."""

    def refuse_unsupported(self) -> None:
        """Raises BadRequest for what this engine cannot honour."""
        if self.response_format is not None and self.response_format.type != "text":
            kind = self.response_format.type
            raise BadRequest(
                f"response_format {kind!r} is not supported: this engine cannot constrain decoding. Use 'text'.",
                param="response_format",
            )
        if self.stream_options is not None and not self.stream:
            raise BadRequest("stream_options is allowed only when stream is true.", param="stream_options")


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    prompt_param = "messages"

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.top_logprobs and not self.logprobs:
            raise BadRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
        if self.tool_choice not in (None, "auto", "none"):
            raise BadRequest(
                "tool_choice can be 'auto' or 'none': this engine cannot force a tool call.", param="tool_choice"
            )

    def offered_tools(self) -> list[dict[str, Any]]:
        """The tools that the model may see, as the client wrote them."""
        if self.tool_choice == "none":
            return []
        return [tool.model_dump(exclude_unset=True) for tool in self.tools or []]

    def template_messages(self) -> list[dict[str, Any]]:
        """The messages as chat templates expect them: plain text, tool arguments as objects."""
        return [_template_message(message, f"messages[{index}]") for index, message in enumerate(self.messages)]


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    default_max_tokens = COMPLETION_DEFAULT_TOKENS

    prompt: Prompt
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    def alternatives(self) -> int | None:
        return self.logprobs

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.suffix:
            raise BadRequest("suffix is not supported: this engine only continues a prompt.", param="suffix")
        if self.best_of not in (None, self.choices):
            raise BadRequest("best_of must be equal to n.", param="best_of")
        if self.max_tokens == 0 and not self.echo:
            raise BadRequest("max_tokens must be at least 1 unless echo is true.", param="max_tokens")


class EmbeddingRequest(_Strict):
    """POST /v1/embeddings."""

    model: str
    input: Prompt
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


def parse_body(kind: type[Body], body: bytes) -> Body:
    """Check a request body. Raises BadRequest that names the field at fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        raise BadRequest(f"The body is not valid JSON: {first['msg']}")
    param = _param(first["loc"])
    # Every branch of a union complains; the client is told what each would have accepted.
    reasons = dict.fromkeys(problem["msg"] for problem in problems if _param(problem["loc"]) == param)
    raise BadRequest(f"Invalid value for {param or 'the body'}: {' / '.join(reasons)}", param=param)


def split_prompts(prompt: Prompt, param: str, *, choices: int = 1) -> list[str | list[int]]:
    """One entry a prompt, each a text or token ids. Raises BadRequest for none and for too many."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise BadRequest(f"{param} must not be empty.", param=param)
    if all(isinstance(entry, int) for entry in prompt):
        return [[entry for entry in prompt if isinstance(entry, int)]]
    if len(prompt) * choices > MAX_SEQUENCES:
        raise BadRequest(f"{param} asks for more than {MAX_SEQUENCES} sequences; send several requests.", param=param)
    return [entry for entry in prompt if not isinstance(entry, int)]


def sampling_params(
    request: GenerationRequest,
    defaults: GenerationDefaults,
    *,
    prompt_tokens: int,
    context_tokens: int,
    vocab_size: int,
) -> SamplingParams:
    """The request's parameters, else the checkpoint's, else OpenAI's. Raises ContextLengthExceeded, BadRequest."""
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return SamplingParams(
        max_tokens=_answer_limit(request, defaults, prompt_tokens, context_tokens),
        temperature=_first(request.temperature, defaults.temperature, 1.0),
        top_p=_first(request.top_p, defaults.top_p, 1.0),
        top_k=_first(request.top_k, defaults.top_k, 0),
        min_p=_first(request.min_p, defaults.min_p, 0.0),
        repetition_penalty=_first(request.repetition_penalty, defaults.repetition_penalty, 1.0),
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        logit_bias=_logit_bias(request.logit_bias or {}, vocab_size),
        seed=request.seed,
        stop=tuple(stop),
        ignore_eos=bool(request.ignore_eos),
        logprobs=request.alternatives(),
    )


Number = TypeVar("Number", int, float)


def _first(asked: Number | None, default: Number | None, otherwise: Number) -> Number:
    return next((value for value in (asked, default) if value is not None), otherwise)


def _answer_limit(
    request: GenerationRequest, defaults: GenerationDefaults, prompt_tokens: int, context_tokens: int
) -> int:
    asked = request.token_limit()
    needed = prompt_tokens + (1 if asked is None else asked)
    if needed > context_tokens:
        raise ContextLengthExceeded(
            f"This model's maximum context length is {context_tokens} tokens. However, you requested {needed} tokens "
            f"({prompt_tokens} in the {request.prompt_param}, {needed - prompt_tokens} in the completion). "
            f"Please reduce the length of the {request.prompt_param} or completion.",
            param=request.prompt_param,
        )
    if asked is not None:
        return asked
    limits = (context_tokens - prompt_tokens, defaults.max_new_tokens, request.default_max_tokens)
    return min(limit for limit in limits if limit is not None)


def _logit_bias(asked: dict[str, float], vocab_size: int) -> dict[int, float]:
    biases = {}
    for token, bias in asked.items():
        if not token.isdecimal() or int(token) >= vocab_size:
            raise BadRequest(f"logit_bias: {token!r} is not a token id below {vocab_size}.", param="logit_bias")
        biases[int(token)] = bias
    return biases


def _template_message(message: Message, param: str) -> dict[str, Any]:
    fields = message.model_dump(exclude_unset=True)
    if message.role == "developer":  # OpenAI's newer name of the same role; few templates know it
        fields["role"] = "system"
    fields["content"] = _plain_text(message.content, param)
    if message.tool_calls is not None:
        for index, call in enumerate(fields["tool_calls"]):
            call["function"]["arguments"] = _arguments(message.tool_calls[index], f"{param}.tool_calls[{index}]")
    return fields


def _plain_text(content: str | list[ContentPart] | None, param: str) -> str | None:
    """Text parts joined by line ends, as vLLM does for templates that take strings."""
    if content is None or isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if part.type != "text" or part.text is None:
            where = f"{param}.content[{index}]"
            raise BadRequest(f"{where} is of type {part.type!r}: this model reads text only.", param=where)
        texts.append(part.text)
    return "\n".join(texts)


def _arguments(call: MessageToolCall, param: str) -> Any:
    where = f"{param}.function.arguments"
    try:
        arguments = json.loads(call.function.arguments or "{}")
    except (ValueError, RecursionError):
        raise BadRequest(f"{where} is not a JSON text.", param=where) from None
    if not isinstance(arguments, dict):
        raise BadRequest(f"{where} must hold a JSON object.", param=where)
    return arguments


def _param(location: tuple[int | str, ...]) -> str | None:
    """A pydantic location in OpenAI's notation: `messages[0].content`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _BRANCH.fullmatch(part) is None:
            path += f".{part}" if path else part
    return path or None
