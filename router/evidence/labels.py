"""What a person says of a pair, as the API and the command line write it down."""

from __future__ import annotations

import time

from router.evidence.records import LabelRecord, TriageLabel

MAX_NOTE = 2000


def new_label(pair_id: str, label: TriageLabel, *, by: str, note: str, key: str = "") -> LabelRecord:
    """Said now; `key`: the API key that it came with."""
    return LabelRecord(id=pair_id, time=time.time(), label=label, by=by, note=note, key=key)
