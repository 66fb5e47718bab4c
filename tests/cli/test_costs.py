"""`costs report`: on rows and sums made by hand, where the books can be forged, and on a real gateway."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
import redis
import yaml
from typer.testing import CliRunner, Result

from router.cli import app
from router.evidence.batches import Record
from router.evidence.streams import AGREEMENTS, DECISIONS, shard_key
from router.ledger.gpu import GPU_BILL_ORIGIN
from router.ledger.names import HOUR_S, hour_field, hour_key
from router.record.row import DecisionRow, encode_row
from tests.router.report.made import audited, keep, served, shadow
from tests.support.gateway import running_gateway, two_models
from tests.support.pairs import spool_pairs, spool_records
from tests.support.router_process import Router, gone, until
from tests.support.scripted import ScriptedUpstream
from tests.support.upstream_thread import UpstreamThread

NOW = time.time()
HOUR = int(NOW) // HOUR_S * HOUR_S - 3 * HOUR_S


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["costs", "report", *map(str, arguments)])


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    def write(**top: Any) -> Path:
        path = tmp_path / "router.yaml"
        config = two_models("http://t/v1", "http://s/v1", evidence={"spool_dir": str(tmp_path / "spool")})
        config["ledger"] = {"sync_s": 0.02}
        path.write_text(yaml.safe_dump(config | top))
        return path

    return write


@pytest.fixture
def config(write_config: Callable[..., Path], redis_url: str) -> Path:
    """A configuration with an empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return write_config(redis=redis_url)


def a_day(start: float = HOUR) -> list[DecisionRow]:
    """Requests of two hours, with an audit for every second answer of the student."""
    rows = [served(number, start + number * 60, "student" if number % 3 else "teacher") for number in range(120)]
    return rows + [shadow(number, start + number * 60) for number in range(0, 120, 2)]


def forge(url: str, by: int) -> None:
    """Change one hourly sum behind everybody's back."""
    with redis.Redis.from_url(url) as client:
        client.hincrby(hour_key(HOUR), hour_field("w0", "auto", "acme", "ci", "student", "serve"), by)


def test_rows_that_equal_the_sums_are_said_to(config: Path, redis_url: str) -> None:
    keep(redis_url, a_day())
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 0, done.output
    assert "hourly sums: equal to the rows to the nano-dollar in 2 hours" in done.stdout
    assert "counters: not compared; --metrics URL names a gateway" in done.stdout
    totals = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["total"])
    assert totals[1:3] == ["120", "180"]
    assert totals[-1] == f"{(80 * 28_000 + 40 * 280_000 + 60 * 300_000) / 1e9:.9f}"


@pytest.mark.parametrize("by", [1, -1])
def test_a_nano_dollar_of_difference_is_named_with_its_hour_and_field(config: Path, redis_url: str, by: int) -> None:
    keep(redis_url, a_day())
    forge(redis_url, by)
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 3
    hour = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(HOUR))
    assert "DIFFER from the rows in 1 hour of 2" in done.stdout
    assert f"{hour} origin serve, route auto, tenant acme, key ci, model student: rows 0.001120000" in done.stdout
    assert f"({'-' if by > 0 else '+'}0.000000001)" in done.stdout
    assert ("rows are missing" if by > 0 else "lost its last writes") in done.stdout
    assert run("-c", config, "--since", "24h").exit_code == 0  # without --strict it is only said
    found = json.loads(run("-c", config, "--since", "24h", "--format", "json").stdout)["reconciliation"]
    assert found["agrees"] is False
    (difference,) = found["hourly_sums"]["differences"]
    assert (difference["hour"], difference["model"], difference["rows_usd"]) == (HOUR, "student", "0.001120000")


def test_rows_in_the_spool_belong_to_the_books(config: Path, redis_url: str, tmp_path: Path) -> None:
    rows = a_day()
    keep(redis_url, rows)
    with redis.Redis.from_url(redis_url) as client:
        client.delete(shard_key(0, DECISIONS))
    spool_records(tmp_path / "spool", [Record(DECISIONS, row.id, encode_row(row)) for row in rows])
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 0 and "to the nano-dollar in 2 hours" in done.stdout


