"""Metrics, prediction intervals and reference outputs of a trained model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from bakit.errors import InputError
from bakit.hand.prepare import crop, to_bytes
from bakit.image.read import decode
from bakit.model.checkpoint import FloatReference, Metrics
from bakit.model.intervals import FEWEST, coverage, fit_intervals
from bakit.model.regressor import regressor_from_weights
from bakit.phantoms import make_phantom
from bakit.training.crops import Part

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.model.checkpoint import Checkpoint
    from bakit.model.intervals import Intervals
    from bakit.types import Floats


REFERENCE_SEED = 106
"""The phantom whose predictions as a girl and a boy are stored in a checkpoint, to check an export
without torch. At 224 pixels it takes 50 kB; another one would exceed 16 MB in all."""


def score(checkpoint: Checkpoint, part: Part, intervals: Intervals | None = None) -> Metrics:
    """Return the float model's errors on preprocessed images, and the interval coverage."""
    predicted, true = predicted_and_true(checkpoint, part)
    errors = predicted - true
    held = None
    if intervals is not None:
        held = coverage(intervals, predicted, true, _males(part)).overall.share
    return Metrics(len(errors), float(np.abs(errors).mean()), float(errors.mean()), held)


def intervals_from(checkpoint: Checkpoint, validation: Part) -> Intervals | None:
    """Return intervals fitted on the validation split; None if it is too small."""
    if len(validation.ages_months) < FEWEST:
        return None
    predicted, true = predicted_and_true(checkpoint, validation)
    males = _males(validation) if checkpoint.header.architecture.sex else None
    return fit_intervals(predicted, true, males)


def predicted_and_true(checkpoint: Checkpoint, part: Part) -> tuple[Floats, Floats]:
    """Return the float model's predictions and the labels in months, each ``(N,)`` float64."""
    true: Floats = part.ages_months.numpy()[:, 0].astype(np.float64)
    return predict_part(checkpoint, part).astype(np.float64), true


def predict_part(checkpoint: Checkpoint, part: Part) -> npt.NDArray[np.float32]:
    """Return the predictions in months, ``(N,)`` float32, for the localizer's crops."""
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
    model = regressor_from_weights(checkpoint.header.architecture, weights)
    with torch.inference_mode():
        outputs = [
            model(part.images[window, :1].float() / 255, part.sexes[window])
            for window in part.windows()
        ]
    ages: npt.NDArray[np.float32] = torch.cat(outputs).numpy()[:, 0]
    return ages


def taught(teacher: Checkpoint, part: Part, weight: float) -> Part:
    """Return a part whose labels are mixed with a teacher's predictions (self-distillation).

    The teacher predicts the mean of the localizer's crop and its mirror image. Labels are one
    report each, with the errors of their readers; the mean of views has a smaller error.

    ``weight`` is that of the predictions, 0 to 1.

    Raises:
        InputError: If the teacher takes images of another size.
    """
    size, found = teacher.header.preprocessing.image_size, part.images.shape[-1]
    if size != found:
        message = f"--teacher takes images of {size} pixels; train with --image-size {size}"
        raise InputError(message)
    # One crop is copied per view: all crops of a training set can fill the memory.
    first = part.images[:, :1]
    views = (replace(part, images=first), replace(part, images=first.flip(3)))
    mean = np.mean([predict_part(teacher, view) for view in views], axis=0)
    mixed = torch.lerp(part.ages_months, torch.from_numpy(mean)[:, None], weight)
    return replace(part, ages_months=mixed)


def reference_answers(checkpoint: Checkpoint) -> FloatReference:
    """Return the float model's predictions for a phantom, as a girl and as a boy."""
    phantom = make_phantom(REFERENCE_SEED, height=320)
    settings = checkpoint.header.preprocessing
    box = phantom.box if settings.localize else None
    image = to_bytes(crop(decode(phantom.image), box, phantom.inverted, settings))[None]
    sexes = np.array([0, 1], np.float32)
    images = torch.from_numpy(image).repeat(len(sexes), 1, 1)[:, None]
    part = Part(images, torch.from_numpy(sexes)[:, None], torch.zeros(len(sexes), 1))
    return FloatReference(image, sexes, predict_part(checkpoint, part))


def _males(part: Part) -> npt.NDArray[np.bool_]:
    males: npt.NDArray[np.bool_] = part.sexes.numpy()[:, 0] > 0.5
    return males
