"""All floors and paces in one process, without Redis: counted once, kept over reloads and versions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.bounds import Floats
from policies.certify.floor import Floor
from policies.certify.records import Audited, FloorStatus
from policies.certify.settings import FloorSettings
from policies.control.pace import Spending
from router.budget_settings import Budget
from router.control.controllers import KEPT_S, WORKER_KEPT_S, Controllers
from router.control.events import RouteCounts, Shipment, received, shipped
from router.control.live import Boards, LiveRoute
from router.control.plan import Plan
from router.control.tally import Tally
from tests.control.made import FLOOR, live_route
from tests.support.policy_parts import Asked

NOW = 1e9


def tallied(live: LiveRoute, requests: int, audits: int, harm: float = 0.0) -> Tally:
    tally = Tally(live.version)
    for at in range(requests):
        tally.decided(0.1, 0.0, "student")
        if at < audits:
            tally.audited(Audited(0.1, harm, 1.0, NOW, True))
    return tally


def shipment(live: LiveRoute, worker: str, number: int, requests: int = 1, audits: int = 0) -> Shipment:
    """As it arrives after having been sent."""
    return received(shipped(worker, number, [("auto", tallied(live, requests, audits))]))


def seen(controllers: Controllers, plan: Plan) -> tuple[int, int]:
    status = controllers.published(plan, NOW)["auto"].status
    assert status is not None
    return status.requests, status.audits


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), max_size=40),
    st.sets(st.integers(0, 39)),
)
def test_each_shipment_counts_once_in_whatever_order_workers_mix_and_leaders_change(
    arrivals: list[tuple[str, int]], changes: set[int]
) -> None:
    """A worker's shipments arrive in their order, some again and again; between any two the leader may change."""
    live = live_route(Boards())
    plan, controllers = Plan({"auto": live}), Controllers()
    last = {"a": 0, "b": 0}
    for at, (worker, back) in enumerate(arrivals):
        number = max(1, last[worker] + 1 - back)  # the next one, or one that was there before
        last[worker] = max(last[worker], number)
        controllers.take(shipment(live, worker, number, requests=number), NOW)
        if at in changes:
            controllers.step(plan, {}, NOW)
            controllers = Controllers.load(plan, controllers.dump())
    controllers.step(plan, {}, NOW)
    expected = sum(count * (count + 1) // 2 for count in last.values())
    assert seen(controllers, plan)[0] == expected
    assert controllers.lost == 0


def test_a_new_version_has_a_floor_of_its_own_and_an_old_one_goes_on_where_it_was() -> None:
    version = ["v1"]
    live = live_route(Boards(), scorer=lambda: version[0])
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.take(shipment(live, "a", 1, requests=50, audits=10), NOW)
    controllers.step(plan, {}, NOW)
    old = shipment(live, "a", 2, requests=5)
    version[0] = "v2"
    controllers.take(old, NOW)  # of a worker that has not followed yet
    controllers.step(plan, {}, NOW)
    assert seen(controllers, plan) == (0, 0)
    assert controllers.published(plan, NOW)["auto"].version == live.version
    version[0] = "v1"
    controllers.step(plan, {}, NOW)
    assert seen(controllers, plan) == (55, 10)


class Pairs:
    """Out-of-sample pairs of a training, none of them harmful."""

    loss: Floats = np.linspace(0.0, 1.0, 800)
    harm: Floats = np.zeros(800)
    weight: Floats = np.ones(800)


def test_the_floor_of_a_new_version_starts_from_its_calibration_set() -> None:
    live = live_route(Boards())
    live.calibration = Pairs
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.step(plan, {}, NOW)
    published = controllers.published(plan, NOW)["auto"]
    assert published.status and published.status.phase == "certified"
    assert published.floor is not None and published.floor > 0.9


def test_settings_of_a_reload_keep_what_was_learned() -> None:
    boards = Boards()
    controllers, plan = Controllers(), Plan({"auto": live_route(boards)})
    live = plan.routes["auto"]
    controllers.take(shipment(live, "a", 1, requests=200, audits=60), NOW)
    controllers.step(plan, {}, NOW)
    before = controllers.published(plan, NOW)["auto"].floor
    stricter = FLOOR.model_copy(update={"alpha": 0.0001})
    plan = Plan({"auto": live_route(boards, floor=stricter)})
    controllers.step(plan, {}, NOW)
    after = controllers.published(plan, NOW)["auto"].floor
    assert before is not None and after is not None and after < before
    status = controllers.published(plan, NOW)["auto"].status
    assert status is not None and status.phase == "certified"


def test_a_route_of_another_gateway_is_kept_for_a_day_whoever_leads() -> None:
    live = live_route(Boards())
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.take(shipment(live, "a", 1, requests=50, audits=10), NOW)
    controllers.step(plan, {}, NOW)
    other = Plan({"other": live_route(Boards(), "other")})
    for later_s in (0.0, KEPT_S):
        controllers = Controllers.load(other, controllers.dump())
        controllers.step(other, {}, NOW + later_s)
        assert list(controllers.published(other, NOW)) == ["other"]
    again = Controllers.load(plan, controllers.dump())
    again.step(plan, {}, NOW + KEPT_S)
    assert seen(again, plan) == (50, 10)
    controllers.step(other, {}, NOW + KEPT_S + 1)
    controllers.step(plan, {}, NOW + KEPT_S + 1)
    assert seen(controllers, plan) == (0, 0)


def test_a_pace_of_another_gateway_is_kept_whoever_leads() -> None:
    budget = Budget(window="hour", limit_usd=10, target_usd=4)
    plan = Plan({"auto": live_route(Boards(), floor=None, paced=True)}, {"auto": "hour"}, {"hour": budget})
    controllers = Controllers()
    spent = {"hour": Spending(NOW - 600, NOW + 3_000, 5.0)}
    controllers.step(plan, spent, NOW)
    price = controllers.published(plan, NOW)["auto"].pace_usd
    assert price
    other = Controllers.load(Plan(), controllers.dump())
    other.step(Plan(), {}, NOW + 1)
    assert Controllers.load(plan, other.dump()).published(plan, NOW)["auto"].pace_usd == price


def test_a_floor_that_was_in_force_before_a_long_stop_is_not_begun_anew() -> None:
    live = live_route(Boards())
    live.calibration = Pairs
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.take(shipment(live, "a", 1, requests=50, audits=10), NOW)
    controllers.step(plan, {}, NOW)
    again = Controllers.load(plan, controllers.dump())
    again.step(plan, {}, NOW + 3 * KEPT_S)
    assert seen(again, plan) == (50, 10)


def test_a_controller_that_fails_stops_nobody_else_and_nothing_counts_twice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    boards, controllers = Boards(), Controllers()
    bad, good = live_route(boards, "bad"), live_route(boards)
    plan, audited = Plan({"bad": bad, "auto": good}), Floor.audited
    counts = [("bad", tallied(bad, 1, 1, harm=0.123)), ("auto", tallied(good, 10, 2))]
    controllers.take(received(shipped("a", 1, counts)), NOW)

    def fails(floor: Floor, pairs: Sequence[Audited]) -> None:
        if any(pair.harm == 0.123 for pair in pairs):
            raise ZeroDivisionError
        audited(floor, pairs)

    monkeypatch.setattr(Floor, "audited", fails)
    for _ in range(3):
        controllers.step(plan, {}, NOW)
        assert list(controllers.published(plan, NOW)) == ["auto"]  # nobody renews what failed
    assert seen(controllers, plan) == (10, 2)
    controllers.take(received(shipped("a", 2, [("bad", tallied(bad, 1, 1))])), NOW)
    controllers.step(plan, {}, NOW)
    assert list(controllers.published(plan, NOW)) == ["bad", "auto"]
    assert caplog.text.count("the floor of route 'bad' fails") == 1


def test_a_state_that_cannot_be_made_is_not_published_and_the_others_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    boards, controllers = Boards(), Controllers()
    strict = FLOOR.model_copy(update={"alpha": 0.01})
    plan = Plan({"bad": live_route(boards, "bad", floor=strict), "auto": live_route(boards)})
    controllers.step(plan, {}, NOW)
    status = Floor.status

    def fails(floor: Floor) -> FloorStatus:
        if floor.settings == strict:
            raise ZeroDivisionError
        return status(floor)

    monkeypatch.setattr(Floor, "status", fails)
    assert list(controllers.published(plan, NOW)) == ["auto"]
    assert "the state of route 'bad' fails" in caplog.text


def test_what_no_audit_could_tell_of_reaches_the_floor_apart() -> None:
    live = live_route(Boards())
    plan, controllers = Plan({"auto": live}), Controllers()
    live.uncovered(live.version)
    live.decided(Asked(), live.version, 0.9, 0.0, "student", covered=False)
    live.decided(Asked(), live.version, 0.1, 0.0, "student")
    [tally] = live.board.take()
    controllers.take(received(shipped("a", 1, [("auto", tally)])), NOW)
    controllers.step(plan, {}, NOW)
    status = controllers.published(plan, NOW)["auto"].status
    assert status is not None and (status.requests, status.uncovered) == (1, 2)


def test_audits_that_came_with_the_counts_are_no_silence() -> None:
    """After a while without a leader everything that was counted meanwhile comes at once."""
    live = live_route(Boards(), floor=FloorSettings(alpha=0.1, min_audits=20))
    plan, controllers = Plan({"auto": live}), Controllers()
    for number in (1, 2):
        controllers.take(shipment(live, "a", number, requests=400, audits=60 if number == 1 else 0), NOW)
        controllers.step(plan, {}, NOW)
    controllers.take(shipment(live, "a", 3, requests=400, audits=40), NOW + 1e4)
    controllers.step(plan, {}, NOW + 1e4)
    status = controllers.published(plan, NOW)["auto"].status
    assert status is not None and (status.phase, status.rung["silence"]) == ("certified", 0)


def test_workers_that_nobody_hears_of_are_forgotten() -> None:
    live = live_route(Boards())
    plan, controllers = Plan({"auto": live}), Controllers()
    for number in range(100):
        controllers.take(shipment(live, f"worker {number}", 1), NOW)
    controllers.step(plan, {}, NOW)
    much = len(controllers.dump())
    controllers.step(plan, {}, NOW + WORKER_KEPT_S)
    assert len(controllers.dump()) < much / 1.5


def test_counts_in_bins_that_do_not_exist_are_refused() -> None:
    counts = RouteCounts("auto", "v", 1, [(10_000, 1)], [], [], [], [], 0.0, 0)
    with pytest.raises(ValueError, match="bin 10000"):
        Controllers().take(Shipment("a", 1, [counts]), NOW)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"nonsense",
        zlib.compress(b"{}"),
        zlib.compress(msgspec.json.encode({"format": 99})),
        zlib.compress(msgspec.json.encode({"format": 2, "lost": 0, "workers": []})),
    ],
)
def test_a_memory_that_cannot_be_read_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged|format"):
        Controllers.load(Plan(), state)


