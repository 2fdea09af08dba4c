"""Compare a bundle's predictions with the float model's on the same labelled images."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from bakit.bench.report.drift import (
    MIN_TAIL_IMAGES,
    TAILS,
    DriftReport,
    DriftRow,
    GroupDrift,
)
from bakit.bench.statistics import (
    group_interval,
    mean_interval,
    quantile_interval,
)
from bakit.data.labels import MAX_AGE_MONTHS
from bakit.data.splits import patient_numbers
from bakit.errors import InputError, VerificationError
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.bench.report.drift import BlameStep
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import Floats, Ints


REFERENCE_TARGETS = ("torch", "onnx")
"""Targets whose FP32 bundle can be the float model, best first. Other libraries may compute with
less than 32 bits."""

BIN_MONTHS = 36
"""Width of an age group; groups with too few images are merged."""

MIN_GROUP_IMAGES = 20
"""Minimum number of images in a group of three years."""


def choose_references(
    bundles: Sequence[Bundle], explicit: Bundle | None = None
) -> dict[str, Bundle]:
    """Return the bundle used as the float model, by the digest of each checkpoint.

    It is ``explicit`` for its own checkpoint, else the checkpoint's FP32 bundle of target
    ``torch`` or, without one, ``onnx``; the first by name.

    Raises:
        InputError: If a checkpoint has no such bundle, ``explicit`` is not FP32, or no other bundle
            has the checkpoint of ``explicit``.
    """
    if explicit is not None:
        _check_explicit(bundles, explicit)
    chosen: dict[str, Bundle] = {}
    for bundle in bundles:
        checkpoint = bundle.manifest.checkpoint_sha256
        if explicit is not None and explicit.manifest.checkpoint_sha256 == checkpoint:
            chosen[checkpoint] = explicit
            continue
        candidates = [
            other
            for other in bundles
            if other.manifest.checkpoint_sha256 == checkpoint
            and other.manifest.precision is Precision.FP32
            and other.manifest.target in REFERENCE_TARGETS
        ]
        if not candidates:
            message = (
                f"{bundle.name}: no float reference of its checkpoint "
                f"{bundle.manifest.checkpoint!r} among the bundles: add --reference, or "
                "export one first with bakit export --target onnx (or --target torch)"
            )
            raise InputError(message)
        chosen[checkpoint] = min(
            candidates, key=lambda b: (REFERENCE_TARGETS.index(b.manifest.target), b.name)
        )
    return chosen


def _check_explicit(bundles: Sequence[Bundle], explicit: Bundle) -> None:
    """Raise ``InputError`` if the reference is not the float model of any other bundle."""
    manifest = explicit.manifest
    if manifest.precision is not Precision.FP32:
        message = (
            f"{explicit.name}: the reference must be fp32, not {manifest.precision.value}: drift "
            "is the distance from the float model"
        )
        raise InputError(message)
    others = [bundle.manifest.checkpoint_sha256 for bundle in bundles if bundle != explicit]
    if others and manifest.checkpoint_sha256 not in others:
        message = (
            f"{explicit.name}: the reference has checkpoint {manifest.checkpoint!r}, but no other "
            "bundle was exported from it"
        )
        raise InputError(message)


def check_age(age_months: float, bundle: Bundle, sample: Sample) -> float:
    """Return the age; raises ``VerificationError`` if it is not a finite number."""
    if math.isfinite(age_months):
        return age_months
    message = (
        f"{bundle.name}: predicted {age_months} months for {sample.path}: the exported model "
        "is broken; check it with bakit verify"
    )
    raise VerificationError(message)


def compare(
    samples: Sequence[Sample],
    float_months: Floats,
    bundle_months: Floats,
    reference: Bundle,
    *,
    is_reference: bool,
    box_iou_mean: float,
    blame: tuple[BlameStep, ...] = (),
) -> DriftReport:
    """Compute the drift from paired ages, ``(N,)`` float64 months.

    ``blame`` are the steps of ``bakit.bench.drift.attribution``.
    """
    patients = patient_numbers(samples)
    rows = tuple(
        DriftRow(
            id=sample.id,
            true_months=sample.age_months,
            float_months=float(reference_age),
            bundle_months=float(age),
            male=sample.male,
            patient=None if patients is None else int(patients[index]),
        )
        for index, (sample, reference_age, age) in enumerate(
            zip(samples, float_months, bundle_months, strict=True)
        )
    )
    return drift_of_rows(
        rows,
        reference=reference.name,
        reference_target=reference.manifest.target,
        is_reference=is_reference,
        box_iou_mean=box_iou_mean,
        blame=blame,
    )


class Ages(NamedTuple):
    """The rows of ``DriftReport`` as arrays ``(N,)``; ages are float64 months.

    ``males`` and ``patients`` are None if they are not known of every image.
    """

    true_months: Floats
    float_months: Floats
    bundle_months: Floats
    males: npt.NDArray[np.bool_] | None
    patients: Ints | None

    def take(self, places: Ints) -> Ages:
        """Return the images at these places."""
        males = None if self.males is None else self.males[places]
        patients = None if self.patients is None else self.patients[places]
        true, floats, bundle = (ages[places] for ages in self[:3])
        return Ages(true, floats, bundle, males, patients)


def ages_of(rows: Sequence[DriftRow]) -> Ages:
    """Return the rows as arrays."""
    true, floats, bundle = np.array(
        [(row.true_months, row.float_months, row.bundle_months) for row in rows]
    ).T
    males, patients = [row.male for row in rows], [row.patient for row in rows]
    return Ages(
        true,
        floats,
        bundle,
        None if None in males else np.array(males, bool),
        None if None in patients else np.array(patients),
    )


def drift_of_rows(
    rows: tuple[DriftRow, ...],
    **known: Any,  # noqa: ANN401  # of several types
) -> DriftReport:
    """Compute the drift from the ages of each image, as ``drift_of_ages`` does."""
    return drift_of_ages(ages_of(rows), rows=rows, **known)


def drift_of_ages(
    ages: Ages,
    **known: Any,  # noqa: ANN401  # of several types
) -> DriftReport:
    """Compute the drift from the ages of all images.

    ``known`` are the fields of ``DriftReport`` that do not follow from them. Without the sex of an
    image there are no groups.
    """
    true_months, float_months, bundle_months, males, patients = ages
    float_errors = np.abs(float_months - true_months)
    bundle_errors = np.abs(bundle_months - true_months)
    signed = bundle_months - float_months
    changes = np.abs(signed)
    independent = None if patients is None else len(np.unique(patients))
    groups, tails = [], []
    if males is not None:
        groups = group_images(true_months, males)
        found = [group[:3] for group in groups]
        tails = [tail for tail in tail_images(true_months, males) if tail[:3] not in found]
    spread = 1.96 * float(signed.std(ddof=1)) if len(signed) > 1 else 0.0
    return DriftReport(
        samples=len(signed),
        float_mae_months=float(float_errors.mean()),
        bundle_mae_months=float(bundle_errors.mean()),
        bundle_mae_ci95_months=mean_interval(bundle_errors, patients),
        drift_months=float((bundle_errors - float_errors).mean()),
        drift_ci95_months=mean_interval(bundle_errors - float_errors, patients),
        bias_months=float((bundle_months - true_months).mean()),
        mean_change_months=float(signed.mean()),
        mean_change_ci95_months=mean_interval(signed, patients),
        limits_of_agreement_months=(float(signed.mean()) - spread, float(signed.mean()) + spread),
        mean_abs_change_months=float(changes.mean()),
        mean_abs_change_ci95_months=mean_interval(changes, patients),
        p99_abs_change_months=float(np.percentile(changes, 99)),
        p99_abs_change_ci95_months=quantile_interval(changes, 0.99, independent),
        max_abs_change_months=float(changes.max()),
        groups=group_drifts(groups, true_months, float_months, bundle_months, patients),
        tails=group_drifts(tails, true_months, float_months, bundle_months, patients),
        patients=independent,
        **known,
    )


class Group(NamedTuple):
    """Row numbers of the images of one sex and age group; the last group includes its end."""

    sex: Literal["F", "M"] | None
    from_months: float
    to_months: float
    rows: Ints


def tail_images(ages: Floats, males: npt.NDArray[np.bool_]) -> list[Group]:
    """Return the images of ``TAILS`` by sex, without those of fewer than ``MIN_TAIL_IMAGES``."""
    tails = []
    for sex, start, stop in TAILS:
        inside = (ages >= start) & ((ages < stop) | (stop == MAX_AGE_MONTHS))
        rows = np.flatnonzero(inside & (males == (sex == "M")))
        if len(rows) >= MIN_TAIL_IMAGES:
            tails.append(Group(sex, start, stop, rows))
    return tails


def group_images(ages: Floats, males: npt.NDArray[np.bool_]) -> list[Group]:
    """Group images by sex and three years of age: girls first, then boys, by rising age.

    Bins with fewer than 20 images are merged with their smaller neighbour, the smallest first, so
    that the first and last groups are often five or six years wide; see ``tail_images``. A sex with
    fewer than 20 images has no group.
    """
    groups = []
    sex: Literal["F", "M"]
    for sex in ("F", "M"):
        of_sex = males == (sex == "M")
        if np.count_nonzero(of_sex) < MIN_GROUP_IMAGES:
            continue
        edges = _edges(ages[of_sex])
        for start, stop in pairwise(edges):
            # The last group includes ages above its end, which only labels.csv refuses.
            inside = (ages >= start) & ((ages < stop) | (stop == edges[-1]))
            groups.append(Group(sex, start, stop, np.flatnonzero(of_sex & inside)))
    return groups


def _edges(ages: Floats) -> list[float]:
    edges = [float(edge) for edge in range(0, int(MAX_AGE_MONTHS), BIN_MONTHS)]
    places = np.clip(np.searchsorted(edges, ages, side="right") - 1, 0, None)
    counts = [int(count) for count in np.bincount(places, minlength=len(edges))]
    while len(counts) > 1 and min(counts) < MIN_GROUP_IMAGES:
        small = counts.index(min(counts))
        neighbours = [place for place in (small - 1, small + 1) if 0 <= place < len(counts)]
        other = min(neighbours, key=counts.__getitem__)
        first = min(small, other)
        counts[first : first + 2] = [sum(counts[first : first + 2])]
        del edges[first + 1]
    return [*edges, MAX_AGE_MONTHS]


def group_drifts(
    groups: Sequence[Group],
    true_months: Floats,
    float_months: Floats,
    bundle_months: Floats,
    patients: Ints | None = None,
) -> tuple[GroupDrift, ...]:
    """Return the drift of every group; ages are ``(N,)`` months.

    Each interval is that of one group alone: a gate that every group must pass needs no correction
    for their number. Images of one patient count once, by their mean.
    """
    drifts = np.abs(bundle_months - true_months) - np.abs(float_months - true_months)
    signed = bundle_months - float_months
    return tuple(
        GroupDrift(
            sex=group.sex,
            from_months=group.from_months,
            to_months=group.to_months,
            samples=len(group.rows),
            drift_months=float(drifts[group.rows].mean()),
            drift_ci95_months=group_interval(drifts, group.rows, patients),
            mean_change_months=float(signed[group.rows].mean()),
            mean_change_ci95_months=group_interval(signed, group.rows, patients),
            mean_abs_change_months=float(np.abs(signed[group.rows]).mean()),
            max_abs_change_months=float(np.abs(signed[group.rows]).max()),
        )
        for group in groups
    )
