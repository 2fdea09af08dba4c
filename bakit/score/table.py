"""The table of all rows, as CSV, JSON Lines or Parquet, and its summary."""

from __future__ import annotations

import csv
import heapq
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError
from bakit.files import check_writable, new_file
from bakit.score.row import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SHOWN = 5
"""Slowest films and errors that a summary names."""

BATCH = 10_000
"""Rows of a group in Parquet, which are in memory at once."""


class Ages(msgspec.Struct):
    """Predicted ages of one sex, in months."""

    films: int = 0
    mean_months: float = 0.0
    min_months: float = float("inf")
    max_months: float = 0.0


class Summary(msgspec.Struct):
    """What a table holds.

    ``read`` are films that this run read; the others were in the journal. ``duplicates`` have the
    pixels of an earlier film. ``flagged`` is the id of the first film to review, or rejected;
    ``ignored`` are files that are no films, by suffix; ``slowest`` and ``errors`` name the first
    ``SHOWN``.
    """

    films: int = 0
    read: int = 0
    seconds: float = 0.0
    duplicates: int = 0
    flagged: str = ""
    by_status: dict[str, int] = msgspec.field(default_factory=Counter)
    by_reason: dict[str, int] = msgspec.field(default_factory=Counter)
    by_sex: dict[str, Ages] = msgspec.field(default_factory=dict)
    ignored: dict[str, int] = msgspec.field(default_factory=dict)
    slowest: list[tuple[float, str]] = msgspec.field(default_factory=list)
    errors: list[tuple[str, str]] = msgspec.field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.films += 1
        self.duplicates += bool(row.duplicate_of)
        self.by_status[row.status] += 1
        for reason in row.reasons.split():
            self.by_reason[reason] += 1
        if row.age_months is not None and row.sex is not None:
            ages = self.by_sex.setdefault(row.sex, Ages())
            ages.films += 1
            ages.mean_months += (row.age_months - ages.mean_months) / ages.films
            ages.min_months = min(ages.min_months, row.age_months)
            ages.max_months = max(ages.max_months, row.age_months)
        self.slowest = heapq.nlargest(SHOWN, [*self.slowest, (row.seconds, row.id)])
        if row.status == "error":
            self.errors += [(row.id, row.error)][: SHOWN - len(self.errors)]
        elif row.status != "accept":
            self.flagged = self.flagged or row.id


def check_table(path: Path) -> None:
    """Check before long work that a table can be written.

    Raises:
        InputError: If its suffix is unknown.
        ModuleNotFoundError: If it is Parquet, and the extra ``score`` is not installed.
        OSError: If its folder cannot be written to.
    """
    if path.suffix not in _WRITERS:
        message = f"{path}: unknown kind of table; use {', '.join(_WRITERS)}"
        raise InputError(message)
    if path.suffix == ".parquet":
        import pyarrow  # noqa: F401, ICN001, PLC0415  # an extra
    check_writable(path)


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write rows atomically, holding at most ``BATCH`` in memory."""
    with new_file(path) as temporary:
        _WRITERS[path.suffix](temporary, rows)


def _csv(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__struct_fields__)
        writer.writerows(map(msgspec.structs.astuple, rows))


def _jsonl(path: Path, rows: Iterable[Row]) -> None:
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa  # noqa: PLC0415  # an extra
    from pyarrow.parquet import ParquetWriter  # noqa: PLC0415

    kinds = {"str": pa.string(), "Sex": pa.string(), "float": pa.float64(), "int": pa.int32()}
    fields = {name: kind.partition(" ")[0] for name, kind in Row.__annotations__.items()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in fields.items()])
    rows = iter(rows)
    with ParquetWriter(path, schema) as writer:
        while batch := [msgspec.structs.asdict(row) for row in islice(rows, BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, schema))


_WRITERS: dict[str, Callable[[Path, Iterable[Row]], None]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
