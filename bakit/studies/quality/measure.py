"""Compute the quality measures of images with an open bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.quality.judge import from_constants
from bakit.quality.limits import detect
from bakit.quality.measures import hand_measures
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bakit.runtime import Runtime
    from bakit.studies.quality.streams import Shown
    from bakit.types import Floats, OnProgress


class Looked(NamedTuple):
    """Measures of one image; empty if no hand was found.

    Attributes:
        vector: ``bakit.quality.measures.hand_vector``.
        measures: Values by name, without those of the detectors.
    """

    vector: Floats | None = None
    measures: dict[str, float] = {}  # noqa: RUF012  # never changed


class Eye:
    """Measures images with one bundle; the bundle's own limits are not used.

    Attributes:
        mean_months: Mean age of the training split.
        prepare: Locates and crops the hand of a film.
        detectors: Those of ``QualityLimits``; none until they are fitted.
    """

    def __init__(
        self, runtime: Runtime, mean_months: float, on_progress: OnProgress = silent
    ) -> None:
        self._runtime = runtime
        self.prepare = runtime.prepare
        self.mean_months = mean_months
        self._on_progress = on_progress
        self.detectors: dict[str, tuple[float, ...]] = {}

    def look(
        self, step: str, pictures: Iterable[Shown], *, ages: bool = True, thorough: bool = False
    ) -> list[Looked]:
        """Measure images; with ``ages``, predict them; if ``thorough``, also the age's spread."""
        shown = track(pictures, step, self._on_progress)
        return [self._look(item, ages=ages, thorough=thorough) for item in shown]

    def _look(self, shown: Shown, *, ages: bool, thorough: bool) -> Looked:
        runtime, male = self._runtime, shown.male
        hand = self.prepare(shown.grey)
        measures, vector = hand_measures(shown.grey, hand.localizer_output, hand.found, hand.pixels)
        if vector is None or not ages:
            return Looked(vector, measures)
        age = runtime.regress(hand.pixels, male=male)
        measures["age_months"] = age
        measures |= from_constants(
            age,
            self.mean_months,
            runtime.without_image(male=male),
            lambda: runtime.upside_down(hand.pixels, male=male),
        )
        if thorough:
            measures["spread_months"] = runtime.spread(hand.pixels, age, male=male)
        return Looked(vector, measures)

    def measures(self, item: Looked) -> dict[str, float]:
        """Return all measures, including the detectors'; none without a hand."""
        if item.vector is None:
            return {}
        return item.measures | detect(self.detectors, item.vector)
