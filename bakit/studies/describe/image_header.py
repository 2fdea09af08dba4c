"""Read the pixel format of an image file from its header."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.image.bounds import PNG
from bakit.image.jpeg import jpeg_frame
from bakit.image.read import read_source

if TYPE_CHECKING:
    from pathlib import Path

# Channels by colour type; a palette (3) has three.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


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
        ImageError: If the file cannot be read.
    """
    data = read_source(path)
    if data.startswith(PNG) and len(data) >= 26:
        return Storage("png", data[24], _PNG_CHANNELS.get(data[25], 0))
    if data.startswith(b"\xff\xd8"):
        frame = jpeg_frame(data)
        return Storage("jpeg", frame.bits, len(frame.factors)) if frame else Storage("jpeg", 0, 0)
    return Storage("other", 0, 0)
