"""Accept, review or reject: the quality limits of a checkpoint, and how they are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bakit.types import Floats


Status: TypeAlias = Literal["accept", "review", "reject"]
Side: TypeAlias = Literal["above", "below"]

STATUSES: tuple[Status, ...] = ("accept", "review", "reject")
"""From best to worst."""

REASONS = {
    "no_hand_found": "no region looks like a hand",
    "not_a_hand": "the region that was found does not look like a hand",
    "two_hands": "a second region is nearly as large as the hand",
    "hand_cut_off": "part of the hand is outside the image",
    "turned": "the fingers do not point up, even after the hand was turned upright",
    "inverted": "bones were dark, so the grey values were inverted before the prediction",
    "too_small": "the hand has too few pixels",
    "low_contrast": "the hand has too few different grey values",
    "saturated": "too many pixels of the hand are saturated",
    "methods_disagree": "two methods of finding the hand give different boxes",
    "below_trained_ages": "the hand is as young as the youngest of the training images, or younger",
    "skeletally_mature": "the hand is skeletally mature, or nearly: the age is not reliable",
    "outside_trained_ages": "the model was trained on no image of this age",
    "patient_age": "the patient's age in the header is an adult's, or outside the trained ages",
    "collapsed_to_mean": "the predicted age is that of a blank image, or the mean of all ages",
    "not_a_radiograph": "by its DICOM header it is not a radiograph (modality OT or SC)",
    "other_body_part": "by its DICOM header it shows another part of the body",
    "both_hands": "by its DICOM header it shows both hands",
    "unstable": "the prediction changes when the image is mirrored or rotated a little",
}
"""Meaning of each reason code."""


class Quality(msgspec.Struct, frozen=True):
    """Whether a prediction can be used as it is.

    Attributes:
        status: ``accept``, ``review`` (check it by eye) or ``reject``.
        reasons: Codes of ``REASONS``.
    """

    status: Status
    reasons: tuple[str, ...] = ()


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of rejected and reviewed images.

    Attributes:
        samples: Images.
        rejected: Images that were rejected.
        reviewed: Images for review, without the rejected ones.
    """

    samples: int
    rejected: int
    reviewed: int


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one measure.

    Attributes:
        measure: Its name (``bakit.quality.measures``).
        code: Reason code beyond the limit.
        worse: Whether values ``above`` or ``below`` the limit are bad.
        review: Limit for review; None for never.
        reject: Limit for rejection; None for never.
        good: False alarms on good radiographs, once they are measured.
        caught: Detections on spoiled images, by kind.
    """

    measure: str
    code: str
    worse: Side
    review: float | None
    reject: float | None
    good: Rate = Rate(0, 0, 0)
    caught: dict[str, Rate] = {}

    def status(self, value: float) -> Status:
        """Return the status of a value; NaN is beyond every limit."""
        sign = 1 if self.worse == "above" else -1
        if self.reject is not None and not sign * value <= sign * self.reject:
            return "reject"
        if self.review is not None and not sign * value <= sign * self.review:
            return "review"
        return "accept"


def detect(detectors: Mapping[str, Sequence[float]], vector: Floats) -> dict[str, float]:
    """Return each detector's log odds (``QualityLimits.detectors``) for a ``hand_vector``."""
    entries = np.append(vector, 1.0)
    return {name: float(np.dot(weights, entries)) for name, weights in detectors.items()}


class QualityLimits(msgspec.Struct, frozen=True):
    """All limits of a checkpoint, learned by ``bakit quality``.

    Attributes:
        limits: One for each measure.
        mean_months: Mean age of the training set.
        good: False alarms of all limits together on good radiographs.
        caught: Detections on spoiled images, by kind; images without a hand count as rejected.
        data: Description of the good and spoiled images.
        detectors: Logistic regressions that detect hands that cannot be used, by the name of their
            measure: N weights of ``bakit.quality.measures.hand_vector`` and a constant. Empty in
            older files, whose limits cannot be applied.
    """

    limits: tuple[Limit, ...]
    mean_months: float
    good: Rate
    caught: dict[str, Rate]
    data: str
    detectors: dict[str, tuple[float, ...]] = {}

    def judge(self, measures: Mapping[str, float], reasons: Iterable[str] = ()) -> Quality:
        """Return the worst status of all measures, with the reasons of all.

        Limits of missing measures do not apply. ``reasons`` are codes from the localizer:
        ``no_hand_found`` rejects, others mean review.
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
