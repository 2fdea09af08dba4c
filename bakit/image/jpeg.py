"""Check that a JPEG is complete and not damaged, before it is decoded.

Decoders fill what is missing in a JPEG with grey and go on after damage; OpenCV does not tell. Here
the Huffman codes are followed without computing pixels (ITU-T T.81, annexes F and G): every block
has to end, every scan needs exactly its blocks, all bits of all coefficients have to be there, and
the blocks of a baseline scan need grey values that exist. Other damage cannot be seen: codes have
no check sums.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from bakit.errors import ImageError
from bakit.image.huffman import (
    Bits,
    DamagedError,
    Scan,
    alternating,
    direct,
    refined,
    sequential,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


JPEG = b"\xff\xd8\xff"

MAX_SCANS = 64
"""Most scans of a progressive JPEG; encoders write about ten."""

MAX_SEGMENTS = 10_000
"""Most segments, markers and fill bytes; files with many comments have some hundreds."""

MAX_WORK = 20_000_000
"""Most work of all scans, in units of about 0.1 microseconds: 20 MB of codes, or 2.5 MB of the AC
coefficients of a progressive JPEG. A radiograph of 20 million pixels has 4 to 15 MB."""

_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG-LS has 0xF7
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a marker that is neither stuffing nor a restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_DARKER, _BRIGHTER = 4, 32
"""By how many of 256 grey levels a block's mean may be out of range: rounding, and encoders that
sharpen white edges."""
_SPARE_BITS = 16
"""Most bits behind the last block: padding to a byte, and one byte of careless encoders."""


class Frame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS.

    ``kind`` is its marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others rare; ``bits``
    those of a sample; ``factors`` the horizontal and vertical sampling factors by component.
    """

    kind: int
    bits: int
    width: int
    height: int
    factors: dict[int, tuple[int, int]]


def jpeg_frame(data: bytes) -> Frame | None:
    """Return the first frame header of a JPEG or JPEG-LS; None if there is none."""
    return next((found for found in _segments(data) if isinstance(found, Frame)), None)


def check_jpeg(data: bytes, name: str) -> None:
    """Reject a JPEG that is not complete, is damaged, or takes too long to decode.

    Raises:
        ImageError: If so, or if it is not of 8 bits with Huffman codes, baseline or progressive.
    """
    frame = jpeg_frame(data)
    if frame is None or frame.kind not in {0xC0, 0xC1, 0xC2} or frame.bits != 8:
        kind = "of a rare kind" if frame is None or frame.bits == 8 else f"of {frame.bits} bits"
        message = f"{name}: a JPEG {kind}; save it as PNG"
        raise ImageError(message)
    check_codes(data, frame, name)


def check_codes(data: bytes, frame: Frame, name: str) -> None:
    """Reject a JPEG with Huffman codes, of any bits, that is damaged or takes too long to decode.

    It may be baseline, extended, progressive or lossless.

    Raises:
        ImageError: If so.
    """
    scans: list[Scan] = []
    work = 0
    try:
        for found in _segments(data):
            if isinstance(found, Scan):
                scans.append(found)
                work += _work(frame, found)
                if len(scans) > MAX_SCANS or work > MAX_WORK:
                    message = f"{name}: a JPEG with too many scans or codes; save it as PNG"
                    raise ImageError(message)
        _check_scans(frame, scans)
    except (DamagedError, IndexError, KeyError) as error:
        message = f"{name}: the JPEG is damaged or incomplete; copy it again"
        raise ImageError(message) from error


def _work(frame: Frame, scan: Scan) -> int:
    """Return about how long it takes to follow a scan, in the units of ``MAX_WORK``."""
    blocks = frame.width * frame.height // 64 + 1
    is_slow = frame.kind == 0xC2 and scan.last > 0
    parts = blocks // scan.interval if scan.interval else 0
    return (8 if is_slow else 1) * len(scan.codes) + 2 * blocks + 200 * parts


