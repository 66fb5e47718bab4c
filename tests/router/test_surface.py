"""The OpenAI surface on the embedded engine: the demo's teacher and student over HTTP."""

from __future__ import annotations

from openai.types import CreateEmbeddingResponse, Model

from tests.support.gateway import RunningGateway
from tests.surface.chat import ChatSurface
from tests.surface.others import AuditSurface, CompletionsSurface, ResponsesSurface


class TestChat(ChatSurface):
    pass


class TestCompletions(CompletionsSurface):
    pass


class TestResponses(ResponsesSurface):
    pass


class TestAudit(AuditSurface):
    pass


async def test_embeddings_come_from_the_one_model_that_is_configured(surface: RunningGateway) -> None:
    answer = await surface.openai.embeddings.create(model="teacher", input=["a", "b"])
    CreateEmbeddingResponse.model_validate(answer.model_dump(), strict=True)
    assert len(answer.data) == 2
    row = await surface.row()
    assert (row.ep, row.m, row.tok[2]) == ("embeddings", "teacher", 0)
    assert row.c == {"serve": 2_000 * answer.usage.prompt_tokens}


async def test_routes_and_models_are_listed_and_found_one_by_one(surface: RunningGateway) -> None:
    listed = (await surface.openai.models.list()).data
    assert {model.id for model in listed} == {"auto", "to-teacher", "to-student", "teacher", "student"}
    for model in listed:
        Model.model_validate(model.model_dump(), strict=True)
        assert await surface.openai.models.retrieve(model.id) == model
