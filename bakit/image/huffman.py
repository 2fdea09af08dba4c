"""Follow the Huffman codes of a JPEG without computing pixels (ITU-T T.81, annexes F to H)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

MANY = 8_000
"""Blocks or samples of a scan from which tables of several codes pay."""

SLICE = 1 << 16
"""Bytes whose bits are spread at once: 16 bytes of memory for each."""

_LONGEST = 1 << 14  # bytes; the blocks of a unit, up to 64, have no more
_LAST = 8 * SLICE  # bits; a unit that starts there has all of its bits
_SHIFTS = np.arange(8, 0, -1, dtype=np.uint32)
_WINDOWS = np.arange(65536)
_NONE = memoryview(np.zeros(65536, np.int32))  # type: ignore[arg-type]


class DamagedError(Exception):
    """The codes are not those of a whole image."""


class Scan(NamedTuple):
    """A scan: its components with their tables, its part of the coefficients, its codes.

    ``step`` is the smallest step of a DC coefficient in the quantization tables.
    """

    components: list[tuple[int, bytes, bytes]]
    first: int
    last: int
    before: int
    now: int
    interval: int
    step: int
    codes: bytes


class Bits:
    """The bits of a part of a scan."""

    def __init__(self, codes: bytes) -> None:
        self._data = np.frombuffer(codes.replace(b"\xff\x00", b"\xff") + b"\0" * 8, np.uint8)
        self.size = 8 * (len(self._data) - 8)

    def spread(self, at: int) -> tuple[memoryview, int, int]:
        """Return the 16 bits from each bit on, of the next bytes.

        Returns:
            The bits, the place of ``at`` in them, and the position of the first.
        """
        data = self._data[at >> 3 : (at >> 3) + SLICE + _LONGEST]
        wide: npt.NDArray[np.uint32] = data.astype(np.uint32)
        words = wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
        windows: Any = (words[:, None] >> _SHIFTS).astype(np.uint16)
        return memoryview(windows.reshape(-1)), at & 7, at & ~7


def sequential(
    bits: Bits, blocks: Sequence[tuple[int, bytes, bytes]], dc_range: tuple[int, int], count: int
) -> int:
    """Follow the blocks of a baseline scan; return the position behind them.

    Lost or swapped codes often decode, but shift all later DC coefficients out of their range.
    """
    lowest, highest = dc_range
    keys = [key for key, _, _ in blocks]
    tables = [
        (
            keys.index(key),
            _block(dc, ac) if count > MANY else _NONE,
            _symbols(dc),
            _several(ac, _coefficient) if count > MANY else _coefficient(ac),
            _coefficient(ac),
        )
        for key, dc, ac in blocks
    ]
    levels = [0] * len(blocks)
    words, at, start = bits.spread(0)
    for _ in range(count):
        if at > _LAST:
            words, at, start = bits.spread(start + at)
        for own, whole, symbols, several, single in tables:
            word = words[at]
            if skip := whole[word]:  # half of a film is background
                at += skip & 31
                difference, index = skip >> 5, 64
            elif not (code := symbols[word]) or (size := code & 255) > 16:
                raise DamagedError
            else:
                at += code >> 8
                value, index = words[at] >> 16 - size, 1
                difference = value if value << 1 >> size else value - (1 << size) + 1
                at += size
            if difference:
                levels[own] += difference
                if not lowest <= levels[own] <= highest:
                    raise DamagedError
            while index < 64:
                word = words[at]
                step = several[word]
                if index + (step & 127) >= 64:
                    step = single[word]
                    if index + (step & 127) > 64:
                        raise DamagedError
                if not step:
                    raise DamagedError
                at += step >> 8
                index = 64 if step & 128 else index + (step & 127)
    return start + at


def direct(bits: Bits, blocks: Sequence[tuple[int, bytes, bytes]], count: int) -> int:
    """Follow differences: the first scan of DC coefficients, or the samples of a lossless scan."""
    tables = [_difference(dc) for _, dc, _ in blocks]
    words, at, start = bits.spread(0)
    left = count * len(tables)
    if len(tables) == 1 and count > MANY:
        several = _several(blocks[0][1], _difference)
        while left >= 16:
            if at > _LAST:
                words, at, start = bits.spread(start + at)
            step = several[words[at]]
            if not step:
                raise DamagedError
            at += step >> 8
            left -= step & 127
    for index in range(left):
        if at > _LAST:
            words, at, start = bits.spread(start + at)
        step = tables[index % len(tables)][words[at]]
        if not step:
            raise DamagedError
        at += step >> 8
    return start + at


def alternating(bits: Bits, scan: Scan, blocks: range, filled: list[int]) -> int:
    """Follow the first scan of a band of AC coefficients; note which are not 0."""
    symbols = _symbols(scan.components[0][2])
    block = blocks.start
    words, at, start = bits.spread(0)
    while block < blocks.stop:
        if at > _LAST:
            words, at, start = bits.spread(start + at)
        index, found, ended = scan.first, 0, 0
        while index <= scan.last:
            code = symbols[words[at]]
            if not code:
                raise DamagedError
            at += code >> 8
            run, size = code >> 4 & 15, code & 15
            if size:
                found |= 1 << index + run
                at += size
            elif run < 15:  # this block and some more end here
                ended = (1 << run) - 1 + (words[at] >> 16 - run)
                at += run
                break
            index += run + 1
        if index > scan.last + 1:
            raise DamagedError
        filled[block] |= found
        block += 1 + ended
    if block > blocks.stop:
        raise DamagedError
    return start + at


def refined(bits: Bits, scan: Scan, blocks: range, filled: list[int]) -> int:
    """Follow a scan that adds a bit to a band of AC coefficients."""
    symbols = _symbols(scan.components[0][2])
    band = (1 << scan.last + 1) - (1 << scan.first)
    words, at, start = bits.spread(0)
    ended = 0
    for block in blocks:
        if at > _LAST:
            words, at, start = bits.spread(start + at)
        before = filled[block] & band
        index, found = scan.first, 0
        while not ended and index <= scan.last:
            code = symbols[words[at]]
            if not code:
                raise DamagedError
            at += code >> 8
            run, size = code >> 4 & 15, code & 15
            if not size and run < 15:
                ended = (1 << run) + (words[at] >> 16 - run)
                at += run
                break
            if size > 1:
                raise DamagedError
            # Up to the run's last zero, coefficients that were not 0 get another bit.
            left, more = before >> index, 0
            while more != (more := (left & ((2 << run + more) - 1)).bit_count()):
                pass
            at += size + more  # with the sign
            index += run + more + 1
            if index > scan.last + 1:
                raise DamagedError
            found |= size << index - 1
        if ended:
            at += (before >> index).bit_count()
            ended -= 1
        filled[block] |= found
    if ended:
        raise DamagedError
    return start + at


# Tables that say what 16 bits start with. Most files share the same Huffman tables; for a small
# scan, tables of several codes take longer than they save (``MANY``).


@lru_cache(maxsize=16)
def _codes(coded: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the length of the first code, 0 for none, and its symbol."""
    lengths, values = coded[:16], coded[16:]
    if not values or len(values) < sum(lengths):
        raise DamagedError
    length, symbol = np.zeros(65536, np.int32), np.zeros(65536, np.int32)
    code = at = 0
    for bits, count in enumerate(lengths, start=1):
        for _ in range(count):
            start, stop = (edge << (16 - bits) for edge in (code, code + 1))
            if stop > 65536:
                raise DamagedError
            length[start:stop], symbol[start:stop] = bits, values[at]
            code, at = code + 1, at + 1
        code <<= 1
    return length, symbol


