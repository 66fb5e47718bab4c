"""`policy tune`: the operating points of a log made by hand, what is certified of them, and the proposed block."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from router.settings import parse
from tests.cli.logged import (
    STUDENT,
    STUDENT_NANO,
    TEACHER_NANO,
    asked,
    configured,
    difficult,
    hundred,
    lines,
    run,
    told,
)
from tests.support.pairs import pair


def test_a_pinned_request_loses_what_no_threshold_changes(tmp_path: Path) -> None:
    """Half of the requests come with `auto@1`: their student, who loses a fifth, is not what a threshold decides."""
    pinned = [asked(each, model="auto@1") for each in hundred(score=-0.01) * 2]
    pinned = [each.model_copy(update={"id": f"{place:022x}"}) for place, each in enumerate(pinned)]
    routed = [pair(number, score=-0.01) for number in range(1000, 1200)]
    log = lines(tmp_path / "pairs.jsonl", [*pinned, *routed])
    found = told("tune", configured(tmp_path, {"kind": "cascade", "escalate_at": 0.5}), log)
    assert found["certified"] == [] and 0.05 in found["uncertified"]


def test_the_proposed_block_loads_and_decides_as_was_said(tmp_path: Path, trained: Path) -> None:
    log = lines(tmp_path / "pairs.jsonl", [difficult(n) for n in range(300)])
    config = configured(tmp_path, {"kind": "difficulty", "threshold": 0.99, "file": str(trained)}, audit={"rate": 0.1})
    done = run("tune", config, log, "--max-loss", "0.03")
    assert done.exit_code == 0, done.output
    assert "a day less at a loss of 0.0% [0.0, 1.2]" in done.stdout
    block = yaml.safe_load("routes:" + done.stdout.partition("\nroutes:")[2].partition("\n\n")[0])
    proposed = yaml.safe_load(config.read_text()) | block
    assert parse(yaml.safe_dump(proposed), {}).config.routes["auto"].audit.rate == 0.1
    config.write_text(yaml.safe_dump(proposed))
    found = told("replay", config, log)
    assert found["candidate"]["teacher_share"]["value"] == pytest.approx(1 / 3)
    assert found["candidate"]["loss"]["value"] == 0


def test_a_floor_stands_still_so_that_only_its_points_can_be_seen(tmp_path: Path, trained: Path) -> None:
    log = lines(tmp_path / "pairs.jsonl", [difficult(n) for n in range(300)])
    policy = {"kind": "difficulty", "floor": {"alpha": 0.02}, "file": str(trained)}
    config = configured(tmp_path, policy, redis="redis://127.0.0.1:1/0")
    done = run("replay", config, log)
    assert done.exit_code == 3 and "`floor` moves with the traffic and stands still in a replay" in done.stderr
    found = told("tune", config, log)
    assert found["proposed"]["policy"]["floor"] == {"alpha": 0.02}
    assert 0 < found["proposed"]["policy"]["threshold"] <= 1
    assert found["notes"] == ["`floor` stands still in a replay: these are the figures at the threshold alone"]


def test_the_points_of_a_cascade_and_what_is_certified(tmp_path: Path) -> None:
    records = [pair(n, harm=n % 3 == 0, score=-2.0 if n % 3 == 0 else -0.01 * (n % 7 + 1)) for n in range(400)]
    config = configured(tmp_path, {"kind": "cascade", "escalate_at": 0.9})
    found = told("tune", config, lines(tmp_path / "pairs.jsonl", records))
    points = [each["point"] for each in found["frontier"]]
    losses = [each["candidate"]["loss"]["value"] for each in found["frontier"]]
    assert points == sorted(points) and losses == sorted(losses) and losses[-1] == pytest.approx(134 / 400)
    for each in found["frontier"]:  # an escalation pays for both
        teacher = each["candidate"]["teacher_share"]["value"]
        expected = (STUDENT_NANO + teacher * TEACHER_NANO) / 1e9
        assert each["candidate"]["cost_usd"]["value"] == pytest.approx(expected)
    assert found["proposed"]["max_loss"] == 0.05 and found["proposed"]["candidate"]["loss"]["value"] == 0
    assert found["proposed"]["policy"]["escalate_at"] == found["proposed"]["point"]
    assert {each["max_loss"] for each in found["certified"]} | set(found["uncertified"]) == {0.01, 0.02, 0.05, 0.1}


def test_a_split_is_certified_by_what_the_student_alone_loses(tmp_path: Path) -> None:
    config = configured(tmp_path, {"kind": "split", "student_share": 0.5})
    found = told("tune", config, lines(tmp_path / "pairs.jsonl", hundred()), "--max-loss", "0.1")
    upper = 0.2777  # Clopper and Pearson, one-sided 95%, 20 of 100
    assert found["proposed"]["point"] == pytest.approx(0.1 / upper, abs=0.001)


def test_a_policy_without_points_is_told_so(tmp_path: Path) -> None:
    done = run("tune", configured(tmp_path, STUDENT), lines(tmp_path / "p.jsonl", hundred()))
    assert done.exit_code == 3 and "cascade, difficulty and split have" in done.stderr
