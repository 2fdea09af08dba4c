"""All that is measured on one picture, good or bad, by an open bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bakit.quality.measures import box_measures, hand_vector

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bakit.image.box import Box
    from bakit.runtime import Runtime
    from bakit.types import Floats, Grey


class Looked(NamedTuple):
    """What was measured.

    Attributes:
        box: The hand; None if none was found: then there are no measures.
        mask: The hand in the working image.
        vector: ``bakit.quality.measures.hand_vector``.
        measures: Values by name, without those of the detectors.
        age_months: Age; None without a hand.
    """

    box: Box | None
    mask: npt.NDArray[np.bool_] | None = None
    vector: Floats | None = None
    measures: dict[str, float] = {}  # noqa: RUF012  # never changed
    age_months: float | None = None


def look_at(
    runtime: Runtime, grey: Grey, *, male: bool, mean_months: float, thorough: bool = False
) -> Looked:
    """Measure one picture, whatever is on it.

    Args:
        runtime: An open bundle; its own limits do not matter.
        grey: ``(H, W)`` float32 in 0..1.
        male: Whether the child is male.
        mean_months: Mean age of the training set.
        thorough: Whether to measure the spread too.
    """
    hand = runtime.prepare(grey)
    found, seen = hand.found, hand.localizer_output
    if seen is None or found.box is None or found.scores is None:
        return Looked(None)
    age = runtime.regress(hand.pixels, male=male)
    scores = found.scores
    measures = {name: float(getattr(scores, name)) for name in scores.__struct_fields__}
    measures |= box_measures(grey, found.box)
    measures |= {
        "age_months": age,
        "from_mean_months": abs(age - mean_months),
        "from_blank_months": abs(age - runtime.without_image(male=male)),
    }
    if thorough:
        measures["spread_months"] = runtime.spread(
            grey, found.box, hand.pixels, age, male=male, inverted=found.inverted
        )
    vector = hand_vector(seen, scores, hand.pixels)
    return Looked(found.box, seen.regions[0][0], vector, measures, age)
