"""The file of a trained policy."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from policies.difficulty import features
from policies.learn import artifact
from policies.learn.artifact import CalibrationSet, Content

CONTENT = Content("difficulty", {"a": np.arange(6.0).reshape(2, 3)}, {"features": 1}, {"examples": 40})
DATA = artifact.write(CONTENT)


def with_metadata(**changes: str) -> bytes:
    size = int.from_bytes(DATA[:8], "little")
    metadata = json.loads(DATA[8 : 8 + size])["__metadata__"]
    return save({"a": CONTENT.tensors["a"]}, metadata | changes)


def test_a_file_gives_back_what_went_in() -> None:
    read = artifact.read(DATA)
    assert (read.kind, read.settings, read.report) == (CONTENT.kind, CONTENT.settings, CONTENT.report)
    assert read.tensors["a"].tolist() == CONTENT.tensors["a"].tolist()
    assert read.version == CONTENT.version


def test_the_version_follows_every_number_and_setting_but_not_the_report() -> None:
    other_number = Content("difficulty", {"a": CONTENT.tensors["a"] + [[0, 0, 1e-9]]}, {"features": 1})
    other_setting = Content("difficulty", CONTENT.tensors, {"features": 2})
    other_report = Content("difficulty", CONTENT.tensors, {"features": 1}, {"examples": 41})
    assert len({CONTENT.version, other_number.version, other_setting.version}) == 3
    assert other_report.version == CONTENT.version
    assert len(CONTENT.version) == 8


def test_a_truncated_file_is_refused() -> None:
    for length in (0, 5, 8, 60, len(DATA) - 1):
        with pytest.raises(ValueError, match=r"truncated|no trained policy"):
            artifact.read(DATA[:length])


def test_a_changed_number_is_noticed() -> None:
    damaged = bytearray(DATA)
    damaged[-1] ^= 1
    with pytest.raises(ValueError, match="damaged: its digest is"):
        artifact.read(bytes(damaged))


def test_a_file_of_a_newer_format_says_to_update() -> None:
    with pytest.raises(ValueError, match="has format 2, this version reads 1: update distill-router"):
        artifact.read(with_metadata(format="2"))


def test_someone_elses_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no trained policy of distill-router"):
        artifact.read(save({"a": np.zeros(2)}))


def test_a_pickle_is_refused_without_being_read() -> None:
    with pytest.raises(ValueError, match="no trained policy"):
        artifact.read(pickle.dumps({"a": 1}))


def test_an_unknown_kind_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="kind of trained policy 'oracle'; known: cascade, difficulty"):
        artifact.loads(artifact.write(Content("oracle", {}, {})))


def test_a_file_that_lacks_a_part_says_so() -> None:
    content = Content("difficulty", {}, {"features": features.VERSION})
    with pytest.raises(ValueError, match="lacks a part or has a wrong one: KeyError\\('heads'\\)"):
        artifact.loads(artifact.write(content))


def packed(header: object) -> bytes:
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written


def described(**changes: object) -> bytes:
    size = int.from_bytes(DATA[:8], "little")
    metadata = json.loads(DATA[8 : 8 + size])["__metadata__"]
    return with_metadata(policy=json.dumps(json.loads(metadata["policy"]) | changes))


NESTED = "[" * 100_000
METADATA = json.loads(DATA[8 : 8 + int.from_bytes(DATA[:8], "little")])["__metadata__"]
UNKNOWN = {"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    "data",
    [
        packed({"__metadata__": [1]}),
        packed({"__metadata__": METADATA | {"format": 1}, "a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}),
        packed({"__metadata__": METADATA | {"format": "²"}}),
        len(NESTED).to_bytes(8, "little") + NESTED.encode(),
        packed({"__metadata__": METADATA} | UNKNOWN) + b"\0\0",
        with_metadata(policy=NESTED),
        described(kind=["difficulty"]),
        described(report=[1]),
        described(settings="features"),
    ],
    ids=["metadata", "format", "digit", "deep header", "dtype", "deep policy", "kind", "report", "settings"],
)
def test_a_hostile_header_is_refused_like_any_damage(data: bytes) -> None:
    with pytest.raises(ValueError, match="trained policy"):
        artifact.loads(data)


def test_what_has_no_content_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="object cannot be written to a file"):
        artifact.dumps(object())  # type: ignore[arg-type]


def test_the_calibration_set_survives_the_file() -> None:
    kept = CalibrationSet(*(np.array([0.0, 0.25, 0.5]) + place / 8 for place in range(4)))
    read = CalibrationSet.of(artifact.read(artifact.write(Content("x", kept.tensors(), {}))).tensors)
    assert read is not None
    assert [read.loss.tolist(), read.novelty.tolist()] == [kept.loss.tolist(), kept.novelty.tolist()]
    assert [read.harm.tolist(), read.weight.tolist()] == [kept.harm.tolist(), kept.weight.tolist()]
    assert CalibrationSet.of(CONTENT.tensors) is None


@pytest.mark.parametrize(
    ("part", "values"), [("loss", [0.5, 1.5]), ("harm", [-0.1, 0.0]), ("weight", [1.0, 0.0]), ("novelty", [0.5])]
)
def test_a_calibration_set_that_is_none_is_refused(part: str, values: list[float]) -> None:
    tensors = CalibrationSet(*(np.full(2, 0.5) for _ in range(4))).tensors()
    with pytest.raises(ValueError, match=f"calibration.{part}"):
        CalibrationSet.of(tensors | {f"calibration.{part}": np.array(values)})


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(ValueError, match="trained policy"):
        artifact.loads(data)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed_or_breaks_the_reader(place: int, change: int) -> None:
    damaged = bytearray(DATA)
    damaged[place] ^= change
    try:
        read = artifact.read(bytes(damaged))
    except ValueError:
        return
    assert read.version == CONTENT.version
