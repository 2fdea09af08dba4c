"""Types that many modules name, and progress callbacks; imports no other library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from enum import Enum
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Item = TypeVar("Item")

BoxRule: TypeAlias = Literal["score", "literal"]
"""How the hand is chosen among the unrolled localizer's regions: the one that looks most like a
hand, or the largest without the background, as the paper has it."""

Grey: TypeAlias = "npt.NDArray[np.float32]"
"""Grey values, float32 in 0..1."""

Bytes: TypeAlias = "npt.NDArray[np.uint8]"
"""Grey values, 0..255."""

Mask: TypeAlias = "npt.NDArray[np.bool_]"
"""A region of an image."""

Floats: TypeAlias = "npt.NDArray[np.float64]"
"""Numbers to compute with, such as ages in months."""

Ints: TypeAlias = "npt.NDArray[np.int64]"
"""Row numbers and numbers of groups."""

Weights: TypeAlias = "dict[str, npt.NDArray[np.float32]]"
"""Trained numbers by name."""

OnProgress: TypeAlias = Callable[[str, float, "float | None"], None]
"""Progress callback: the step, how much of it is done, and its total, None if not known.

The unit is the step's own, such as images; a share of a step has the total 1.
"""


class Precision(Enum):
    """Number format of a regressor's weights and activations.

    ``INT8_WEIGHTS`` stores weights in 8 bits and computes in float16: as small as INT8, closer to
    the float model, not faster than FP16.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT8_WEIGHTS = "int8-weights"


def silent(step: str, done: float, total: float | None) -> None:
    """Report no progress."""
    del step, done, total


def track(
    items: Iterable[Item], step: str, on_progress: OnProgress, total: int | None = None
) -> Iterator[Item]:
    """Yield items and report each one when the next is asked for.

    ``total`` is known where ``items`` has a length.
    """
    if isinstance(items, Sized):
        total = len(items)
    for done, item in enumerate(items, start=1):
        yield item
        on_progress(step, done, total)
