"""Paired predictions of bundles and of the float model on the same labelled images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bakit.bench.report import DriftReport, DriftRow
from bakit.errors import InputError, VerificationError
from bakit.geometry import Box
from bakit.preprocess import decode
from bakit.targets import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import numpy.typing as npt

    from bakit.bundle import Bundle
    from bakit.dataset import Sample
    from bakit.runtime import Runtime

    Floats: TypeAlias = npt.NDArray[np.float64]

REFERENCE_TARGETS = ("torch", "onnx")
"""Targets whose fp32 stands for the float model, best first: torch runs the model itself. Other
libraries may compute in less than float32 where the chip offers it."""

RESAMPLES = 2000
SEED = 0

_CHUNK = 100  # resamples at a time: 100 x 12,000 images are 10 MB of indices


def choose_references(
    bundles: Sequence[Bundle], explicit: Bundle | None = None
) -> dict[str, Bundle]:
    """Choose the bundle that stands for the float model, one for each checkpoint.

    It is the checkpoint's own fp32 bundle, of target ``torch`` before ``onnx``, then by name.

    Args:
        bundles: The bundles to measure, which are also the ones to choose from.
        explicit: Wins for its own checkpoint, whatever its target.

    Returns:
        A reference for the digest of every checkpoint among ``bundles``.

    Raises:
        InputError: If a checkpoint has none, or ``explicit`` is not fp32 or of another checkpoint
            than all the other bundles.
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
                f"{bundle.manifest.checkpoint!r} among the bundles: name one (--reference), or "
                "export one first with bakit export --target onnx (or --target torch)"
            )
            raise InputError(message)
        chosen[checkpoint] = min(candidates, key=_preference)
    return chosen


def _preference(bundle: Bundle) -> tuple[int, str]:
    return REFERENCE_TARGETS.index(bundle.manifest.target), bundle.name


def _check_explicit(bundles: Sequence[Bundle], explicit: Bundle) -> None:
    """Refuse a reference that is not the float model of anything here."""
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
            f"{explicit.name}: the reference is of checkpoint {manifest.checkpoint!r}, which none "
            "of the other bundles was exported from"
        )
        raise InputError(message)


def measure_drift(
    runtimes: Sequence[Runtime],
    references: Mapping[str, Bundle],
    samples: Sequence[Sample],
    on_done: Callable[[], None] | None = None,
) -> list[DriftReport]:
    """Predict every image with every bundle and compare.

    Localizing costs far more than the rest and is the same in bundles that differ only in the
    regressor. Bundles with the same localizer file and target therefore share each image's box:
    it is located once. The numbers do not change by it, as a localizer is deterministic.

    Args:
        runtimes: Open bundles, the references among them.
        references: The reference of each checkpoint (``choose_references``).
        samples: Labelled images, at least one.
        on_done: Called after each image.

    Returns:
        A report for each bundle, in the order of ``runtimes``.

    Raises:
        ImageError: If an image cannot be used; none is skipped.
        VerificationError: If a bundle's age is not a finite number.
    """
    ages = np.empty((len(runtimes), len(samples)))
    boxes: list[list[Box]] = [[] for _ in runtimes]
    for column, sample in enumerate(samples):
        grey = decode(sample.path)
        whole = Box(0, 0, grey.shape[1], grey.shape[0])
        located: dict[Hashable, Box | None] = {}
        for row, runtime in enumerate(runtimes):
            key = _localizer_key(runtime.bundle)
            if key not in located:
                located[key] = runtime.locate(grey)
            pixels = runtime.preprocess(grey, located[key])
            age = runtime.regress(pixels, male=sample.male)
            ages[row, column] = check_age(age, runtime.bundle, sample)
            boxes[row].append(located[key] or whole)
        if on_done is not None:
            on_done()
    bundles = [runtime.bundle for runtime in runtimes]
    reports = []
    for row, bundle in enumerate(bundles):
        reference = references[bundle.manifest.checkpoint_sha256]
        paired = bundles.index(reference)
        overlaps = [a.iou(b) for a, b in zip(boxes[row], boxes[paired], strict=True)]
        iou = math.fsum(overlaps) / len(overlaps)
        report = compare(
            samples,
            ages[paired],
            ages[row],
            reference,
            is_reference=row == paired,
            box_iou_mean=iou,
        )
        reports.append(report)
    return reports


def _localizer_key(bundle: Bundle) -> Hashable:
    """Return what decides a box, given the image."""
    manifest = bundle.manifest
    return (
        manifest.target,
        tuple(sorted(bundle.artifact("localizer").files.values())),
        manifest.preprocessing.localize,
    )


def check_age(age_months: float, bundle: Bundle, sample: Sample) -> float:
    """Return an age that statistics can be made of.

    Raises:
        VerificationError: If it is not a finite number.
    """
    if math.isfinite(age_months):
        return age_months
    message = (
        f"{bundle.name}: says {age_months} months for {sample.path}: the exported model "
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
) -> DriftReport:
    """Compute the statistics of paired ages.

    Args:
        samples: Labelled images.
        float_months: ``(N,)`` float64, the reference's ages.
        bundle_months: ``(N,)`` float64, the bundle's ages.
        reference: The reference.
        is_reference: Whether the bundle is the reference itself.
        box_iou_mean: Mean overlap of the boxes.
    """
    true_months = np.array([sample.age_months for sample in samples])
    float_errors = np.abs(float_months - true_months)
    bundle_errors = np.abs(bundle_months - true_months)
    changes = np.abs(bundle_months - float_months)
    columns = (true_months, float_months, bundle_months)
    ids = (sample.id for sample in samples)
    return DriftReport(
        samples=len(samples),
        reference=reference.name,
        reference_target=reference.manifest.target,
        is_reference=is_reference,
        float_mae_months=float(float_errors.mean()),
        bundle_mae_months=float(bundle_errors.mean()),
        drift_months=float((bundle_errors - float_errors).mean()),
        drift_ci95_months=bootstrap_interval(bundle_errors - float_errors),
        bias_months=float((bundle_months - true_months).mean()),
        mean_abs_change_months=float(changes.mean()),
        p99_abs_change_months=float(np.percentile(changes, 99)),
        max_abs_change_months=float(changes.max()),
        box_iou_mean=box_iou_mean,
        rows=tuple(DriftRow(*row) for row in zip(ids, *(c.tolist() for c in columns), strict=True)),
    )


def bootstrap_interval(
    differences: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of a mean: paired bootstrap, percentile method.

    Images are drawn with replacement, ``resamples`` times; the interval goes from the 2.5th to
    the 97.5th percentile of the means. It is paired because each image's difference of two errors
    is drawn as one, so what makes an image hard for both models cancels out. Below some 30 images
    the percentile method is too narrow.

    Args:
        differences: ``(N,)`` float64: error of one model minus error of the other, by image.
        resamples: Resamples.
        seed: Seed of the draws; the same seed gives the same interval.
    """
    generator = np.random.default_rng(seed)
    count = len(differences)
    means = np.empty(resamples)
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        drawn = generator.integers(count, size=(size, count))
        means[start : start + size] = differences[drawn].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
