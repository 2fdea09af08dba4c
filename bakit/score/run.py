"""Score many films: list them, read them, write the table."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError
from bakit.files import full_disk
from bakit.score.engine import read_all
from bakit.score.journal import Journal
from bakit.score.places import check_url, copy_to_url, is_url
from bakit.score.row import lost_film, score_film
from bakit.score.sources import Film, find_films, loaded
from bakit.score.table import Summary, check_table, write_table
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from bakit.bundle import Bundle
    from bakit.score.engine import Known, Readers, Work
    from bakit.score.row import Options, Row
    from bakit.types import OnProgress


def score(
    sources: Sequence[str],
    bundle: Bundle,
    out: str | Path,
    options: Options,
    open_readers: Callable[[Bundle, Work, Known], Readers],
    on_progress: OnProgress = silent,
) -> Summary:
    """Write a table with a row for each film of the sources, in their order.

    Rows are kept in a journal beside the table, by which a run that was killed continues. A later
    run reads new films, and those that could not be read.

    A URL ``out`` gets a copy of the table, which is written with its journal in the working folder.
    ``open_readers`` opens what reads the films: ``LocalReaders`` or ``RayReaders``.

    Raises:
        InputError: If a source, a list or ``out`` cannot be used, two films have one id, or the
            journal is of another bundle or other options.
        BakitError: If the bundle cannot be run.
        OSError: If a file cannot be written.
    """
    started, summary = time.monotonic(), Summary()
    ignored: Counter[str] = Counter()
    url = str(out) if is_url(str(out)) else None
    table = Path(out) if url is None else Path(PurePosixPath(url).name)
    if url is not None:
        check_url(url)
    check_table(table)
    with (
        full_disk(table),
        tempfile.TemporaryFile(dir=table.parent) as listing,
        Journal(table, bundle.sha256, options) as journal,
    ):
        total = _list(find_films(sources, options.sex, ignored), listing, on_progress)
        summary.ignored = dict(+ignored)
        done = sum(journal.find(film) is not None for film in _listed(listing))
        on_progress("scoring", done, total)
        todo = (film for film in _listed(listing) if journal.find(film) is None)
        if done < total:
            work = partial(score_film, options=options)
            lost = partial(lost_film, bundle.sha256)
            with closing(open_readers(bundle, work, journal.known)) as readers:
                for scored in read_all(readers, loaded(todo), lost):
                    journal.append(scored)
                    summary.read += 1
                    on_progress("scoring", done + summary.read, total)
        write_table(table, _rows(_listed(listing), journal, summary))
    if url is not None:
        copy_to_url(table, url)
    summary.seconds = round(time.monotonic() - started, 2)
    return summary


def _list(films: Iterable[Film], listing: BinaryIO, on_progress: OnProgress) -> int:
    """Write a line for each film, some 100 bytes, and return their number."""
    ids: set[int] = set()
    for film in films:
        if film.id.splitlines() != [film.id]:  # a row is a line, also for wc and grep
            film = msgspec.structs.replace(film, id=film.id.encode("unicode_escape").decode())
        if hash(film.id) in ids and film.member is not None:  # tar -r adds a file again
            film = msgspec.structs.replace(film, id=f"{film.id}@{film.member}")
        if hash(film.id) in ids:
            place = os.fsdecode(film.path)
            message = f"two films have the id {film.id!r}, the second is {place}; give each film "
            message += "once, with its own id"
            raise InputError(message)
        ids.add(hash(film.id))
        listing.write(msgspec.json.encode(film) + b"\n")
        on_progress("listing films", len(ids), None)
    return len(ids)


def _listed(listing: BinaryIO) -> Iterator[Film]:
    listing.seek(0)
    for line in listing:
        yield msgspec.json.decode(line, type=Film)


def _rows(films: Iterable[Film], journal: Journal, summary: Summary) -> Iterator[Row]:
    """Yield the rows in the order of the films; those of the same pixels name the first one."""
    journal.forget_keys()
    first: dict[int, int] = {}
    for film in films:
        at = journal.find(film)
        assert at is not None
        row = journal.row(at)
        if row.input_sha256 and (same := first.setdefault(hash(row.input_sha256), at)) != at:
            row = msgspec.structs.replace(row, duplicate_of=journal.row(same).id)
        summary.add(row)
        yield row
