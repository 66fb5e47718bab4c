"""Batches: every record in one, on its shard, in order, and none too large for a call to Redis."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.evidence.appender import CALL_BYTES, CALL_FRAMES, Sending, first_group
from router.evidence.batches import BATCH_BYTES, BATCH_RECORDS, Record, batches
from router.evidence.segment import Frame
from router.evidence.streams import AGREEMENTS, DECISIONS, SUMS, SUMS_SHARD, shard_of

RECORDS = st.lists(
    st.builds(
        Record,
        st.sampled_from([DECISIONS, AGREEMENTS, SUMS]),
        st.text(max_size=3),
        st.binary(max_size=3) | st.integers(0, BATCH_BYTES + 1).map(bytes),
    ),
    max_size=30,
)


@given(RECORDS, st.integers(1, 5), st.integers(1, 5))
def test_every_record_is_in_one_batch_of_its_shard_in_order(records: list[Record], times: int, shards: int) -> None:
    many = records * times * 2
    made = batches(many, shards)
    for stream in (DECISIONS, AGREEMENTS, SUMS):
        for shard in range(shards):
            wanted = [
                record.data
                for record in many
                if record.stream == stream and shard == (SUMS_SHARD if stream == SUMS else shard_of(record.id, shards))
            ]
            found = [data for batch in made if batch.shard == shard for data in batch.records.get(stream, ())]
            assert found == wanted


@given(RECORDS, st.integers(1, 20))
def test_a_batch_is_bounded_in_records_and_bytes(records: list[Record], times: int) -> None:
    for batch in batches(records * times, 2):
        size = sum(len(data) for contents in batch.records.values() for data in contents)
        assert batch.count == sum(map(len, batch.records.values())) <= BATCH_RECORDS
        assert size <= BATCH_BYTES or batch.count == 1


@given(st.lists(st.integers(0, CALL_BYTES + 1), min_size=1, max_size=80))
def test_a_request_to_redis_is_bounded_in_bytes_and_calls(sizes: list[int]) -> None:
    waiting = [Sending(Frame(0, n, n, 0.0, {DECISIONS: [bytes(size)]}), n - 1) for n, size in enumerate(sizes, 1)]
    sent = []
    while waiting:
        group = first_group(waiting)
        size = sum(len(sending.frame.records[DECISIONS][0]) for sending in group)
        assert 1 <= len(group) <= CALL_FRAMES and (size <= CALL_BYTES or len(group) == 1)
        sent += group
        waiting = waiting[len(group) :]
    assert [sending.frame.number for sending in sent] == list(range(1, len(sizes) + 1))
