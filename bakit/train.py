"""Labelled radiographs to a float checkpoint, with all that an export needs from it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from bakit import __version__
from bakit.boxes import find_boxes
from bakit.calib.dataset import CalibrationSet
from bakit.calib.select import choose_samples
from bakit.checkpoint import (
    SCHEMA_VERSION,
    Checkpoint,
    FloatReference,
    Header,
    Metrics,
    TrainingRecord,
)
from bakit.dataset import read_samples, split, split_record
from bakit.errors import InputError
from bakit.export.calibration import SAMPLES, ranges_on
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import serialize
from bakit.fitting import Part, fit
from bakit.localizer import initial_weights
from bakit.models import Regressor, load_backbone, regressor_from_weights
from bakit.phantoms import make_phantom
from bakit.preprocess import decode, preprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from bakit.dataset import Sample, Split
    from bakit.geometry import Box
    from bakit.recipes import Recipe
    from bakit.settings import Architecture, LocalizerSettings, Preprocessing

BEST = "best.safetensors"
UNFINISHED = "unfinished.safetensors"
"""The best epoch so far, for ``--pretrained`` after a run that was cut off."""

REFERENCE_SEEDS = range(100, 108)
"""Phantoms whose answers a checkpoint carries, so that an export can be checked without torch."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to train and on what.

    Attributes:
        data: Labelled folder.
        recipe: Numbers of the training.
        architecture: Shape of the regressor.
        preprocessing: How images are prepared.
        localizer: How hands are found.
        exclude: Labelled folders whose ids are left out of all parts.
        split_seed: Seed of the 7:2:1 split.
        seed: Seed of the training.
        description: What the images are, in words.
        terms: Terms of use of the weights, in words.
    """

    data: Path
    recipe: Recipe
    architecture: Architecture
    preprocessing: Preprocessing
    localizer: LocalizerSettings
    exclude: tuple[Path, ...] = ()
    split_seed: int = 0
    seed: int = 0
    description: str = "not described"
    terms: str = "not stated"


def train(
    plan: TrainingPlan,
    out: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    on_image: Callable[[int], None] = lambda _: None,
) -> Checkpoint:
    """Train and write ``best.safetensors`` into ``out``.

    The checkpoint is the epoch with the lowest validation MAE. Its metrics are those of the
    weights as they are stored; the test part is looked at once, for them.

    Args:
        plan: What to train.
        out: Folder of the run: checkpoint, ``logs/metrics.csv`` and the boxes found.
        workers: Processes for the localizer; one a core when None.
        progress: Whether to show the trainer's progress bar.
        on_image: Called with the number of images localized since the last call.

    Raises:
        BakitError: If the data or the pretrained weights cannot be used.
    """
    excluded = sorted({sample.id for folder in plan.exclude for sample in read_samples(folder)})
    parts = split(read_samples(plan.data), plan.split_seed, excluded)
    if len(parts.train) < plan.recipe.batch_size:
        message = (
            f"{plan.data}: {len(parts.train)} training images are fewer than a batch of "
            f"{plan.recipe.batch_size}; use more images or a smaller --batch-size"
        )
        raise InputError(message)
    ages = np.array([sample.age_months for sample in parts.train])
    mean, sd = float(ages.mean()), float(ages.std(ddof=1))
    torch.manual_seed(plan.seed)
    model = Regressor(plan.architecture, mean, sd)
    load_backbone(model, plan.recipe.pretrained)  # may fail: before the long work
    out.mkdir(parents=True, exist_ok=True)
    weights = initial_weights(plan.localizer)
    boxes = _boxes(plan, parts, weights, out / "boxes.json", workers, on_image)
    training, validation, test = (load_part(part, boxes, plan.preprocessing) for part in parts)
    header = Header(SCHEMA_VERSION, plan.architecture, mean, sd, plan.preprocessing, plan.localizer)
    unfinished = out / UNFINISHED
    fitted = fit(
        model,
        training,
        validation,
        plan.recipe,
        out / "logs",
        seed=plan.seed,
        progress=progress,
        on_best=lambda found: Checkpoint(header, found, weights).write(unfinished),
    )
    # Read back before anything is measured: the weights are stored as float16.
    stored = Checkpoint.read(unfinished)
    record = TrainingRecord(
        data=plan.description,
        terms=plan.terms,
        recipe=_flat(plan.recipe),
        split=split_record(parts, plan.split_seed, excluded),
        metrics={"validation": score(stored, validation), "test": score(stored, test)},
        best_epoch=fitted.epoch,
        tool_versions=_tool_versions(),
    )
    calibration = _calibration_set(parts.train, training)
    final = Checkpoint(
        msgspec.structs.replace(header, training=record, ranges=ranges_on(stored, calibration)),
        stored.regressor,
        weights,
        _reference(stored),
    )
    written = final.write(out / BEST)
    unfinished.unlink()
    return written


def load_part(
    samples: Sequence[Sample], boxes: dict[str, Box | None], settings: Preprocessing
) -> Part:
    """Read and preprocess images once.

    Args:
        samples: What to read.
        boxes: The hand by sample id, None for the whole image.
        settings: Preprocessing.
    """
    size = settings.image_size
    images = np.empty((len(samples), 1, size, size), np.uint8)
    for index, sample in enumerate(samples):
        pixels = preprocess(decode(sample.path), boxes[sample.id], settings)
        images[index, 0] = np.rint(pixels * 255)  # exact: preprocess returns multiples of 1/255
    sexes = torch.tensor([[float(sample.male)] for sample in samples])
    ages = torch.tensor([[sample.age_months] for sample in samples])
    return Part(torch.from_numpy(images), sexes, ages)


def score(checkpoint: Checkpoint, part: Part) -> Metrics:
    """Return the float model's errors on preprocessed images."""
    errors = predict_part(checkpoint, part) - part.ages_months.numpy()[:, 0]
    return Metrics(len(errors), float(np.abs(errors).mean()), float(errors.mean()))


