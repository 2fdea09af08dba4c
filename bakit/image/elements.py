"""The elements of a DICOM file, read with bounds on bytes, elements and nesting.

pydicom reads whatever a file holds: 49 kB can inflate to gigabytes or hold millions of elements.
Here the meta information is parsed first, inflated bytes are bounded, each read of pydicom's is
counted, and elements that bakit does not use are skipped.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from bakit.errors import ImageError
from bakit.image.bounds import DICOM, MAX_INFLATION, MAX_PIXELS, SPARE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy.typing as npt

MAX_ELEMENTS = 20_000
"""Most elements of a file; radiographs have a few hundred."""

_READS = 3
"""Most reads of pydicom's for one element."""

_META = b"\x02\x00"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


class _TooMany(Exception):  # noqa: N818  # never leaves this module
    """More elements than ``MAX_ELEMENTS``."""


class _Counted(io.BytesIO):
    """Bytes that count how often they are read from: an element, at any depth, needs a read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _READS * MAX_ELEMENTS + len(data) // 4096  # long values are read in blocks

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _TooMany
        return super().read(size)


class Elements(NamedTuple):
    """Elements of a file or of an item in it; the methods take keywords.

    ``name`` is the file's name in errors; in an item, the transfer syntax is that of the file.
    """

    dataset: Dataset
    name: str
    syntax: UID
    little: bool

    def text(self, keyword: str) -> str:
        """Return a text, without spaces around it; empty if it is absent.

        Raises:
            ImageError: If it cannot be read.
        """
        value = self._value(keyword)
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = "\\".join(str(item) for item in value)
        return "" if value is None else str(value).strip(" \0")

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return the numbers of an element; none if it is absent or empty.

        Raises:
            ImageError: If one of them is not finite, or no number.
        """
        value = self._value(keyword)
        if value is None:
            return ()
        try:
            if isinstance(value, bytes):  # an implicit file does not say whether US or SS
                found = [float(item) for item in np.frombuffer(value, self.dtype(2))]
            else:
                several = isinstance(value, Sequence) and not isinstance(value, str)
                items = value if several else [value]
                found = [float(item) for item in items if str(item).strip(" \0")]
        except (TypeError, ValueError, ArithmeticError) as error:
            raise self._wrong(keyword) from error
        if not all(map(math.isfinite, found)):
            raise self._wrong(keyword)
        return tuple(found)

    def number(self, keyword: str) -> float | None:
        """Return the first number of an element; None if it is absent or empty."""
        return next(iter(self.numbers(keyword)), None)

    def count(self, keyword: str, default: int = 0) -> int:
        """Return a whole number.

        Raises:
            ImageError: If it is none.
        """
        found = self.number(keyword)
        if found is None:
            return default
        if found != int(found):
            raise self._wrong(keyword)
        return int(found)

    def words(self, keyword: str) -> npt.NDArray[np.uint16]:
        """Return 16-bit words, stored as numbers or as bytes; none if absent.

        Raises:
            ImageError: If they cannot be read.
        """
        value = self._value(keyword)
        if isinstance(value, bytes):
            return np.frombuffer(value[: len(value) // 2 * 2], self.dtype(2)).astype(np.uint16)
        return np.array([int(item) & 0xFFFF for item in self.numbers(keyword)], np.uint16)

    def data(self, keyword: str) -> bytes:
        """Return the bytes of an element; empty if it is absent."""
        value = self._value(keyword)
        return value if isinstance(value, bytes) else b""

    def items(self, keyword: str) -> list[Elements]:
        """Return the items of a sequence.

        Raises:
            ImageError: If it cannot be read, or has too many elements.
        """
        tag = Tag(tag_for_keyword(keyword) or 0)
        if tag not in self.dataset:
            return []
        element = self.dataset.get_item(tag)
        value: Any = element.value
        try:
            if isinstance(element, RawDataElement) and isinstance(value, bytes):
                source = _Counted(value)
                kinds = (element.is_implicit_VR, element.is_little_endian)
                value = read_sequence(source, *kinds, len(value), "ascii")
            found = [Elements(item, self.name, self.syntax, self.little) for item in value or ()]
        except _TooMany as error:
            raise _too_many(self.name) from error
        except Exception as error:  # pydicom raises whatever a damaged value leads to
            raise self._wrong(keyword) from error
        for item in found:  # a number's kind depends on it
            if "PixelRepresentation" in self.dataset:
                item.dataset.PixelRepresentation = self.dataset.PixelRepresentation
        return found

    def name_of(self, keyword: str) -> str:
        """Return a text in the file's own character set, as Unicode.

        Bytes that no declared character set explains give an empty text: a wrong name is worse than
        none.
        """
        tag = Tag(tag_for_keyword(keyword) or 0)
        if tag not in self.dataset:
            return ""
        value = self.dataset.get_item(tag).value
        if not isinstance(value, bytes):
            return str(value or "")
        sets = [item.strip() for item in self.text("SpecificCharacterSet").split("\\")]
        encodings = [_encoding(item) for item in sets]
        value = value.rstrip(b" \0")
        try:
            if value.isascii() and b"\x1b" not in value:
                return value.decode("ascii")
            if None in encodings:
                return ""
            known = [item for item in encodings if item]
            parts = [decode_bytes(part, known, {*b"\\^="}) for part in value.split(b"=")]
        except (LookupError, ValueError):
            return ""
        text = "=".join(parts).replace("\x1b$)A", "")  # pydicom leaves those of ISO 2022 IR 58
        return "" if "\ufffd" in text or "\x1b" in text else text

    def dtype(self, size: int) -> np.dtype[Any]:
        """Return the type of unsigned numbers of some bytes."""
        return np.dtype(f"{'<' if self.little else '>'}u{size}")

    def _value(self, keyword: str) -> Any:  # noqa: ANN401  # any kind of value
        try:
            return self.dataset.get(keyword)
        except Exception as error:  # values are parsed late, and raise any exception
            raise self._wrong(keyword) from error

    def _wrong(self, keyword: str) -> ImageError:
        return ImageError(
            f"{self.name}: {keyword} in the DICOM header cannot be read; send it again"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings: pydicom warns of headers that are usable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_elements(data: bytes, name: str, keywords: Collection[str]) -> Elements:
    """Return elements of a file without decoding pixels.

    The file may lack its preamble and meta information.

    Raises:
        ImageError: If it cannot be read, has no transfer syntax, inflates to too many bytes, or has
            too many elements.
    """
    start = 132 if data[DICOM] == b"DICM" else 0
    syntax, start = _syntax(data, start, name)
    if syntax == DeflatedExplicitVRLittleEndian:
        data, start = _inflated(data[start:], name), 0
    source = _Counted(data)
    source.seek(start)
    tags: list[BaseTag | int] = [Tag(tag_for_keyword(keyword) or 0) for keyword in keywords]
    little = syntax.is_little_endian
    try:
        dataset = read_dataset(source, syntax.is_implicit_VR, little, specific_tags=tags)
    except _TooMany as error:
        raise _too_many(name) from error
    except Exception as error:  # as above
        message = f"{name}: a damaged DICOM file; send it again"
        raise ImageError(message) from error
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return Elements(dataset, name, syntax, little)


def _too_many(name: str) -> ImageError:
    message = f"{name}: more than {MAX_ELEMENTS} elements, or nested too deeply; not a radiograph"
    return ImageError(message)


def _syntax(data: bytes, at: int, name: str) -> tuple[UID, int]:
    """Return the transfer syntax, and where the meta information ends.

    A file without meta information is not compressed; its first element shows the syntax.
    """
    if data[at : at + 2] != _META:
        if data[at : at + 1] == b"\0":
            return ExplicitVRBigEndian, at
        explicit = data[at + 4 : at + 6].isalpha() and data[at + 4 : at + 6].isupper()
        return (ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian), at
    found = b""
    for _ in range(MAX_ELEMENTS):
        if data[at : at + 2] != _META:
            break
        element, kind = data[at + 2 : at + 4], data[at + 4 : at + 6]
        head, size = (12, 4) if kind in _LONG else (8, 2)
        length = int.from_bytes(data[at + head - size : at + head], "little")
        if element == b"\x10\x00":
            found = data[at + head : at + head + min(length, 64)]
        at += head + length
    syntax = UID(found.rstrip(b" \0").decode("ascii", "replace"))
    if not syntax.is_transfer_syntax:
        message = f"{name}: a DICOM file without a transfer syntax in its header; send it again"
        raise ImageError(message)
    return syntax, at


def _inflated(data: bytes, name: str) -> bytes:
    """Return the inflated bytes, or reject a few bytes that would fill the memory."""
    most = min(2 * MAX_PIXELS, MAX_INFLATION * len(data)) + SPARE
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = inflate.decompress(data, most)
    except zlib.error as error:
        message = f"{name}: a damaged DICOM file (it does not inflate); send it again"
        raise ImageError(message) from error
    if inflate.unconsumed_tail:
        message = f"{name}: inflates to more than {most >> 20} MiB; not a radiograph"
        raise ImageError(message)
    return found


def _encoding(name: str) -> str | None:
    """Return Python's name of a DICOM character set; None if it is unknown."""
    return python_encoding.get(re.sub("^ISO[- ]IR", "ISO_IR", name))  # a common misspelling
