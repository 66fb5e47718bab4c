"""Many requests at once against a running demo: who answered, and how long the slowest took.

make demo ARGS=--no-traffic
.venv/bin/python bench/at_once.py [--requests 256] [--url http://127.0.0.1:8080]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from urllib.parse import urlsplit

from router.upstream.http import HttpPool
from serving.demo.tasks import Example, workload

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
TIMEOUT_S = 120.0


async def run(url: str, requests: int) -> None:
    """Send them all at once, every other one streamed, and print one JSON object."""
    pool = HttpPool(urlsplit(url), max_connections=requests, connect_s=10)
    examples = workload(requests, seed=1)
    answers = await asyncio.gather(*(_ask(pool, example, number % 2 == 1) for number, example in enumerate(examples)))
    await pool.close()
    statuses = Counter(status for status, _ in answers)
    print(json.dumps({"requests": requests, "statuses": statuses, "slowest_s": round(max(s for _, s in answers), 2)}))


async def _ask(pool: HttpPool, example: Example, stream: bool) -> tuple[int, float]:
    body = {"model": "auto", "messages": [{"role": "user", "content": example.prompt}], "stream": stream}
    started = time.monotonic()
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    response = await pool.send(HEAD, json.dumps(body).encode(), deadline, lambda _: None)
    status = response.status
    await response.read(deadline)
    response.close()
    return status, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    asyncio.run(run(options.url, options.requests))


if __name__ == "__main__":
    main()
