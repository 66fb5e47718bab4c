"""A batch of records as one checksummed frame of a file, and how frames are found again after a crash or damage.

A frame on disk: `MAGIC`, the CRC-32 of the rest, the length of the body (both little-endian, 4 bytes), the body in
MessagePack. A write that a crash cut off has no valid checksum, and what follows a damaged frame is found by `MAGIC`,
which is no UTF-8 and so in no record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from struct import Struct
from zlib import crc32

import msgspec

MAGIC = b"\xffDR\x01"
_HEAD = Struct("<4sI")
_SIZE = Struct("<I")
_START = _HEAD.size + _SIZE.size


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What goes to one shard in one call to Redis.

    `number`: of this producer's batches on this shard, from 1. `total`: records in the log of this producer up to and
    with this frame. `time`: Unix time of writing.
    """

    shard: int
    number: int
    total: int
    time: float
    records: dict[str, list[bytes]]

    @property
    def count(self) -> int:
        return sum(map(len, self.records.values()))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode_frames(frames: Iterable[Frame]) -> bytes:
    return b"".join(map(_encode, frames))


def _encode(frame: Frame) -> bytes:
    body = _encoder.encode(frame)
    size = _SIZE.pack(len(body))
    return b"".join((_HEAD.pack(MAGIC, crc32(body, crc32(size))), size, body))


def decode_frames(data: bytes) -> Iterator[Frame]:
    """Every whole frame; what is torn or damaged is passed over."""
    at = data.find(MAGIC)
    while at >= 0:
        end = _end(data, at)
        if end:
            with contextlib.suppress(msgspec.DecodeError):  # of another version
                yield _decoder.decode(memoryview(data)[at + _START : end])
        at = data.find(MAGIC, end or at + 1)


def _end(data: bytes, at: int) -> int:
    """Where the frame that begins `at` ends; 0: it is not whole."""
    if at + _START > len(data):
        return 0
    _, checksum = _HEAD.unpack_from(data, at)
    (size,) = _SIZE.unpack_from(data, at + _HEAD.size)
    end = at + _START + size
    if end > len(data) or crc32(memoryview(data)[at + _HEAD.size : end]) != checksum:
        return 0
    return int(end)
