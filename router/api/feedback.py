"""`POST /v1/router/feedback`: what a person says of an answer, for the API key whose request it was, or an admin.

The label is kept whether or not the request was compared: its pair may be in an archive, or may still come.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from router.api.common import read_body
from router.api.decisions import check_id, require_own
from router.auth import Caller
from router.errors import BadRequest, Conflict
from router.evidence.labels import MAX_NOTE, new_label
from router.evidence.records import TriageLabel
from router.evidence.streams import LABELS
from router.gateway import Gateway
from router.setting_errors import explain
from router.setting_types import Block

router = APIRouter(prefix="/v1/router")


class Feedback(Block):
    """The body. `id`: the answer's header x-router-decision-id."""

    id: str
    label: TriageLabel
    note: str = Field(default="", max_length=MAX_NOTE)


@router.post("/feedback")
async def give_feedback(request: Request) -> JSONResponse:
    """202: it is written soon. A later label of the same request counts instead of an earlier one."""
    gateway: Gateway = request.app.state.gateway
    caller = gateway.runtime.authenticator.caller(request.scope["headers"])
    feedback = _feedback(await read_body(request, gateway.runtime.config.server.body_timeout_s))
    check_id(feedback.id)
    if "admin" not in caller.permissions:
        await _check(gateway, caller, feedback.id)
    record = new_label(feedback.id, feedback.label, by=caller.name, note=feedback.note, key=caller.name)
    gateway.writer.put(LABELS, record.id, record.model_dump_json().encode())
    return JSONResponse({"object": "feedback", "id": record.id, "label": record.label}, 202)


async def _check(gateway: Gateway, caller: Caller, decision_id: str) -> None:
    """Raises NotFound for the requests of others, Conflict where nothing may be kept of the request."""
    if not caller.records:
        raise Conflict(f"nothing is kept of the requests of tenant '{caller.tenant}' (tenants.{caller.tenant}.audit)")
    row = await require_own(gateway, caller, decision_id)
    if row.ns:
        raise Conflict("nothing is kept of this request: it said x-router-no-store")


def _feedback(body: bytes) -> Feedback:
    """Raises BadRequest, a line per problem."""
    try:
        return Feedback.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest("\n".join(explain(error, Feedback.model_json_schema()))) from None
