"""The films of folders, globs, lists and archives, and their bytes."""

from __future__ import annotations

import os
import tarfile
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bakit.data.images import files_below, is_film, is_hidden
from bakit.data.labels import read_labels
from bakit.data.tables import CSV_ERRORS, TABLE, no_csv, open_csv
from bakit.errors import InputError, first_line
from bakit.files import sha256
from bakit.image.bounds import MAX_INFLATION, SPARE
from bakit.prediction import Sex, read_sex
from bakit.score.places import find_urls, is_url, open_place

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Self

    _Packed = tuple[str, str, Callable[[int], bytes]]
    """Name of a file in an archive, why it cannot be read, if that is known, and what reads it."""

LIST_COLUMNS = ("path", "id", "sex")
MAX_PACKED = 64 * 2**20
"""Most bytes of a film in an archive: each worker has one in memory."""

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class Film(msgspec.Struct, frozen=True, array_like=True):
    """A film that was not read yet.

    ``id`` is that of a list or of labels.csv, else its path as it was given; ``path`` the absolute
    path, or the URL, of the file or the archive, in the system's bytes; ``member`` its number in
    the archive; ``fault`` the reason why it cannot be read, if that is known; ``data`` its bytes,
    if an archive holds it (``loaded``).
    """

    id: str
    path: bytes
    sex: Sex | None = None
    member: int | None = None
    fault: str = ""
    data: bytes = b""

    @property
    def origin(self) -> str:
        """A digest of its place and its sex: with the id, what an earlier row must be of."""
        return sha256(repr((self.path, self.member, self.sex)).encode())[:16]


def find_films(sources: Sequence[str], sex: Sex | None, ignored: Counter[str]) -> Iterator[Film]:
    """Yield the films of sources in an order that stays; reads no film.

    Args:
        sources: Files, folders, globs, lists (CSV with ``LIST_COLUMNS``), zip and tar archives, or
            URLs of these. Of a folder, all images and archives below it; of one with labels.csv,
            those of its images.
        sex: Sex of labelled folders that give none.
        ignored: Counts the other files by suffix.

    Raises:
        InputError: If a source does not exist or has no film, or a table cannot be used; the
            message has the row.
        OSError: If a source that is a folder cannot be read.
    """
    for source in sources:
        if not source:  # as of a variable that is not set; it would be the working folder
            message = "a source is empty; name a file or a folder"
            raise InputError(message)
        found = False
        for film in _in_source(source, sex, ignored):
            found = True
            yield film
        if not found:  # such as a disk that is not mounted
            message = f"{source}: no PNG, JPEG or DICOM file"
            raise InputError(message)


def _in_source(source: str, sex: Sex | None, ignored: Counter[str]) -> Iterator[Film]:
    if is_url(source):
        for url in find_urls(source):
            yield from _in_file(url, ignored, given=url.endswith(source.partition("://")[2]))
        return
    walked: set[Path] = set()
    for path in _matches(source):
        if not walked.isdisjoint(path.parents):
            continue
        if not path.is_dir():
            yield from _in_file(str(path), ignored, given=path == Path(source))
            continue
        walked.add(path)
        yield from _labelled(path, sex) if (path / TABLE).is_file() else _below(path, ignored)


def _matches(source: str) -> list[Path]:
    """Return the path, or the paths that match a glob, a folder before what is below it."""
    path, found = Path(source), []
    if path.exists():
        return [path]
    with suppress(ValueError, NotImplementedError):  # no pattern
        top = Path(path.anchor)
        found = sorted(top.glob(str(path.relative_to(top))))  # ** follows no links
    hidden = {part for match in found for part in match.parts if part.startswith(".")}
    found = [match for match in found if (hidden - set(path.parts)).isdisjoint(match.parts)]
    if not found:
        message = f"{source}: no such file or folder"
        raise InputError(message)
    return found


def _below(top: Path, ignored: Counter[str]) -> Iterator[Film]:
    """Yield the films below a folder, and a row for each folder in it that cannot be read."""
    failed: list[OSError] = []
    for path in files_below(top, failed.append, ignored):
        yield from _in_file(str(path), ignored)
    for error in failed:
        if error.filename == str(top):
            raise error
        fault = f"the folder cannot be read ({error.strerror})"
        yield Film(_text(error.filename), os.fsencode(error.filename), fault=fault)


def _in_file(place: str, ignored: Counter[str], *, given: bool = False) -> Iterator[Film]:
    def head(size: int) -> bytes:
        with open_place(place) as file:
            return file.read(size)

    if given and place.lower().endswith(".csv"):
        yield from _listed(place)
    elif place.lower().endswith(_ARCHIVES):
        yield from _packed(place, ignored)
    elif given or _is_film(Path(place).name, ignored, head):
        yield Film(_text(place), _absolute(place))


def _is_film(name: str, ignored: Counter[str], head: Callable[[int], bytes]) -> bool:
    found = is_film(name, head)
    if not found and not is_hidden(name):
        ignored[Path(name).suffix.lower() or "without suffix"] += 1
    return found


