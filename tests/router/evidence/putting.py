"""A process that puts numbered records until it is killed: `python -m tests.router.evidence.putting FOLDER URL NAME`.

It says in a file mapped into memory how many it was about to put and how many it had put.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
from pathlib import Path

from redis.asyncio import Redis

from router.evidence.redis import TIMEOUT_S
from router.evidence.streams import DECISIONS, DISAGREEMENTS, SUMS
from router.evidence.writer import EvidenceWriter
from router.evidence_settings import Evidence
from router.record.metrics import Metrics

SHARDS = 2
BURST = 7


async def put(folder: Path, url: str, name: str) -> None:
    said = folder / f"{name}.said"
    said.write_bytes(bytes(16))
    with said.open("r+b") as file:
        cells = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
    config = Evidence(spool_dir=folder / "spool", shards=SHARDS)
    client = Redis.from_url(url, socket_timeout=TIMEOUT_S)
    writer = EvidenceWriter(config, client, Metrics(), retry_s=0.2)
    writer.start()
    number = 0
    while True:
        for _ in range(BURST):
            number += 1
            cells[0] = number
            data = b'{"w":"%s","n":%d}' % (name.encode(), number)
            if number % 10 == 0:
                writer.put(SUMS, "", b'{"k":"sums","f":{"%s":1}}' % name.encode())
            else:
                writer.put(DECISIONS if number % 3 else DISAGREEMENTS, f"{name}{number}", data)
            cells[1] = number
        await asyncio.sleep(0.002)


if __name__ == "__main__":
    asyncio.run(put(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
