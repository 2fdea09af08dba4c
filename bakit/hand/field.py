"""The exposed field of a film: what is left without frames, shutters, collimation and padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bakit.image.box import Box

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Bytes, Floats, Grey


FLAT = 2.2 / 255
"""Largest difference from a border's grey, on the full scale: JPEG changes it a little. Neither it
nor twice it is a difference of bytes or of their medians: bytes and floats give the same field."""

SHARE = 0.98
"""Least share of a border's line that has its grey."""

LEAST = 0.01
"""Narrowest border, as a share of the side."""

ABRUPT, RISE = 0.85, 0.4
"""Least share of the line after a frame that has another grey, and how fast it rises to that. A
film's own dark background is flat too, but a hand begins in it with a finger tip or a curve."""

AIR = 0.12
"""Width of the air around a film on which no hand was found, as a share of its sides."""

SMALLEST = 16
"""Smallest side of a field, in pixels."""

_LINES = 16
_BLUR = 1 / 150  # width of a frame's edge in a film that was resized, as a share of the side
_BLOCK = 9  # width of a frame's edge in a JPEG
_NEAR = 0.03  # its largest width, as a share of the side
_SMALL = 64  # side of films that are too coarse to tell a frame from a background


def exposed_field(grey: Grey | Bytes) -> tuple[Box, Box]:
    """Return the film without its flat borders: runs of lines from an edge with nearly one grey.

    The four borders may have four greys. If nothing else is left, the whole film is returned.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.

    Returns:
        The film without its own flat background, too, and without frames alone, which end abruptly
        along most of their length.
    """
    content = _content(grey)
    whole = Box(0, 0, grey.shape[1], grey.shape[0])
    if content == whole:
        return content, whole
    x0, y0, x1, y1 = content
    across, down = grey[y0:y1].T, grey[:, x0:x1]
    return content, Box(
        _frame(across, x0),
        _frame(down, y0),
        whole.x1 - _frame(across[::-1], whole.x1 - x1),
        whole.y1 - _frame(down[::-1], whole.y1 - y1),
    )


def _content(grey: Grey | Bytes) -> Box:
    height, width = grey.shape
    y0, x0, y1, x1 = 0, 0, height, width
    for _ in range(2):  # a border beside another one is flat once that one is gone
        part = grey[y0:y1, x0:x1]
        top, bottom = _border(part), _border(part[::-1])
        y0, y1 = y0 + top, y1 - bottom
        if y1 - y0 < SMALLEST:
            return Box(0, 0, width, height)
        part = grey[y0:y1, x0:x1].T
        left, right = _border(part), _border(part[::-1])
        x0, x1 = x0 + left, x1 - right
        if x1 - x0 < SMALLEST:
            return Box(0, 0, width, height)
        if not top + bottom + left + right:
            break
    return Box(x0, y0, x1, y1)


def _border(lines: npt.NDArray[Any]) -> int:
    """Return the number of first lines with nearly one grey; 0 for a few or all of them."""
    edge = np.float32(np.median(lines[0]))
    # Most films have no border, and their first line alone shows it.
    for start in (0, *range(1, len(lines), _LINES)):
        near = 1 - _other(lines[start : start + (_LINES if start else 1)], edge, FLAT)
        ends = np.flatnonzero(near < SHARE)
        if len(ends):
            count = start + int(ends[0])
            return count if count >= max(len(lines) * LEAST, 1) else 0
    return 0


def _other(lines: npt.NDArray[Any], edge: np.float32, flat: float) -> Floats:
    """Return the share of each line that differs from the edge's grey."""
    unit = 255 if lines.dtype == np.uint8 else 1
    differs = np.abs(lines.astype(np.float32) - edge) > unit * flat
    share: Floats = np.count_nonzero(differs, axis=1) / lines.shape[1]
    return share


def _frame(lines: npt.NDArray[Any], count: int) -> int:
    """Return the number of first lines that are a frame, of ``count`` flat ones."""
    if count == 0 or len(lines) < _SMALL:
        return 0
    step = max(round(len(lines) * _BLUR), 1)
    after = step + min(_BLOCK, round(len(lines) * _NEAR))
    other = _other(lines[count : count + after], np.float32(np.median(lines[0])), 2 * FLAT)
    rise = other - np.pad(other, (step, 0))[: len(other)]
    ends = np.flatnonzero((other >= ABRUPT) & (rise >= RISE))
    return count + int(ends[0]) if len(ends) else 0


def window_of(grey: Grey | Bytes, window: Box, frame: Box) -> Grey | Bytes:
    """Return the pixels in a window, which may be larger than the film inside its frame.

    Outside of it they have the median grey of its edges.
    """
    inside = window.inside(frame)
    part = grey[inside.y0 : inside.y1, inside.x0 : inside.x1]
    if inside == window:
        return part
    padded: Any = cv2.copyMakeBorder(
        np.ascontiguousarray(part),
        *(inside.y0 - window.y0, window.y1 - inside.y1),
        *(inside.x0 - window.x0, window.x1 - inside.x1),
        cv2.BORDER_CONSTANT,
        value=(border_grey(part),),
    )
    return padded  # type: ignore[no-any-return]


def border_grey(grey: Grey | Bytes) -> float:
    """Return the median of the outermost pixels."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def with_air(field: Box) -> Box:
    """Return the window of a field with ``AIR`` around it."""
    across, down = round(field.width * AIR), round(field.height * AIR)
    return Box(field.x0 - across, field.y0 - down, field.x1 + across, field.y1 + down)
