"""Pure decisions and statistics: no HTTP, no Redis, no FastAPI, and nothing of `router` or `serving`."""
