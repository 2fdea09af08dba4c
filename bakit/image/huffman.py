"""Follow the Huffman codes of a JPEG without computing pixels (ITU-T T.81, annexes F to H)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MANY = 8_000
"""Blocks from which tables of several codes are worth it."""

_WINDOWS = np.arange(65536)
_NONE = memoryview(np.zeros(65536, np.int32))  # type: ignore[arg-type]


class DamagedError(Exception):
    """The codes are not those of a whole image."""


class Scan(NamedTuple):
    """A scan: its components with their tables, its part of the coefficients, its codes."""

    components: list[tuple[int, bytes, bytes]]
    first: int
    last: int
    before: int
    now: int
    interval: int
    codes: bytes


class Bits:
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


def sequential(
    bits: Bits, blocks: Sequence[tuple[int, bytes, bytes]], count: int, *, many: bool
) -> int:
    """Follow the blocks of a baseline scan; return the position behind them."""
    tables = [
        (
            _block(dc, ac) if many else _NONE,
            _differences(dc),
            _coefficients(ac) if many else _coefficient(ac),
            _coefficient(ac),
        )
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
                raise DamagedError
            at += skip
            index = 1
            while index < 64:
                word = words[at >> 3] >> (8 - (at & 7)) & 0xFFFF
                step = several[word]
                if index + (step & 127) >= 64:
                    step = single[word]
                    if index + (step & 127) > 64:
                        raise DamagedError
                if not step:
                    raise DamagedError
                at += step >> 8
                index = 64 if step & 128 else index + (step & 127)
    return at


def direct(bits: Bits, blocks: Sequence[tuple[int, bytes, bytes]], count: int) -> int:
    """Follow the first scan of DC coefficients."""
    tables = [_differences(dc) for _, dc, _ in blocks]
    words, at = bits.at, 0
    for _ in range(count):
        for differences in tables:
            skip = differences[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not skip:
                raise DamagedError
            at += skip
    return at


def samples(bits: Bits, dc: bytes, count: int) -> int:
    """Follow the differences of a lossless scan."""
    several, differences, words = _samples_of(dc), _differences(dc), bits.at
    at, left = 0, count
    while left > 16:
        step = several[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
        if not step:
            raise DamagedError
        at += step >> 8
        left -= step & 255
    for _ in range(left):
        skip = differences[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
        if not skip:
            raise DamagedError
        at += skip
    return at


def alternating(bits: Bits, scan: Scan, blocks: range, filled: dict[int, int]) -> int:
    """Follow the first scan of a band of AC coefficients; note which are not 0."""
    symbols = _symbols(scan.components[0][2])
    words, at, block = bits.at, 0, blocks.start
    while block < blocks.stop:
        index, found, ended = scan.first, 0, 0
        while index <= scan.last:
            code = symbols[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not code:
                raise DamagedError
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
            raise DamagedError
        if found:
            filled[block] = filled.get(block, 0) | found
        block += 1 + ended
    if block > blocks.stop:
        raise DamagedError
    return at


def refined(bits: Bits, scan: Scan, blocks: range, filled: dict[int, int]) -> int:
    """Follow a scan that adds a bit to a band of AC coefficients."""
    symbols = _symbols(scan.components[0][2])
    band = (1 << scan.last + 1) - (1 << scan.first)
    words, at, ended = bits.at, 0, 0
    for block in blocks:
        before = filled.get(block, 0) & band
        index, found = scan.first, 0
        while not ended and index <= scan.last:
            code = symbols[words[at >> 3] >> (8 - (at & 7)) & 0xFFFF]
            if not code:
                raise DamagedError
            at += code >> 8
            run, size = code >> 4 & 15, code & 15
            if not size and run < 15:
                ended = (1 << run) + bits.take(at, run)
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
        if found:
            filled[block] = filled.get(block, 0) | found
    if ended:
        raise DamagedError
    return at


# Tables that say what 16 bits start with. Most files share the same Huffman tables; for a small
# file with its own, tables of several codes take longer than they save (``MANY``).


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
def _differences(coded: bytes) -> memoryview:
    """Return the bits of the first DC difference; 0 for no code."""
    length, symbol = _codes(coded)
    # In lossless JPEGs, a difference of 16 bits is 32,768 and has no further bits.
    return _view(np.where((length > 0) & (symbol <= 16), length + symbol % 16, 0))


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
def _coefficients(coded: bytes) -> memoryview:
    """Return the same of as many coefficients as have their codes in the 16 bits."""
    one = np.array(_coefficient(coded))
    length, _ = _codes(coded)
    total, open_ = one, (one > 0) & (one & 128 == 0)
    for _ in range(4):
        rest = (_WINDOWS << (total >> 8).clip(max=16)) & 0xFFFF
        more = one[rest]
        open_ = open_ & (more > 0) & ((total >> 8) + length[rest] <= 16)
        open_ &= (total & 127) + (more & 127) < 64
        total = total + open_ * more
        open_ &= more & 128 == 0
    return _view(total)


@lru_cache(maxsize=16)
def _block(dc: bytes, ac: bytes) -> memoryview:
    """Return the bits of a whole block; 0 if it has more than 16."""
    skip = np.array(_differences(dc))
    rest = np.array(_coefficients(ac))[(_WINDOWS << skip.clip(max=16)) & 0xFFFF]
    total = skip + (rest >> 8)
    return _view(np.where((skip > 0) & (rest & 128 > 0) & (total <= 16), total, 0))


@lru_cache(maxsize=16)
def _samples_of(dc: bytes) -> memoryview:
    """Return the bits of as many differences as fit, times 256, plus their number."""
    skip = np.array(_differences(dc))
    total, number, open_ = skip, (skip > 0).astype(np.int32), skip > 0
    for _ in range(15):
        rest = skip[(_WINDOWS << total.clip(max=16)) & 0xFFFF]
        open_ = open_ & (rest > 0) & (total + rest <= 16)
        total, number = total + open_ * rest, number + open_
    return _view(np.where(number > 0, total << 8 | number, 0))


def _view(table: npt.NDArray[Any]) -> memoryview:
    numbers: Any = table.astype(np.int32)
    return memoryview(numbers)
