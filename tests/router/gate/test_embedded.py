"""Gates on the embedded engine: the demo's teacher and student over HTTP."""

from __future__ import annotations

from tests.surface.gates import GateSurface


class TestGates(GateSurface):
    pass
