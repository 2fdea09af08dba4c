"""``bakit evaluate``: run the whole pipeline on labelled images and compute the errors."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.statistics import mean_interval
from bakit.bundle import Bundle
from bakit.errors import InputError
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.model.intervals import coverage
from bakit.score.engine import LocalReaders
from bakit.studies.evaluate.agreement import agreement_of, bland_altman
from bakit.studies.evaluate.document import (
    BIN_MONTHS,
    SCHEMA_VERSION,
    AgeErrors,
    Compared,
    Errors,
    Evaluation,
    Model,
    Predicted,
    Readings,
    Unscored,
    age_bin,
    worst_of,
)
from bakit.studies.evaluate.run_all import run_all
from bakit.types import Precision, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.model.intervals import Intervals
    from bakit.runtime import Prediction, Runtime
    from bakit.score.engine import Readers
    from bakit.studies.evaluate.choose import Images
    from bakit.studies.evaluate.document import Data
    from bakit.types import Floats, OnProgress

WORST = 10


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


def evaluate_sets(
    model: Bundle | Checkpoint,
    sets: Iterable[Images],
    *,
    workers: int | None = None,
    threads: int = 1,
    on_progress: OnProgress = silent,
    open_readers: Callable[..., Readers] = LocalReaders,
) -> list[Readings]:
    """Predict the images of several sets and compare the predictions with the labels.

    A checkpoint runs as a temporary float32 ONNX bundle, so the figures include localizer and crop.
    ``open_readers`` is as in ``run_all``.

    Returns:
        An ``Evaluation`` for each set; ``Readings`` for one without ages.

    Raises:
        VerificationError: If a predicted age is not a number.
        BakitError: As ``run_all``.
    """
    results: list[Readings] = []
    with as_bundle(model) as bundle:
        for images in sets:
            used, unused = run_all(
                bundle,
                images.samples,
                _predict,
                workers=workers,
                threads=threads,
                on_progress=on_progress,
                open_readers=open_readers,
            )
            described = describe_model(model, bundle, used[0][1].provider)
            predictions = [_predicted(sample, prediction, bundle) for sample, prediction in used]
            unscored = [Unscored(sample.id, reason) for sample, reason in unused]
            compared = [item for item in predictions if isinstance(item, Compared)]
            if compared:
                intervals = bundle.manifest.intervals
                results.append(score(described, images.data, compared, unscored, intervals))
            else:
                results.append(Readings(**_common(described, images.data, predictions, unscored)))
    return results


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
    predictions: Sequence[Compared],
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
        **_common(model, data, predictions, unscored),
        mae_months=float(off.mean()),
        mae_ci95_months=mean_interval(off),
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
        bland_altman=bland_altman(errors),
        worst=worst_of(predictions, WORST),
    )


def _common(
    model: Model, data: Data, predictions: Sequence[Predicted], unscored: Sequence[Unscored]
) -> dict[str, Any]:
    """Return the fields of ``Readings``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "data": data,
        "samples": len(predictions),
        "quality": dict(Counter(item.quality.status for item in predictions)),
        "no_hand_found": sum("no_hand_found" in item.quality.reasons for item in predictions),
        "unscored": tuple(unscored),
        "agreement": agreement_of(predictions),
        "predictions": tuple(predictions),
    }


def _errors(errors: Floats) -> tuple[int, float, float]:
    return len(errors), float(np.abs(errors).mean()), float(errors.mean())


def _predicted(sample: Sample, prediction: Prediction, bundle: Bundle) -> Predicted:
    assert prediction.age_months is not None  # because of allow_rejected
    age_months = check_age(prediction.age_months, bundle, sample)
    found = Predicted(
        id=sample.id,
        male=sample.male,
        predicted_months=age_months,
        interval_months=prediction.interval_months,
        box=prediction.box,
        quality=prediction.quality,
        pair=sample.pair,
        side=sample.side,
    )
    if math.isnan(sample.age_months):
        return found
    error = age_months - sample.age_months
    fields = {name: getattr(found, name) for name in found.__struct_fields__}
    return Compared(**fields, age_months=sample.age_months, error_months=error)


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
