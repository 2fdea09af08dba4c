"""Damage to bytes: the same seed gives the same damage."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"18446744073709551616", b'""', b"[]", b"{}",
    b'"\\u0000"', b'"../x"', b'"/etc/passwd"', b"[" * 300, b'{"a":' * 300, b"0.1", b"\xff\xfe",
    b'"' + b"x" * 5000 + b'"', b"\x00", b"\r\n", b",", b'"', b"True", b"nan", b"inf", b"-inf",
)  # fmt: skip
TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*"|-?\d+\.?\d*(?:[eE][-+]?\d+)?|true|false|null|[^\s,:{}\[\]]+'
)


def flip(data: bytearray, draw: random.Random) -> None:
    """Flip some bits."""
    for _ in range(draw.choice((1, 1, 2, 8, 40))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def number(data: bytearray, draw: random.Random) -> None:
    """Write a remarkable number somewhere."""
    size = draw.choice((1, 2, 4))
    value = draw.choice(NUMBERS) % (1 << (8 * size))
    at = draw.randrange(max(1, len(data) - size))
    data[at : at + size] = value.to_bytes(size, draw.choice(("big", "little")))


def early_number(data: bytearray, draw: random.Random) -> None:
    """Write a remarkable number into the first bytes, where headers are."""
    head = bytearray(data[:200])
    number(head, draw)
    data[:200] = head


def cut(data: bytearray, draw: random.Random) -> None:
    """Cut the end off."""
    del data[draw.randrange(len(data)) :]


def remove(data: bytearray, draw: random.Random) -> None:
    """Take a piece out."""
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 2, 4, 30, 500))]


def double(data: bytearray, draw: random.Random) -> None:
    """Put a piece in a second time, somewhere else."""
    at = draw.randrange(len(data))
    piece = data[at : at + draw.choice((1, 4, 30, 500))]
    where = draw.randrange(len(data))
    data[where:where] = piece


def noise(data: bytearray, draw: random.Random) -> None:
    """Put random bytes in."""
    where = draw.randrange(len(data))
    data[where:where] = draw.randbytes(draw.choice((1, 4, 60)))


def zeros(data: bytearray, draw: random.Random) -> None:
    """Set a piece to zero, as a bad disk does."""
    at = draw.randrange(len(data))
    size = min(draw.choice((8, 100, 4096)), len(data) - at)
    data[at : at + size] = bytes(size)


def cut_and_closed(data: bytearray, draw: random.Random) -> None:
    """Cut the end off, and put the mark of an end there."""
    cut(data, draw)
    data += draw.choice((b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82", b"\xfe\xff\xdd\xe0\0\0\0\0"))


def many(data: bytearray, draw: random.Random) -> None:
    """Repeat a part of a format: scans, chunks, empty elements, nested sequences."""
    part = draw.choice(PARTS)
    places = [match.start() for match in re.finditer(re.escape(part[:2]), bytes(data))]
    at = draw.choice(places) if places else draw.randrange(len(data))
    data[at:at] = part * draw.choice((1, 3, 100, 5000, 100_000))


PARTS = (
    b"\xff\xda\x00\x08\x01\x01\x00\x01\x05\x02\x00",  # an empty scan
    b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00",
    b"\xff\xc4\x00\x02",
    b"\0\0\0\0tEXt\0\0\0\0",
    b"\x08\x00\x50\x00SH\x00\x00",  # an empty element
    b"\x08\x00\x50\x00\0\0\0\0",
    b"\x28\x00\x10\x30SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff",  # a level
    b"\xfe\xff\x00\xe0\0\0\0\0",
)


def word(data: bytearray, draw: random.Random) -> None:
    """Put another word in the place of one of a text."""
    tokens = list(TOKEN.finditer(bytes(data)))
    if tokens:
        start, end = draw.choice(tokens).span()
        data[start:end] = draw.choice(WORDS)


BYTES = (
    flip, number, early_number, cut, remove, double, noise, zeros, cut_and_closed, many,
)  # fmt: skip
TEXT = (word, word, word, flip, cut, remove, double)


def mutate(
    seeds: Sequence[bytes],
    draw: random.Random,
    ways: Sequence[Callable[[bytearray, random.Random], None]],
) -> bytes:
    """Return one of some inputs, damaged in one to six ways, perhaps with another one's end."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        if data:
            draw.choice(ways)(data, draw)
    if draw.random() < 0.05:
        other = draw.choice(seeds)
        data = data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other)) :]
    return bytes(data)


def with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have right checksums again, so that decoders read on."""
    result, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        if at + 12 + size > len(data):
            break
        body = data[at + 4 : at + 8 + size]
        result += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return bytes(result) + data[at:]
