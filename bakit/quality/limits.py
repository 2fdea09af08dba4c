"""Accept, review or reject: the limits that travel with a checkpoint, and how they are applied."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bakit.types import Floats


Status: TypeAlias = Literal["accept", "review", "reject"]

STATUSES: tuple[Status, ...] = ("accept", "review", "reject")
"""From best to worst."""

REASONS = {
    "no_hand_found": "the localizer is sure of no region",
    "not_a_hand": "what was found does not look like a hand",
    "two_hands": "another region is nearly as large",
    "hand_cut_off": "a part of the hand is outside the image",
    "turned": "the fingers do not point up",
    "inverted": "the hand is darker than its surroundings; it was read the right way round",
    "too_small": "the hand has too few pixels",
    "low_contrast": "too few greys are left in the hand",
    "saturated": "too much of the hand is burnt out",
    "methods_disagree": "two ways of finding the hand give different boxes",
    "outside_trained_ages": "the age is one that the model saw few images of, or none",
    "collapsed_to_mean": "the age is what the model says without looking at an image",
    "unstable": "the age changes when the image is mirrored or turned a little",
}
"""Every reason code with its meaning."""


class Quality(msgspec.Struct, frozen=True):
    """Whether a prediction can be used as it is.

    Attributes:
        status: ``accept``, ``review`` (a person should look) or ``reject``.
        reasons: Why, as codes of ``REASONS``.
    """

    status: Status
    reasons: tuple[str, ...] = ()


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often something happened.

    Attributes:
        samples: Images.
        rejected: How many were rejected.
        reviewed: How many were sent to a person, the rejected ones not counted.
    """

    samples: int
    rejected: int
    reviewed: int


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one measure stops being good.

    Attributes:
        measure: Its name (``bakit.quality.measures``).
        code: The reason that a broken limit gives.
        worse: Which values are worse: ``above`` the limit or ``below`` it.
        review: From where on a person should look; None for never.
        reject: From where on there is no answer; None for never.
        good: How often good radiographs broke it: false alarms.
        caught: How often spoiled images broke it, by what they are.
    """

    measure: str
    code: str
    worse: Literal["above", "below"]
    review: float | None
    reject: float | None
    good: Rate
    caught: dict[str, Rate] = {}

    def status(self, value: float) -> Status:
        """Return what a value means; NaN is as bad as can be."""
        if self.reject is not None and self._beyond(value, self.reject):
            return "reject"
        if self.review is not None and self._beyond(value, self.review):
            return "review"
        return "accept"

    def _beyond(self, value: float, limit: float) -> bool:
        if math.isnan(value):
            return True
        return value > limit if self.worse == "above" else value < limit


class HandModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What hands look like, and what else tells them from other things.

    An entry of ``bakit.quality.measures.hand_vector`` is standardised; the *distance* is how far
    the whole is from the middle of all hands, in standard deviations along their main directions
    (Mahalanobis). A detector is a logistic regression on entries and distance.

    Attributes:
        mean: ``(N,)``, mean of each entry over hands.
        scale: ``(N,)``, standard deviation of each entry over hands.
        basis: ``(K, N)``, main directions, each divided by its standard deviation: the bytes of
            little-endian float16, in base64 where the document is text.
        detectors: By the name of the measure that they give: N weights of the entries, one of the
            distance, and a constant.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    basis: bytes
    detectors: dict[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        length = len(self.mean)
        sizes = {len(self.scale)}
        sizes |= {len(weights) - 2 for weights in self.detectors.values()}
        if sizes - {length}:
            message = f"mean, scale, basis and detectors do not fit: lengths {sizes | {length}}"
            raise ValueError(message)
        if len(self.basis) % max(2 * length, 1):
            message = f"a basis of {len(self.basis)} bytes has no whole rows of {length} float16"
            raise ValueError(message)
        if min(self.scale, default=1.0) <= 0:
            message = "a scale is not above 0"
            raise ValueError(message)


class HandScorer:
    """A ``HandModel``, ready to be used.

    Args:
        model: The model.
    """

    def __init__(self, model: HandModel) -> None:
        self._mean = np.array(model.mean)
        self._scale = np.array(model.scale)
        rows = np.frombuffer(model.basis, "<f2").reshape(-1, len(model.mean))
        self._basis = rows.astype(np.float64)
        self._names = tuple(model.detectors)
        self._weights = np.array([model.detectors[name] for name in self._names]).reshape(
            -1, len(model.mean) + 2
        )

    def score(self, vector: Floats) -> dict[str, float]:
        """Return each detector's log odds, and the distance as ``hand_distance``.

        Args:
            vector: ``(N,)`` float64 (``bakit.quality.measures.hand_vector``).
        """
        entries = (vector - self._mean) / self._scale
        distance = float(np.linalg.norm(self._basis @ entries))
        odds = self._weights @ np.concatenate([entries, [distance, 1.0]])
        return {"hand_distance": distance} | dict(zip(self._names, odds.tolist(), strict=True))


class QualityLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All limits of a checkpoint, learned by ``bakit quality``.

    Attributes:
        limits: One for each measure.
        hands: What hands look like.
        mean_months: Mean age of the training set: what a model says that has learned nothing.
        good: How often good radiographs were rejected or sent to a person by any of them.
        caught: How often spoiled images were, by what they are; images without any hand found
            count as rejected.
        data: What good and spoiled images were, in words.
    """

    limits: tuple[Limit, ...]
    hands: HandModel
    mean_months: float
    good: Rate
    caught: dict[str, Rate]
    data: str

    def judge(self, measures: Mapping[str, float], reasons: Iterable[str] = ()) -> Quality:
        """Return the worst that any measure says, with the reasons of all.

        Args:
            measures: Values by name; limits of others do not apply.
            reasons: Codes that are known already: ``no_hand_found`` rejects, others ask a person.
        """
        found: dict[str, Status] = {
            code: "reject" if code == "no_hand_found" else "review" for code in reasons
        }
        for limit in self.limits:
            if limit.measure in measures:
                status = limit.status(measures[limit.measure])
                if status != "accept" and found.get(limit.code) != "reject":
                    found[limit.code] = status
        worst = max((STATUSES.index(status) for status in found.values()), default=0)
        return Quality(STATUSES[worst], tuple(code for code in REASONS if code in found))
