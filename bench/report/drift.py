"""Drift in a report: the change of accuracy against the float model."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

TAILS: Final[tuple[tuple[Literal["F", "M"], float, float], ...]] = (
    ("F", 0.0, 36.0),
    ("F", 204.0, 240.0),
    ("M", 0.0, 36.0),
    ("M", 204.0, 240.0),
)
"""Sex and ages of the youngest and the oldest: few, so that groups of three years are merged.
Labels go up to 240 months (``bakit.data.labels``, which needs numpy)."""

MIN_TAIL_IMAGES = 2
"""Minimum number of images of ``TAILS``, for ``bakit.bench.statistics.group_interval``."""


class DriftRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ages of one image.

    Attributes:
        id: The image's name in ``labels.csv``.
        true_months: Ground truth.
        float_months: Prediction of the reference.
        bundle_months: Prediction of the bundle.
        male: Whether the child is male; None if unknown.
        patient: A number that the images of one patient share; None without a column ``patient``.
    """

    id: str
    true_months: float
    float_months: float
    bundle_months: float
    male: bool | None = None
    patient: int | None = None


class GroupDrift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drift of one sex and age group.

    Each interval is that of this group alone (``bakit.bench.statistics.group_interval``): a gate
    that all groups must pass needs no correction for their number.

    Attributes:
        sex: ``F`` or ``M``; None for both together, in older reports.
        from_months: Minimum true age, inclusive.
        to_months: Maximum true age, exclusive except in the last group.
        samples: Number of images.
        drift_months: MAE of the bundle minus MAE of the reference.
        drift_ci95_months: Interval of ``drift_months``.
        mean_change_months: Mean of ``bundle - reference``, signed: it shows a shift of the whole
            group, which MAE may not show.
        mean_change_ci95_months: Interval of ``mean_change_months``.
        mean_abs_change_months: Mean of ``|bundle - reference|``.
        max_abs_change_months: Maximum of ``|bundle - reference|``.
    """

    sex: Literal["F", "M"] | None
    from_months: float
    to_months: float
    samples: int
    drift_months: float
    drift_ci95_months: tuple[float, float]
    mean_change_months: float
    mean_change_ci95_months: tuple[float, float]
    mean_abs_change_months: float
    max_abs_change_months: float

    @property
    def name(self) -> str:
        """Description of the group, such as ``girls of 36 to 72 months``."""
        children = {"F": "girls", "M": "boys", None: "children"}[self.sex]
        return f"{children} of {self.from_months:g} to {self.to_months:g} months"


class BlameStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of the predictions by one step from the float model to the bundle.

    Attributes:
        step: ``conversion``: from the reference to the FP32 bundle of the same target.
            ``quantization``: from there to fewer bits; for INT8, run by ONNX Runtime on a CPU.
            ``device``: from there to the bundle's own library and hardware. Without an INT8
            ``onnx`` bundle, ``quantization`` includes ``device``.
        before: Name of the bundle before the step.
        after: Name of the bundle after the step.
        drift_months: MAE after minus MAE before.
        mean_change_months: Mean of ``after - before``, signed.
        mean_abs_change_months: Mean of ``|after - before|``.
        p99_abs_change_months: 99th percentile of ``|after - before|``.
        max_abs_change_months: Maximum of ``|after - before|``.
    """

    step: Literal["conversion", "quantization", "device"]
    before: str
    after: str
    drift_months: float
    mean_change_months: float
    mean_abs_change_months: float
    p99_abs_change_months: float
    max_abs_change_months: float


class DriftReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bundle's accuracy and its difference from the float model.

    Intervals have 95 % confidence. Fields that are None or empty were not measured; reports of
    older versions or of other devices may lack them.

    Attributes:
        samples: Number of labelled images.
        reference: Name of the bundle used as the float model.
        reference_target: Target of the reference; ``torch`` is the float model itself.
        is_reference: Whether this bundle is the reference; its drift is then 0.
        float_mae_months: Mean absolute error of the reference.
        bundle_mae_months: Mean absolute error of the bundle.
        drift_months: ``bundle_mae_months - float_mae_months``; positive is worse.
        drift_ci95_months: Interval of ``drift_months``: over images
            (``bakit.bench.statistics.mean_interval``).
        bias_months: Mean of the predicted age minus the true age.
        mean_abs_change_months: Mean of ``|bundle - reference|``; it includes errors that cancel
            out in the MAE.
        p99_abs_change_months: 99th percentile of ``|bundle - reference|``.
        max_abs_change_months: Maximum of ``|bundle - reference|``.
        box_iou_mean: Mean IoU of the two pipelines' boxes, 0..1; without a box, the whole image
            is used.
        rows: The ages, in the order of ``labels.csv``.
        bundle_mae_ci95_months: Interval of ``bundle_mae_months``.
        mean_change_months: Mean of ``bundle - reference``, signed: the bias added by the bundle.
        mean_change_ci95_months: Interval of ``mean_change_months``.
        limits_of_agreement_months: Bland-Altman limits: mean ± 1.96 standard deviations of
            ``bundle - reference``.
        mean_abs_change_ci95_months: Interval of ``mean_abs_change_months``.
        p99_abs_change_ci95_months: Interval of ``p99_abs_change_months``, from order statistics
            (``bakit.bench.statistics.quantile_interval``); None below 368 images.
        groups: Drift by sex and age: girls first, then boys, by rising age.
        tails: Drift of the children under 3 and from 17 years by sex (``TAILS``), of two images or
            more. They are in ``groups`` as well, among others.
        patients: Number of patients, if ``labels.csv`` has a column ``patient``: the intervals then
            draw whole patients.
        blame: Steps from the reference to this bundle. A step is listed if the bundles that it
            needs were measured in the same run.
    """

    samples: int
    reference: str
    reference_target: str
    is_reference: bool
    float_mae_months: float
    bundle_mae_months: float
    drift_months: float
    drift_ci95_months: tuple[float, float]
    bias_months: float
    mean_abs_change_months: float
    p99_abs_change_months: float
    max_abs_change_months: float
    box_iou_mean: float
    rows: tuple[DriftRow, ...]
    bundle_mae_ci95_months: tuple[float, float] | None = None
    mean_change_months: float | None = None
    mean_change_ci95_months: tuple[float, float] | None = None
    limits_of_agreement_months: tuple[float, float] | None = None
    mean_abs_change_ci95_months: tuple[float, float] | None = None
    p99_abs_change_ci95_months: tuple[float, float] | None = None
    groups: tuple[GroupDrift, ...] = ()
    tails: tuple[GroupDrift, ...] = ()
    patients: int | None = None
    blame: tuple[BlameStep, ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """The fields that do not follow from ``rows``."""
        names = ("reference", "reference_target", "is_reference", "box_iou_mean", "blame")
        return {name: getattr(self, name) for name in names}

    @property
    def worst_group(self) -> GroupDrift | None:
        """The group whose interval has the highest upper end."""
        return max(self.groups, key=lambda group: group.drift_ci95_months[1], default=None)