def _labelled(folder: Path, sex: Sex | None) -> Iterator[Film]:
    labels = read_labels(folder, aged=False, male=None if sex is None else sex == "M")
    for row in labels.rows:
        if row.sample is None:
            fault = f"row {row.number}: {row.problems[0].text}"
            yield Film(row.id, os.fsencode(labels.table), fault=fault)
        else:
            known: Sex = "M" if row.sample.male else "F"
            yield Film(row.id, _absolute(str(row.sample.path)), known)
    for name in sorted(labels.images.keys() - {row.id for row in labels.rows}):
        yield Film(_text(name), _absolute(str(labels.images[name])))


def _listed(path: str) -> Iterator[Film]:
    folder = path[: path.rfind("/") + 1] if is_url(path) else str(Path(path).parent) + os.sep
    try:
        with open_place(path) as raw:
            mark, rows = open_csv(raw)
            header = [name.strip().lower() for name in next(rows, [])]
            unknown = [repr(name) for name in header if name not in LIST_COLUMNS]
            if unknown or "path" not in header or len(set(header)) < len(header):
                fault = f"unknown column {unknown[0]}" if unknown else "path is missing, or twice"
                message = f"{path}: {fault}; the columns of a list are {','.join(LIST_COLUMNS)}"
                raise InputError(message)
            for row in filter(None, rows):
                fields = {name: text.strip() for name, text in zip(header, row, strict=False)}
                where, sex = f"{path}:{rows.line_num}", fields.get("sex")
                if len(row) > len(header) or not fields["path"]:
                    message = f"{where}: a row is {mark.join(header)}"
                    raise InputError(message)
                place = fields["path"]
                if not (is_url(place) or Path(place).is_absolute()):
                    place = folder + place
                known = read_sex(sex, where) if sex else None
                yield Film(fields.get("id") or fields["path"], _absolute(place), known)
    except CSV_ERRORS as error:
        raise InputError(no_csv(path, error)) from error


def _packed(path: str, ignored: Counter[str]) -> Iterator[Film]:
    """Yield an archive's films, and a row for the archive if it is damaged or a bomb.

    What cannot be read from it, such as an encrypted file, a link or an archive, is a row as well.
    """
    archive, place, number = _text(path), _absolute(path), -1
    try:
        for number, (name, fault, read) in enumerate(_unpacked(path)):
            if name.lower().endswith(_ARCHIVES) and not is_hidden(name):
                fault = f"an archive in an archive{_UNPACK}"
            elif not _is_film(name, ignored, read):
                continue
            yield Film(f"{archive}/{_text(name)}", place, None, number, fault)
    except Exception as error:  # zipfile and tarfile raise any exception on damaged archives
        fault = f"the archive is damaged after {number + 1} files ({first_line(error)})"
        yield Film(archive, place, fault=fault)


class _Entry(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header; tarfile would read a long name of gigabytes into memory."""
        found = super().frombuf(buf, encoding, errors)
        if found.size > SPARE and not found.isreg():
            message = f"a header of {found.size} bytes"
            raise tarfile.ReadError(message)
        return found


def _unpacked(path: str) -> Iterator[_Packed]:
    """Yield the files of an archive, each to be read before the next."""
    with open_place(path) as raw:
        if path.lower().endswith(".zip"):
            with zipfile.ZipFile(raw) as pack:
                for info in pack.infolist():
                    if not info.is_dir():
                        fault = (
                            "encrypted" + _UNPACK if info.flag_bits & 1 else _big(info.file_size)
                        )
                        yield info.filename, fault, partial(_read, pack.open, info)
            return
        most = MAX_INFLATION * raw.seek(0, os.SEEK_END) + SPARE
        raw.seek(0)
        with tarfile.open(fileobj=raw, tarinfo=_Entry) as file:
            kept = vars(file)["members"]
            while (entry := file.next()) is not None:
                kept.clear()  # of a million files
                if file.fileobj is not raw and entry.offset_data + entry.size > most:
                    message = f"{entry.name!r} inflates to more than {most >> 20} MiB"
                    raise tarfile.ReadError(message)
                if entry.isreg():
                    yield entry.name, _big(entry.size), partial(_read, file.extractfile, entry)
                elif not entry.isdir():
                    yield entry.name, "a link or a device" + _UNPACK, bytes


_UNPACK = "; unpack the archive first"


def _big(size: int) -> str:
    big = f"{size >> 20} MiB; at most {MAX_PACKED >> 20} in an archive"
    return big if size > MAX_PACKED else ""


def _read(opened: Callable[[Any], Any], entry: object, size: int) -> bytes:
    with opened(entry) as file:
        found: bytes = file.read(size)
        return found


def loaded(films: Iterable[Film]) -> Iterator[Film]:
    """Yield films in the order of ``find_films``, those of archives with their bytes."""
    place, files = b"", None
    for film in films:
        if film.member is None or film.fault:
            yield film
            continue
        try:
            if files is None or place != film.path:
                place, files = film.path, enumerate(_unpacked(os.fsdecode(film.path)))
            read = next(read for number, (_, _, read) in files if number == film.member)
            yield msgspec.structs.replace(film, data=read(MAX_PACKED))
        except Exception as error:  # as above
            yield msgspec.structs.replace(
                film, fault=f"cannot be read from the archive ({first_line(error)})"
            )


def _absolute(place: str) -> bytes:
    """Return a place as all processes find it, also those of another working folder."""
    return os.fsencode(place if is_url(place) else os.path.abspath(place))  # noqa: PTH100  # quick


def _text(name: str) -> str:
    """Return a name as UTF-8 text, different for each name."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
