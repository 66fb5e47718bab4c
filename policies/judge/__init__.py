"""Judging policies on rows whose two answers were both scored: curves, figures with intervals, tables, a plot."""