def test_hours_whose_rows_were_trimmed_are_not_compared(
    write_config: Callable[..., Path], config: Path, redis_url: str, tmp_path: Path
) -> None:
    rows = sorted(a_day(), key=lambda row: row.t)
    keep(redis_url, rows)
    with redis.Redis.from_url(redis_url) as client:
        client.xtrim(shard_key(0, DECISIONS), minid=f"{HOUR + 1800}000", approximate=False)
        left = client.xlen(shard_key(0, DECISIONS))
    config = write_config(redis=redis_url, evidence={"spool_dir": str(tmp_path / "spool"), "decisions_max": left})
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 0, done.stdout
    assert "to the nano-dollar in 1 hour" in done.stdout
    assert "rows were trimmed from the bounded stream, the oldest was written at" in done.stdout


def test_without_redis_there_is_nothing_to_compare_with(write_config: Callable[..., Path], tmp_path: Path) -> None:
    spool_pairs(tmp_path / "spool", [], a_day())
    done = run("-c", write_config(), "--since", "24h", "--strict")
    assert done.exit_code == 0 and "not compared, no Redis" in done.stdout


def test_sums_are_read_from_the_ledgers_server_and_rows_from_that_of_evidence(
    write_config: Callable[..., Path], config: Path, redis_url: str
) -> None:
    ledger, evidence = (f"{redis_url}?db={number}" for number in (1, 2))
    for url, keys in ((ledger, [hour_key(HOUR), hour_key(HOUR + HOUR_S)]), (evidence, [shard_key(0, DECISIONS)])):
        keep(url, a_day())
        with redis.Redis.from_url(url) as client:
            for key in set(client.keys()) - {key.encode() for key in keys}:
                client.delete(key)
    apart = write_config(redis={"url": redis_url, "ledger_url": ledger, "evidence_url": evidence})
    done = run("-c", apart, "--since", "24h", "--strict")
    assert done.exit_code == 0 and "to the nano-dollar in 2 hours" in done.stdout
    for url in (ledger, evidence):
        with redis.Redis.from_url(url) as client:
            client.flushdb()


def test_enough_pairs_correct_the_estimate_and_give_it_an_interval(config: Path, redis_url: str) -> None:
    keep(redis_url, a_day())
    raw = json.loads(run("-c", config, "--since", "24h", "--format", "json").stdout)
    assert raw["total"]["teacher_only_usd"] == "0.033600000"
    assert raw["total"]["teacher_only_low_usd"] is None
    assert "auto: not corrected: 0 pairs; 30 are needed" in run("-c", config, "--since", "24h").stdout
    with redis.Redis.from_url(redis_url) as client:
        for number in range(40):
            pair = audited(number, HOUR + number, 308_000 + number % 2)
            client.execute_command("XADD", shard_key(0, AGREEMENTS), "*", "r", pair.model_dump_json())
        old = audited(99, HOUR - 7 * 86_400, 1)
        client.execute_command("XADD", shard_key(0, AGREEMENTS), "*", "r", old.model_dump_json())
    found = json.loads(run("-c", config, "--since", "24h", "--format", "json").stdout)
    assert found["ratios"]["auto"]["pairs"] == 40
    assert found["ratios"]["auto"]["ratio"] == pytest.approx(1.1, abs=1e-5)
    total = {name: Decimal(value) for name, value in found["total"].items() if name.endswith("usd")}
    assert total["teacher_only_low_usd"] < total["teacher_only_usd"] < total["teacher_only_high_usd"]
    assert total["net_savings_usd"] == total["teacher_only_usd"] - total["cost_usd"]
    assert total["net_savings_high_usd"] == total["teacher_only_high_usd"] - total["cost_usd"]
    table = run("-c", config, "--since", "24h").stdout
    assert "auto: the teacher costs 1.100 ± 0.000 times the estimate (95%, 40 pairs)" in table


def test_the_table_fits_into_a_hundred_columns_and_says_once_what_is_the_same(config: Path, redis_url: str) -> None:
    rows = a_day()
    for number, row in enumerate(rows):
        row.rt, row.tn = f"route-{number % 2}", f"tenant-{number % 3}"
        for charge in row.ch:
            charge.nano *= 100_000
    keep(redis_url, rows)
    lines = run("-c", config, "--since", "24h").stdout.splitlines()
    assert max(map(len, lines[: lines.index("Do the books agree?")])) <= 100
    one_tenant = run("-c", config, "--since", "24h", "--by", "day,model").stdout
    assert "tenant" not in one_tenant.partition("Teacher alone")[0]


