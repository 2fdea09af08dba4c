"""Messages between the process that measures and a bundle's process.

Each is a MessagePack document after its length in four bytes. JSON has no NaN, which a broken model
may predict.
"""

from __future__ import annotations

from typing import IO, Literal, TypeAlias

import msgspec

from bakit.bench.report.document import Footprint
from bakit.image.box import Box


class Load(msgspec.Struct, tag=True, frozen=True):
    """Read the images of the queries, as ``(path, sex)``."""

    queries: tuple[tuple[str, Literal["M", "F"]], ...]


class Run(msgspec.Struct, tag=True, frozen=True):
    """Predict these queries, one after the other."""

    indices: tuple[int, ...]


class Seen(msgspec.Struct, frozen=True):
    """Where a hand is in an image.

    Attributes:
        box: The hand, in pixels of the image; None if none was found or looked for.
        whole: The whole image.
        inverted: Whether the hand is dark, so that greys are inverted.
    """

    box: Box | None
    whole: Box
    inverted: bool = False


class Ask(msgspec.Struct, tag=True, frozen=True):
    """Predict the age of an image; locate the hand first unless ``seen`` is given."""

    path: str
    male: bool
    seen: Seen | None = None


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The first answer: the bundle is open and was used once."""

    provider: str
    int8_share: float
    footprint: Footprint


class Done(msgspec.Struct, tag=True, frozen=True):
    """The images are read."""


class Times(msgspec.Struct, tag=True, frozen=True):
    """Time of each query by stage, ``(queries, stages)``, in nanoseconds."""

    stages_ns: list[list[int]]


class Said(msgspec.Struct, tag=True, frozen=True):
    """An image's age, and where the hand was seen."""

    age_months: float
    seen: Seen


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The request could not be met: the error's class and what it says."""

    kind: str
    message: str


Request: TypeAlias = Load | Run | Ask
Answer: TypeAlias = Opened | Done | Times | Said | Failed


def write_document(stream: IO[bytes], document: Request | Answer) -> None:
    """Write a document; an ``OSError`` means that the other side has ended."""
    data = msgspec.msgpack.encode(document)
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def read_document(stream: IO[bytes]) -> bytes | None:
    """Return the next document, None if there is none."""
    head = stream.read(4)
    size = int.from_bytes(head, "little")
    data = stream.read(size) if len(head) == 4 else b""
    return data if len(head) == 4 and len(data) == size else None
