"""Boxes in pixel coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bakit.types import Mask


class Box(NamedTuple):
    """A rectangle of pixels, half open: columns ``x0..x1-1``, rows ``y0..y1-1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns inside, in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows inside, in pixels."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Pixels inside; 0 when the box is empty."""
        return max(self.width, 0) * max(self.height, 0)

    def iou(self, other: Box) -> float:
        """Return intersection over union with ``other``, 0..1."""
        shared = Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        ).area
        union = self.area + other.area - shared
        return shared / union if union else 0.0

    def expand(self, margin: float, width: int, height: int) -> Box:
        """Return the box grown on each side, kept inside an image.

        The margin is a share of the box's own side; the image's size is in pixels.
        """
        dx = round(self.width * margin)
        dy = round(self.height * margin)
        return Box(
            max(self.x0 - dx, 0),
            max(self.y0 - dy, 0),
            min(self.x1 + dx, width),
            min(self.y1 + dy, height),
        )

    def moved(self, dx: int, dy: int) -> Box:
        """Return the box moved to the right and down, in pixels."""
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def inside(self, other: Box) -> Box:
        """Return the box cut to another one; its area is 0 if they do not overlap."""
        return Box(
            min(max(self.x0, other.x0), other.x1),
            min(max(self.y0, other.y0), other.y1),
            max(min(self.x1, other.x1), other.x0),
            max(min(self.y1, other.y1), other.y0),
        )

    def mirror(self, width: int) -> Box:
        """Return the box in an image of that width, mirrored left to right."""
        return Box(width - self.x1, self.y0, width - self.x0, self.y1)

    def scale(self, shape_from: tuple[int, int], shape_to: tuple[int, int]) -> Box:
        """Return the box of one image size in the pixels of another.

        Args:
            shape_from: ``(H, W)`` that the box is given in.
            shape_to: ``(H, W)`` wanted; the result covers at least one pixel of it.
        """
        (h0, w0), (h1, w1) = shape_from, shape_to
        x0 = min(int(self.x0 * w1 / w0), w1 - 1)
        y0 = min(int(self.y0 * h1 / h0), h1 - 1)
        x1 = min(max(-int(-self.x1 * w1 // w0), x0 + 1), w1)
        y1 = min(max(-int(-self.y1 * h1 // h0), y0 + 1), h1)
        return Box(x0, y0, x1, y1)


def bounds(mask: Mask) -> Box:
    """Return the bounding box of a mask that is not empty."""
    (rows,), (columns,) = mask.any(1).nonzero(), mask.any(0).nonzero()
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