def predict_part(checkpoint: Checkpoint, part: Part) -> npt.NDArray[np.float32]:
    """Return the float model's ages in months, ``(N,)`` float32."""
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
    model = regressor_from_weights(checkpoint.header.architecture, weights)
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(part.images), 256):
            window = slice(start, start + 256)
            outputs.append(model(part.images[window].float() / 255, part.sexes[window]))
    ages: npt.NDArray[np.float32] = torch.cat(outputs).numpy()[:, 0]
    return ages


def _boxes(
    plan: TrainingPlan,
    parts: Split,
    weights: dict[str, npt.NDArray[np.float32]],
    cache: Path,
    workers: int | None,
    on_image: Callable[[int], None],
) -> dict[str, Box | None]:
    """Return the hand by sample id; None for all where the plan does not localize."""
    samples = [sample for part in parts for sample in part]
    if not plan.preprocessing.localize:
        return dict.fromkeys((sample.id for sample in samples), None)
    model = serialize(localizer_model(weights, plan.localizer))
    found = find_boxes(
        [sample.path for sample in samples],
        model,
        plan.localizer.size,
        cache,
        workers=workers,
        on_done=on_image,
    )
    return {sample.id: box for sample, box in zip(samples, found, strict=True)}


def _calibration_set(samples: Sequence[Sample], part: Part) -> CalibrationSet:
    """Choose calibration images among the training images, prepared already."""
    rows = {sample.id: index for index, sample in enumerate(samples)}
    pixels = part.images.numpy()
    chosen = choose_samples(samples, SAMPLES)
    return CalibrationSet.load(
        chosen, lambda s: pixels[rows[s.id], 0].astype(np.float32) / np.float32(255)
    )


def _reference(checkpoint: Checkpoint) -> FloatReference:
    """Run the float model on a few phantoms."""
    phantoms = [make_phantom(seed, height=320) for seed in REFERENCE_SEEDS]
    settings = checkpoint.header.preprocessing
    pixels = [preprocess(decode(phantom.image), phantom.box, settings) for phantom in phantoms]
    images = np.rint(np.stack(pixels) * 255).astype(np.uint8)
    sexes = np.array([phantom.male for phantom in phantoms], np.float32)
    part = Part(
        torch.from_numpy(images)[:, None],
        torch.from_numpy(sexes)[:, None],
        torch.zeros(len(phantoms), 1),
    )
    return FloatReference(images, sexes, predict_part(checkpoint, part))


def _flat(recipe: Recipe) -> dict[str, str | int | float | bool | None]:
    """Return the recipe's numbers by name, pairs as text."""
    fields = msgspec.to_builtins(recipe)
    return {name: str(v) if isinstance(v, (list, tuple)) else v for name, v in fields.items()}


def _tool_versions() -> dict[str, str]:
    libraries = ("lightning", "numpy", "opencv-python-headless", "safetensors", "torch")
    versions = {name: version(name) for name in (*libraries, "torchvision")}
    return {"bakit": __version__, "python": platform.python_version()} | versions
