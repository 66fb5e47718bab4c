"""Metrics as they are read: rules, alerts, dashboards, and a Prometheus that answers all of them."""
