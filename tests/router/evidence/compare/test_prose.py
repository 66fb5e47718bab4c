"""Texts in sentences: what is plain without a judge, and what is left to one."""

from __future__ import annotations

import pytest

from router.evidence.compare import Answer, Verdict
from router.evidence.compare.prose import check
from router.language import language, other_language, script
from tests.router.evidence.compare.asking import compare, configured, judge, replying

MEETING = "The meeting with Anna Berg takes place on Monday at 10 in the large hall in Bonn."
LONG = " ".join(f"Step {n} is to turn the valve by {n} degrees and wait." for n in range(1, 12))
WITH_JUDGE = configured(referee={"kind": "judge", "model": "third"}, careful={"kind": "prose", "judge": "referee"})


def careful(teacher: str, student: str, reply: str) -> Verdict:
    return compare({}, Answer(teacher), Answer(student), "careful", WITH_JUDGE, replying(lambda _: reply))


@pytest.mark.parametrize(
    "student",
    [
        MEETING.upper(),
        MEETING.replace(".", "!"),
        MEETING.replace(" at 10", ", at 10,"),
        MEETING.replace("The meeting", "So the meeting"),
        f"**{MEETING}**",
    ],
)
def test_a_text_that_differs_in_form_only_is_the_same(student: str) -> None:
    assert check(MEETING, student).finding == check(student, MEETING).finding == "same"


@pytest.mark.parametrize(
    ("teacher", "student", "why"),
    [
        (MEETING, MEETING.replace("10", "11"), "other numbers: 10 and 11"),
        (MEETING, MEETING.replace("takes", "never takes"), "a negation on one side"),
        (MEETING, MEETING.replace("Berg", "Baum"), "other names: berg and baum"),
        (MEETING, "Die Sitzung mit Anna Berg ist am Montag um 10 und nicht in dem kleinen Saal.", "language en and de"),
        (MEETING, "Встреча с Анной Берг состоится в понедельник в десять часов.", "Latin script and Cyrillic script"),
        (LONG, "Turn the valve.", "132 words and 3 words"),
        (LONG, "The valve is hot. " * 40, "the student repeats itself"),
        (MEETING, "I'm sorry, but I can't help with that meeting at the moment.", "only the student declines"),
    ],
)
def test_a_text_that_is_plainly_broken_is_a_loss_whatever_a_judge_would_say(
    teacher: str, student: str, why: str
) -> None:
    found = check(teacher, student)
    assert found.finding == "broken" and why in found.why
    assert check(student, teacher).finding == "broken"
    assert compare({}, Answer(teacher), Answer(student), "careful", WITH_JUDGE).harm


@pytest.mark.parametrize(
    "student",
    [
        "On Monday at 10 you will meet Anna Berg in the large hall in Bonn.",
        "Anna Berg is met at 10 on Monday, in Bonn, in the large hall.",
        MEETING + " Bring the plans.",
    ],
)
def test_another_wording_is_left_to_the_judge(student: str) -> None:
    assert check(MEETING, student).finding == "unclear"
    assert careful(MEETING, student, "tie").same
    assert careful(MEETING, student, "A").kind == "ambiguous"


def test_without_a_judge_the_unclear_counts_as_a_loss_and_the_diff_says_why() -> None:
    verdict = judge(MEETING, "On Monday at 10 you will meet Anna Berg in the large hall in Bonn.", "prose")
    assert (verdict.harm, verdict.kind, verdict.judged) == (True, "text", False)
    assert 0 < verdict.score < 1 and "not plainly the same" in verdict.diff


def test_words_in_another_order_are_not_plainly_the_same() -> None:
    rota = "on the first day of May the rota is Anna Bert Carl Dora in turn"
    assert check(rota, rota.replace("Bert Carl", "Carl Bert")).finding != "same"
    assert check("The dog bites the man in the park.", "The man bites the dog in the park.").finding != "same"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat is on the mat and it is not for you.", "en"),
        ("Die Katze ist auf der Matte und das ist nicht für dich.", "de"),
        ("Le chat est sur le tapis et ce n'est pas pour vous dans les murs.", "fr"),
        ("El gato está en la casa y los perros son muy pero que muy grandes.", "es"),
        ("lorem ipsum dolor", None),
        ("", None),
    ],
)
def test_a_language_is_told_where_its_words_give_it_away(text: str, expected: str | None) -> None:
    assert language(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("это предложение на русском", "Cyrillic"),
        ("这是一个完全用中文写成的句子没有别的", "Han"),
        ("これは日本語で書かれた文章です。", "Kana"),
        ("이 문장은 한국어로 쓰여 있습니다", "Hangul"),
        ("plain English words", "Latin"),
        ("short", None),
        ("12345 67890 !!!", None),
    ],
)
def test_a_script_is_told_where_there_are_letters_enough(text: str, expected: str | None) -> None:
    assert script(text) == expected


def test_a_quotation_does_not_make_another_language() -> None:
    english = "The word that the author uses for it is Weltschmerz, and it is not the same as sadness."
    assert other_language(english, english.replace("Weltschmerz", "Fernweh und Heimweh")) is None


@pytest.mark.parametrize(
    ("teacher", "student", "same"),
    [
        ("I don't think that we will find it there today.", "I do not think we'll find it there today.", True),
        ("I can't think that we will find it there today.", "I can think that we will find it there today.", False),
        ("To do:\n- buy some bread\n- call Ida", "To do:\n* Call Ida.\n* Buy some bread.", True),
        ("To do:\n- buy some bread\n- call Ida", "To avoid:\n- call Ida\n- buy some bread", False),
        ("To do:\n1. buy some bread\n2. call Ida now", "To do:\n1. call Ida now\n2. buy some bread", False),
    ],
)
def test_contractions_and_the_order_of_bullets_do_not_count(teacher: str, student: str, same: bool) -> None:
    assert judge(teacher, student, "prose").same == judge(student, teacher, "prose").same == same


def test_names_that_changed_places_in_a_long_text_are_a_difference() -> None:
    told = (
        "On Monday the board of the company decided after a long debate that {} should lead the new plant in the "
        "north, while the old one, which closes next summer, is left to {} until its last worker has found a new place."
    )
    assert not judge(told.format("Ida", "Tom"), told.format("Tom", "Ida"), "prose").same
