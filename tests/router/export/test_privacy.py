"""A record's texts share their placeholders, and nothing of a person is left anywhere in it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import pytest

from router.errors import ConfigError
from router.evidence.records import PairRecord
from router.export.privacy import redaction, without_personal_data
from router.export.redact.presidio import ENTITIES, Presidio
from router.export.redact.registry import DETECTORS
from tests.router.export.cases import WEATHER, answer, call, made, user

MAIL, CARD = "ada@example.com", "4111111111111111"


def personal() -> PairRecord:
    record = made(
        1,
        {
            "messages": [
                {"role": "system", "content": f"You serve {MAIL}."},
                {"role": "user", "content": [{"type": "text", "text": f"Pay with {CARD}, mail {MAIL}"}]},
                {"role": "assistant", "tool_calls": [call("pay", json.dumps({"card": int(CARD), "to": MAIL}))]},
                {"role": "tool", "tool_call_id": "call_a", "content": json.dumps({"ok": True, "mail": MAIL})},
            ],
            "tools": [WEATHER],
            "user": "ada",
            "safety_identifier": "ada-1",
            "metadata": {"name": "Ada"},
        },
        answer("teacher", f"Sent to {MAIL}.", ("pay", json.dumps({"card": CARD}))),
        answer("student", "Sent to bob@example.com."),
        users=["ada"],
        second=answer("teacher", f"Mail to {MAIL}."),
    )
    verdict = record.verdict.model_copy(update={"diff": f'teacher: "Sent to {MAIL[:9]}…'})
    return record.model_copy(update={"verdict": verdict})


def test_prompt_and_answers_name_the_same_things_alike() -> None:
    clean, replaced = without_personal_data(personal(), DETECTORS)
    assert clean.teacher.text == "Sent to [EMAIL_1]." and clean.student.text == "Sent to [EMAIL_2]."
    assert clean.second is not None and clean.second.text == "Mail to [EMAIL_1]."
    assert json.loads(clean.teacher.tool_calls[0]["arguments"]) == {"card": "[CARD_1]"}
    calls = clean.request["messages"][2]["tool_calls"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"card": "[CARD_1]", "to": "[EMAIL_1]"}
    assert replaced == {"EMAIL": 2, "CARD": 1}


def test_nothing_of_the_person_is_left_in_the_record() -> None:
    clean, _ = without_personal_data(personal(), DETECTORS)
    text = clean.model_dump_json()
    assert not any(word in text for word in (MAIL, CARD, "ada", "Ada", "bob@"))


def test_what_is_no_personal_data_stays_as_it_was() -> None:
    record = made(1, {"messages": [user("2+2?")], "tools": [WEATHER], "temperature": 0.5}, "4", "5")
    clean, replaced = without_personal_data(record, DETECTORS)
    assert clean == record and not replaced


def test_placeholders_that_a_client_wrote_keep_their_meaning() -> None:
    record = made(1, {"messages": [user(f"Mail {MAIL}")]}, "Not [EMAIL_1]", "no")
    clean, _ = without_personal_data(record, DETECTORS)
    assert clean.request["messages"][0]["content"] == "Mail [EMAIL_2]"


def test_redaction_off_changes_nothing() -> None:
    record = personal()
    assert redaction("off")(record) == (record, {})


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="the extra `privacy` is installed")
def test_presidio_is_asked_for_by_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'distill-router\[privacy\]'"):
        redaction("presidio")


class Names:
    """Finds one name, and takes placeholders for names too, as language models do."""

    def analyze(self, text: str, language: str, entities: list[str], score_threshold: float) -> list[Any]:
        assert language == "en" and set(entities) == set(ENTITIES)
        found = []
        for name in ("Ada Lovelace", "EMAIL_1", "PERSON_1"):
            start = text.find(name)
            if start >= 0:
                found.append(_Found("PERSON", start, start + len(name)))
        return found


class _Found:
    def __init__(self, entity_type: str, start: int, end: int) -> None:
        self.entity_type, self.start, self.end = entity_type, start, end


def test_presidios_names_are_replaced_beside_the_patterns() -> None:
    record = made(1, {"messages": [user(f"I am Ada Lovelace, {MAIL}.")]}, "Hello Ada Lovelace!", "Hello!")
    clean, replaced = without_personal_data(record, (*DETECTORS, Presidio(Names())))
    assert clean.request["messages"][0]["content"] == "I am [PERSON_1], [EMAIL_1]."
    assert clean.teacher.text == "Hello [PERSON_1]!"
    assert replaced == {"PERSON": 1, "EMAIL": 1}
