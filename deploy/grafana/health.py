"""How fast it is, which models answer, and whether records and money reach Redis."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.units import BytesIEC, PercentUnit, Seconds, Short

from deploy.grafana.panels import ROUTE, Panel, Query, Row, board, figure, lines, quantile, rate

QUANTILES = (0.5, 0.95, 0.99)


def dashboard() -> Dashboard:
    """The dashboard "Latency and health"."""
    text = "Latency of the models and of the gateway, health of models, Redis and the gateway itself."
    content = (_now(), _latency(), _models(), _records(), _gateway())
    return board("distill-router: latency and health", "distill-router-health", text, content, tenants=False)


def _now() -> Row:
    return Row(
        "Now",
        (
            figure("Gateways", "That are scraped.", Short, "count(distill_router_config_last_reload_successful)"),
            figure(
                "Oldest start",
                "How long the gateway has counted that runs longest.",
                Seconds,
                "time() - min(distill_router_start_time_seconds)",
            ),
            figure(
                "Usable models",
                "Share of models with a healthy replica whose circuit is closed.",
                PercentUnit,
                "avg(model:distill_router_upstream_usable:max)",
            ),
            figure("In flight", "Calls to models.", Short, "sum(distill_router_in_flight)"),
            figure(
                "Ledger's Redis",
                "1 while it answers every gateway; nothing where there is none, or nothing to say yet.",
                Short,
                "min(distill_router_ledger_up and on (instance) "
                "(sum by (instance) (distill_router_ledger_syncs_total) > 0))",
            ),
            figure(
                "Records lost",
                "In the time range.",
                Short,
                "sum(increase(distill_router_records_dropped_total[$__range]))",
            ),
        ),
    )


def _latency() -> Row:
    return Row(
        "Latency",
        (
            _quantiles("Time to first token", "Of streams.", "time_to_first_token_seconds", "model"),
            _quantiles("Time per output token", "Of streams.", "time_per_output_token_seconds", "model"),
            _quantiles("Requests", "From the first byte in to the last byte out.", "request_seconds", "route,model"),
            _quantiles("Overhead", "Requests less the wait for models.", "overhead_seconds", "route"),
            _quantiles("Decisions", "Guards and policy.", "decision_seconds", "route"),
            lines(
                "Mean overhead",
                "By route.",
                Seconds,
                Query(
                    f"{rate('overhead_seconds_sum', ROUTE, 'route')} "
                    f"/ ({rate('overhead_seconds_count', ROUTE, 'route')} > 0)",
                    "{{route}}",
                ),
            ),
        ),
    )


def _quantiles(title: str, text: str, metric: str, by: str) -> Panel:
    queries = (quantile(share, metric, ROUTE, by) for share in QUANTILES)
    return lines(title, text, Seconds, *queries)


def _models() -> Row:
    return Row(
        "Models",
        (
            lines(
                "Arms",
                "1 while a route's teacher or student has a usable replica.",
                Short,
                Query(f"route_arm_model:distill_router_arm_usable:max{{{ROUTE}}}", "{{route}} {{arm}} {{model}}"),
                width=8,
            ),
            lines(
                "Healthy replicas",
                "1 while the health check passes at every gateway.",
                Short,
                Query("min by (model, replica) (distill_router_upstream_healthy)", "{{replica}}"),
                width=8,
            ),
            lines(
                "Open circuits",
                "1 while a gateway leaves a replica alone after failures in a row.",
                Short,
                Query("max by (model, replica) (distill_router_circuit_open)", "{{replica}}"),
                width=8,
            ),
            lines(
                "Calls in flight",
                "Over all gateways.",
                Short,
                Query("sum by (model) (distill_router_in_flight)", "{{model}}"),
                stacked=True,
                width=24,
            ),
        ),
    )


def _records() -> Row:
    return Row(
        "Records and ledger",
        (
            lines(
                "Records waiting",
                "In the gateways' queues.",
                Short,
                Query("sum by (instance) (distill_router_evidence_queue_records)", "{{instance}}"),
                width=8,
            ),
            lines(
                "Records written",
                "A second: produced, taken by Redis, and made to wait on the disk because Redis did not take them.",
                Short,
                Query(rate("records_produced_total", "", "stream"), "{{stream}} produced"),
                Query(rate("records_written_total", "", "stream"), "{{stream}}"),
                Query(rate("records_spooled_total", "", "stream"), "{{stream}} waited"),
                width=8,
            ),
            lines(
                "Records lost",
                "In five minutes, by reason.",
                Short,
                Query("sum by (reason) (increase(distill_router_records_dropped_total[5m]))", "{{reason}}"),
                width=8,
            ),
            lines(
                "Memory of the streams",
                "In Redis.",
                BytesIEC,
                Query("max by (stream) (distill_router_evidence_stream_bytes)", "{{stream}}"),
            ),
            lines(
                "Spool",
                "Bytes on the gateways' disks that Redis does not surely have.",
                BytesIEC,
                Query("max by (instance) (distill_router_evidence_spool_bytes)", "{{instance}}"),
            ),
            lines(
                "Age of the spool",
                "Of the oldest record that Redis does not have yet.",
                Seconds,
                Query("max by (instance) (distill_router_evidence_spool_oldest_seconds)", "{{instance}}"),
                width=8,
            ),
            lines(
                "Archive behind",
                "Records in Redis that no archive has taken; nothing where none ever ran.",
                Short,
                Query("max by (stream) (distill_router_archive_lag_records)", "{{stream}}"),
                width=8,
            ),
            lines(
                "Talks with the ledger's Redis",
                "A second, by result.",
                Short,
                Query(rate("ledger_syncs_total", "", "result"), "{{result}}"),
                width=8,
            ),
        ),
    )


def _gateway() -> Row:
    return Row(
        "Gateway",
        (
            lines(
                "Configuration reloads",
                "In an hour, by result (each worker counts its own).",
                Short,
                Query("sum by (result) (increase(distill_router_config_reloads_total[1h]))", "{{result}}"),
                width=8,
            ),
            lines(
                "Configuration in effect",
                "1 while the file that was read last is the one that is in effect.",
                Short,
                Query("min by (instance) (distill_router_config_last_reload_successful)", "{{instance}}"),
                width=8,
            ),
            lines(
                "API keys that cannot be used",
                "In an hour: records in Redis that were skipped, damaged or of a newer version.",
                Short,
                Query("sum(increase(distill_router_key_records_skipped_total[1h]))", "skipped"),
                width=8,
            ),
        ),
    )
