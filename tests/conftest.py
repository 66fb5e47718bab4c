"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No test asserts a timing, generated examples included.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
