"""HTTP in, HTTP out: the raw handler of the hot path, and the ordinary FastAPI endpoints beside it."""