def _segments(data: bytes) -> Iterator[Frame | Scan]:
    """Yield frame headers and scans; nothing after a marker that makes no sense."""
    if not data.startswith(JPEG):
        return
    at, interval = 2, 0
    tables: dict[int, bytes] = {}
    step = 1 << 16
    for _ in range(MAX_SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            return
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:  # fill bytes before a marker
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9 or marker < 0xC0:
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        if size < 2 or len(body) < size - 2:
            return
        at += 2 + size
        if marker == 0xC4:
            tables |= _tables(body)
        elif marker == 0xDB:
            step = min([step, *_dc_steps(body)])
        elif marker == 0xDD and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif marker in _FRAMES and len(body) >= 6:
            height, width = (int.from_bytes(body[i : i + 2], "big") for i in (1, 3))
            listed = [body[i : i + 3] for i in range(6, len(body) - 2, 3)]
            factors = {item[0]: (item[1] >> 4, item[1] & 15) for item in listed}
            yield Frame(marker, body[0], width, height, factors)
        elif marker == 0xDA and len(body) >= 6:
            end = _END.search(data, at)
            if end is None:  # no marker follows: the end is missing
                return
            codes = data[at : end.start()]
            listed = [body[i : i + 2] for i in range(1, len(body) - 4, 2)]
            components = [
                (item[0], tables.get(item[1] >> 4, b""), tables.get(16 | item[1] & 15, b""))
                for item in listed
            ]
            first, last, steps = body[-3:]
            yield Scan(components, first, last, steps >> 4, steps & 15, interval, step, codes)
            at = end.start()


def _tables(body: bytes) -> dict[int, bytes]:
    """Return the Huffman tables of a segment, four of each class, by class and number."""
    found, at = {}, 0
    for _ in range(8):
        if at + 17 > len(body):
            break
        end = at + 17 + sum(body[at + 1 : at + 17])
        found[body[at]] = body[at + 1 : end]
        at = end
    return found


def _dc_steps(body: bytes) -> Iterator[int]:
    """Yield the steps of the DC coefficient in a segment of quantization tables."""
    at = 0
    while at + 2 < len(body):
        size = 2 if body[at] >> 4 else 1
        yield max(int.from_bytes(body[at + 1 : at + 1 + size], "big"), 1)
        at += 1 + 64 * size


def _check_scans(frame: Frame, scans: Sequence[Scan]) -> None:
    """Follow all scans, and check that they make up the whole image."""
    if not 1 <= len(frame.factors) <= 4 or not frame.height or not frame.width:
        raise DamagedError
    if not 2 <= frame.bits <= 16 or (frame.kind != 0xC3 and frame.bits not in {8, 12}):
        raise DamagedError
    if not all(1 <= f <= 4 for pair in frame.factors.values() for f in pair):
        raise DamagedError
    if frame.kind == 0xC3:  # lossless: one scan of samples
        if len(scans) != 1 or len(scans[0].components) != 1:
            raise DamagedError
        _check_scan(frame, scans[0], [])
        return
    known: dict[int, list[int | None]] = {key: [None] * 64 for key in frame.factors}
    blocks = _ceil(frame.width, 8) * _ceil(frame.height, 8)
    filled = {key: [0] * blocks if frame.kind == 0xC2 else [] for key in frame.factors}
    for scan in scans:
        if not scan.components or not 0 <= scan.first <= scan.last <= 63:
            raise DamagedError
        if frame.kind != 0xC2 and (scan.first, scan.last, scan.before, scan.now) != (0, 63, 0, 0):
            raise DamagedError
        if scan.before not in {0, scan.now + 1}:
            raise DamagedError
        for key, _, _ in scan.components:
            for index in range(scan.first, scan.last + 1):
                if known[key][index] != (scan.before or None):
                    raise DamagedError
                known[key][index] = scan.now
        _check_scan(frame, scan, filled[scan.components[0][0]])
    if any(step != 0 for steps in known.values() for step in steps):
        raise DamagedError


def _check_scan(frame: Frame, scan: Scan, filled: list[int]) -> None:
    """Follow one scan; ``filled`` holds the AC coefficients of blocks that are not 0, as bits."""
    widest, highest = (max(pair[axis] for pair in frame.factors.values()) for axis in (0, 1))
    blocks = scan.components
    if frame.kind == 0xC3:
        units = frame.width * frame.height
    elif len(blocks) == 1:
        across, down = frame.factors[blocks[0][0]]
        columns, rows = _ceil(frame.width * across, widest), _ceil(frame.height * down, highest)
        units = _ceil(columns, 8) * _ceil(rows, 8)
    else:
        units = _ceil(frame.width, 8 * widest) * _ceil(frame.height, 8 * highest)
        blocks = [item for item in blocks for _ in range(math.prod(frame.factors[item[0]]))]
    level = 8 << frame.bits >> 8  # a block's DC coefficient for one of 256 grey levels
    lowest = -(128 + _DARKER) * level // scan.step - 1
    highest = (127 + _BRIGHTER) * level // scan.step + 1
    done = 0
    if any(mark[1] & 7 != i & 7 for i, mark in enumerate(_RESTART.findall(scan.codes))):
        raise DamagedError
    for part in _RESTART.split(scan.codes.rstrip(b"\xff")):
        count = min(scan.interval or units, units - done)
        if not count or (scan.first == 0 and 8 * len(part) < count * len(blocks)):
            raise DamagedError
        bits, span = Bits(part), range(done, done + count)
        if frame.kind == 0xC3:
            end = direct(bits, blocks, count)
        elif frame.kind != 0xC2:
            end = sequential(bits, blocks, (lowest, highest), count)
        elif scan.last == 0:
            end = count * len(blocks) if scan.before else direct(bits, blocks, count)
        elif scan.first == 0 or len(blocks) != 1:
            raise DamagedError
        else:
            end = (refined if scan.before else alternating)(bits, scan, span, filled)
        if not 0 <= bits.size - end < _SPARE_BITS:
            raise DamagedError
        done += count
    if done < units:
        raise DamagedError


def _ceil(length: int, step: int) -> int:
    return (length + step - 1) // step