def test_csv_holds_every_line_exactly(config: Path, redis_url: str, tmp_path: Path) -> None:
    keep(redis_url, a_day())
    done = run("-c", config, "--since", "24h", "--by", "model,origin", "--format", "csv")
    lines = {(line["model"], line["origin"]): line for line in csv.DictReader(io.StringIO(done.stdout))}
    assert lines.keys() == {("student", "serve"), ("teacher", "serve"), ("teacher", "shadow")}
    assert lines["student", "serve"]["cost_usd"] == "0.002240000"
    assert lines["teacher", "shadow"]["net_savings_usd"] == "-0.018000000"
    assert lines["student", "serve"]["teacher_only_low_usd"] == ""
    assert lines["student", "serve"]["input_tokens"] == "8000"
    assert "to the nano-dollar in 2 hours" in done.stderr
    out = tmp_path / "costs.csv"
    assert run("-c", config, "--since", "24h", "--by", "model,origin", "--format", "csv", "--out", out).exit_code == 0
    assert out.read_text() == done.stdout


def test_parquet_holds_decimals(config: Path, redis_url: str, tmp_path: Path) -> None:
    keep(redis_url, a_day())
    out = tmp_path / "costs.parquet"
    done = run("-c", config, "--since", "24h", "--by", "model", "--format", "parquet", "--out", out)
    assert done.exit_code == 0, done.output
    table = pyarrow.parquet.read_table(out)
    assert str(table.schema.field("cost_usd").type) == "decimal128(28, 9)"
    assert str(table.schema.field("requests").type) == "int64"
    lines = {line["model"]: line for line in table.to_pylist()}
    assert lines["student"]["cost_usd"] == Decimal("0.002240000")
    assert lines["teacher"]["net_savings_usd"] == Decimal("-0.018000000")


def test_without_pyarrow_the_missing_extra_is_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run("-c", config, "--format", "parquet", "--out", tmp_path / "costs.parquet")
    assert done.exit_code == 2 and "pip install 'distill-router[parquet]'" in done.stderr
    assert not (tmp_path / "costs.parquet").exists()


def test_money_is_told_by_key_in_every_format(config: Path, redis_url: str, tmp_path: Path) -> None:
    other = [msgspec.structs.replace(served(number, HOUR + number), k="batch") for number in range(200, 210)]
    keep(redis_url, a_day() + other)
    arguments = ("-c", config, "--since", "24h", "--by", "key", "--format")
    table = [line.split() for line in run(*arguments, "table").stdout.splitlines()]
    assert ["batch", "10", "10", "1,000", "100", "0.000280000"] in table
    out = tmp_path / "costs.parquet"
    assert run(*arguments, "parquet", "--out", out).exit_code == 0
    parquet = [(line["key"], f"{line['cost_usd']:f}") for line in pyarrow.parquet.read_table(out).to_pylist()]
    found = [(line["key"], line["cost_usd"]) for line in json.loads(run(*arguments, "json").stdout)["lines"]]
    in_csv = [(line["key"], line["cost_usd"]) for line in csv.DictReader(io.StringIO(run(*arguments, "csv").stdout))]
    assert parquet == found == in_csv == [("batch", "0.000280000"), ("ci", "0.031440000")]


def test_idle_gpus_are_lines_of_their_own_and_hours_without_a_bill_are_left_out(config: Path, redis_url: str) -> None:
    keep(redis_url, a_day())
    with redis.Redis.from_url(redis_url) as client:
        client.hset(hour_key(HOUR), hour_field("", "", "", "", "student", GPU_BILL_ORIGIN), 5_000_000)
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 0
    assert "bill 0.005000000, requests paid 0.001120000 in the hours billed, idle 0.003880000 USD" in done.stdout
    lines = list(csv.DictReader(io.StringIO(run("-c", config, "--since", "24h", "--format", "csv").stdout)))
    idle = lines[-1]
    assert (idle["line"], idle["model"], idle["cost_usd"], idle["requests"]) == (
        "gpu_idle",
        "student",
        "0.003880000",
        "",
    )


