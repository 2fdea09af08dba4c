"""The part of a report with the distance from the float model."""

from __future__ import annotations

from typing import Literal

import msgspec


class DriftRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image's ages.

    Attributes:
        id: The image's name in ``labels.csv``.
        true_months: Its label.
        float_months: What the reference says.
        bundle_months: What the bundle says.
        male: Whether the child is male; None where it is not known.
    """

    id: str
    true_months: float
    float_months: float
    bundle_months: float
    male: bool | None = None


class GroupDrift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drift among the children of one sex and age.

    The intervals hold for all groups of a report at once with 95 %: the worst group is not the one
    that chance made the worst (``bakit.bench.statistics.simultaneous_intervals``).

    Attributes:
        sex: ``F`` or ``M``; None for both together.
        from_months: Youngest true age, inclusive.
        to_months: Oldest, exclusive; but the last group holds the oldest age.
        samples: Images.
        drift_months: MAE of the bundle minus that of the reference.
        drift_ci95_months: Its interval.
        mean_change_months: Mean of ``bundle - reference``: signed, so a group that is shifted as a
            whole shows it where its MAE does not.
        mean_change_ci95_months: Its interval.
        mean_abs_change_months: Mean of ``|bundle - reference|``.
        max_abs_change_months: Its maximum.
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
        """The group in words, such as ``girls of 36 to 72 months``."""
        who = {"F": "girls", "M": "boys", None: "children"}[self.sex]
        return f"{who} of {self.from_months:g} to {self.to_months:g} months"


class BlameStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one step on the way from the float model to the bundle changes.

    Attributes:
        step: ``conversion``: from the reference to the float bundle of the same target.
            ``quantization``: from there to fewer bits, in INT8 as ONNX Runtime computes it on a
            CPU. ``device``: from there to what the bundle's own library and hardware make of it.
            Without an ``onnx`` bundle to tell them apart, ``quantization`` holds both.
        before: Name of the bundle before the step.
        after: Name of the bundle after it.
        drift_months: MAE after minus MAE before.
        mean_change_months: Mean of ``after - before``, signed.
        mean_abs_change_months: Mean of ``|after - before|``.
        p99_abs_change_months: Its 99th percentile.
        max_abs_change_months: Its maximum.
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
    """How far a bundle is from the float model, image by image.

    Intervals hold with 95 %. Fields that are None or empty were not measured: an older bakit or a
    report from another device may lack them.

    Attributes:
        samples: Labelled images.
        reference: Name of the bundle that stands for the float model.
        reference_target: What ran it: ``torch`` is the float model itself.
        is_reference: Whether this bundle is the reference: then its drift is 0 by construction.
        float_mae_months: Mean absolute error of the reference.
        bundle_mae_months: Mean absolute error of the bundle.
        drift_months: ``bundle_mae_months - float_mae_months``; positive is worse.
        drift_ci95_months: Its interval: bootstrap over images, BCa
            (``bakit.bench.statistics.bootstrap_interval``).
        bias_months: Mean of the bundle's age minus the true age.
        mean_abs_change_months: Mean of ``|bundle - reference|``: MAE alone hides errors that
            cancel out.
        p99_abs_change_months: Its 99th percentile.
        max_abs_change_months: Its maximum.
        box_iou_mean: Mean overlap of the two pipelines' boxes, 0..1; the whole image where there
            is no box.
        rows: The ages, in the order of ``labels.csv``.
        bundle_mae_ci95_months: Interval of ``bundle_mae_months``.
        mean_change_months: Mean of ``bundle - reference``, signed: the bias that the bundle adds.
        mean_change_ci95_months: Its interval.
        limits_of_agreement_months: Bland and Altman's: mean ± 1.96 standard deviations of
            ``bundle - reference``.
        mean_abs_change_ci95_months: Interval of ``mean_abs_change_months``.
        p99_abs_change_ci95_months: Interval of ``p99_abs_change_months``, by order statistics
            (``bakit.bench.statistics.quantile_interval``); None below 368 images, where even the
            largest change of all is no upper end.
        groups: By sex and age, first girls, then boys, each rising.
        blame: The steps from the reference to this bundle, as far as the bundles that each step
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
    blame: tuple[BlameStep, ...] = ()

    @property
    def worst_group(self) -> GroupDrift | None:
        """The group whose drift may be largest: the one with the highest upper end."""
        return max(self.groups, key=lambda group: group.drift_ci95_months[1], default=None)
