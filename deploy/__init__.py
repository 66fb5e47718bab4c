"""What runs beside the gateway: Prometheus rules and Grafana dashboards."""
