"""`python -m router.cli`: the same as `distill-router`, for processes that start each other."""

from router.cli import app

app()
