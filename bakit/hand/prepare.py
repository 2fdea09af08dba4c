"""The only way from grey values to the regressor's input: locate, turn upright, correct, crop.

The runtime, golden records, calibration, training, verification, benchmarks and quality studies all
call this module; an import contract forbids them its parts. So an inverted, a turned or a framed
radiograph is treated the same way everywhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.errors import ImageError
from bakit.hand.field import exposed_field, window_of, with_air
from bakit.hand.found import NOT_FOUND, Found, Localization
from bakit.hand.locate import choose_hand, run_localizer
from bakit.hand.upright import UNSURE, upright_turn
from bakit.hand.weights import method_of
from bakit.image.box import Box
from bakit.image.equalize import levels
from bakit.image.resize import resize

if TYPE_CHECKING:
    from bakit.hand.found import LocalizerOutput
    from bakit.session import Session, Tensors
    from bakit.settings import LocalizerSettings, Preprocessing
    from bakit.types import Bytes, Grey


class OpenLocalizer(NamedTuple):
    """A localizer that is open on this machine, with its settings."""

    session: Session
    settings: LocalizerSettings


class Hand(NamedTuple):
    """A radiograph, prepared for the regressor."""

    pixels: Grey  # (S, S), multiples of 1/255: the regressor's input
    found: Found  # box, polarity, and the reasons to doubt them
    localizer_output: LocalizerOutput | None  # None if hands are not localized


CONFIDENT = 0.9
"""Confidence of the student below which the hand is sought again, with air around it."""


def prepare(grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing) -> Hand:
    """Locate the hand, turn it upright, correct its polarity and crop it.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        localizer: The localizer.
        preprocessing: Whether hands are localized; margin, equalization and size of the crop.
    """
    output, found = find(grey, localizer, preprocessing)
    frame = None if output is None else output.frame
    pixels = crop(grey, found.box, found.inverted, preprocessing, found.turn, frame)
    return Hand(pixels, found, output)


def find(
    grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing
) -> tuple[LocalizerOutput | None, Found]:
    """Locate the hand without cropping it; arguments as for ``prepare``.

    Both results are empty if hands are not localized.
    """
    return _localized(grey, localizer) if preprocessing.localize else (None, Found(None))


def _localized(grey: Grey | Bytes, localizer: OpenLocalizer) -> tuple[LocalizerOutput, Found]:
    """Locate the hand in the film without its frame; again with air around it if that is unsure.

    The paper's rule looks once, at the whole film; ``crop`` takes frames off its box.
    """
    whole = Box(0, 0, grey.shape[1], grey.shape[0])
    content, frame = exposed_field(grey)
    field = content if frame == whole else None
    if localizer.settings.box_rule == "literal":
        output, found = _in_window(grey, whole, whole, localizer, content)
        if found.box is not None and not found.box.inside(frame).area:
            found = NOT_FOUND
    else:
        output, found = _in_window(grey, frame, frame, localizer, field)
        sure = output.output.dtype != np.float32 or _confidence(found) >= CONFIDENT
        if found.box is None or not sure:
            again, other = _in_window(grey, frame, with_air(frame), localizer)
            if _confidence(other) > _confidence(found):
                output, found = again, other
    output = output._replace(frame=frame)
    if found.box is None:
        return output, found
    turn, probability = upright_turn(output, inverted=found.inverted)
    if probability < UNSURE:
        return output, found._replace(reasons=(*found.reasons, "turned"))
    return output, found._replace(turn=turn)


def _confidence(found: Found) -> float:
    return 0.0 if found.scores is None else found.scores.confidence


def _in_window(
    grey: Grey | Bytes,
    frame: Box,
    window: Box,
    localizer: OpenLocalizer,
    field: Box | None = None,
) -> tuple[LocalizerOutput, Found]:
    """Locate the hand in a window; the box is in pixels of ``grey``, inside the frame.

    ``field`` is the window's exposed field, if it is known.
    """
    part = window_of(grey, window, frame)
    shape = (part.shape[0], part.shape[1])
    output = run_localizer(part, *localizer)
    size = localizer.settings.size
    field = _in_working(field or exposed_field(part)[0], shape, size)
    output = output._replace(window=window, field=field)
    edges = frame.moved(-window.x0, -window.y0)
    found = choose_hand(output, shape, _in_working(edges, shape, size))
    if found.box is not None:
        found = found._replace(box=found.box.moved(window.x0, window.y0).inside(frame))
    return output, found


def _in_working(field: Box, shape: tuple[int, int], size: int) -> Box:
    """Return a field of an image of ``shape`` in pixels of the working image, at least one."""
    (x0, x1), (y0, y1) = (
        (min(round(a * size / n), size - 1), round(b * size / n))
        for a, b, n in ((field.x0, field.x1, shape[1]), (field.y0, field.y1, shape[0]))
    )
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


class Answer(NamedTuple):
    """Results of the whole graph for a radiograph."""

    age_months: float
    pixels: Grey  # (S, S), the regressor's input
    ms: float  # time of the graph


class _Known(NamedTuple):
    """A session of a localizer whose first result is known: the whole graph's."""

    provider: str
    results: list[Tensors]  # emptied by the first run
    session: Session

    def run(self, feeds: Tensors) -> Tensors:
        return self.results.pop() if self.results else self.session.run(feeds)


