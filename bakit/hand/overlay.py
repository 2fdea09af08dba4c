"""The paper's Fig. 7 for one radiograph: image, localizer output, candidate regions, crop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from bakit.hand.field import exposed_field, window_of
from bakit.image.equalize import as_grey

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.hand.found import Found, LocalizerOutput
    from bakit.hand.prepare import Hand
    from bakit.types import Grey

    Picture = npt.NDArray[np.uint8]

SIDE: Final = 360
"""Height of every panel, in pixels."""

GAP: Final = 12
HEADER: Final = 44
PAPER: Final = (250, 250, 250)
INK: Final = (40, 40, 40)
CHOSEN: Final = (60, 170, 60)
OTHER: Final = (50, 130, 235)
CANDIDATES: Final = 4
"""Number of candidates that are drawn."""


def draw_overlay(grey: Grey, hand: Hand) -> Picture:
    """Draw the four panels side by side.

    ``grey`` is ``(H, W)`` float32 in 0..1; the hand was localized.

    Returns:
        ``(H', W', 3)`` uint8, BGR as OpenCV writes it.
    """
    output = hand.localizer_output
    assert output is not None
    panels = [
        ("image", _fit(_coloured(grey), grey.shape)),
        ("localizer output", _fit(_output(output), grey.shape)),
        (_verdict(hand.found), _candidates(grey, output, hand.found)),
        ("crop for the regressor", _fit(_coloured(hand.pixels), (1, 1), cv2.INTER_NEAREST)),
    ]
    columns = [_titled(picture, title) for title, picture in panels]
    gap = np.full((columns[0].shape[0], GAP, 3), PAPER, np.uint8)
    parts = [gap]
    for column in columns:
        parts += [column, gap]
    return np.hstack(parts).astype(np.uint8)


def _coloured(grey: Grey) -> Picture:
    return cv2.cvtColor(np.rint(grey * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR).astype(np.uint8)


def _width(shape: tuple[int, ...]) -> int:
    """Return a panel's width for an image, limited for very narrow and very wide ones."""
    return min(max(round(SIDE * shape[1] / shape[0]), SIDE // 4), 3 * SIDE)


def _fit(picture: Picture, shape: tuple[int, ...], method: int = cv2.INTER_AREA) -> Picture:
    """Resize to a panel of the image's proportions."""
    return cv2.resize(picture, (_width(shape), SIDE), interpolation=method).astype(np.uint8)


def _output(result: LocalizerOutput) -> Picture:
    """Colour labels by number, or probabilities by value."""
    if result.output.dtype == np.float32:
        levels = np.rint(result.output.astype(np.float32) * 255).astype(np.uint8)
        viridis: Picture = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS).astype(np.uint8)
        return viridis
    names, index = np.unique(result.output, return_inverse=True)
    levels = np.linspace(0, 255, len(names)).astype(np.uint8)[index.reshape(result.output.shape)]
    turbo: Picture = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO).astype(np.uint8)
    return turbo


def _verdict(found: Found) -> str:
    if found.scores is None:
        return "no hand found"
    text = f"hand, {found.scores.confidence:.2f}"
    return ", ".join([text, *(reason.replace("_", " ") for reason in found.reasons)])


def _candidates(grey: Grey, result: LocalizerOutput, found: Found) -> Picture:
    """Outline the candidate regions, and the chosen one with its box in another colour.

    The panel shows what the localizer saw: without frames, or with air around the film.
    """
    frame = result.frame or exposed_field(grey)[1]
    window = result.window or frame
    grey = as_grey(window_of(grey, window, frame))
    panel = _fit(_coloured(grey), grey.shape)
    for rank in reversed(range(min(len(result.regions), CANDIDATES))):
        mask = _fit(result.regions[rank][0].astype(np.uint8), grey.shape, cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(panel, outlines, -1, OTHER if rank else CHOSEN, 1, cv2.LINE_AA)
    if found.box is not None:
        box = found.box.moved(-window.x0, -window.y0).scale(
            (grey.shape[0], grey.shape[1]), (SIDE, _width(grey.shape))
        )
        cv2.rectangle(panel, (box.x0, box.y0), (box.x1 - 1, box.y1 - 1), CHOSEN, 2)
    return panel


def _titled(picture: Picture, title: str) -> Picture:
    """Put a title above a panel, in a size that fits its width."""
    header = np.full((HEADER, picture.shape[1], 3), PAPER, np.uint8)
    (width, _), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    size = min(0.55, (picture.shape[1] - 4) / max(width, 1))
    cv2.putText(
        header, title, (2, HEADER - 14), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA
    )
    footer = np.full((GAP, picture.shape[1], 3), PAPER, np.uint8)
    return np.vstack([header, picture, footer])
