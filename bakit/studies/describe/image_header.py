"""Read the pixel format of an image file from its header."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
# Channels by colour type; a palette (3) has three.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
# Frame headers of JPEG; C4, C8 and CC are other segments.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# JPEG markers without a length: TEM and the restart markers.
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})


class Storage(NamedTuple):
    """The pixel format of a file.

    Attributes:
        format: ``png``, ``jpeg`` or ``other``, by content and not by name.
        bits: Bits per channel; 0 for other formats.
        channels: 1 grey, 2 grey with alpha, 3 colour, 4 colour with alpha or CMYK; 0 for other
            formats.
    """

    format: str
    bits: int
    channels: int


def read_storage(path: Path) -> Storage:
    """Read the header of an image file that can be decoded.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(26)
        if start.startswith(_PNG) and len(start) == 26:
            return Storage("png", start[24], _PNG_CHANNELS.get(start[25], 0))
        if start.startswith(b"\xff\xd8"):
            file.seek(2)
            return _read_jpeg(file)
    return Storage("other", 0, 0)


def _read_jpeg(file: BinaryIO) -> Storage:
    """Skip the segments before the frame header, and read it."""
    while (byte := file.read(1)) == b"\xff":
        while byte == b"\xff":  # fill bytes
            byte = file.read(1)
        if not byte or byte[0] in _JPEG_BARE:
            continue
        body = file.read(2)
        if len(body) < 2:
            break
        (length,) = struct.unpack(">H", body)
        if byte[0] in _JPEG_FRAMES:
            frame = file.read(6)  # bits, height, width, channels
            return Storage("jpeg", frame[0], frame[5]) if len(frame) == 6 else _UNKNOWN_JPEG
        file.seek(max(length - 2, 0), 1)
    return _UNKNOWN_JPEG


_UNKNOWN_JPEG = Storage("jpeg", 0, 0)
