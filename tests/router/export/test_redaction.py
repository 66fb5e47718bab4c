"""What is taken for personal data or a secret, and what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.export.redact.money import luhn
from router.export.redact.redactor import Redactor
from router.export.redact.registry import DETECTORS

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def redacted(value: Any) -> Any:
    return Redactor(DETECTORS).value(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ada.lovelace+math@example.co.uk", "EMAIL"),
        ("ümit@bücher.example", "EMAIL"),
        ("+49 30 901820", "PHONE"),
        ("+14155552671", "PHONE"),
        ("+1 (415) 555-2671", "PHONE"),
        ("(415) 555-2671", "PHONE"),
        ("415-555-2671", "PHONE"),
        ("4111 1111 1111 1111", "CARD"),
        ("378282246310005", "CARD"),
        ("5555-5555-5555-4444", "CARD"),
        ("DE89 3704 0044 0532 0130 00", "IBAN"),
        ("GB82WEST12345698765432", "IBAN"),
        ("192.168.17.4", "IP"),
        ("2001:db8::8a2e:370:7334", "IP"),
        ("fe80::1ff:fe23:4567:890a", "IP"),
        ("::ffff:203.0.113.7", "IP"),
        ("sk-proj-abcDEF1234567890abcdefXYZ", "TOKEN"),
        ("sk-ant-api03-Zm9vYmFyMTIzNDU2Nzg5MA", "TOKEN"),
        ("AKIAIOSFODNN7EXAMPLE", "TOKEN"),
        ("ghp_" + "a1B2" * 9, "TOKEN"),
        ("github_pat_" + "11AAAAAAA0" * 3, "TOKEN"),
        ("xoxb-123456789012-abcdefABCDEF", "TOKEN"),
        ("AIza" + "Sy12345" * 5, "TOKEN"),
        (JWT, "TOKEN"),
        (PEM, "PRIVATE_KEY"),
    ],
)
def test_it_is_replaced_wherever_it_stands(text: str, kind: str) -> None:
    assert redacted(text) == f"[{kind}_1]"
    assert redacted(f"see {text}, thanks") == f"see [{kind}_1], thanks"
    assert redacted(f"({text})") == f"([{kind}_1])"
    assert redacted({"value": [text]}) == {"value": [f"[{kind}_1]"]}


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "1700000000000 and 1234567890123456",  # times and ids
        "1,234,567.89 EUR, 1 234 567 EUR, 3.14159265358979",
        "2026-11-22 10:20:30, 12:30:45, 10-11-12",
        "call me Ishmael; 555-123; 123-456-7890",
        "+12 345 678 and 4 +2000000000",
        "DE89 3704 0044 0532 0130 01",  # modulo 97
        "XX82WEST12345698765432",
        "127.0.0.1 0.0.0.0 255.255.255.0 v1.2.3.4 version 1.2.3.4 1.2.3.4.5 256.1.1.1",
        "std::vector a::b ::1 :: ace::bad 00:1b:44:11:3a:b7",
        "sk-learn-estimators-and-more, task_management_system",
        "bearer authentication-required, a bearer of responsibilities",
        "user@localhost, @name, a@b",
        "https://example.com/a:b@c",
        "the token is required; password: correct horse",
    ],
)
def test_it_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Tel.: 030 1234567", "Tel.: [PHONE_1]"),
        ("my mobile number is 07911 123456", "my mobile number is 07911 123456"),
        ("mobile: 07911 123456", "mobile: [PHONE_1]"),
        ("call me at 5551234567", "call me at [PHONE_1]"),
        ("Authorization: Bearer abc123DEF456ghi789jkl0", "Authorization: Bearer [TOKEN_1]"),
        ("api_key = 'abcd1234efgh5678ijkl'", "api_key = '[TOKEN_1]'"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "AWS_SECRET_ACCESS_KEY=[TOKEN_1]"),
        ("redis://user:hunter2@host:6379/0", "redis://user:[PASSWORD_1]@host:6379/0"),
    ],
)
def test_only_what_the_words_before_it_announce_is_replaced(text: str, clean: str) -> None:
    assert redacted(text) == clean


def test_one_thing_has_one_placeholder_however_it_is_written() -> None:
    said = ["Ada@Example.com", "ada@example.com", "bob@example.com", "+49 30 901820", "+4930901820"]
    assert redacted(said) == ["[EMAIL_1]", "[EMAIL_1]", "[EMAIL_2]", "[PHONE_1]", "[PHONE_1]"]


def test_numbers_of_placeholders_that_are_there_already_are_not_used_again() -> None:
    redactor = Redactor(DETECTORS)
    redactor.reserve({"messages": ["from [EMAIL_4]"]})
    assert redactor.value("ada@example.com") == "[EMAIL_5]"


def test_what_stood_behind_something_else_is_found_too() -> None:
    assert redacted("phone number 123-4567 (415) 555-2671") == "phone number [PHONE_2] [PHONE_1]"


def test_the_key_of_an_object_is_read_with_its_value() -> None:
    assert redacted({"phone": "030 1234567", "order": "030 1234567"}) == {
        "phone": "[PHONE_1]",
        "order": "030 1234567",
    }
    assert redacted('{"phone": 5551234567, "order": 5551234567}') == '{"phone": "[PHONE_1]", "order": 5551234567}'
    assert redacted('{"api_key": "abcd1234efgh5678ijkl"}') == '{"api_key": "[TOKEN_1]"}'


def test_json_keeps_its_writing_but_for_what_was_replaced() -> None:
    text = '{ "b":1.10,\n "a" : ["x\\u00e9", {"card": 4111111111111111}], "a": "ada@example.com" }'
    clean = '{ "b":1.10,\n "a" : ["x\\u00e9", {"card": "[CARD_1]"}], "a": "[EMAIL_1]" }'
    assert redacted(text) == clean


def test_json_inside_json_and_in_a_fenced_block_stays_json() -> None:
    inner = json.dumps({"mail": "ada@example.com", "card": 4111111111111111})
    assert json.loads(redacted(json.dumps({"arguments": inner})))["arguments"] == (
        '{"mail": "[EMAIL_1]", "card": "[CARD_1]"}'
    )
    fenced = f"Here:\n```json\n{inner}\n```\nfor ada@example.com"
    assert redacted(fenced) == ('Here:\n```json\n{"mail": "[EMAIL_1]", "card": "[CARD_1]"}\n```\nfor [EMAIL_1]')


def test_an_image_is_not_looked_into() -> None:
    url = "data:image/png;base64,AKIAIOSFODNN7EXAMPLE"
    assert redacted({"image_url": {"url": url}}) == {"image_url": {"url": url}}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    deep: Any = "ada@example.com"
    for _ in range(100):
        deep = [deep]
    assert "ada" not in json.dumps(redacted(deep))


def test_half_a_surrogate_pair_stays_an_escape() -> None:
    assert redacted('{"a": "\\ud800 ada@example.com"}') == '{"a": "\\ud800 [EMAIL_1]"}'


@pytest.mark.parametrize(
    ("digits", "valid"), [("79927398713", True), ("79927398710", False), ("0", True), ("18", True), ("19", False)]
)
def test_luhn(digits: str, valid: bool) -> None:
    assert luhn(digits) is valid


@pytest.mark.parametrize(
    ("torn", "clean"),
    [
        ('{"to":"bob\\u0040example.com', '{"to":"[EMAIL_1]'),
        ('{"to":"\\ud83d\\ude00 bob\\u0040example.com', '{"to":"\U0001f600 [EMAIL_1]'),
        ('{"to":"M\\u00fcnchen \\ud83d', '{"to":"M\\u00fcnchen \\ud83d'),
        ('mail "bob\\u0040example.com"', 'mail "[EMAIL_1]"'),
    ],
)
def test_json_that_was_cut_off_hides_nothing_behind_escapes(torn: str, clean: str) -> None:
    assert redacted(torn) == clean
    assert redacted(clean) == clean
