"""Files by path, or by a URL that fsspec knows, such as those of object storage."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bakit.errors import BakitError, ImageError, InputError, first_line
from bakit.files import open_regular
from bakit.image.bounds import MAX_BYTES
from bakit.image.read import read_source

if TYPE_CHECKING:
    from collections.abc import Iterator


def is_url(place: str) -> bool:
    """Return whether a place is a URL, not a path."""
    return "://" in place


def open_place(place: str) -> BinaryIO:
    """Open a regular file or a URL to read it; a URL raises any exception of its library."""
    if not is_url(place):
        return open_regular(Path(place))
    fs, path = _file_system(place)
    opened: BinaryIO = fs.open(path, "rb")
    return opened


def read_place(place: str) -> bytes:
    """Return the bytes of an image.

    Raises:
        InputError: If it cannot be read, or has more than ``MAX_BYTES``.
    """
    if not is_url(place):
        return read_source(Path(place))
    with _one_line(place), open_place(place) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"{place}: larger than {MAX_BYTES >> 20} MiB, the limit"
        raise ImageError(message)
    return data


def find_urls(source: str) -> Iterator[str]:
    """Yield the files at a URL: one, those that match a glob, or all below a folder, sorted.

    Raises:
        InputError: If there is none, or it cannot be listed.
    """
    with _one_line(source):
        fs, root = _file_system(source)

        def below(path: str) -> Iterator[str]:
            for entry in sorted(fs.ls(path, detail=True), key=lambda entry: str(entry["name"])):
                if entry["type"] != "directory":
                    yield str(entry["name"])
                elif entry["name"] != path:
                    yield from below(entry["name"])

        tops = sorted(fs.glob(root)) if "*" in root else [root]
        if not tops:
            raise FileNotFoundError
        for top in tops:
            for path in below(top) if fs.info(top)["type"] == "directory" else [top]:
                yield str(fs.unstrip_protocol(path))


def check_url(url: str) -> None:
    """Check before long work that a URL's library is there; raises ``InputError``."""
    with _one_line(url):
        _file_system(url)


def copy_to_url(path: Path, url: str) -> None:
    """Copy a file to a URL.

    Raises:
        InputError: If it cannot be written; the file stays.
    """
    with _one_line(url):
        fs, there = _file_system(url)
        fs.put_file(os.fspath(path), there)


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # noqa: PLC0415  # an extra

    found: tuple[Any, str] = url_to_fs(url)
    return found


@contextmanager
def _one_line(url: str) -> Iterator[None]:
    """Turn the errors of a URL's library into one that has the URL."""
    try:
        yield
    except (BakitError, ModuleNotFoundError):
        raise
    except Exception as error:  # libraries' errors have no common base
        is_missing = isinstance(error, FileNotFoundError)
        message = f"{url}: {'no such file or folder' if is_missing else first_line(error)}"
        raise InputError(message) from error
