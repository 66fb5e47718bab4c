"""Calling a model: one pooled HTTP/1.1 client, replicas with circuit breakers and health checks, retries."""
