"""Messages between the measuring process and a worker, pickled: both are ours."""

from __future__ import annotations

import pickle
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bakit.bench.report.latency import Footprint
    from bakit.image.box import Box
    from bakit.session import Executed


class Seen(NamedTuple):
    """The location of a hand in an image.

    Attributes:
        box: The hand's box, in pixels of the image; None without a localizer or a found hand.
        whole: The box of the whole image.
        inverted: Whether the hand is dark, so that its grey values must be inverted.
        turn: Anticlockwise quarter turns that make the hand upright.
    """

    box: Box | None
    whole: Box
    inverted: bool = False
    turn: int = 0


class Opened(NamedTuple):
    """The first answer, after the bundle was opened and predicted once; fields of ``RawBundle``."""

    provider: str = ""
    int8_share: float = 0.0
    footprint: Footprint | None = None
    executed: tuple[Executed, ...] = ()


class Predicted(NamedTuple):
    """The predicted age of an image, and the location of its hand."""

    age_months: float
    seen: Seen


class Failed(NamedTuple):
    """The request failed: class and message of the error."""

    kind: str
    message: str


def send(stream: IO[bytes], message: object) -> None:
    """Write a message; an ``OSError`` means that the other process has ended."""
    stream.write(pickle.dumps(message))
    stream.flush()
