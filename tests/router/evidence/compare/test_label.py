"""Short answers: what counts as the same label, and what does not."""

from __future__ import annotations

import pytest

from router.evidence.compare import Answer
from tests.router.evidence.compare.asking import compare, judge


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("positive", "The sentiment of this review is positive."),
        ("positive", "Sentiment: Positive"),
        ("The answer is positive.", "Answer: positive"),
        ("No", "No, it is not."),
        ("B", "(B)"),
        ("B", "B) Paris"),
        ("Paris", "B. Paris"),
        ("Option B", "Answer: b."),
        ("B: Paris", "B) Paris"),
    ],
)
def test_the_words_around_a_label_do_not_count(teacher: str, student: str) -> None:
    assert judge(teacher, student, "label").same
    assert judge(student, teacher, "label").same


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("positive", "The sentiment is not positive."),
        ("B. Paris", "C. Paris"),
        ("B. Paris", "B. Rome"),
        ("No", "Yes, not no."),
        ("name: Bob", "father: Bob"),
        ("I", "J"),
        ("positive", "positive and negative"),
        ("true", "false"),
        ("a", "an"),
    ],
)
def test_another_label_differs(teacher: str, student: str) -> None:
    assert not judge(teacher, student, "label").same
    assert not judge(student, teacher, "label").same


OPTIONS = "Which planet is red?\nA) Venus\nB) Mars\nC) Jupiter"
INLINE = "Largest ocean? (A) Atlantic, (B) Pacific, (C) Arctic"


def labelled(asked: str, teacher: str, student: str) -> list[bool]:
    request = {"messages": [{"role": "user", "content": asked}]}
    pairs = ((teacher, student), (student, teacher))
    return [compare(request, Answer(left), Answer(right), "label").same for left, right in pairs]


@pytest.mark.parametrize(
    ("asked", "teacher", "student"),
    [
        ("Who?", "Conan O'Brien", "Conan O’Brien"),
        ("Done?", "Yes", "👍 Yes"),
        ("Which country?", "Perú", "Peru"),
        ("When do we meet?", "16:45", "4:45 PM"),
        ("When do we meet?", "12 noon", "12 noon"),
        ("When do we meet?", "at 9 p.m.", "21:00"),
        ("On which day?", "2031-02-03", "February 3rd, 2031"),
        ("On which day?", "3. Februar 2031", "03.02.2031"),
        ("Who signed?", "Ida, Tom and Zoe", "Zoe, Ida, Tom"),
        ("Who signed?", "- Ida\n- Tom", "Tom, Ida"),
        ("How many days?", "3-5 days", "3 to 5 days"),
        ("How many days?", "3-5", "3 – 5"),
        (OPTIONS, "B", "Mars"),
        (OPTIONS, "The answer is (B).", "Mars."),
        (INLINE, "B", "Pacific"),
    ],
)
def test_another_notation_of_an_answer_for_a_person_is_the_same(asked: str, teacher: str, student: str) -> None:
    assert labelled(asked, teacher, student) == [True, True]


@pytest.mark.parametrize(
    ("asked", "teacher", "student"),
    [
        ("Which flag?", "👍", "👎"),
        ("How many days?", "3-5 days", "3 to 6 days"),
        ("What is it?", "año", "ano"),
        ("Wie?", "schön", "schon"),
        ("When do we meet?", "4:45 AM", "4:45 PM"),
        ("When do we meet?", "3:30", "3:30 pm"),
        ("When do we meet?", "25:30", "1:30"),
        ("On which day?", "2031-02-03", "March 2nd, 2031"),
        ("On which day?", "30.02.2031", "2031-03-02"),
        ("On which day, as YYYY-MM-DD?", "2031-02-03", "February 3rd, 2031"),
        ("Who came first?", "Ida, Tom", "Tom, Ida"),
        ("Rank them.", "Ida, Tom", "Tom, Ida"),
        ("1. Big?\n2. Red?", "Ida, Tom", "Tom, Ida"),
        ("Is it big, is it red?", "yes, no", "no, yes"),
        ("How many rows and columns?", "3, 5", "5, 3"),
        ("Who signed?", "Ida, Tom", "Ida, Tom, Zoe"),
        ("Who signed?", "Ida, Ida, Tom", "Ida, Tom, Tom"),
        (OPTIONS, "B", "Venus"),
        (OPTIONS, "D", "Mars"),
        ("A. The cat", "A", "The cat"),
        ("A) Venus\nB) Mars\n(see D) Saturn", "D", "Saturn"),
        ("A) Venus\nB) Venus", "A", "Venus"),
        (OPTIONS + "\nAnswer with the letter.", "B", "Mars"),
    ],
)
def test_an_answer_that_may_be_another_one_differs(asked: str, teacher: str, student: str) -> None:
    assert labelled(asked, teacher, student) == [False, False]


def test_long_lists_of_the_same_names_are_labels_and_other_long_texts_are_not() -> None:
    names = [f"Name{chr(97 + n)} Surname" for n in range(8)]
    assert judge(", ".join(names), ", ".join(reversed(names))).comparator == "label"
    assert judge(", ".join(names), ", ".join(names[1:])).comparator == "prose"
