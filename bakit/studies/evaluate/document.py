"""The document of ``bakit evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from bakit.data.labels import MAX_AGE_MONTHS
from bakit.image.box import Box
from bakit.model.intervals import Coverage
from bakit.prediction import Sex
from bakit.runtime import Quality
from bakit.studies.evaluate.agreement import Agreement, BlandAltman
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION = 2
BIN_MONTHS = 24

Part: TypeAlias = Literal["all", "train", "validation", "test"]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The measured model.

    Attributes:
        source: ``bundle``, or ``checkpoint``, which was exported to a float32 ONNX bundle.
        precision: Precision of the regressor.
        provider: Backend and device that ran the regressor.
    """

    source: Literal["bundle", "checkpoint"]
    checkpoint: str
    checkpoint_sha256: str
    bundle: str
    bundle_sha256: str
    target: str
    precision: Precision
    provider: str


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled images.

    Attributes:
        folder: Name of the folder.
        images: Images in the folder.
        part: The split that was used.
        available: Images in that split, before ``--limit``.
        trained_on: Whether the model was trained, selected or tested on images of this folder.
        ids_sha256: Digest of the used ids (``bakit.data.splits.ids_digest``).
        assumed_sex: ``--sex``, if ``labels.csv`` gives no sexes.
    """

    folder: str
    images: int
    part: Part
    available: int
    trained_on: bool
    ids_sha256: str
    assumed_sex: Sex | None = None


class Predicted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prediction on one image.

    Attributes:
        id: The image's name in ``labels.csv``.
        interval_months: Prediction interval; None if the model has none.
        box: Box of the hand in image pixels; the whole image if no hand was found.
        pair: Name that two images of one child share; empty if there is none.
        side: The hand, ``L`` or ``R``; empty if unknown.
    """

    id: str
    male: bool
    predicted_months: float
    interval_months: tuple[float, float] | None
    box: Box
    quality: Quality
    pair: str = ""
    side: str = ""


class Compared(Predicted, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The prediction on one image with a true age.

    Attributes:
        age_months: The label.
        error_months: Predicted minus true age.
    """

    age_months: float
    error_months: float


class Unscored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unusable image and the reason."""

    id: str
    reason: str


class Errors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors on at least one image; the bias is the mean of predicted minus true age."""

    samples: int
    mae_months: float
    bias_months: float


class AgeErrors(Errors, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Errors on the images with a true age in one bin; the last bin includes its end."""

    from_months: float
    to_months: float


class Readings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's predictions on one set of images, whose true ages may be unknown.

    Attributes:
        samples: Images with a predicted age, on which all figures are computed.
        quality: Number of images by status ``accept``, ``review`` and ``reject``.
        no_hand_found: Images used whole because no hand was found.
        agreement: Of the two hands of one child; None without pairs.
        predictions: All images with a predicted age, in the order of ``labels.csv``.
    """

    schema_version: int
    model: Model
    data: Data
    samples: int
    quality: dict[str, int]
    no_hand_found: int
    unscored: tuple[Unscored, ...]
    agreement: Agreement | None
    predictions: tuple[Predicted, ...]


class Evaluation(Readings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's errors on labelled images; an error is predicted minus true age.

    Attributes:
        mae_ci95_months: 95 % interval of the mean absolute error
            (``bakit.bench.statistics.mean_interval``); too narrow below about 30 images.
        within_12_months: Share of images with an error of at most 12 months, 0..1.
        within_24_months: Share of images with an error of at most 24 months, 0..1.
        correlation: Pearson correlation of true and predicted age; None if either is constant.
        by_sex: By ``F`` and ``M``, without empty groups.
        by_age: By two years of the true age, ascending, without empty bins.
        bland_altman: Of the errors; None for one image.
        coverage: Interval coverage; None if the model has no intervals.
        worst: The images with the largest errors, the largest first.
    """

    mae_months: float
    mae_ci95_months: tuple[float, float]
    bias_months: float
    rmse_months: float
    median_abs_error_months: float
    within_12_months: float
    within_24_months: float
    correlation: float | None
    by_sex: dict[str, Errors]
    by_age: tuple[AgeErrors, ...]
    bland_altman: BlandAltman | None
    coverage: Coverage | None
    worst: tuple[Compared, ...]
    predictions: tuple[Compared, ...]


class Sets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model on several sets: an ``Evaluation`` each, or ``Readings`` if ages are unknown."""

    schema_version: int
    sets: tuple[Readings, ...]


def age_bin(age_months: float) -> float:
    """Return the start of the bin of a true age, in months; the last bin includes its end."""
    return min(age_months // BIN_MONTHS * BIN_MONTHS, MAX_AGE_MONTHS - BIN_MONTHS)


def worst_of(predictions: Sequence[Compared], count: int) -> tuple[Compared, ...]:
    """Return the predictions with the largest absolute errors, the largest first."""
    ordered = sorted(predictions, key=lambda item: (-abs(item.error_months), item.id))
    return tuple(ordered[:count])
