"""`distill-router policy train|list|show|promote|rollback` on pairs in a spool and the store in a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from policies.learn import artifact
from router.cli.policy_store import run_list, run_promote, run_rollback, run_show, run_train
from router.errors import ConfigError
from router.settings import load
from router.trained.blocking import with_store
from router.trained.files import read_trained
from router.trained.store import TrainedStore
from router.trained.train import TrainingRefused
from tests.support.gateway import two_models
from tests.support.pairs import STUDENT_VERSION, spool_pairs
from tests.trained.lessons import lessons

NAME = "auto:difficulty"
PAIRS = 120


@pytest.fixture
def config(tmp_path: Path, redis_folder: Path, embedded: redis.Redis) -> Path:
    return written(tmp_path, redis={"url": "embedded", "data_dir": str(redis_folder)})


@pytest.fixture
def taught(config: Path, tmp_path: Path) -> Path:
    """The same, with pairs to learn from."""
    spool_pairs(tmp_path / "spool", lessons(PAIRS))
    return config


def written(folder: Path, **top: Any) -> Path:
    url = "http://127.0.0.1/v1"
    path = folder / "router.yaml"
    path.write_text(yaml.safe_dump(two_models(url, url, evidence={"spool_dir": str(folder / "spool")}, **top)))
    return path


def train(config: Path | None, *, sources: tuple[str, ...] = ("redis",), **changes: Any) -> str:
    options: dict[str, Any] = {
        "route": "auto",
        "kind": "difficulty",
        "since": "2023-11-01",
        "out": None,
        "promote": False,
        "report_path": None,
        "seed": 0,
        "as_json": False,
    }
    return run_train(config, sources=sources, **(options | changes))


def listed(config: Path) -> list[tuple[int, str]]:
    return [(each["number"], each["state"]) for each in json.loads(run_list(config, as_json=True))]


def test_a_trained_policy_is_kept_as_a_candidate_that_a_promotion_puts_in_force(taught: Path) -> None:
    said = train(taught)
    assert "auto:difficulty@1" in said and "Reliability on examples" in said
    assert "`distill-router policy promote auto:difficulty@1` puts it in force." in said
    assert listed(taught) == [(1, "candidate")]
    assert run_promote(taught, what=NAME, file=None).endswith("is in force now")
    assert listed(taught) == [(1, "in force")]
    assert run_promote(taught, what=f"{NAME}@1", file=None).endswith("was in force already")


def test_training_again_gives_the_next_number_and_a_rollback_brings_the_first_one_back(taught: Path) -> None:
    train(taught, promote=True)
    said = json.loads(train(taught, promote=True, seed=1, as_json=True))
    assert (said["number"], said["in_force"], said["data"]["pairs"]) == (2, True, PAIRS)
    assert listed(taught) == [(1, "was in force"), (2, "in force")]
    assert run_rollback(taught, name=NAME).startswith("auto:difficulty@1 ")
    assert listed(taught) == [(1, "in force"), (2, "candidate")]
    with pytest.raises(ConfigError, match="nothing that is still kept was in force before"):
        run_rollback(taught, name=NAME)


def test_what_was_learned_is_shown_from_the_store_and_from_a_file_alike(taught: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "auto.policy", tmp_path / "report.html"
    train(taught, out=out, report_path=page)
    stored = json.loads(run_show(taught, what=NAME, report_path=None, as_json=True))
    of_file = json.loads(run_show(None, what=str(out), report_path=None, as_json=True))
    assert stored["report"] == of_file["report"] and stored["version"] == of_file["version"]
    assert stored["data"]["from"] == ["redis"]
    assert "<svg" in page.read_text()
    assert "120 in 120 conversations" in run_show(taught, what=f"{NAME}@1", report_path=None, as_json=False)
    figure = tmp_path / "figure.svg"
    run_show(None, what=str(out), report_path=figure, as_json=False)
    assert "expected harm" in figure.read_text()


def test_the_policy_in_a_file_tells_hard_requests_from_easy_ones(taught: Path, tmp_path: Path) -> None:
    from policies.query import Query

    out = tmp_path / "auto.policy"
    train(taught, out=out)
    hard, easy = (
        read_trained(out).score(Query(last=text, whole=text, route="auto")).loss
        for text in ("Multiply 12 by 19 for Ada. (1)", "Say hello to Ada, who is 12 today. (1)")
    )
    assert hard > 0.6 > 0.3 > easy


def test_a_route_that_is_not_there_is_no_name_for_a_policy(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown route 'typo'; known: auto"):
        train(taught, sources=(rows(tmp_path),), route="typo", promote=True)
    assert listed(taught) == []


def test_a_file_brings_along_until_when_it_learned_and_from_which_models(taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "auto.policy"
    train(taught, out=out)
    told = read_trained(out).report
    assert told["models"] == {"teacher": ["t1"], "student": [STUDENT_VERSION]}
    run_promote(taught, what=NAME, file=out)
    kept = json.loads(run_list(taught, as_json=True))[-1]
    assert kept["origin"] == "file" and kept["until"] == told["until"] == lessons(PAIRS)[-1].time
    rows_out = tmp_path / "rows.policy"
    train(None, sources=(rows(tmp_path),), out=rows_out)
    assert read_trained(rows_out).report["models"] == {}


def test_a_file_that_was_trained_elsewhere_may_be_promoted(taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "auto.policy"
    train(None, sources=(rows(tmp_path),), out=out)
    said = run_promote(taught, what=NAME, file=out)
    assert said.startswith("auto:difficulty@1 ") and listed(taught) == [(1, "in force")]
    with pytest.raises(ConfigError, match="is of kind difficulty, not cascade"):
        run_promote(taught, what="auto:cascade", file=out)
    with pytest.raises(ConfigError, match="a file gets the next number"):
        run_promote(taught, what=f"{NAME}@3", file=out)


def rows(folder: Path) -> str:
    """Judged requests of the same kind as the pairs."""
    path = folder / "rows.jsonl"
    records = (
        {
            "id": record.id,
            "dataset": "auto",
            "prompt": record.request["messages"][0]["content"],
            "strong_score": int(number % 7 > 0),
            "weak_score": int(not record.verdict.harm),
        }
        for number, record in enumerate(lessons(100))
    )
    path.write_text("\n".join(map(json.dumps, records)))
    return str(path)


def test_too_few_pairs_are_refused_with_what_is_missing(config: Path, tmp_path: Path) -> None:
    spool_pairs(tmp_path / "spool", lessons(10))
    with pytest.raises(TrainingRefused, match=r"at least 30 .* there are 10"):
        train(config)
    assert listed(config) == []


def test_one_class_alone_is_refused(config: Path, tmp_path: Path) -> None:
    spool_pairs(tmp_path / "spool", [each for each in lessons(200) if not each.verdict.harm])
    with pytest.raises(TrainingRefused, match="0 with harm"):
        train(config)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "magic"}, "--kind magic: unknown; known: difficulty, cascade"),
        ({"sources": ()}, "nothing to learn from"),
        ({"route": "other"}, "unknown route 'other'; known: auto"),
        ({"out": "none/a.policy"}, "there is no folder none"),
        ({"report_path": "a.pdf"}, "ends in .html or .svg"),
        ({"since": "ever"}, "--since ever: not understood"),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(taught: Path, changes: dict[str, Any], why: str) -> None:
    for name in ("out", "report_path"):
        if name in changes:
            changes = {**changes, name: Path(changes[name])}
    with pytest.raises(ConfigError) as refused:
        train(taught, **changes)
    assert why in str(refused.value)
    assert listed(taught) == []


def test_without_redis_a_file_is_the_only_place(tmp_path: Path) -> None:
    config = written(tmp_path)
    spool_pairs(tmp_path / "spool", lessons(PAIRS))
    with pytest.raises(ConfigError, match="nothing would be kept: give --out FILE"):
        train(config)
    with pytest.raises(ConfigError, match="--promote: needs"):
        train(config, out=tmp_path / "a.policy", promote=True)
    assert "It is in" in train(config, out=tmp_path / "a.policy")
    calls: list[Callable[[], str]] = [
        lambda: run_list(config, as_json=False),
        lambda: run_promote(config, what=NAME, file=None),
        lambda: run_rollback(config, name=NAME),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="are kept in Redis, and none is configured"):
            call()


def test_a_file_is_never_written_over_something_else(taught: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("important")
    with pytest.raises(ConfigError, match="exists and is no trained policy"):
        train(taught, out=mine)
    assert mine.read_text() == "important"
    again = tmp_path / "auto.policy"
    for _ in range(2):
        train(taught, out=again)


def test_what_cannot_be_loaded_is_not_promoted(config: Path, taught: Path) -> None:
    train(taught)
    settings = load(config)

    async def spoil(store: TrainedStore) -> int:
        good = await store.find(NAME, None)
        return await store.put(NAME, b"nonsense", good.record)

    assert with_store(settings, spoil) == 2
    with pytest.raises(ConfigError, match=r"auto:difficulty@2: the file is no trained policy"):
        run_promote(config, what=NAME, file=None)
    assert listed(config) == [(1, "candidate"), (2, "candidate")]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("auto:difficulty", "there is no trained policy 'auto:difficulty'; known: none"),
        ("auto:difficulty@x", "expected NAME or NAME@NUMBER"),
    ],
)
def test_what_is_not_kept_is_told(config: Path, what: str, why: str) -> None:
    calls: list[Callable[[], str]] = [
        lambda: run_show(config, what=what, report_path=None, as_json=False),
        lambda: run_promote(config, what=what, file=None),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=why):
            call()


def test_a_list_is_a_table_and_an_empty_one_says_how_to_begin(taught: Path) -> None:
    assert "policy train" in run_list(taught, as_json=False)
    train(taught, promote=True)
    table = run_list(taught, as_json=False)
    assert "auto:difficulty@1" in table and "in force" in table and "120" in table


def test_a_file_holds_no_code_and_names_its_content(taught: Path, tmp_path: Path) -> None:
    out = tmp_path / "auto.policy"
    train(taught, out=out)
    assert artifact.read(out.read_bytes()).kind == "difficulty"