def find_whole(
    grey: Bytes, sex: Tensors, whole: Session, localizer: OpenLocalizer
) -> tuple[LocalizerOutput, Found, Answer | None]:
    """Run the whole graph on a radiograph inside its frame.

    Args:
        grey: ``(H, W)`` uint8.
        sex: The graph's other inputs.
        whole: The whole graph (``bakit.export.onnx.whole``).
        localizer: Its localizer, for the second search.

    Returns:
        Results as of ``find``, and the graph's. These are None where the graph lacks a step: the
        hand is turned, the second search found a better one, or a framed film has none.
    """
    _, frame = exposed_field(grey)
    started = time.perf_counter()
    film = np.ascontiguousarray(window_of(grey, frame, frame))
    results = whole.run({"film": film, **sex})
    ms = (time.perf_counter() - started) * 1000
    known: Any = _Known(whole.provider, [results], localizer.session)
    output, found = _localized(grey, localizer._replace(session=known))
    is_same = output.window == frame and found.inverted == bool(results["inverted"].item())
    if found.box is None:
        is_same &= frame == Box(0, 0, grey.shape[1], grey.shape[0])
    if found.turn or not is_same:
        return output, found, None
    if found.box is not None:
        box = Box(*map(int, results["box"])).moved(frame.x0, frame.y0)
        found = found._replace(box=box)
    pixels = np.asarray(results["image"][0, 0], np.float32)
    return output, found, Answer(float(results["age_months"].item()), pixels, ms)


def localize(grey: Grey | Bytes, localizer: OpenLocalizer) -> tuple[LocalizerOutput, Localization]:
    """Locate the hand and measure the time; arguments as for ``prepare``."""
    started = time.perf_counter()
    output, found = _localized(grey, localizer)
    ms = (time.perf_counter() - started) * 1000
    return output, Localization(found.box, method_of(localizer.settings), ms, *found[1:])


def crop(
    grey: Grey | Bytes,
    box: Box | None,
    inverted: bool,
    preprocessing: Preprocessing,
    turn: int = 0,
    frame: Box | None = None,
) -> Grey:
    """Return the regressor's input: crop, equalize, turn upright, resize to a square.

    The crop ends at the radiograph's edges, or at the frame's, and loses its aspect ratio, as the
    paper's does.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        box: The hand, in pixels of ``grey``; None for the whole radiograph.
        inverted: Whether bones are dark; they become bright.
        preprocessing: Margin, equalization and size.
        turn: Anticlockwise quarter turns that make the hand upright.
        frame: The radiograph without its frames, if it is known.

    Returns:
        ``(S, S)`` float32, multiples of 1/255 in 0..1.

    Raises:
        ImageError: If the box contains no pixel of the radiograph.
    """
    if box is not None:
        frame = frame or exposed_field(grey)[1]
        box = box.expand(preprocessing.margin, grey.shape[1], grey.shape[0]).inside(frame)
        if not box.area:
            size = f"{grey.shape[1]}x{grey.shape[0]}"
            message = f"the box {tuple(box)} contains no pixel of a {size} image"
            raise ImageError(message)
        grey = grey[box.y0 : box.y1, box.x0 : box.x1]
    evened = np.rot90(levels(grey, equalize=preprocessing.equalize, inverted=inverted), turn)
    return from_bytes(resize(np.ascontiguousarray(evened), preprocessing.image_size))


def to_bytes(pixels: Grey) -> Bytes:
    """Return the regressor's input as uint8: exact, since it is multiples of 1/255."""
    return np.rint(pixels * 255).astype(np.uint8)


def from_bytes(pixels: Bytes) -> Grey:
    """Return uint8 as the regressor's input, float32 in 0..1."""
    scaled: Grey = pixels.astype(np.float32) / np.float32(255)
    return scaled
