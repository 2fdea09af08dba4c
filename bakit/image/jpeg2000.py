"""Check that a JPEG 2000 codestream is complete, before it is decoded (ITU-T T.800, annexes A, B).

Decoders fill what is missing, and most do not tell. Damage inside the codes of a tile that keeps
their length and forms no marker cannot be seen: codestreams have no check sums.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{34})", re.DOTALL)
_MARKER = re.compile(rb"\xff[\x90\x93-\xff]")  # inside codes: only 0xFF91 and 0xFF92, or less
_TILE, _CODES, _END = b"\xff\x90", b"\xff\x93", b"\xff\xd9"


class Codestream(NamedTuple):
    """A codestream: its position in a file, width and height in pixels, most bits of a sample."""

    start: int
    width: int
    height: int
    bits: int


def find_codestream(data: bytes) -> Codestream | None:
    """Return the codestream in a file; None if it is none of JPEG 2000."""
    if not (found := _SIZE.search(data[:65536])):
        return None
    width, height, left, top, count = struct.unpack(">4I16xH", found[1])
    depths = data[found.end() : found.end() + 3 * count : 3]
    bits = 1 + max((depth & 127 for depth in depths), default=127)
    return Codestream(found.start(), width - left, height - top, bits)


def is_whole(data: bytes, codestream: Codestream) -> bool:
    """Return whether all tile parts of a codestream are there, and end where they should."""
    at, tiles = codestream.start + 2, 0
    while (marker := data[at : at + 2]) != _END:
        if len(data) < at + 12 or marker[:1] != b"\xff":
            return False
        if marker != _TILE:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            continue
        tiles += 1
        length = int.from_bytes(data[at + 6 : at + 10], "big")  # 0: up to the end
        end = at + length if length else data.rfind(_END)
        codes = data.find(_CODES, at + 12, end)
        if codes < 0 or end > len(data) or _MARKER.search(data, codes + 2, end):
            return False
        at = end
    return tiles > 0
