"""How many entries each stream may keep, as configured: by number, and by bytes at the average size seen so far."""

from __future__ import annotations

from router.evidence.streams import DECISIONS
from router.evidence_settings import Evidence


class Bounds:
    """Of all shards of a stream together; each gets an equal part."""

    def __init__(self, config: Evidence) -> None:
        self._config = config
        self._written: dict[str, tuple[int, int]] = {}

    def entries(self, stream: str, records: list[bytes]) -> int:
        """For one shard, now that these records are added to it. Labels are bounded as pairs are."""
        config = self._config
        most, most_bytes = (
            (config.decisions_max, config.decisions_max_bytes)
            if stream == DECISIONS
            else (config.pairs_max, config.pairs_max_bytes)
        )
        count, size = self._written.get(stream, (0, 0))
        count, size = count + len(records), size + sum(map(len, records))
        self._written[stream] = (count, size)
        return max(1, min(most, most_bytes * count // max(1, size)) // config.shards)

    def age_s(self, stream: str) -> float:
        days = self._config.decisions_days if stream == DECISIONS else self._config.pairs_days
        return days * 24 * 3600