def test_one_controller_whose_state_cannot_be_read_does_not_take_the_others_along() -> None:
    live = live_route(Boards())
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.take(shipment(live, "a", 3, requests=50), NOW)
    controllers.step(plan, {}, NOW)
    state = msgspec.json.decode(zlib.decompress(controllers.dump()))
    state["floors"]["auto"][live.version][1] = {"format": -1}
    again = Controllers.load(plan, zlib.compress(msgspec.json.encode(state)))
    again.take(shipment(live, "a", 3, requests=50), NOW)  # had been counted
    again.step(plan, {}, NOW)
    assert seen(again, plan) == (0, 0)


@pytest.mark.parametrize("all_of_it", [False, True])
def test_what_cannot_be_read_is_not_certified_again_by_its_calibration_set(all_of_it: bool) -> None:
    live = live_route(Boards())
    live.calibration = Pairs
    plan, controllers = Plan({"auto": live}), Controllers()
    controllers.step(plan, {}, NOW)
    state = msgspec.json.decode(zlib.decompress(controllers.dump()))
    state["floors"]["auto"][live.version][1] = {"format": -1}
    again = (
        Controllers.anew(plan, NOW) if all_of_it else Controllers.load(plan, zlib.compress(msgspec.json.encode(state)))
    )
    again.step(plan, {}, NOW)
    published = again.published(plan, NOW)["auto"]
    assert published.floor == 0.0
    assert published.status is not None and published.status.phase == "calibrating"
