"""From rows to figures: medians by target, the ratio to the same round's nginx, and a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
"""What one target showed in one round."""

# key of the row, head of the column, digits
COLUMNS = (
    ("rps_1k", "req/s 1k", 0),
    ("cpu_us_req_1k", "CPU µs/req 1k", 1),
    ("rps_16k", "req/s 16k", 0),
    ("cpu_us_req_16k", "CPU µs/req 16k", 1),
    ("lat100_p50_us", "p50 µs @100/s", 0),
    ("lat100_p99_us", "p99", 0),
    ("stream_max_chunks_s", "chunks/s flood", 0),
    ("stream_max_cpu_us_chunk", "CPU µs/chunk flood", 2),
    ("stream_paced_cpu_us_chunk", "CPU µs/chunk paced", 1),
    ("chunk_p50_us", "chunk p50 µs", 0),
    ("chunk_p99_us", "chunk p99 µs", 0),
    ("rss_mb", "RSS MB", 0),
    ("start_s", "start s", 2),
    ("errors", "errors", 0),
)


def summarise(rows: Iterable[Row]) -> dict[str, Row]:
    """Medians by target, in order of appearance. `x_nginx_cpu` is the median of each round's own ratio."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    nginx = {row.get("round", 0): row for row in by_name.get("nginx", []) if "failed" not in row}
    return {name: _summary(name, found, nginx) for name, found in by_name.items()}


def _summary(name: str, rows: list[Row], nginx: dict[int, Row]) -> Row:
    good = [row for row in rows if "failed" not in row]
    if not good:
        return {"name": name, "failed": rows[0]["failed"]}
    summary: Row = {"name": name, "rounds": len(good)}
    for key, _, _ in COLUMNS:
        if values := [row[key] for row in good if key in row]:
            summary[key] = statistics.median(values)
    rounds = [(row, nginx[row.get("round", 0)]) for row in good if row.get("round", 0) in nginx]
    if ratios := [row["cpu_us_req_1k"] / yardstick["cpu_us_req_1k"] for row, yardstick in rounds]:
        summary["x_nginx_cpu"] = round(statistics.median(ratios), 2)
        summary["x_nginx_cpu_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
    return summary


def with_yardsticks(summaries: dict[str, Row], name: str) -> Row:
    """The target's summary with what it adds to the bare upstream, and nginx beside it."""
    summary = dict(summaries[name])
    direct, nginx = summaries.get("direct", {}), summaries.get("nginx", {})
    if "lat100_p50_us" in direct and "lat100_p50_us" in summary:
        summary["added_p50_us"] = round(summary["lat100_p50_us"] - direct["lat100_p50_us"], 1)
        summary["added_p99_us"] = round(summary["lat100_p99_us"] - direct["lat100_p99_us"], 1)
    if nginx:
        summary["nginx"] = {key: nginx.get(key) for key in ("rps_1k", "cpu_us_req_1k", "stream_paced_cpu_us_chunk")}
    return summary


def table(rows: Iterable[Row]) -> str:
    heads = ["target", "× nginx CPU", *(head for _, head, _ in COLUMNS)]
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for summary in summarise(rows).values():
        if "failed" in summary:
            lines.append(_line([summary["name"], f"failed: {summary['failed']}"]))
            continue
        cells = [f"{summary[key]:.{digits}f}" if key in summary else "" for key, _, digits in COLUMNS]
        lines.append(_line([summary["name"], str(summary.get("x_nginx_cpu", "")), *cells]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
