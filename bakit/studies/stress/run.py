"""Put labelled radiographs through changes that do not change a bone's age, and measure."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.statistics import bootstrap_interval
from bakit.data.images import Unreadable, refuse_calibration_images
from bakit.errors import ImageError, InputError
from bakit.image.read import decode
from bakit.studies.evaluate.predict_all import run_all
from bakit.studies.evaluate.run import as_bundle, describe_model
from bakit.studies.stress.document import SCHEMA_VERSION, Condition, Stress
from bakit.studies.stress.perturb import perturbations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.runtime import Runtime
    from bakit.studies.evaluate.run import Images
    from bakit.types import Floats


class Seen(NamedTuple):
    """What a model says of one image, untouched first, then changed in every way.

    Attributes:
        ages_months: The ages.
        statuses: The qualities.
        provider: What ran it.
    """

    ages_months: list[float]
    statuses: Sequence[str]
    provider: str


def stress(
    model: Bundle | Checkpoint,
    images: Images,
    kinds: Sequence[str] = (),
    *,
    workers: int | None = None,
    threads: int = 1,
    on_image: Callable[[int], None] = lambda _: None,
) -> Stress:
    """Measure a model's errors on images that are changed.

    Args:
        model: What to judge; a checkpoint is run as a float32 ONNX bundle.
        images: What to judge it on (``bakit.studies.evaluate.run.choose_images``).
        kinds: Kinds of change, see ``bakit.studies.stress.perturb``; all of them by default.
        workers: As for ``bakit.studies.evaluate.predict_all``.
        threads: Threads of each process's backend.
        on_image: Called with the number of images done since the last call.

    Raises:
        InputError: If a kind is unknown, no image can be used, or the bundle's INT8 ranges were
            gathered on one of the images.
        BundleError: If a bundle is damaged or fails to run.
        MissingBackendError: If a library is not installed.
        VerificationError: If the model answers with something that is no number.
    """
    changes = perturbations(kinds)
    with as_bundle(model) as bundle:
        refuse_calibration_images([sample.path for sample in images.samples], [bundle])
        outcomes = run_all(
            bundle,
            images.samples,
            partial(_see, kinds=tuple(kinds)),
            workers=workers,
            threads=threads,
            on_image=on_image,
        )
    used, seen, unreadable = [], [], []
    for sample, outcome in zip(images.samples, outcomes, strict=True):
        if isinstance(outcome, Unreadable):
            unreadable.append((sample, outcome))
            continue
        for age in outcome.ages_months:
            check_age(age, bundle, sample)
        used.append(sample)
        seen.append(outcome)
    if not seen:
        sample, outcome = unreadable[0]
        message = f"{sample.path}: {outcome.reason}; no other image can be used"
        raise InputError(message)
    true = np.array([sample.age_months for sample in used])
    ages = np.array([item.ages_months for item in seen]).T
    statuses = np.array([item.statuses for item in seen]).T
    names = [("none", "untouched"), *((item.kind, item.name) for item in changes)]
    untouched, *conditions = (
        _condition(*name, true, ages[0], months, status)
        for name, months, status in zip(names, ages, statuses, strict=True)
    )
    return Stress(
        SCHEMA_VERSION,
        describe_model(model, bundle, seen[0].provider),
        images.data,
        len(unreadable),
        untouched,
        tuple(conditions),
    )


def _see(runtime: Runtime, sample: Sample, kinds: tuple[str, ...]) -> Seen | Unreadable:
    """Predict an image and all its changes; processes get the kinds, not the functions."""
    try:
        grey = decode(sample.path)
    except ImageError as error:
        return Unreadable(str(error).removeprefix(f"{sample.path}: "))
    ages: list[float] = []
    statuses: list[str] = []
    provider = ""
    for image in (grey, *(change.apply(grey) for change in perturbations(kinds))):
        prediction = runtime.predict(image, "M" if sample.male else "F", allow_rejected=True)
        age = prediction.age_months
        ages.append(math.nan if age is None else age)  # refused later: a number was asked for
        statuses.append(prediction.quality.status)
        provider = prediction.provider
    return Seen(ages, statuses, provider)


def _condition(
    kind: str,
    name: str,
    true: Floats,
    before: Floats,
    after: Floats,
    statuses: npt.NDArray[np.str_],
) -> Condition:
    """Compute the statistics of one change of all images, ``(N,)`` each."""
    errors = np.abs(after - true)
    rises = errors - np.abs(before - true)
    return Condition(
        kind=kind,
        name=name,
        samples=len(true),
        mae_months=float(errors.mean()),
        mae_rise_months=float(rises.mean()),
        mae_rise_ci95_months=bootstrap_interval(rises),
        mean_abs_change_months=float(np.abs(after - before).mean()),
        over_12_months=float((errors > 12).mean()),
        over_24_months=float((errors > 24).mean()),
        reviewed=float((statuses == "review").mean()),
        rejected=float((statuses == "reject").mean()),
    )
