"""Generators of the images that quality limits are fitted and tested on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.phantoms.decoys import draw
from bakit.studies.quality.changes import (
    cut_hand,
    faded,
    film_like,
    only,
    overexposed,
    shrunk,
    side_by_side,
    turned_about,
    without_background,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.hand.prepare import Hand
    from bakit.quality.limits import Side
    from bakit.types import Grey

    Find = Callable[[Grey], Hand]

PHANTOM_SEEDS = 3_000_000
"""First seed of these phantoms; other uses have other seeds."""

_WITHOUT_BACKGROUND = 5
"""Every n-th hand is used with its background removed."""


class Shown(NamedTuple):
    """An image.

    Attributes:
        grey: ``(H, W)`` float32 in 0..1.
        male: Sex; arbitrary for images without a hand.
    """

    grey: Grey
    male: bool = True


def _random(sample: Sample, use: int, part: str = "") -> np.random.Generator:
    return np.random.default_rng([use, *sample.id.encode(), *part.encode()])


def radiographs(samples: Iterable[Sample]) -> Iterator[Shown]:
    """Yield unchanged radiographs."""
    for sample in samples:
        yield Shown(decode(sample.path), sample.male)


def varied(samples: Sequence[Sample], find: Find) -> Iterator[Shown]:
    """Yield radiographs with varied sharpness and grain, some without background."""
    for index, sample in enumerate(samples):
        rng, grey = _random(sample, 1), decode(sample.path)
        if index % _WITHOUT_BACKGROUND == 0 and (output := find(grey).localizer_output):
            grey = without_background(grey, output, rng)
        yield Shown(film_like(grey, rng), sample.male)


def turned(
    samples: Iterable[Sample], angle: Callable[[np.random.Generator], float]
) -> Iterator[Shown]:
    """Yield rotated radiographs (``angle`` in degrees), some mirrored or inverted."""
    for sample in samples:
        rng = _random(sample, 2)
        degrees = angle(rng)
        yield Shown(film_like(turned_about(decode(sample.path), degrees, rng), rng), sample.male)


def phantoms(count: int) -> Iterator[Shown]:
    """Yield phantoms."""
    for seed in range(PHANTOM_SEEDS, PHANTOM_SEEDS + count):
        rng = np.random.default_rng([3, seed])
        phantom = make_phantom(seed, height=int(rng.integers(120, 420)))
        yield Shown(film_like(decode(phantom.image), rng), phantom.male)


def no_hands(kinds: Iterable[str], count: int, first: int, *, vary: bool) -> Iterator[Shown]:
    """Yield ``count`` images of each kind without a hand: some inverted, every second framed."""
    for kind in kinds:
        for seed in range(first, first + count):
            rng, grey = np.random.default_rng([4, seed]), decode(draw(kind, seed))
            if seed % 4 >= 2:
                grey = 1 - grey
            if seed % 2:
                whole = Box(0, 0, grey.shape[1], grey.shape[0])
                grey = only(grey, whole, whole, rng)
            yield Shown(film_like(grey, rng) if vary else grey)


def _changed(
    samples: Iterable[Sample],
    find: Find,
    change: Callable[[Grey, Box, np.random.Generator], Grey],
    seed: tuple[int, str],
    *,
    vary: bool,
) -> Iterator[Shown]:
    """Yield films that are changed around or inside of the hand's box."""
    for sample in samples:
        rng, grey = _random(sample, *seed), decode(sample.path)
        if box := find(grey).found.box:
            changed = change(grey, box, rng)
            yield Shown(film_like(changed, rng) if vary else changed, sample.male)


def cut_hands(samples: Iterable[Sample], find: Find, part: str, *, vary: bool) -> Iterator[Shown]:
    """Yield films on which a part of the hand is cut off (``changes.PARTS``)."""
    return _changed(
        samples, find, lambda grey, box, rng: cut_hand(grey, box, part, rng), (5, part), vary=vary
    )


def framed_hands(samples: Iterable[Sample], find: Find, *, vary: bool) -> Iterator[Shown]:
    """Yield films that end close to the whole hand, or have frames."""

    def framed(grey: Grey, box: Box, rng: np.random.Generator) -> Grey:
        window = box.expand(rng.uniform(0, 0.04), grey.shape[1], grey.shape[0])
        return only(grey, window, box, rng)

    return _changed(samples, find, framed, (7, ""), vary=vary)


def two_hands(samples: Sequence[Sample]) -> Iterator[Shown]:
    """Yield radiographs of two hands."""
    for sample, other in zip(samples, [*samples[1:], samples[0]], strict=True):
        grey = side_by_side(decode(sample.path), decode(other.path), _random(sample, 6))
        yield Shown(grey, sample.male)


class Ladder(NamedTuple):
    """A degradation that one measure detects.

    Attributes:
        code: Reason code of the measure's limits.
        worse: Whether values ``above`` or ``below`` a limit are bad.
        spoil: Degrades a film, given the hand's box and a degree.
        degrees: From weak to strong.
    """

    code: str
    worse: Side
    spoil: Callable[[Grey, Box, float], Grey]
    degrees: tuple[float, ...]


LADDERS = {
    "side_pixels": Ladder("too_small", "below", shrunk, (48, 40, 32, 28, 24, 20, 16, 12, 8)),
    "grey_levels": Ladder("low_contrast", "below", faded, (64, 32, 24, 16, 12, 8, 6, 4, 3, 2)),
    "saturated": Ladder(
        "saturated", "above", overexposed, (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    ),
}
"""By measure."""


def spoiled(samples: Iterable[Sample], find: Find, measure: str, degree: float) -> Iterator[Shown]:
    """Yield radiographs degraded to one degree."""
    spoil = LADDERS[measure].spoil
    return _changed(
        samples, find, lambda grey, box, _: spoil(grey, box, degree), (8, ""), vary=False
    )
