"""``bakit evaluate``: run the whole pipeline on labelled images and compute the errors."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.statistics import bootstrap_interval
from bakit.bundle import Bundle
from bakit.data.labels import ids_digest, read_samples, take_part, thin
from bakit.data.parallel import check_count
from bakit.errors import InputError
from bakit.files import printable
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.model.intervals import coverage
from bakit.studies.evaluate.document import (
    BIN_MONTHS,
    SCHEMA_VERSION,
    AgeErrors,
    Data,
    Errors,
    Evaluation,
    Model,
    Part,
    Predicted,
    Unscored,
    age_bin,
    worst_of,
)
from bakit.studies.evaluate.run_all import run_all
from bakit.types import Precision, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.model.intervals import Intervals
    from bakit.runtime import Prediction, Runtime
    from bakit.settings import SplitRecord
    from bakit.types import Floats, OnProgress

WORST = 10


class Images(NamedTuple):
    """The labelled images to use, at least one, and their description."""

    samples: list[Sample]
    data: Data


def open_model(
    bundle: Path | str | None = None, checkpoint: Path | str | None = None
) -> Bundle | Checkpoint:
    """Read a bundle or a checkpoint; the shipped checkpoint when both are None.

    Raises:
        InputError: If both are given.
        BundleError, CheckpointError: If it is damaged or another kind of file.
    """
    if bundle is None:
        return Checkpoint.read(SHIPPED if checkpoint is None else Path(checkpoint))
    if checkpoint is not None:
        message = "use a bundle or a checkpoint, not both"
        raise InputError(message)
    return Bundle.read(Path(bundle))


def choose_images(
    folder: Path | str,
    model: Bundle | Checkpoint,
    part: Part | Literal["auto"] = "auto",
    limit: int | None = None,
) -> Images:
    """Choose the labelled images to evaluate a model on.

    Args:
        folder: A labelled folder.
        model: The model; its stored split separates training and test images.
        part: ``auto``: the test split if ``folder`` is the training folder, else all images.
            Images that training excluded are in no split.
        limit: Maximum number of images, spread evenly over ``labels.csv``.

    Raises:
        LabelsError: If the labels cannot be used.
        InputError: If ``part`` needs the training folder and this is another one, or the limit is
            below 1.
    """
    check_count("limit", limit)
    folder = Path(folder)
    everything = read_samples(folder)
    records = _split_records(model)
    held_out = take_part(everything, records)
    if part == "auto":
        part = "all" if held_out is None else "test"
    usable = everything if part == "all" else take_part(everything, records, part)
    if usable is None:
        message = (
            f"{folder}: not the model's training folder, so it has no {part} split; use --part all"
        )
        raise InputError(message)
    samples = thin(usable, limit)
    data = Data(
        folder=printable(folder.resolve().name),
        images=len(everything),
        part=part,
        available=len(usable),
        trained_on=held_out is not None,
        ids_sha256=ids_digest(samples),
    )
    return Images(samples, data)


def evaluate(
    model: Bundle | Checkpoint,
    images: Images,
    *,
    workers: int | None = None,
    threads: int = 1,
    on_progress: OnProgress = silent,
) -> Evaluation:
    """Predict labelled images and compare the predictions with the labels.

    A checkpoint runs as a temporary float32 ONNX bundle, so the figures include localizer and crop.

    Args:
        model: The model to evaluate.
        images: The images to evaluate it on (``choose_images``).
        workers: As for ``run_all``.
        threads: As for ``run_all``.
        on_progress: Called after each image.

    Raises:
        VerificationError: If a predicted age is not a number.
        BakitError: As ``run_all``.
    """
    with as_bundle(model) as bundle:
        used, unused = run_all(
            bundle,
            images.samples,
            _predict,
            workers=workers,
            threads=threads,
            on_progress=on_progress,
        )
    return score(
        describe_model(model, bundle, used[0][1].provider),
        images.data,
        [_predicted(sample, prediction, bundle) for sample, prediction in used],
        [Unscored(sample.id, reason) for sample, reason in unused],
        bundle.manifest.intervals,
    )


def _predict(runtime: Runtime, sample: Sample) -> Prediction:
    # Rejected images count too; the quality status is reported separately.
    return runtime.predict(sample.path, "M" if sample.male else "F", allow_rejected=True)


def describe_model(model: Bundle | Checkpoint, bundle: Bundle, provider: str) -> Model:
    """Describe a model, the bundle that was run (``as_bundle``) and its provider."""
    manifest = bundle.manifest
    return Model(
        source="bundle" if isinstance(model, Bundle) else "checkpoint",
        checkpoint=manifest.checkpoint,
        checkpoint_sha256=manifest.checkpoint_sha256,
        bundle=bundle.name,
        bundle_sha256=bundle.sha256,
        target=manifest.target,
        precision=manifest.precision,
        provider=provider,
    )


def score(
    model: Model,
    data: Data,
    predictions: Sequence[Predicted],
    unscored: Sequence[Unscored] = (),
    intervals: Intervals | None = None,
) -> Evaluation:
    """Compute all statistics of at least one prediction; ``intervals`` are those of the model."""
    ages = np.array([item.age_months for item in predictions])
    predicted = np.array([item.predicted_months for item in predictions])
    male = np.array([item.male for item in predictions])
    bins = np.array([age_bin(age) for age in ages])
    errors = predicted - ages
    off = np.abs(errors)
    spread = len(ages) > 1 and np.ptp(ages) > 0 and np.ptp(predicted) > 0
    return Evaluation(
        schema_version=SCHEMA_VERSION,
        model=model,
        data=data,
        samples=len(ages),
        mae_months=float(off.mean()),
        mae_ci95_months=bootstrap_interval(off),
        bias_months=float(errors.mean()),
        rmse_months=float(np.sqrt((errors**2).mean())),
        median_abs_error_months=float(np.median(off)),
        within_12_months=float((off <= 12).mean()),
        within_24_months=float((off <= 24).mean()),
        correlation=float(np.corrcoef(ages, predicted)[0, 1]) if spread else None,
        by_sex={
            sex: Errors(*_errors(errors[group]))
            for sex, group in (("F", ~male), ("M", male))
            if group.any()
        },
        by_age=tuple(
            AgeErrors(
                *_errors(errors[bins == start]),
                from_months=float(start),
                to_months=float(start + BIN_MONTHS),
            )
            for start in np.unique(bins)
        ),
        coverage=coverage(intervals, predicted, ages, male) if intervals else None,
        quality=dict(Counter(item.quality.status for item in predictions)),
        no_hand_found=sum("no_hand_found" in item.quality.reasons for item in predictions),
        unscored=tuple(unscored),
        worst=worst_of(predictions, WORST),
        predictions=tuple(predictions),
    )


def _errors(errors: Floats) -> tuple[int, float, float]:
    return len(errors), float(np.abs(errors).mean()), float(errors.mean())


def _predicted(sample: Sample, prediction: Prediction, bundle: Bundle) -> Predicted:
    assert prediction.age_months is not None  # because of allow_rejected
    age_months = check_age(prediction.age_months, bundle, sample)
    return Predicted(
        id=sample.id,
        male=sample.male,
        age_months=sample.age_months,
        predicted_months=age_months,
        error_months=age_months - sample.age_months,
        interval_months=prediction.interval_months,
        box=prediction.box,
        quality=prediction.quality,
    )


def _split_records(model: Bundle | Checkpoint) -> list[SplitRecord]:
    if isinstance(model, Bundle):
        record = model.manifest.split
    else:
        training = model.header.training
        record = training.split if training else None
    return [] if record is None else [record]


@contextmanager
def as_bundle(model: Bundle | Checkpoint) -> Iterator[Bundle]:
    """Yield the bundle itself, or a temporary export of the checkpoint."""
    if isinstance(model, Bundle):
        yield model
        return
    from bakit.export import export_bundle  # noqa: PLC0415  # an extra

    with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
        out = Path(folder) / f"{model.name}-onnx-{Precision.FP32.value}"
        yield export_bundle(model, "onnx", Precision.FP32, out)
