"""Check that a JPEG is complete and not damaged, before it is decoded.

Decoders fill what is missing in a JPEG with grey and go on after damage; OpenCV does not tell. Here
the Huffman codes are followed without computing pixels (ITU-T T.81, annexes F and G): every block
has to end, every scan needs exactly its blocks, and all bits of all coefficients have to be there.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

JPEG = b"\xff\xd8\xff"

MAX_SCANS = 64
"""Most scans of a progressive JPEG; encoders write about ten."""

MAX_SCANNED = 400_000_000
"""Most pixels of all scans together."""

_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # JPEG-LS has 0xF7
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a marker that is neither stuffing nor a restart
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SPARE_BITS = 16
"""Most bits behind the last block: padding to a byte, and one byte of careless encoders."""


class _Damaged(Exception):  # noqa: N818  # never leaves this module
    """The codes are not those of a whole image."""


class Frame(NamedTuple):
    """The frame header of a JPEG or JPEG-LS.

    Attributes:
        kind: Its marker: 0xC0 baseline, 0xC1 extended, 0xC2 progressive, others rare.
        bits: Bits of a sample.
        width: Width in pixels.
        height: Height in pixels.
        factors: Horizontal and vertical sampling factor by component.
    """

    kind: int
    bits: int
    width: int
    height: int
    factors: dict[int, tuple[int, int]]


class _Scan(NamedTuple):
    """A scan: its components with their tables, its part of the coefficients, its codes."""

    components: list[tuple[int, bytes, bytes]]
    first: int
    last: int
    before: int
    now: int
    interval: int
    codes: bytes


class _Table(NamedTuple):
    """What a code at the start of 16 bits means, as lists of 65,536.

    Attributes:
        symbols: Length of the code times 256, plus its symbol; 0 for no code.
        several: As many coefficients as fit: bits to skip times 256, plus 128 if the block ends,
            plus the number of coefficients; 0 for no code.
        single: The same for one coefficient.
        differences: Bits to skip for a DC difference; 0 for no code.
    """

    symbols: list[int]
    several: list[int]
    single: list[int]
    differences: list[int]


def jpeg_frame(data: bytes) -> Frame | None:
    """Return the first frame header of a JPEG or JPEG-LS; None if there is none."""
    return next((found for found in _segments(data) if isinstance(found, Frame)), None)


def check_jpeg(data: bytes, name: str) -> None:
    """Reject a JPEG that is not complete, is damaged, or takes too long to decode.

    Args:
        data: A JPEG with a frame header.
        name: Its name in errors.

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

    Args:
        data: A JPEG: baseline, extended, progressive or lossless.
        frame: Its frame header.
        name: Its name in errors.

    Raises:
        ImageError: If so.
    """
    scans: list[_Scan] = []
    try:
        for found in _segments(data):
            if isinstance(found, _Scan):
                scans.append(found)
                scanned = len(scans) * frame.width * frame.height
                if len(scans) > MAX_SCANS or scanned > max(MAX_SCANNED, frame.width * frame.height):
                    message = f"{name}: a JPEG with too many scans; save it as PNG"
                    raise ImageError(message)
        _check_scans(frame, scans)
    except (_Damaged, IndexError, KeyError) as error:
        message = f"{name}: the JPEG is damaged or incomplete; copy it again"
        raise ImageError(message) from error


def _segments(data: bytes) -> Iterator[Frame | _Scan]:
    """Yield frame headers and scans; nothing after a marker that makes no sense."""
    if not data.startswith(JPEG):
        return
    at, interval = 2, 0
    tables: dict[int, bytes] = {}
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:  # fill bytes before a marker
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + size]
        if size < 2 or len(body) < size - 2:
            return
        at += 2 + size
        if marker == 0xC4:
            tables |= _tables(body)
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
            yield _Scan(components, first, last, steps >> 4, steps & 15, interval, codes)
            at = end.start()


def _tables(body: bytes) -> dict[int, bytes]:
    """Return the Huffman tables of a segment by class and number."""
    found, at = {}, 0
    while at + 17 <= len(body):
        end = at + 17 + sum(body[at + 1 : at + 17])
        found[body[at]] = body[at + 1 : end]
        at = end
    return found


@lru_cache(maxsize=16)
def _table(coded: bytes) -> _Table:
    """Return a Huffman table in a form that is fast to follow; most files share the same four."""
    lengths, values = coded[:16], coded[16:]
    if not values or len(values) < sum(lengths):
        raise _Damaged
    length, symbol = np.zeros(65536, np.int32), np.zeros(65536, np.int32)
    code = at = 0
    for bits, count in enumerate(lengths, start=1):
        for _ in range(count):
            start, stop = (edge << (16 - bits) for edge in (code, code + 1))
            if stop > 65536:
                raise _Damaged
            length[start:stop], symbol[start:stop] = bits, values[at]
            code, at = code + 1, at + 1
        code <<= 1
    run, size = symbol >> 4, symbol & 15
    ends = symbol == 0
    known = (length > 0) & (ends | (size > 0) | (run == 15))
    skip = np.where(known, length + size, 0)
    steps = np.where(known & ~ends, run + 1, 0)
    single = skip << 8 | ends * 128 | steps
    single[~known] = 0
    total, reach, ended = skip, steps, ends
    open_ = known & ~ends
    windows = np.arange(65536)
    for _ in range(4):  # append the next coefficient, where its whole code is in the 16 bits
        rest = (windows << total.clip(max=16)) & 0xFFFF
        open_ = open_ & known[rest] & (total + length[rest] <= 16) & (reach + steps[rest] < 64)
        total = total + open_ * skip[rest]
        reach = reach + open_ * steps[rest]
        ended = ended | open_ & ends[rest]
        open_ = open_ & ~ends[rest]
    several = total << 8 | ended * 128 | reach
    several[~known] = 0
    # In lossless JPEGs, a difference of 16 bits is 32,768 and has no further bits.
    differences = np.where((length > 0) & (symbol <= 16), length + symbol % 16, 0)
    return _Table(
        (length << 8 | symbol).tolist(), several.tolist(), single.tolist(), differences.tolist()
    )


@lru_cache(maxsize=16)
def _whole(dc: bytes, ac: bytes) -> list[int]:
    """Return the bits of a block by the 16 bits that it starts with; 0 if it is longer."""
    skip = np.array(_table(dc).differences)
    several = np.array(_table(ac).several)[(np.arange(65536) << skip.clip(max=16)) & 0xFFFF]
    total = skip + (several >> 8)
    found: list[int] = np.where((skip > 0) & (several & 128 > 0) & (total <= 16), total, 0).tolist()
    return found


def _check_scans(frame: Frame, scans: Sequence[_Scan]) -> None:
    """Follow all scans, and check that they make up the whole image."""
    if not frame.factors or not frame.height or not frame.width:
        raise _Damaged
    if not all(1 <= f <= 4 for pair in frame.factors.values() for f in pair):
        raise _Damaged
    if frame.kind == 0xC3:  # lossless: one scan of samples
        if len(scans) != 1 or len(scans[0].components) != 1:
            raise _Damaged
        _check_scan(frame, scans[0], {})
        return
    known: dict[int, list[int | None]] = {key: [None] * 64 for key in frame.factors}
    filled: dict[int, dict[int, int]] = {key: {} for key in frame.factors}
    for scan in scans:
        if not scan.components or not 0 <= scan.first <= scan.last <= 63:
            raise _Damaged
        if frame.kind != 0xC2 and (scan.first, scan.last, scan.before, scan.now) != (0, 63, 0, 0):
            raise _Damaged
        if scan.before not in {0, scan.now + 1}:
            raise _Damaged
        for key, _, _ in scan.components:
            for index in range(scan.first, scan.last + 1):
                if known[key][index] != (scan.before or None):
                    raise _Damaged
                known[key][index] = scan.now
        _check_scan(frame, scan, filled[scan.components[0][0]])
    if any(step != 0 for steps in known.values() for step in steps):
        raise _Damaged


def _check_scan(frame: Frame, scan: _Scan, filled: dict[int, int]) -> None:
    """Follow one scan; ``filled`` holds the AC coefficients that are not 0 by block, as bits."""
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
    done = 0
    for part in _RESTART.split(scan.codes.rstrip(b"\xff")):
        count = min(scan.interval or units, units - done)
        if not count or (scan.first == 0 and 8 * len(part) < count * len(blocks)):
            raise _Damaged
        bits, span = _Bits(part), range(done, done + count)
        if frame.kind == 0xC3:
            end = _samples(bits, blocks[0][1], count)
        elif frame.kind != 0xC2:
            end = _sequential(bits, blocks, count)
        elif scan.last == 0:
            end = count * len(blocks) if scan.before else _direct(bits, blocks, count)
        elif scan.first == 0 or len(blocks) != 1:
            raise _Damaged
        else:
            end = (_refined if scan.before else _alternating)(bits, scan, span, filled)
        if not 0 <= bits.size - end < _SPARE_BITS:
            raise _Damaged
        done += count
    if done < units:
        raise _Damaged


def _ceil(length: int, step: int) -> int:
    return (length + step - 1) // step


class _Bits:
    """The bits of a part of a scan; ``at[i]`` holds the 24 bits from byte ``i`` on."""

    def __init__(self, codes: bytes) -> None:
        data = np.frombuffer(codes.replace(b"\xff\x00", b"\xff") + b"\0" * 8, np.uint8)
        wide: npt.NDArray[np.uint32] = data.astype(np.uint32)
        self.size = 8 * (len(data) - 8)
        words: Any = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
        self.at = memoryview(words)

    def take(self, at: int, count: int) -> int:
        """Return up to 15 bits as a number."""
        return (self.at[at >> 3] >> (24 - (at & 7) - count)) & ((1 << count) - 1)


def _sequential(bits: _Bits, blocks: Sequence[tuple[int, bytes, bytes]], count: int) -> int:
    """Follow the blocks of a baseline scan; return the position behind them."""
    tables = [
        (_whole(dc, ac), _table(dc).differences, _table(ac).several, _table(ac).single)
        for _, dc, ac in blocks
    ]
    words, at = bits.at, 0
    for _ in range(count):
        for whole, differences, several, single in tables:
            word = words[at >> 3] >> (8 - (at & 7)) & 0xFFFF
            if skip := whole[word]:  # half of a film is background
                at += skip
                continue
            if not (skip := differences[word]):
                raise _Damaged
            at += skip
            index = 1
            while index < 64:
                word = words[at >> 3] >> (8 - (at & 7)) & 0xFFFF
                step = several[word]
                if index + (step & 127) >= 64:
                    step = single[word]
                    if index + (step & 127) > 64:
                        raise _Damaged
                if not step:
                    raise _Damaged
                at += step >> 8
                index = 64 if step & 128 else index + (step & 127)
    return at


def _direct(bits: _Bits, blocks: Sequence[tuple[int, bytes, bytes]], count: int) -> int:
    """Follow the first scan of DC coefficients."""
    tables = [_table(dc).differences for _, dc, _ in blocks]
    words, at = bits.at, 0
    for _ in range(count):
        for differences in tables:
            skip = differences[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not skip:
                raise _Damaged
            at += skip
    return at


@lru_cache(maxsize=16)
def _several(dc: bytes) -> list[int]:
    """Return the bits of as many differences as fit in 16 bits, times 256, plus their number."""
    skip = np.array(_table(dc).differences)
    total, number, open_ = skip, (skip > 0).astype(np.int64), skip > 0
    for _ in range(15):
        rest = skip[(np.arange(65536) << total.clip(max=16)) & 0xFFFF]
        open_ = open_ & (rest > 0) & (total + rest <= 16)
        total, number = total + open_ * rest, number + open_
    found: list[int] = np.where(number > 0, total << 8 | number, 0).tolist()
    return found


def _samples(bits: _Bits, dc: bytes, count: int) -> int:
    """Follow the differences of a lossless scan."""
    several, differences, words = _several(dc), _table(dc).differences, bits.at
    at, left = 0, count
    while left > 16:
        step = several[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
        if not step:
            raise _Damaged
        at += step >> 8
        left -= step & 255
    for _ in range(left):
        skip = differences[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
        if not skip:
            raise _Damaged
        at += skip
    return at


def _alternating(bits: _Bits, scan: _Scan, blocks: range, filled: dict[int, int]) -> int:
    """Follow the first scan of a band of AC coefficients; note which are not 0."""
    symbols = _table(scan.components[0][2]).symbols
    words, at, block = bits.at, 0, blocks.start
    while block < blocks.stop:
        index, found, ended = scan.first, 0, 0
        while index <= scan.last:
            code = symbols[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not code:
                raise _Damaged
            at += code >> 8
            run, size = code >> 4 & 15, code & 15
            if size:
                found |= 1 << index + run
                at += size
            elif run < 15:  # this block and some more end here
                ended = (1 << run) - 1 + bits.take(at, run)
                at += run
                break
            index += run + 1
        if index > scan.last + 1:
            raise _Damaged
        if found:
            filled[block] = filled.get(block, 0) | found
        block += 1 + ended
    if block > blocks.stop:
        raise _Damaged
    return at


def _refined(bits: _Bits, scan: _Scan, blocks: range, filled: dict[int, int]) -> int:
    """Follow a scan that adds a bit to a band of AC coefficients."""
    symbols = _table(scan.components[0][2]).symbols
    band = (1 << scan.last + 1) - (1 << scan.first)
    words, at, ended = bits.at, 0, 0
    for block in blocks:
        before = filled.get(block, 0) & band
        index, found = scan.first, 0
        while not ended and index <= scan.last:
            code = symbols[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not code:
                raise _Damaged
            at += code >> 8
            run, size = code >> 4 & 15, code & 15
            if not size and run < 15:
                ended = (1 << run) + bits.take(at, run)
                at += run
                break
            if size > 1:
                raise _Damaged
            # Up to the run's last zero, coefficients that were not 0 get another bit.
            left, more = before >> index, 0
            while more != (more := (left & ((2 << run + more) - 1)).bit_count()):
                pass
            at += size + more  # with the sign
            index += run + more + 1
            if index > scan.last + 1:
                raise _Damaged
            found |= size << index - 1
        if ended:
            at += (before >> index).bit_count()
            ended -= 1
        if found:
            filled[block] = filled.get(block, 0) | found
    if ended:
        raise _Damaged
    return at