def test_nothing_spent_is_said(config: Path) -> None:
    done = run("-c", config, "--since", "24h", "--strict")
    assert done.exit_code == 0
    assert "No decision rows in this period." in done.stdout and "none to compare" in done.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--since", "soon"], "--since soon: not understood; allowed are"),
        (["--by", "day,who"], "--by day,who: unknown 'who'; known: day, route, tenant, key, model, origin"),
        (["--timezone", "Mars"], "--timezone Mars: unknown"),
        (["--format", "parquet"], "--format parquet: give --out FILE"),
        (["--metrics", "localhost:8080"], "--metrics localhost:8080: expected http(s)://HOST"),
        (["--metrics", "http://127.0.0.1:1"], "--metrics http://127.0.0.1:1: no answer"),
        (["--api-key-file", "nowhere"], "--api-key-file nowhere"),
        (["--out", "."], "--out .: exists"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(config: Path, arguments: list[str], says: str) -> None:
    done = run("-c", config, *arguments)
    assert done.exit_code == 2 and done.stdout == ""
    assert says in done.stderr and "Traceback" not in done.stderr


async def test_a_real_gateways_rows_sums_and_counters_agree(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path
) -> None:
    config = two_models(
        teacher.url,
        student.url,
        policy={"kind": "split", "student_share": 0.5},
        route={"audit": {"rate": 1.0}},
        redis=redis_url,
        ledger={"state_dir": str(tmp_path / "ledger")},
    )
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        await asyncio.gather(*(gateway.ask("chat", stream=number % 2 == 1) for number in range(60)))
        await gateway.idle()
        arguments = ("-c", path, "--since", "2h", "--strict", "--metrics", gateway.url)
        done = await asyncio.to_thread(run, *arguments)
        assert done.exit_code == 0, done.output
        assert "equal to the rows to the nano-dollar" in done.stdout
        assert "within 1e-9 in" in done.stdout
        assert "running requests" not in done.stdout
        with redis.Redis.from_url(redis_url) as client:
            stranger = client.xadd(shard_key(0, DECISIONS), {"r": encode_row(served(1, time.time(), tenant=""))})
            forged = await asyncio.to_thread(run, *arguments)
            client.xdel(shard_key(0, DECISIONS), stranger)
        assert forged.exit_code == 3, forged.output
        assert "counters: DIFFER from the rows since" in forged.stdout and "in 2 of " in forged.stdout
        assert "cost_usd_total{auto, -, student, serve}: rows" in forged.stdout


async def test_running_requests_are_no_discrepancy(
    redis_url: str, teacher: ScriptedUpstream, student: ScriptedUpstream, tmp_path: Path
) -> None:
    config = two_models(teacher.url, student.url, redis=redis_url, ledger={"state_dir": str(tmp_path / "ledger")})
    path = tmp_path / "router.yaml"
    path.write_text(yaml.safe_dump(config))
    async with running_gateway(config, redis_url=redis_url) as gateway:
        await gateway.ask("chat")
        report = asyncio.create_task(
            asyncio.to_thread(run, "-c", path, "--since", "2h", "--strict", "--metrics", gateway.url)
        )
        while not report.done():
            await gateway.ask("chat")
        assert report.result().exit_code == 0, report.result().output
        assert "running requests" in report.result().stdout


def test_workers_count_together_also_after_one_was_killed(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    with UpstreamThread() as upstream:
        config = two_models(
            upstream.url,
            upstream.url,
            redis=redis_url,
            evidence={"spool_dir": str(tmp_path / "spool")},
            ledger={"state_dir": str(tmp_path / "ledger"), "lease_s": 2},
        )
        with Router(tmp_path, config, "--workers", "2") as router:
            arguments = ("-c", router.path, "--since", "2h", "--strict", "--metrics", f"{router.url}/metrics")
            assert [router.ask()[0] for _ in range(20)] == [200] * 20
            started = router.metric("start_time_seconds")
            done = run(*arguments)
            assert done.exit_code == 0, done.output
            victim = router.workers()[0]
            victim.kill()
            until(lambda: gone([victim]) and len(router.workers()) == 2, "another worker")
            assert [router.ask()[0] for _ in range(20)] == [200] * 20
            assert router.metric("start_time_seconds") == started
            done = run(*arguments)
            assert done.exit_code == 0, done.output
            assert "within 1e-9 in" in done.stdout
