"""What a DICOM header declares about its pixel values: coding, tables, window, padding, shutter."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

import numpy as np

from bakit.errors import ImageError
from bakit.image.box import Box
from bakit.image.values import Circle, Coding, Function, Lut, Values, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.image.elements import Elements
    from bakit.image.values import Shutter

VALUES = (
    "BitsAllocated", "BitsStored", "HighBit", "ModalityLUTSequence", "PhotometricInterpretation",
    "PixelPaddingRangeLimit", "PixelPaddingValue", "PixelRepresentation", "RescaleIntercept",
    "RescaleSlope", "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
)  # fmt: skip

_FORMS = {
    "RECTANGULAR": (
        "{}LeftVerticalEdge", "{}UpperHorizontalEdge",
        "{}RightVerticalEdge", "{}LowerHorizontalEdge",
    ),
    "CIRCULAR": ("CenterOfCircular{}", "RadiusOfCircular{}"),
    "POLYGONAL": ("VerticesOfThePolygonal{}",),
}  # fmt: skip
_BLINDS = ("Shutter", "Collimator")
"""What bounds the visible part of an image, and has the same attributes."""

BLIND_VALUES = tuple(
    keyword.format(blind)
    for blind in _BLINDS
    for keyword in ("{}Shape", *(keyword for form in _FORMS.values() for keyword in form))
)


def read_values(elements: Elements) -> Values:
    """Return what the stored integers mean."""
    count, number = elements.count, elements.number
    stored, allocated = count("BitsStored"), count("BitsAllocated")
    high = count("HighBit", stored - 1)
    if not stored - 1 <= high < allocated:
        raise wrong(elements, f"HighBit {high} with {stored} bits stored in {allocated}")
    signed = count("PixelRepresentation") == 1
    slope, intercept = number("RescaleSlope"), number("RescaleIntercept")
    if slope == 0:
        raise wrong(elements, "RescaleSlope is 0, which makes every pixel equal")
    modality = _lut(elements, "ModalityLUTSequence", signed=signed)
    padding = _padding(elements, allocated, signed=signed)
    below = modality is None and (signed or (intercept or 0) < 0 or (slope or 1) < 0)
    return Values(
        Coding(allocated, stored, high, signed),
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        modality,
        _lut(elements, "VOILUTSequence", signed=below) or _window(elements),
        elements.text("PhotometricInterpretation").upper() == "MONOCHROME1",
        padding,
    )


def read_shutters(elements: Elements) -> dict[str, Shutter]:
    """Return the forms of the shutter and the collimator by name."""
    found = {}
    for blind in _BLINDS:
        shapes = {shape.strip() for shape in elements.text(f"{blind}Shape").upper().split("\\")}
        for shape, keywords in _FORMS.items():
            if shape in shapes:
                named = [keyword.format(blind) for keyword in keywords]
                found[f"{shape} {blind}".lower()] = _shutter(elements, named)
    return found


def _shutter(elements: Elements, keywords: Sequence[str]) -> Shutter:
    """Return the form that four, two or one attributes describe; rows and columns count from 1."""
    found = [elements.numbers(keyword) for keyword in keywords]
    numbers = [round(value) for values in found for value in values]
    is_polygon = len(keywords) == 1
    few = len(numbers) < 6 or len(numbers) % 2 if is_polygon else not all(found)
    if few or max(map(abs, numbers)) > 1 << 16:
        raise wrong(elements, f"{', '.join(keywords)} are missing or wrong")
    if is_polygon:
        return np.ascontiguousarray(np.array(numbers, np.int32).reshape(-1, 2)[:, ::-1] - 1)
    if len(keywords) == 2:
        row, column, radius = (*numbers, 0)[:3]
        return Circle(row - 1, column - 1, radius)
    left, top, right, bottom = (round(values[0]) for values in found)
    return Box(left - 1, top - 1, right, bottom)


def _padding(elements: Elements, allocated: int, *, signed: bool) -> tuple[int, int] | None:
    """Return the range of stored numbers that is padding."""
    value = elements.number("PixelPaddingValue")
    if value is None:
        return None
    limit = elements.number("PixelPaddingRangeLimit")
    ends = [int(value), int(value if limit is None else limit)]
    whole, half = 1 << allocated, 1 << allocated - 1
    for index, end in enumerate(ends):  # writers mix up US and SS
        if signed and half <= end < whole:
            ends[index] -= whole
        elif not signed and -half <= end < 0:
            ends[index] += whole
    return min(ends), max(ends)


def _lut(elements: Elements, keyword: str, *, signed: bool) -> Lut | None:
    """Return the first table of a sequence; None if there is none, or its item is empty.

    ``signed`` is whether the table's input may be negative.
    """
    items = elements.items(keyword)
    item = items[0] if items else None
    if item is None or not len(words := item.words("LUTData")):
        return None
    descriptor = item.numbers("LUTDescriptor")
    if len(descriptor) != 3:
        raise wrong(elements, f"LUTDescriptor of its {keyword} needs three numbers")
    size, first, bits = (int(value) for value in descriptor)
    size = size % 65536 or 65536
    if signed and first >= 32768:
        first -= 65536
    elif not signed and first < 0:
        first += 65536
    if bits <= 8 and len(words) < size <= 2 * len(words):  # two entries a word
        packed = words.astype(item.dtype(2)).tobytes()
        words = np.frombuffer(packed, np.uint8).astype(np.uint16)
    if len(words) < size or not 1 <= bits <= 16:
        problem = f"its {keyword} has {len(words)} of {size} entries of {bits} bits"
        raise wrong(elements, problem)
    entries = words[:size]
    bits = max(bits, int(entries.max()).bit_length())  # some writers state too few
    return Lut(first, entries, 2**bits - 1)


def _window(elements: Elements) -> Window | None:
    """Return the first window; None if there is none, or its width is not above 0."""
    center, width = elements.number("WindowCenter"), elements.number("WindowWidth")
    if center is None or width is None or width <= 0:
        return None
    text = elements.text("VOILUTFunction").upper() or "LINEAR"
    if text not in get_args(Function):
        message = f"{elements.name}: VOILUTFunction {text!r} is not one of "
        raise ImageError(message + ", ".join(get_args(Function)))
    if text == "LINEAR" and width < 1:  # not defined
        text = "LINEAR_EXACT"
    return Window(center, width, cast("Function", text))


def wrong(elements: Elements, problem: str) -> ImageError:
    """Return the error for a problem of a file."""
    return ImageError(f"{elements.name}: {problem}; send it again")
