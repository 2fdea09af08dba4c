"""CSV tables, and the table of labels of a data folder, RSNA's forms of it included."""

from __future__ import annotations

import codecs
import csv
import io
import re
import shlex
from typing import TYPE_CHECKING, Any, BinaryIO

from bakit.errors import LabelsError
from bakit.files import check_folder, open_regular, read_regular

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

TABLE = "labels.csv"
COLUMNS = ("id", "boneage", "male")
MORE_COLUMNS = ("pair", "side", "patient")
"""Columns that may follow."""

MAX_TABLE_BYTES = 64 * 2**20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # spreadsheets write it as Unicode text
CSV_ERRORS = (OSError, UnicodeError, csv.Error)
"""What ``open_csv`` and its rows raise."""

_ALSO = {
    "id": ("image id", "case id"),
    "boneage": ("bone age", "bone age (months)", "boneage (months)"),
    "male": ("sex", "gender"),
}
"""Other names of the columns, as in RSNA's validation and test sets."""


def find_table(data: Path) -> tuple[Path, Path]:
    """Return the table of labels and the folder of images."""
    if data.suffix.lower() == ".csv" and data.is_file():
        return data, _unpacked(data.with_suffix(""))
    check_folder(data, LabelsError)
    if (data / TABLE).is_file():
        return data / TABLE, data / "images"
    tables = sorted(data.glob("*.csv"))
    found = [table for table in tables if table.with_suffix("").is_dir()]
    if len(found) > 1:  # RSNA's test set has no ages
        found = [table for table in found if b"bone" in _first_line(table)] or found
    if len(found) == 1:
        return found[0], _unpacked(found[0].with_suffix(""))
    if found:
        message = f"{data}: several tables; give one of them: "
        message += ", ".join(shlex.quote(str(table)) for table in found)
        raise LabelsError(message)
    message = f"{data}: not a data folder: {TABLE} ({', '.join(COLUMNS)}) is missing"
    if len(tables) == 1 and re.search(rb"bone|sex|male|gender", _first_line(tables[0])):
        folder, table = shlex.quote(str(data)), shlex.quote(tables[0].name)
        message += f"; make one: cd {folder} && mkdir images && mv */*.png images/ && "
        message += f"cp {table} {TABLE}"
    raise LabelsError(message)


def read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table of labels; as ``read_csv``."""
    wanted = {name: _ALSO.get(name, ()) for name in (*COLUMNS, *MORE_COLUMNS)}
    names, rows = read_csv(path, wanted, ("boneage",), COLUMNS)
    name = names.get("male", "male")
    for number, fields in rows:
        if name != "male" and fields["male"].strip() in {"0", "1"}:
            message = f"{path}:{number}: {name} is {fields['male']!r}; use M or F"
            raise LabelsError(message)
    return rows


def read_csv(
    path: Path,
    wanted: Mapping[str, Collection[str]],
    numbers: Collection[str],
    least: Collection[str],
) -> tuple[dict[str, str], list[tuple[int, dict[str, str]]]]:
    """Read a CSV file of any delimiter, line ends and Unicode encoding.

    Args:
        path: The file.
        wanted: Known columns, each with other names that it may have.
        numbers: Columns of numbers, where a comma is a decimal comma if the delimiter is another.
        least: Columns that an error message names.

    Returns:
        The name of each known column in the header; and at least one row, each with its line number
        and a text for each known column.

    Raises:
        LabelsError: If it cannot be read, has no rows, two columns for one, or a row is longer than
            the header.
    """
    try:
        mark, reader = open_csv(io.BytesIO(read_regular(path, MAX_TABLE_BYTES)))
        numbered = [(reader.line_num, row) for row in reader if row]  # without blank lines
    except CSV_ERRORS as error:
        raise LabelsError(no_csv(path, error)) from error
    if len(numbered) < 2:
        message = f"{path}: no rows; expected the header {','.join(least)} and rows"
        raise LabelsError(message)
    header = [name.strip().lower() for name in numbered[0][1]]
    places = {}
    for column, others in wanted.items():
        found = [i for i, name in enumerate(header) if name in {column, *others}]
        if len(found) > 1:
            message = f"{path}: two columns of {column!r}; keep one of them"
            raise LabelsError(message)
        if found:
            places[column] = found[0]
    rows = []
    for number, row in numbered[1:]:
        if len(row) > len(header):
            message = (
                f"{path}:{number}: {len(row)} fields under {len(header)} columns; write numbers "
                "with a point, as 147.5, and quote texts with commas"
            )
            raise LabelsError(message)
        fields = {name: row[at] if at < len(row) else "" for name, at in places.items()}
        if mark != ",":
            fields |= {name: fields[name].replace(",", ".") for name in numbers if name in fields}
        rows.append((number, fields))
    return {column: header[at] for column, at in places.items()}, rows


def open_csv(raw: BinaryIO) -> tuple[str, Any]:
    """Return the delimiter and the rows of a CSV file of any line ends and Unicode encoding.

    The rows are read one by one, and have ``line_num``, as those of ``csv.reader``.

    Raises:
        UnicodeError: If it is no text in UTF-8 or UTF-16; the rows raise it as well.
        csv.Error: By the rows, if a quote has no end.
    """
    encoding = "utf-16" if raw.read(2) in _UTF_16 else "utf-8-sig"
    raw.seek(0)
    file = io.TextIOWrapper(raw, encoding, newline="")
    mark = max(",;\t", key=file.readline().count)
    file.seek(0)
    return mark, csv.reader(file, delimiter=mark, strict=True)


def no_csv(place: str | Path, error: Exception) -> str:
    """Return the message for one of ``CSV_ERRORS``."""
    reason = getattr(error, "strerror", None) or "save it as CSV in UTF-8"
    if isinstance(error, csv.Error):
        reason = f"{error}; is a quote missing?"
    return f"{place}: not a CSV text file ({reason})"


def _first_line(table: Path) -> bytes:
    with open_regular(table) as file:
        return file.readline(1000).lower()


def _unpacked(folder: Path) -> Path:
    """Return the folder of images; archives unpack to a folder of the same name in it."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder
