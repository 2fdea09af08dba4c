"""Run a localizer, choose the hand among its regions, and list the reasons to doubt its box."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.hand.found import NOT_FOUND, Found, LocalizerOutput, Region, Scores
from bakit.hand.masks import inside
from bakit.hand.regions import hand_candidates, largest_regions
from bakit.hand.working import working_image
from bakit.image.box import Box, bounds

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.session import Session
    from bakit.settings import LocalizerSettings
    from bakit.types import Bytes, Grey, Mask


SURE = 0.5
"""Lowest probability of a hand's pixel in the student's map."""

SMALLEST = 0.012
"""Smallest area of a hand in the student's map, as a share of the image."""

LEAST_CONFIDENCE = 0.85
"""Lowest mean probability inside a hand of the student's map: noise and text mostly have less, good
hands 0.89 and more."""

SECOND_HAND = 0.5
"""Smallest area of a second hand, as a share of the first's."""

CUT_OFF = 0.1
"""Longest contact of a hand with the image border, without its forearm, as a share of the side."""

FOREARM = 0.5
"""Longest contact of a forearm with the image border, as a share of the side."""

GAP = 1 / 6
"""Longest gap inside one contact with the border, as a share of the side."""

DISAGREEMENT = 0.3
"""IoU with the second method below which the two disagree."""

DARKER = 0.05
"""Smallest grey difference of an inverted hand to its surroundings, on the stretched scale."""


def run_localizer(
    grey: Grey | Bytes, session: Session, settings: LocalizerSettings
) -> LocalizerOutput:
    """Run a localizer on ``(H, W)`` float32 in 0..1 or uint8, and list the candidate regions."""
    working = working_image(grey, settings.size)
    outputs = session.run({"image": working[None, None]})
    if "hand" in outputs:
        probabilities = np.asarray(outputs["hand"], np.float32)
        return LocalizerOutput(working, probabilities, _probable_regions(probabilities))
    labels = outputs["labels"].astype(np.int32, copy=False)
    literal = settings.box_rule == "literal"
    regions = largest_regions(labels) if literal else hand_candidates(labels, working)
    return LocalizerOutput(working, labels, regions)


def choose_hand(result: LocalizerOutput, shape: tuple[int, int], frame: Box | None = None) -> Found:
    """Return the best region's box, and the reasons to doubt it.

    Args:
        result: Output of the localizer.
        shape: ``(H, W)`` of the result's window; the box is in its pixels.
        frame: Where the film ends, in pixels of the working image; at its edges when None.
    """
    if not result.regions:
        return NOT_FOUND
    mask, confidence = result.regions[0]
    is_map = result.output.dtype == np.float32
    edges = _soft_edges(result.output, mask) if is_map else bounds(mask)  # type: ignore[arg-type]
    box = _in_pixels(edges, mask.shape[0], shape)
    others = [other for other, _ in result.regions[1:] if not (other & mask).any()]
    scores = Scores(
        confidence=round(confidence, 4),
        second=round(max((float(o.sum() / mask.sum()) for o in others), default=0.0), 4),
        border=round(_border_contact(inside(mask, frame)), 4),
        agreement=round(_agreement(result.working, bounds(mask)), 4),
        contrast=round(_contrast(mask, result.working), 4),
    )
    reasons = {
        "two_hands": scores.second >= SECOND_HAND,
        "hand_cut_off": scores.border > CUT_OFF,
        "methods_disagree": scores.agreement < DISAGREEMENT,
        "inverted": scores.contrast < -DARKER,
    }
    return Found(box, tuple(name for name, holds in reasons.items() if holds), scores)


def _probable_regions(probability: Grey) -> list[Region]:
    """Return the connected regions of high probability in the student's map, largest first."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(
        (probability >= SURE).astype(np.uint8)
    )
    found = []
    for part in range(1, count):
        if stats[part, cv2.CC_STAT_AREA] < SMALLEST * probability.size:
            continue
        mask = parts == part
        confidence = float(probability[mask].mean())
        if confidence >= LEAST_CONFIDENCE:
            found.append(Region(mask, confidence))
    return sorted(found, key=lambda region: -float(probability[region.mask].sum()))


Edges = tuple[float, float, float, float]


def _soft_edges(probability: Grey, mask: Mask) -> Edges:
    """Return left, top, right and bottom: where the highest probability falls to a half."""
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    values = np.where(near, probability, 0)
    columns, rows = values.max(0), values.max(1)
    size = len(rows)
    return (
        _crossing(columns),
        _crossing(rows),
        size - _crossing(columns[::-1]),
        size - _crossing(rows[::-1]),
    )


def _crossing(profile: npt.NDArray[np.float32]) -> float:
    """Return where a profile first rises to ``SURE``; the centre of pixel i is i + 0.5."""
    first = int(np.argmax(profile >= SURE))
    if first == 0:
        return 0.0
    before, after = float(profile[first - 1]), float(profile[first])
    return first - 0.5 + (SURE - before) / (after - before)


def _in_pixels(edges: Edges, size: int, shape: tuple[int, int]) -> Box:
    """Return edges in working pixels as a box of at least one pixel of the image."""
    height, width = shape
    x0, y0 = (
        min(round(e * n / size), n - 1) for e, n in zip(edges[:2], (width, height), strict=True)
    )
    x1, y1 = (min(round(e * n / size), n) for e, n in zip(edges[2:], (width, height), strict=True))
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _border_contact(mask: Mask) -> float:
    """Return the length of the contact with the border without the forearm's, in sides."""
    side = sum(mask.shape) / 2
    around = np.concatenate([mask[0], mask[1:, -1], mask[-1, -2::-1], mask[-2:0:-1, 0]])
    touched = np.flatnonzero(around)
    if not len(touched):
        return 0.0
    gaps = np.diff(touched, append=touched[0] + len(around))
    # Two bones of one forearm may leave the image a little apart.
    ends = np.flatnonzero(gaps > side * GAP)
    runs = np.diff(ends, append=ends[0] + len(touched)) if len(ends) else [len(touched)]
    return float((len(touched) - min(max(runs), side * FOREARM)) / side)


def _agreement(working: Grey, box: Box) -> float:
    """Return the IoU with the largest region above Otsu's threshold."""
    levels = np.round(working * 255).astype(np.uint8)
    _, bright = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    count, _, stats, _ = cv2.connectedComponentsWithStats(bright)
    if count < 2:
        return 0.0
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    left, top, width, height = (int(v) for v in stats[largest, :4])
    return box.iou(Box(left, top, left + width, top + height))


def _contrast(mask: Mask, working: Grey) -> float:
    """Return the mean grey of a region minus that of the ring around it."""
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(np.bool_)
    ring = grown & ~cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    return float(working[mask].mean() - working[ring].mean()) if ring.any() else 0.0
