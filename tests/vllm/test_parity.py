"""The embedded engine says what vLLM says, with the same checkpoints, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from openai import BadRequestError, OpenAI

from serving.demo.tasks import TASKS, Example
from serving.embedded.server import DEMO_MODELS
from tests.support.server_process import ServerProcess
from tests.vllm.parity import Answer, Differences, ask

EXAMPLES_PER_TASK = 8
LOGPROB_TOLERANCE = 0.02

Servers = dict[str, ServerProcess]
Clients = tuple[OpenAI, OpenAI]


@pytest.fixture(scope="module", params=DEMO_MODELS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def engines(model: str, embedded_servers: Servers, vllm_servers: Servers) -> Iterator[Clients]:
    """A client of the embedded engine and one of vLLM, both serving `model`."""
    with (
        OpenAI(base_url=embedded_servers[model].base_url, api_key="none", max_retries=0) as embedded,
        OpenAI(base_url=vllm_servers[model].base_url, api_key="none", max_retries=0) as vllm,
    ):
        yield embedded, vllm


def examples(task: str) -> list[Example]:
    rng = Random(f"parity {task}")
    return [TASKS[task].example(rng) for _ in range(EXAMPLES_PER_TASK)]


@pytest.mark.parametrize("task", TASKS)
def test_greedy_answers_and_usage_are_the_same_and_logprobs_nearly(
    engines: Clients, model: str, task: str, differences: Differences
) -> None:
    apart = {}
    for example in examples(task):
        embedded, vllm = (Answer.of(ask(client, model, example)) for client in engines)
        assert embedded == vllm, example.prompt
        apart[example.prompt] = differences.add(model, embedded, vllm)
    assert {prompt: by for prompt, by in apart.items() if by > LOGPROB_TOLERANCE} == {}


def test_the_alternatives_to_a_token_are_the_same_and_logprobs_nearly(engines: Clients, model: str) -> None:
    def alternatives(client: OpenAI) -> list[tuple[str, float]]:
        (choice,) = ask(client, model, examples("upper")[0]).choices
        assert choice.logprobs
        return [(top.token, top.logprob) for token in choice.logprobs.content or [] for top in token.top_logprobs]

    embedded, vllm = map(alternatives, engines)
    assert [token for token, _ in embedded] == [token for token, _ in vllm]
    assert [logprob for _, logprob in embedded] == pytest.approx(
        [logprob for _, logprob in vllm], abs=LOGPROB_TOLERANCE
    )


def test_an_answer_cut_at_its_limit_ends_with_length_on_both(engines: Clients, model: str) -> None:
    example = Example("upper", "upper distill", "DISTILL", hard=False, size=7)
    embedded, vllm = (Answer.of(ask(client, model, example, max_tokens=3)) for client in engines)
    assert embedded == vllm
    assert vllm.finish_reason == "length"


def test_a_stop_text_ends_the_answer_before_it_on_both(engines: Clients, model: str) -> None:
    example = Example("upper", "upper distill", "DISTILL", hard=False, size=7)
    embedded, vllm = (Answer.of(ask(client, model, example, stop=["I"])) for client in engines)
    assert embedded == vllm
    assert vllm.finish_reason == "stop"


def test_a_conversation_with_a_system_message_is_read_the_same(engines: Clients, model: str) -> None:
    def answer(client: OpenAI) -> tuple[str | None, int]:
        completion = client.chat.completions.create(
            model=model,
            messages=[
                {"role": "system", "content": "Be brief; ünïcödé counts in bytes."},
                {"role": "user", "content": "upper cat"},
                {"role": "assistant", "content": "CAT"},
                {"role": "user", "content": [{"type": "text", "text": "upper dog"}]},
            ],
            temperature=0,
            max_tokens=16,
        )
        assert completion.usage
        return completion.choices[0].message.content, completion.usage.prompt_tokens

    embedded, vllm = map(answer, engines)
    assert embedded == vllm


def test_a_streamed_answer_is_the_same_with_its_usage(engines: Clients, model: str) -> None:
    def answer(client: OpenAI) -> tuple[str, list[str], tuple[int, int] | None]:
        chunks = list(
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": "upper stream"}],
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        choices = [choice for chunk in chunks for choice in chunk.choices]
        text = "".join(choice.delta.content or "" for choice in choices)
        reasons: list[str] = [choice.finish_reason for choice in choices if choice.finish_reason]
        usage = chunks[-1].usage
        return text, reasons, (usage.prompt_tokens, usage.completion_tokens) if usage else None

    embedded, vllm = map(answer, engines)
    assert embedded == vllm


def test_a_plain_completion_is_the_same_with_its_logprobs(engines: Clients, model: str) -> None:
    def answer(client: OpenAI) -> tuple[str, list[str], list[float]]:
        completion = client.completions.create(model=model, prompt="upper cat", temperature=0, max_tokens=8, logprobs=1)
        (choice,) = completion.choices
        assert choice.logprobs
        logprobs = [value for value in choice.logprobs.token_logprobs or [] if value is not None]
        return choice.text, choice.logprobs.tokens or [], logprobs

    embedded, vllm = map(answer, engines)
    assert embedded[:2] == vllm[:2]
    assert embedded[2] == pytest.approx(vllm[2], abs=LOGPROB_TOLERANCE)


def test_a_prompt_beyond_the_context_is_a_bad_request_on_both(engines: Clients, model: str) -> None:
    for client in engines:
        with pytest.raises(BadRequestError):
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x" * 600}])
