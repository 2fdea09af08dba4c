"""Limits of an image file that are checked before decoding: kind, bytes and pixels.

A few compressed bytes can make a decoder allocate gigabytes, and decoders of rare formats have few
reviewers. So the header is parsed here first.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bakit.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_PIXELS = 100_000_000
"""Most pixels of an image; the largest radiographs have about 20 million."""

MAX_BYTES = 512 * 2**20
"""Most bytes of an image file."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

# Markers without a length, and those of frames (ITU-T T.81, table B.1; JPEG-LS has 0xF7).
_ALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def read_bounded(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ImageError: If it has more than ``MAX_BYTES``.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"{path}: larger than {MAX_BYTES >> 20} MiB, the limit for a radiograph"
        raise ImageError(message)
    return data


def check_image(data: bytes, name: str) -> None:
    """Reject a file that must not reach an image decoder; ``name`` is its name in errors.

    Raises:
        ImageError: If it is neither PNG nor JPEG, its header has no size, or it has more than
            ``MAX_PIXELS``.
    """
    size = _png_size(data) if data.startswith(PNG) else jpeg_size(data)
    if size is None:
        message = f"{name}: not a supported image; use PNG, JPEG or DICOM"
        raise ImageError(message)
    check_pixels(*size, name)


def check_pixels(width: int, height: int, name: str) -> None:
    """Raise an ImageError if an image has more than ``MAX_PIXELS``."""
    if width * height > MAX_PIXELS:
        message = f"{name}: {width}x{height} pixels; the limit is {MAX_PIXELS // 10**6} million"
        raise ImageError(message)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the first chunk, which must be IHDR."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the first frame header of a JPEG or JPEG-LS, if it has one."""
    if not data.startswith(JPEG):
        return None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes before a marker
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            if at + 9 > len(data):
                return None
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
