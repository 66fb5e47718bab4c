"""The demo's task generators: right answers, disjoint splits, repeatable traffic."""

import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.demo.tasks import (
    STUDENT_REVERSE_LETTERS,
    TASKS,
    WORD_SIZES,
    Example,
    Split,
    is_held_out,
    is_memorised,
    workload,
)

seeds = st.integers(min_value=0, max_value=2**32)
sizes = st.sampled_from([0, *WORD_SIZES])
names = st.sampled_from(sorted(TASKS))


def drawn(name: str, seed: int, size: int = 0, split: Split = Split.ANY) -> Example:
    return TASKS[name].example(Random(seed), split, size)


@given(names, seeds, sizes)
def test_the_same_seed_gives_the_same_example(name: str, seed: int, size: int) -> None:
    assert drawn(name, seed, size) == drawn(name, seed, size)


@given(names, seeds)
def test_a_prompt_in_training_is_never_held_out(name: str, seed: int) -> None:
    prompt = drawn(name, seed, split=Split.TRAIN).prompt
    assert not is_held_out(prompt)
    assert is_memorised(prompt) or not Split.HELD_OUT.admits(prompt)


@given(names, seeds)
def test_a_held_out_prompt_is_never_in_training(name: str, seed: int) -> None:
    prompt = drawn(name, seed, split=Split.HELD_OUT).prompt
    assert is_memorised(prompt) or (is_held_out(prompt) and not Split.TRAIN.admits(prompt))


def test_about_one_prompt_in_ten_is_held_out() -> None:
    prompts = [f"{left}+{right}" for left in range(10, 100) for right in range(10, 100)]
    assert 0.08 < sum(map(is_held_out, prompts)) / len(prompts) < 0.12


def test_only_one_digit_additions_and_one_letter_words_are_memorised() -> None:
    memorised = {"3+4", "upper a", "reverse z", "sort q", "weather in x", "time in y"}
    others = {"12+34", "3+14", "upper ab", "json a 4", "sort banana", "time in ab"}
    assert all(map(is_memorised, memorised))
    assert not any(map(is_memorised, others))


@given(seeds, st.sampled_from(WORD_SIZES))
def test_a_word_has_the_wanted_length(seed: int, size: int) -> None:
    word = drawn("upper", seed, size).prompt.removeprefix("upper ")
    assert len(word) == size
    assert word.isalpha() and word.islower() and word.isascii()


@given(seeds, sizes)
def test_upper_answers_in_capitals(seed: int, size: int) -> None:
    example = drawn("upper", seed, size)
    assert example.prompt == f"upper {example.answer.lower()}"
    assert example.answer.isupper()


@pytest.mark.parametrize(("name", "low", "high"), [("add1", 0, 9), ("add2", 10, 99)])
@given(seed=seeds)
def test_additions_answer_with_the_sum(name: str, low: int, high: int, seed: int) -> None:
    example = drawn(name, seed)
    numbers = [int(number) for number in example.prompt.split("+")]
    assert all(low <= number <= high for number in numbers)
    assert example.answer == str(sum(numbers))


@given(seeds, sizes)
def test_reverse_is_its_own_inverse_and_hard_beyond_what_the_student_was_taught(seed: int, size: int) -> None:
    example = drawn("reverse", seed, size)
    word = example.prompt.removeprefix("reverse ")
    assert "".join(reversed(example.answer)) == word
    assert example.hard == (len(word) > STUDENT_REVERSE_LETTERS)


@given(seeds, sizes)
def test_sort_answers_with_the_same_letters_in_order(seed: int, size: int) -> None:
    example = drawn("sort", seed, size)
    assert Counter(example.answer) == Counter(example.prompt.removeprefix("sort "))
    assert all(left <= right for left, right in zip(example.answer, example.answer[1:], strict=False))


@given(seeds, sizes)
def test_extraction_answers_with_json_of_the_name_and_the_age(seed: int, size: int) -> None:
    example = drawn("json", seed, size)
    _, name, age = example.prompt.split()
    assert example.answer == f'{{"name": "{name}", "age": {age}}}'
    assert json.loads(example.answer) == {"name": name, "age": int(age)}


@given(seeds, sizes)
def test_a_tool_call_names_an_offered_tool_and_its_argument(seed: int, size: int) -> None:
    example = drawn("tool_call", seed, size)
    opening, call, closing = example.answer.split("\n")
    assert (opening, closing) == ("<tool_call>", "</tool_call>")
    parsed = json.loads(call)
    topic, city = example.prompt.split(" in ")
    function = next(t["function"] for t in example.tools if t["function"]["name"] == parsed["name"])
    assert function["name"].endswith(topic)
    assert parsed["arguments"] == dict.fromkeys(function["parameters"]["required"], city)


def test_held_out_words_come_in_every_length_alike() -> None:
    rng = Random(5)
    lengths = Counter(TASKS["reverse"].example(rng, Split.HELD_OUT).size for _ in range(800))
    assert all(60 < lengths[size] < 140 for size in WORD_SIZES)


def test_only_tool_calls_bring_tools() -> None:
    assert {example.task for example in workload(500, 3) if example.tools} == {"tool_call"}


@given(seeds)
def test_the_workload_repeats_with_its_seed(seed: int) -> None:
    assert workload(20, seed) == workload(20, seed)
    assert len(workload(20, seed)) == 20


def test_another_seed_gives_another_workload() -> None:
    assert workload(20, 1) != workload(20, 2)


@pytest.mark.parametrize("seed", range(5))
def test_more_than_half_of_the_workload_is_easy_and_every_task_occurs(seed: int) -> None:
    examples = workload(400, seed)
    assert 0.5 < sum(not example.hard for example in examples) / len(examples) < 0.7
    assert {example.task for example in examples} == set(TASKS)


def test_no_workload_prompt_was_trained_on_unless_its_space_is_memorised() -> None:
    assert all(is_held_out(example.prompt) or is_memorised(example.prompt) for example in workload(500, 4))
