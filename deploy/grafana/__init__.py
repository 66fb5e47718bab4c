"""The Grafana dashboards as code; `python -m deploy.grafana.build` writes them as JSON beside it."""
