"""Limits of an image file that are checked before decoding: kind, bytes, pixels and structure.

A few compressed bytes can make a decoder allocate gigabytes, and decoders of rare formats have few
reviewers. So the header is parsed here first.
"""

from __future__ import annotations

import struct
import zlib

from bakit.errors import ImageError
from bakit.image.jpeg import JPEG, check_jpeg, jpeg_frame

MAX_PIXELS = 100_000_000
"""Most pixels of an image; the largest radiographs have about 20 million."""

MAX_BYTES = 512 * 2**20
"""Most bytes of an image file."""

MAX_INFLATION = 200
"""Most pixels or bytes that a compressed byte may become. Real radiographs need less than 50."""

SPARE = 1 << 20
"""Pixels or bytes that any compressed file may become, whatever its size."""

MAX_CHUNKS = 100_000
"""Most chunks of a PNG; encoders write some thousands."""

PNG = b"\x89PNG\r\n\x1a\n"
DICOM = slice(128, 132)
"""Position of the mark ``DICM``."""

_DECODED = {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"}
"""Chunks that matter for pixels. Others, such as compressed texts, can inflate to gigabytes."""


def is_dicom(data: bytes) -> bool:
    """Return whether bytes begin as a DICOM file, with or without its preamble of 128 bytes."""
    if data[DICOM] == b"DICM":
        return True
    if len(data) < 12 or data[:2] not in {b"\x02\x00", b"\x08\x00", b"\x00\x08"}:
        return False
    big = data[0] == 0
    if data[4:6].isupper() and data[4:6].isalpha():
        return True
    return not big and int.from_bytes(data[4:8], "little") < 1024


def check_image(data: bytes, name: str) -> bytes:
    """Return what may reach an image decoder: of a PNG, its pixels alone.

    Raises:
        ImageError: If it is neither, has more than ``MAX_PIXELS``, is damaged or incomplete, or
            takes too long to decode.
    """
    if data.startswith(PNG) and len(data) >= 33 and data[12:16] == b"IHDR":
        width, height = struct.unpack(">II", data[16:24])
        check_pixels(width, height, name, len(data))
        return _pixels_of_png(data, name)
    if (frame := jpeg_frame(data)) is not None:
        check_pixels(frame.width, frame.height, name, len(data))
        check_jpeg(data, name)
        return data
    kind = "PNG" if data.startswith(PNG) else "JPEG" if data.startswith(JPEG) else ""
    message = f"{name}: not a supported image; use PNG, JPEG or DICOM"
    if kind:
        message = f"{name}: the {kind} is damaged or incomplete; copy it again"
    raise ImageError(message)


def check_pixels(width: int, height: int, name: str, coded: int | None = None) -> None:
    """Raise an ImageError if an image has too many pixels, for the bytes that they are coded in."""
    if width * height > MAX_PIXELS:
        message = f"{name}: {width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million"
        raise ImageError(message)
    if coded is not None and width * height > MAX_INFLATION * coded + SPARE:
        message = f"{name}: {width}x{height} pixels in {coded} bytes; not a radiograph"
        raise ImageError(message)


def _pixels_of_png(data: bytes, name: str) -> bytes:
    """Return a PNG without the chunks that do not matter for pixels; check the others."""
    view, at = memoryview(data), len(PNG)
    found: list[bytes | memoryview] = [PNG]
    for _ in range(MAX_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if end > len(data) or len(kind) < 4:
            break
        if kind in _DECODED:
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                break
            found.append(view[at:end])
        if kind == b"IEND":
            return b"".join(found)
        at = end
    message = f"{name}: the PNG is damaged or incomplete; copy it again"
    raise ImageError(message)
