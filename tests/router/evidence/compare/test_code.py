"""Code in answers: its form, and what the user's test command says of it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from router.evidence.compare import Answer, Verdict
from router.evidence.compare.python_tree import LONGEST
from tests.router.evidence.compare.asking import compare, configured, judge

ADDS = "def add(a, b):\n    total = a + b\n    return total\n"
CHECK = "import answer; assert answer.add(2, 3) == 5"


def fenced(code: str, language: str = "python") -> str:
    return f"Here it is:\n\n```{language}\n{code}\n```\nIt adds."


def python(teacher: str, student: str) -> Verdict:
    return judge(fenced(teacher), fenced(student))


@pytest.mark.parametrize(
    "student",
    [
        "def add(a, b):\n  total = (a+b)  # the sum\n  return total",
        'def add(a: int, b: int) -> int:\n    """Adds."""\n    total = a + b\n    return total',
        "def add(a, b):\n    result = a + b\n    return result",
        ADDS + "\nif __name__ == '__main__':\n    print(add(1, 2))",
    ],
)
def test_python_that_differs_in_form_only_is_the_same(student: str) -> None:
    verdict = python(ADDS, student)
    assert verdict.same and verdict.comparator == "code"
    assert verdict.checks == {"teacher_valid": True, "student_valid": True}


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (ADDS, ADDS.replace("+", "-")),
        (ADDS, ADDS.replace("a, b", "a, c").replace("+ b", "+ c")),
        ("def f(n):\n    x = n\n    y = 1\n    return x - y", "def f(n):\n    x = n\n    y = 1\n    return y - x"),
        ("def f(n):\n    return [x for x in n], x", "def f(n):\n    return [y for y in n], y"),
        ("def f(a, b):\n    a = 1\n    return a", "def f(a, b):\n    b = 1\n    return b"),
        (
            "def f():\n    def g():\n        v = 1\n        return v\n    return v",
            "def f():\n    def g():\n        w = 1\n        return w\n    return w",
        ),
        ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1"),
        ("x = 1", "x = '1'"),
        ("class A:\n    n: int", "class A:\n    n: str"),
    ],
)
def test_python_that_may_behave_differently_differs(teacher: str, student: str) -> None:
    assert not python(teacher, student).same


def test_code_that_does_not_parse_is_a_loss_beside_code_that_does() -> None:
    verdict = python(ADDS, ADDS.replace("):", ":"))
    assert (verdict.harm, verdict.preferred) == (True, "teacher")
    assert verdict.checks == {"teacher_valid": True, "student_valid": False}
    assert "student: not valid python" in verdict.diff
    assert not python(ADDS.replace("):", ":"), ADDS).harm


WORDS = "You add the two numbers with the plus sign and give back the sum of them."


@pytest.mark.parametrize(("teacher", "student"), [(fenced(ADDS), WORDS), (WORDS, fenced(ADDS))])
def test_code_on_one_side_only_is_a_loss(teacher: str, student: str) -> None:
    verdict = judge(teacher, student)
    assert verdict.harm and verdict.kind == "code" and "no code" in verdict.diff


@pytest.mark.parametrize(
    ("teacher", "student", "same"),
    [
        (fenced("let a = 1; // one", "js"), fenced("let a=1;", "javascript"), True),
        (fenced("let a = 1; /* one */ let b", "js"), fenced("let a=1; let b", "js"), True),
        (fenced('f("a  b")', "js"), fenced('f("a b")', "js"), False),
        (fenced("SELECT a\nFROM t -- all", "sql"), fenced("select a from t", "sql"), True),
        (fenced("SELECT 'A'", "sql"), fenced("select 'a'", "sql"), False),
        (fenced("a: 1\nb:\n  c: 2", "yaml"), fenced("a: 1 \n\nb:\n  c: 2", "yml"), True),
        (fenced("a:\n  b: 1\nc: 2", "yaml"), fenced("a:\n  b: 1\n  c: 2", "yaml"), False),
        (fenced('{"a": 1, "b": 2}', "json"), fenced('{"b": 2.0, "a": 1}', ""), True),
        (fenced("x = 1", "python"), fenced("x = 1", ""), True),
        (fenced("x = 1", "python"), fenced("x = 1", "ruby"), False),
        (fenced("ls -l", "bash"), fenced("ls -l", "sh"), True),
    ],
)
def test_other_languages_are_compared_by_their_tokens(teacher: str, student: str, same: bool) -> None:
    assert judge(teacher, student).same == judge(student, teacher).same == same


def test_the_longest_block_counts_and_examples_do_not() -> None:
    student = fenced(ADDS) + "\n\nFor example:\n```python\nadd(1, 2)\n```\nwhich prints\n```\n3\n```"
    assert judge(fenced(ADDS), student).same


def test_code_without_a_fence_is_code_beside_code_in_one() -> None:
    assert judge(ADDS, fenced(ADDS)).same


def test_a_warning_of_the_parser_stays_inside() -> None:
    assert python(r"x = '\d'", r"x =  '\d'").same


def test_python_that_is_too_long_to_parse_is_compared_by_line() -> None:
    long = "x = 1\n" * (LONGEST // 6 + 1)
    assert python(long, long + "\n\n").same
    assert python(long, long + "y").checks == {}


def by_test(teacher: str, student: str, check: str = CHECK, **settings: Any) -> Verdict:
    by = configured(mine={"kind": "code", "test": [sys.executable, "-B", "-c", check], "timeout_s": 20, **settings})
    return compare({"seed": 7}, Answer(teacher), Answer(student), "mine", by)


def test_two_programs_that_pass_the_test_are_the_same_however_they_look() -> None:
    verdict = by_test(fenced(ADDS), fenced("def add(*n):\n    return sum(n)"))
    assert verdict.same and verdict.checks == {"teacher_valid": True, "student_valid": True}
    assert verdict.comparator == "mine"


def test_a_student_whose_code_fails_the_test_is_a_loss() -> None:
    verdict = by_test(fenced(ADDS), fenced(ADDS.replace("+", "-")))
    assert (verdict.harm, verdict.preferred, verdict.kind) == (True, "teacher", "code")
    assert "student: the test ended with status 1" in verdict.diff and "AssertionError" in verdict.diff


def test_a_student_that_passes_where_the_teacher_fails_is_no_loss() -> None:
    verdict = by_test(fenced(ADDS.replace("+", "-")), fenced(ADDS))
    assert (verdict.same, verdict.harm, verdict.preferred) == (False, False, "student")


def test_a_test_that_always_fails_does_not_make_a_perfect_student() -> None:
    verdict = by_test(fenced(ADDS), fenced(ADDS.replace("+", "-")), "raise SystemExit(3)")
    assert verdict.harm and "neither passes" in verdict.diff
    assert by_test(fenced(ADDS), fenced(ADDS), "raise SystemExit(3)").same


def test_the_test_sees_the_request_and_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "secret")
    check = (
        "import json, os; assert json.load(open('request.json')) == {'seed': 7};"
        "assert 'UPSTREAM_KEY' not in os.environ and os.environ['HOME'] == os.getcwd()"
    )
    assert by_test(fenced(ADDS), fenced(ADDS + "\n"), check).checks == {"teacher_valid": True, "student_valid": True}


def test_a_test_command_that_is_not_there_says_so() -> None:
    by = configured(mine={"kind": "code", "test": ["no-such-program-here"]})
    verdict = compare({}, Answer(fenced(ADDS)), Answer(fenced("x = 1")), "mine", by)
    assert (verdict.kind, verdict.harm) == ("comparator_failed", True)
    assert "no program 'no-such-program-here'" in verdict.diff


def test_code_that_never_ends_fails_at_the_time_limit() -> None:
    verdict = by_test(fenced(ADDS), fenced("while True:\n    pass"), "import answer", timeout_s=2, cpu_s=60)
    assert verdict.preferred == "teacher" and "longer than 2 s" in verdict.diff


def asked(text: str, teacher: str, student: str) -> Verdict:
    request = {"messages": [{"role": "user", "content": text}]}
    return compare(request, Answer(fenced(teacher)), Answer(fenced(student)))


def test_type_hints_and_docstrings_count_where_they_were_asked_for() -> None:
    hinted = "def add(a: int, b: int) -> int:\n    total = a + b\n    return total\n"
    other = hinted.replace("-> int", "-> str")
    told = 'def add(a, b):\n    """Adds."""\n    total = a + b\n    return total\n'
    for student in (ADDS, other):
        assert asked("Write it.", hinted, student).same
        assert asked("Add type hints.", hinted, student).harm
    assert asked("Write it.", told, ADDS).same
    assert asked("Add a docstring.", told, ADDS).harm
    assert asked("Add a docstring.", told, told.replace("Adds.", "The sum.")).same


@pytest.mark.parametrize(
    ("teacher", "student", "same"),
    [
        ("from math import sqrt\nx = sqrt(2)", "import math\nx = math.sqrt(2)", True),
        ("import math as m\nx = m.sqrt(2)", "import math\nx = math.sqrt(2)", True),
        ("from math import sqrt as root\nx = root(2)", "from math import sqrt\nx = sqrt(2)", True),
        ("from math import sqrt\nx = sqrt(2)", "from cmath import sqrt\nx = sqrt(2)", False),
        ("from math import sqrt\nx = sqrt(2)", "import math\nx = math.cbrt(2)", False),
        ("from math import sqrt\nx = sqrt(2)", "x = sqrt(2)", False),
        ("import math\ndef f(math):\n    return math.pi", "from math import pi\ndef f(math):\n    return pi", False),
        (
            "from math import sqrt\ndef f():\n    from cmath import sqrt\n    return sqrt(2)",
            "import math\ndef f():\n    from cmath import sqrt\n    return math.sqrt(2)",
            False,
        ),
    ],
)
def test_how_a_name_is_imported_does_not_count_and_what_is_imported_does(
    teacher: str, student: str, same: bool
) -> None:
    assert python(teacher, student).same == python(student, teacher).same == same


@pytest.mark.parametrize(
    ("teacher", "student", "same"),
    [
        (fenced("f('a');", "js"), fenced('f("a")', "js"), True),
        (fenced("f('\"');", "js"), fenced('f("\'");', "js"), False),
        (fenced("SELECT a FROM t;", "sql"), fenced("select a from t", "sql"), True),
        (fenced("if a; then\n  b\nfi", "sh"), fenced("if a; then\n    b\nfi", "bash"), True),
        (fenced("cat <<X\n  b\nX", "sh"), fenced("cat <<X\nb\nX", "sh"), False),
        (fenced("echo 'a\n  b'", "sh"), fenced("echo 'a\nb'", "sh"), False),
    ],
)
def test_quotes_and_layout_count_only_where_the_language_says_so(teacher: str, student: str, same: bool) -> None:
    assert judge(teacher, student).same == judge(student, teacher).same == same
