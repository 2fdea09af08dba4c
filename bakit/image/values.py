"""From stored DICOM integers to grey values in 0..1: padding, tables, window, shutter.

The order is that of PS3.3 C.7.5.1.1.2, C.11 and C.7.6.3.1.2: padding on stored values, modality LUT
or rescale, VOI LUT or window, inversion of MONOCHROME1, shutter. Every step before the shutter maps
one integer to one grey value, so all of them are one table of at most 65,536 entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np

from bakit.image.box import Box, bounds

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from bakit.types import Floats, Grey

    Bools = npt.NDArray[np.bool_]
    Shutter: TypeAlias = "Box | Circle | npt.NDArray[np.int32]"
    """The visible part: a rectangle, a circle, or a polygon's corners ``(N, 2)`` as x and y."""

Function: TypeAlias = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


class Coding(NamedTuple):
    """How an integer is stored.

    Attributes:
        allocated: Bits of the integer, 8 or 16.
        stored: Bits that are used.
        high: Position of the highest used bit, from 0.
        signed: Whether the used bits are a two's complement.
    """

    allocated: int
    stored: int
    high: int
    signed: bool


class Lut(NamedTuple):
    """A look-up table.

    Attributes:
        first: Number of the first entry; lower numbers get the first entry, higher ones the last.
        entries: The entries, uint16.
        top: Highest number that an entry can have.
    """

    first: int
    entries: npt.NDArray[np.uint16]
    top: int


class Window(NamedTuple):
    """A window, PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    center: float
    width: float
    function: Function


class Values(NamedTuple):
    """What stored integers mean.

    Attributes:
        coding: How they are stored.
        slope: Of the rescale; ignored with a modality LUT.
        intercept: The same.
        modality: Modality LUT, if there is one.
        voi: VOI LUT or window, if there is one.
        inverted: Whether the lowest grey is the brightest: MONOCHROME1.
        padding: Lowest and highest stored number that is no part of the image, if there is one.
    """

    coding: Coding
    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    voi: Lut | Window | None = None
    inverted: bool = False
    padding: tuple[int, int] | None = None


class Circle(NamedTuple):
    """A circle, in pixels from 0."""

    row: int
    column: int
    radius: int


def _hidden(shutter: Shutter, shape: tuple[int, int]) -> Bools:
    """Return which pixels of an image ``(H, W)`` a shutter hides."""
    visible = np.zeros(shape, np.uint8)
    if isinstance(shutter, Box):
        x0, y0, x1, y1 = (max(edge, 0) for edge in shutter)
        visible[y0:y1, x0:x1] = 1
    elif isinstance(shutter, Circle):
        y, x = np.ogrid[: shape[0], : shape[1]]
        visible |= (y - shutter.row) ** 2 + (x - shutter.column) ** 2 <= shutter.radius**2
    else:
        cv2.fillPoly(visible, [shutter], 1)
    hidden: Bools = visible == 0
    return hidden


def grey_values(
    stored: npt.NDArray[np.integer], values: Values, shutters: Collection[Shutter] = ()
) -> tuple[Grey, Box]:
    """Return the grey values of an image, without borders that are wholly padding or shutter.

    Args:
        stored: ``(H, W)`` integers of ``values.coding.allocated`` bits.
        values: What they mean.
        shutters: Shutters and collimators, PS3.3 C.7.6.11 and C.8.7.3; only what is inside of all
            of them is visible.

    Returns:
        Grey values ``(h, w)`` float32 in 0..1, hidden pixels 0, and the part of the stored image
        that they cover. The part is empty if everything is hidden.
    """
    table, padded = tables(values)
    patterns = stored.view(np.uint8 if values.coding.allocated == 8 else np.uint16)
    grey = table[patterns]
    height, width = grey.shape
    if values.padding is None and not shutters:
        return grey, Box(0, 0, width, height)
    hidden = padded[patterns]
    for shutter in shutters:
        hidden |= _hidden(shutter, grey.shape)
    grey[hidden] = 0
    if hidden.all():
        return grey, Box(0, 0, 0, 0)
    part = bounds(~hidden)
    return grey[part.y0 : part.y1, part.x0 : part.x1], part


def tables(values: Values) -> tuple[Grey, Bools]:
    """Return the grey value of each bit pattern, and whether the pattern is padding.

    Returns:
        ``(2**allocated,)`` float32 in 0..1, and ``(2**allocated,)`` bool.
    """
    coding = values.coding
    patterns = np.arange(2**coding.allocated, dtype=np.int64)
    numbers = _signed(
        patterns >> (coding.high + 1 - coding.stored), coding.stored, signed=coding.signed
    )
    found = numbers.astype(np.float64)
    if values.modality is not None:
        found = _look_up(values.modality, found)
        low, high = 0.0, float(values.modality.top)
    else:
        found = values.slope * found + values.intercept
        low, high = float(found.min()), float(found.max())
    if isinstance(values.voi, Lut):
        grey = _look_up(values.voi, found) / values.voi.top
    elif values.voi is not None:
        grey = _windowed(values.voi, found)
    else:
        grey = (found - low) / max(high - low, 1e-9)
    shown: Grey = grey.clip(0, 1).astype(np.float32)
    if values.inverted:
        shown = np.float32(1) - shown
    padded: Bools = np.zeros(len(patterns), bool)
    if values.padding is not None:
        lowest, highest = values.padding
        # Padding may lie outside of the used bits: 65535 around an image of 12 bits.
        for kind in (numbers, _signed(patterns, coding.allocated, signed=coding.signed)):
            padded |= (kind >= lowest) & (kind <= highest)
    return shown, padded


def _signed(patterns: npt.NDArray[np.int64], bits: int, *, signed: bool) -> npt.NDArray[np.int64]:
    """Return the numbers in the lowest bits."""
    numbers: npt.NDArray[np.int64] = patterns & (2**bits - 1)
    if signed:
        numbers -= (numbers >= 2 ** (bits - 1)) * 2**bits
    return numbers


def _look_up(lut: Lut, numbers: Floats) -> Floats:
    index = (np.rint(numbers) - lut.first).clip(0, len(lut.entries) - 1).astype(np.int64)
    return lut.entries[index].astype(np.float64)


def _windowed(window: Window, numbers: Floats) -> Floats:
    """Return the grey values of a window, in 0..1."""
    center, width, function = window
    if function == "SIGMOID":
        exponent = (-4 * (numbers - center) / width).clip(-500, 500)
        found: Floats = 1 / (1 + np.exp(exponent))
        return found
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (numbers > center).astype(np.float64)
    return ((numbers - center) / width + 0.5).clip(0, 1)