@lru_cache(maxsize=16)
def _symbols(coded: bytes) -> memoryview:
    """Return the length of the first code times 256, plus its symbol; 0 for no code."""
    length, symbol = _codes(coded)
    return _view(length << 8 | symbol)


@lru_cache(maxsize=16)
def _difference(coded: bytes) -> memoryview:
    """Return the bits of the first DC difference times 256, plus 1; 0 for no code."""
    length, symbol = _codes(coded)
    # In lossless JPEGs, a difference of 16 bits is 32,768 and has no further bits.
    return _view(np.where((length > 0) & (symbol <= 16), (length + symbol % 16) << 8 | 1, 0))


@lru_cache(maxsize=16)
def _coefficient(coded: bytes) -> memoryview:
    """Return the bits of the first AC coefficient times 256, plus the places that it moves on.

    At the end of a block 128 is added; 0 for no code.
    """
    length, symbol = _codes(coded)
    run, size, ends = symbol >> 4, symbol & 15, symbol == 0
    known = (length > 0) & (ends | (size > 0) | (run == 15))
    step = (length + size) << 8 | np.where(ends, 128, run + 1)
    return _view(np.where(known, step, 0))


@lru_cache(maxsize=16)
def _several(coded: bytes, first: Callable[[bytes], memoryview]) -> memoryview:
    """Return the same of all differences or coefficients whose codes are in the 16 bits."""
    one = np.array(first(coded))
    length, _ = _codes(coded)
    total, open_ = one, (one > 0) & (one & 128 == 0)
    for _ in range(15):
        rest = (_WINDOWS << (total >> 8).clip(max=16)) & 0xFFFF
        more = one[rest]
        open_ = open_ & (more > 0) & ((total >> 8) + length[rest] <= 16)
        open_ &= (total & 127) + (more & 127) < 64
        if not open_.any():
            break
        total = total + open_ * more
        open_ &= more & 128 == 0
    return _view(total)


@lru_cache(maxsize=16)
def _block(dc: bytes, ac: bytes) -> memoryview:
    """Return 32 times the DC difference of a whole block, plus its bits; 0 if it has over 16."""
    skip = np.array(_difference(dc)) >> 8
    size = _codes(dc)[1].clip(max=15)
    bits = _WINDOWS >> (16 - skip).clip(0) & (1 << size) - 1
    difference = np.where(bits << 1 >> size, bits, bits - (1 << size) + 1)
    rest = np.array(_several(ac, _coefficient))[(_WINDOWS << skip.clip(max=16)) & 0xFFFF]
    total = skip + (rest >> 8)
    known = (skip > 0) & (rest & 128 > 0) & (total <= 16)
    return _view(np.where(known, difference << 5 | total, 0))


def _view(table: npt.NDArray[Any]) -> memoryview:
    numbers: Any = table.astype(np.int32)
    return memoryview(numbers)
