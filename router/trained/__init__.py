"""Trained policies: learned from evidence, kept in Redis as numbered versions, followed by every worker."""
