"""Nothing leaves that a teacher's licence does not let leave, then and now."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from router.errors import ConfigError
from router.export.licence import require_training_use
from router.settings import Config, parse
from tests.router.export.cases import PLAIN, TALK, TOOLS
from tests.support.gateway import two_models


def config(**teacher: Any) -> Config:
    data = two_models("http://t/v1", "http://s/v1")
    data["models"]["teacher"] |= teacher
    return parse(yaml.safe_dump(data), {}).config


def test_answers_that_were_and_are_allowed_may_train() -> None:
    require_training_use([PLAIN, TALK], config(training_use="allow"))
    require_training_use([], config())


@pytest.mark.parametrize("use", ["unknown", "deny"])
def test_answers_that_were_not_allowed_when_given_are_refused_with_their_count(use: str) -> None:
    record = PLAIN.model_copy(update={"training_use": use})
    with pytest.raises(ConfigError, match=rf"1 of 3 records hold answers that 'teacher' gave .* was {use}"):
        require_training_use([record, TALK, TOOLS], config(training_use="allow"))


@pytest.mark.parametrize("now", [{}, {"training_use": "deny"}])
def test_answers_of_a_teacher_that_is_no_longer_allowed_are_refused(now: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"models\.teacher\.training_use: is (unknown|deny), so that its 2 answers"):
        require_training_use([PLAIN, TALK], config(**now))


def test_answers_of_a_model_that_nobody_knows_any_more_are_refused() -> None:
    gone = PLAIN.model_copy(update={"teacher": PLAIN.teacher.model_copy(update={"model": "old"})})
    with pytest.raises(ConfigError, match="'old', which is no longer among the models"):
        require_training_use([gone, TALK], config(training_use="allow"))
