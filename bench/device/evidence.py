"""Evidence files: what ``agent.py evidence`` measured on a board, and the table made of them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from bakit.bench.bounds import Amount, Few, Months, Text
from bakit.bench.device.answers import Measured, decode
from bakit.bench.device.frames import AnswerError
from bakit.errors import InputError
from bakit.files import read_regular
from bakit.verify import mean_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAX_BYTES = 64 * 2**20
"""Largest document, unpacked."""

NONE_YET = "*No evidence file of a board yet.*"
_HEAD = (
    *("board", "system", "bundle", "engine", "layers", "build, s", "regress p50, ms"),
    *("golden change, months", "problem"),
)


class _Board(msgspec.Struct, frozen=True):
    board: Text
    system: Text


class _Host(msgspec.Struct, frozen=True):
    machine: Text
    cpu: Text


class _Found(Measured, frozen=True):
    expected_months: tuple[Months, ...] = ()
    path: Text = ""
    tf32: bool = False
    inspector: str = ""
    engine_mb: Amount | None = None


class Step(msgspec.Struct, frozen=True):
    """One step: its name, and what it found, or why it failed."""

    step: Text
    error: Text | None = None
    found: dict[str, Any] | None = None


class Evidence(msgspec.Struct, frozen=True):
    """What is read of the document that ``agent.py evidence`` writes."""

    version: Annotated[int, Meta(ge=1, le=2)]  # in 1, builds had other fields
    host: _Host
    board: _Board
    bundles: Annotated[tuple[Text, ...], Few]
    steps: Annotated[tuple[Step, ...], Meta(max_length=10_000)]


class Row(NamedTuple):
    """A line of the table; an unknown is an empty text."""

    board: str
    system: str
    bundle: str
    engine: str
    layers: str = ""
    build_s: str = ""
    regress_ms: str = ""
    golden_change: str = ""
    problem: str = ""


def read_evidence(path: Path) -> Evidence:
    """Read an evidence file.

    Raises:
        InputError: If it cannot be read, or is none.
    """
    try:
        packed = read_regular(path, MAX_BYTES)
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror or error})"
        raise InputError(message) from error
    unpacker = zlib.decompressobj(wbits=31)  # gzip
    try:
        data = unpacker.decompress(packed, MAX_BYTES)
        if unpacker.eof:
            return decode(data, Evidence)
    except (zlib.error, AnswerError) as error:
        message = f"{path}: not an evidence file of agent.py ({error})"
        raise InputError(message) from error
    message = f"{path}: is cut off, or unpacks to more than {MAX_BYTES >> 20} MiB; copy it again"
    raise InputError(message)


def rows(evidence: Evidence) -> list[Row]:
    """Return a line for each measured or built engine.

    Raises:
        InputError: If a step found what no agent writes.
    """
    device = evidence.board.board or f"{evidence.host.machine}, {evidence.host.cpu}"
    lines = []
    for step in evidence.steps:
        what, *numbers = step.step.split(":")
        if not numbers or not numbers[0].isdecimal() or int(numbers[0]) >= len(evidence.bundles):
            continue
        place = (device, evidence.board.system, evidence.bundles[int(numbers[0])])
        if step.error is not None or step.found is None:
            lines.append(Row(*place, what, problem=step.error or "found nothing"))
            continue
        try:
            found = msgspec.convert(step.found, _Found)
            times = sorted(found.stages_ns["regress"])
            median_ms = times[len(times) // 2] / 1e6
            ages = found.golden_months, found.expected_months
            change = f"{mean_change(*ages):.3f}" if found.expected_months else ""
        except (ValueError, LookupError, ZeroDivisionError) as error:
            message = f"step {step.step!r} found what no agent writes ({error})"
            raise InputError(message) from error
        graph = f" of {found.path}" if what in {"build", "tf32"} else ""
        name = f"{found.provider}{graph}{', TF32' if found.tf32 else ''}"
        board = found.board
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(board.layers.items()))
        built_s = "" if board.build_s is None else f"{board.build_s:.1f}"
        lines.append(Row(*place, name, counts, built_s, f"{median_ms:.2f}", change))
    return lines


def table(lines: Iterable[Row]) -> str:
    """Return lines as a Markdown table; one sentence if there are none."""
    cells: list[Sequence[str]] = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    if not cells:
        return NONE_YET
    words = [_HEAD, ["---"] * len(_HEAD), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in words)
