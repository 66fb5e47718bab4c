"""The Responses API (`POST /v1/responses`) over a model that only speaks chat completions.

Pure functions and one state machine, no I/O: `chat_request` turns the client's request into a chat request, `response`
turns the chat completion into a Response object, `ResponseStream` turns chat chunks into Responses events, `sse` frames
one event. Nothing is stored: what needs an earlier response, a conversation or a stored prompt is refused with a 400.

Source: https://platform.openai.com/docs/api-reference/responses and the types of the `openai` package.
"""

from router.translate.request import chat_request, refuse_state
from router.translate.stream import ResponseStream, response, sse

__all__ = ["ResponseStream", "chat_request", "refuse_state", "response", "sse"]
