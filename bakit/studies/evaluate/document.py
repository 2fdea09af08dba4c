"""The document of ``bakit evaluate``: a model's errors on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from bakit.data.labels import MAX_AGE_MONTHS
from bakit.image.box import Box
from bakit.model.intervals import Coverage
from bakit.runtime import Quality
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION = 1
BIN_MONTHS = 24

Part: TypeAlias = Literal["all", "train", "validation", "test"]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that was measured.

    Attributes:
        source: ``bundle``, or ``checkpoint``: a float32 ONNX bundle was made of it.
        precision: Number format of the regressor.
        provider: What ran the regressor.
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
        images: All its images.
        part: The part that was used.
        available: Images in that part, of which a limit may have left some out.
        trained_on: Whether the model was trained on this folder; a subset is not recognised.
        ids_sha256: Digest of the used ids (``bakit.data.labels.ids_digest``).
    """

    folder: str
    images: int
    part: Part
    available: int
    trained_on: bool
    ids_sha256: str


class Predicted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The prediction on one image.

    Attributes:
        id: The image's name in ``labels.csv``.
        age_months: The label.
        error_months: Predicted minus true age.
        interval_months: Lower and upper bound of the true age; None if the model gives none.
        box: The hand, in pixels of the image; the whole image if none was found.
    """

    id: str
    male: bool
    age_months: float
    predicted_months: float
    error_months: float
    interval_months: tuple[float, float] | None
    box: Box
    quality: Quality


class Unscored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image that cannot be used, and why."""

    id: str
    reason: str


class Errors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors on a group of images, at least one; the bias is the mean of predicted minus true."""

    samples: int
    mae_months: float
    bias_months: float


class AgeErrors(Errors, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Errors on the images whose true age is in one bin; the last bin includes its end."""

    from_months: float
    to_months: float


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's errors on labelled images; an error is predicted minus true age.

    Attributes:
        samples: Images that have a predicted age: all numbers below are about these.
        mae_ci95_months: 95 % interval of the mean absolute error: bootstrap over the images
            (``bakit.bench.statistics.bootstrap_interval``), too narrow below some 30.
        within_12_months: Share of the images that are at most 12 months off, 0..1.
        within_24_months: Share of the images that are at most 24 months off, 0..1.
        correlation: Pearson's, of true and predicted age; None where either is constant.
        by_sex: By ``F`` and ``M``; a sex without images is left out.
        by_age: By two years of the true age, rising; bins without images are left out.
        coverage: How often the true age was inside the model's intervals; None if it has none.
        quality: Number of images by status: ``accept``, ``review`` or ``reject``; all count above.
        no_hand_found: Images that were used whole because no hand was found.
        worst: The images with the largest errors, the largest first.
        predictions: All images that have a predicted age, in the order of ``labels.csv``.
    """

    schema_version: int
    model: Model
    data: Data
    samples: int
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
    coverage: Coverage | None
    quality: dict[str, int]
    no_hand_found: int
    unscored: tuple[Unscored, ...]
    worst: tuple[Predicted, ...]
    predictions: tuple[Predicted, ...]


def age_bin(age_months: float) -> float:
    """Return where the bin of a true age starts, in months; the last bin holds the oldest age."""
    return min(age_months // BIN_MONTHS * BIN_MONTHS, MAX_AGE_MONTHS - BIN_MONTHS)


def worst_of(predictions: Sequence[Predicted], count: int) -> tuple[Predicted, ...]:
    """Return the predictions with the largest absolute errors, the largest first."""
    ordered = sorted(predictions, key=lambda item: (-abs(item.error_months), item.id))
    return tuple(ordered[:count])
