"""The archive's tables: one for each stream, their columns, and how a record becomes a line.

Pairs and labels keep the record as it was written, as JSON, beside the columns that one filters by. A decision row is
all columns, under the row's own short names; what is a list there is JSON here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import msgspec
import pyarrow
from pydantic import BaseModel, ValidationError

from router.evidence.archive.store import day_of
from router.evidence.records import LabelRecord, PairRecord
from router.evidence.streams import AGREEMENTS, DECISIONS, DISAGREEMENTS, LABELS
from router.record.row import FIELDS, VERSION, DecisionRow, decode_row

Values = dict[str, Any]
Record = TypeVar("Record", bound=BaseModel)

_TYPES: Mapping[Any, pyarrow.DataType] = {
    str: pyarrow.string(),
    int: pyarrow.int64(),
    float: pyarrow.float64(),
    float | None: pyarrow.float64(),
    bool: pyarrow.bool_(),
}
_LISTS = {list[str]: pyarrow.list_(pyarrow.string())}
_ROW_HINTS = get_type_hints(DecisionRow)
_ROW_JSON = tuple(name for name in DecisionRow.__struct_fields__ if _ROW_HINTS[name] not in _TYPES)


class Undecodable(ValueError):
    """A record that this program cannot read; the message says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A stream's columns. `identity` names the one that is unique, `time` the one with Unix seconds.

    `read` turns a record into its line and raises Undecodable.
    """

    schema: pyarrow.Schema
    identity: str
    time: str
    read: Callable[[bytes], Values]

    def line(self, data: bytes) -> Values:
        """A record's line. Raises Undecodable, also where its time is on no calendar."""
        values = self.read(data)
        try:
            day_of(values[self.time])
        except ValueError as error:
            raise Undecodable(str(error)) from error
        return values

    def batch(self, lines: list[Values]) -> pyarrow.Table:
        """Lines as a table. Raises Undecodable where a value has no place in its column, as a number over 63 bits."""
        try:
            return pyarrow.Table.from_pylist(lines, self.schema)
        except (ValueError, OverflowError, pyarrow.ArrowException) as error:
            raise Undecodable(str(error)) from error


def _row(data: bytes) -> Values:
    try:
        row = decode_row(data)
    except msgspec.DecodeError as error:
        raise Undecodable(str(error)) from error
    if row.v != VERSION:
        raise Undecodable(f"a decision row of version {row.v}; known: {VERSION}")
    values = {name: getattr(row, name) for name in DecisionRow.__struct_fields__}
    for name in _ROW_JSON:
        values[name] = msgspec.json.encode(values[name]).decode()
    return values


def row_of(values: Mapping[str, Any]) -> DecisionRow:
    """A decision row out of its line; columns that an older archive lacks have their defaults."""
    plain = {
        name: msgspec.json.decode(value) if name in _ROW_JSON else value
        for name, value in values.items()
        if name in _ROW_HINTS and value is not None
    }
    return msgspec.convert(plain, DecisionRow)


def _pair(data: bytes) -> Values:
    record = _validated(PairRecord, data)
    verdict, triage = record.verdict, record.triage
    return {
        "id": record.id,
        "time": record.time,
        "endpoint": record.endpoint,
        "route": record.route,
        "tenant": record.tenant,
        "key": record.key,
        "users": record.users,
        "stream": record.stream,
        "policy": record.policy,
        "policy_version": record.policy_version,
        "reason": record.reason,
        "served": record.served,
        "sample": record.sample,
        "teacher_probability": record.teacher_probability,
        "audit_probability": record.audit_probability,
        "probability": record.probability,
        "noise_probability": record.noise_probability,
        "same": verdict.same,
        "harm": verdict.harm,
        "kind": verdict.kind,
        "score": verdict.score,
        "comparator": verdict.comparator,
        "comparator_version": verdict.version,
        "triage": triage.label if triage else None,
        "triage_basis": triage.basis if triage else None,
        "split": record.split,
        "training_use": record.training_use,
        "teacher_model": record.teacher.model,
        "teacher_version": record.teacher_version,
        "teacher_cost_nano_usd": record.teacher.cost_nano_usd,
        "student_model": record.student.model,
        "student_version": record.student_version,
        "student_cost_nano_usd": record.student.cost_nano_usd,
        "record": data.decode(),
    }


def _label(data: bytes) -> Values:
    record = _validated(LabelRecord, data)
    return {
        "label_id": f"{record.id}:{record.time!r}:{record.by}",
        "id": record.id,
        "time": record.time,
        "label": record.label,
        "by": record.by,
        "note": record.note,
        "key": record.key,
        "record": data.decode(),
    }


def _validated(kind: type[Record], data: bytes) -> Record:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Undecodable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")) from error


def _row_schema() -> pyarrow.Schema:
    return pyarrow.schema(
        pyarrow.field(name, _TYPES.get(_ROW_HINTS[name], pyarrow.string()), metadata={"description": FIELDS[name]})
        for name in DecisionRow.__struct_fields__
    )


def _schema(**columns: Any) -> pyarrow.Schema:
    return pyarrow.schema([(name, {**_TYPES, **_LISTS}[kind]) for name, kind in columns.items()])


_PAIRS = Table(
    _schema(
        id=str,
        time=float,
        endpoint=str,
        route=str,
        tenant=str,
        key=str,
        users=list[str],
        stream=bool,
        policy=str,
        policy_version=str,
        reason=str,
        served=str,
        sample=str,
        teacher_probability=float,
        audit_probability=float,
        probability=float,
        noise_probability=float,
        same=bool,
        harm=bool,
        kind=str,
        score=float,
        comparator=str,
        comparator_version=int,
        triage=str,
        triage_basis=str,
        split=str,
        training_use=str,
        teacher_model=str,
        teacher_version=str,
        teacher_cost_nano_usd=int,
        student_model=str,
        student_version=str,
        student_cost_nano_usd=int,
        record=str,
    ),
    identity="id",
    time="time",
    read=_pair,
)
TABLES: Mapping[str, Table] = MappingProxyType(
    {
        DECISIONS: Table(_row_schema(), identity="id", time="t", read=_row),
        DISAGREEMENTS: _PAIRS,
        AGREEMENTS: _PAIRS,
        LABELS: Table(
            _schema(label_id=str, id=str, time=float, label=str, by=str, note=str, key=str, record=str),
            identity="label_id",
            time="time",
            read=_label,
        ),
    }
)
