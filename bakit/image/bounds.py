"""What a file may be before anything decodes it: its kind, its bytes and its pixels.

A few bytes of a compressed image can ask a decoder for gigabytes, and a decoder of a rare format is
code that few have looked at. So the header is read here first, by length checks alone.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from bakit.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_PIXELS = 100_000_000
"""Most pixels of an image; the largest plain films have about 20 million."""

MAX_BYTES = 512 * 2**20
"""Most bytes of an image file."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

# Markers that stand alone, and those of frames (ITU-T T.81, table B.1): all SOFn but DHT, JPG, DAC.
_ALONE = {0x01, *range(0xD0, 0xD9)}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_bounded(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ImageError: If it has more than ``MAX_BYTES``.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        message = f"{path}: more than {MAX_BYTES >> 20} MiB; not a radiograph that can be read"
        raise ImageError(message)
    return data


def check_image(data: bytes, name: str) -> None:
    """Refuse what must not reach an image decoder.

    Args:
        data: A file's bytes, not empty.
        name: What to call it in an error.

    Raises:
        ImageError: If it is neither PNG nor JPEG, has no size in its header, or has more than
            ``MAX_PIXELS``.
    """
    size = _png_size(data) if data.startswith(PNG) else _jpeg_size(data)
    if size is None:
        message = f"{name}: not an image that can be read; use PNG, JPEG or DICOM"
        raise ImageError(message)
    check_pixels(*size, name)


def check_pixels(width: int, height: int, name: str) -> None:
    """Refuse an image of more than ``MAX_PIXELS``.

    Raises:
        ImageError: If it is one.
    """
    if width * height > MAX_PIXELS:
        message = f"{name}: {width}x{height} pixels; at most {MAX_PIXELS // 10**6} million are read"
        raise ImageError(message)


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the first chunk, which must be IHDR."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height from the first frame header."""
    if not data.startswith(JPEG):
        return None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
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
