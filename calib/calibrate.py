"""Gather the INT8 ranges of a checkpoint on its training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.calib.dataset import CalibrationSet
from bakit.calib.methods import METHODS, find_ranges
from bakit.calib.select import choose_samples
from bakit.calib.statistics import gather
from bakit.data.labels import known_split, read_samples
from bakit.errors import ImageError, InputError
from bakit.export.onnx.int8 import observed_model
from bakit.export.onnx.localizer import open_localizer
from bakit.export.onnx.regressor import regressor_model
from bakit.hand.prepare import prepare
from bakit.image.read import decode
from bakit.session import regressor_specs
from bakit.settings import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.calib.statistics import Statistics
    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.types import Grey

SAMPLES = 256
"""Calibration images by default."""

MIN_SAMPLES = 32
"""Fewer images do not show what values an activation takes."""

DEFAULT_METHOD = next(iter(METHODS))
DIGITS = 16
"""Hex digits that are kept of an image's digest: enough to tell one from some thousands."""


def calibrate(
    checkpoint: Checkpoint,
    data: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
    method: str = DEFAULT_METHOD,
    all_images: bool = False,
    on_done: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Choose training images of a labelled folder and gather activation ranges on them.

    Args:
        checkpoint: The float checkpoint.
        data: The labelled folder that the checkpoint was trained on. Only the training part of
            its 7:2:1 split is touched: no image that a score is taken on.
        count: Images to choose.
        seed: Seed of the choice.
        method: How ranges are made of what is seen (``bakit.calib.methods``).
        all_images: Use any image of the folder, which holds none of the training data.
        on_done: Called with the number of images done since the last call.

    Raises:
        InputError: If it is another folder than the checkpoint was trained on, or there are too
            few images, or of one sex only.
        LabelsError: If the folder cannot be read.
        ImageError: If an image cannot be used.
    """
    samples, _ = calibration_parts(checkpoint, data, all_images=all_images)
    chosen = choose_samples(samples, count, seed)
    check_calibration(checkpoint, data, chosen)
    return ranges_on(checkpoint, load_images(checkpoint, chosen, on_done), method)


def calibration_parts(
    checkpoint: Checkpoint, data: Path, *, all_images: bool = False
) -> tuple[list[Sample], list[Sample]]:
    """Return the images to calibrate on, and those to judge a recipe on.

    Args:
        checkpoint: The float checkpoint.
        data: A labelled folder.
        all_images: Whether the folder shares no image with the training data. All of them are
            then to calibrate on; otherwise the parts are the training and the validation part.

    Raises:
        InputError: If it is another folder than the checkpoint was trained on.
        LabelsError: If the folder cannot be read.
    """
    record = checkpoint.header.training
    samples = read_samples(data)
    if all_images:
        return samples, []
    if record is None:
        message = f"{checkpoint.path}: does not say what it was trained on; use --all-images"
        raise InputError(message)
    parts = known_split(samples, record.split)
    if parts is None:
        message = (
            f"{data}: not the folder that {checkpoint.name} was trained on, so its training "
            "images cannot be told from its test images; calibrate on that folder, or with "
            "bakit calibrate --all-images on one that shares no image with it"
        )
        raise InputError(message)
    return list(parts.train), list(parts.validation)


def check_calibration(checkpoint: Checkpoint, data: Path, chosen: Sequence[Sample]) -> None:
    """Refuse images that ranges cannot be gathered on."""
    if len(chosen) < MIN_SAMPLES:
        message = (
            f"{data}: {len(chosen)} calibration images; at least {MIN_SAMPLES} are needed, some "
            "hundred are better"
        )
        raise InputError(message)
    if checkpoint.header.architecture.sex and len({sample.male for sample in chosen}) == 1:
        sex = "boys" if chosen[0].male else "girls"
        message = f"{data}: all calibration images are of {sex}; the model needs both sexes"
        raise InputError(message)


def load_images(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    on_done: Callable[[int], None] = lambda _: None,
) -> CalibrationSet:
    """Prepare images as the checkpoint's bundle would."""
    header = checkpoint.header
    localizer = open_localizer(checkpoint.localizer, header.localizer)

    def load(sample: Sample) -> Grey:
        pixels = prepare(decode(sample.path), localizer, header.preprocessing).pixels
        if pixels.min() == pixels.max():
            message = f"{sample.path}: the hand's crop is all one grey; not a radiograph"
            raise ImageError(message)
        on_done(1)
        return pixels

    return CalibrationSet.load(samples, load)


def ranges_on(
    checkpoint: Checkpoint, calibration: CalibrationSet, method: str = DEFAULT_METHOD
) -> Ranges:
    """Gather the ranges of the graph that export writes, on prepared images."""
    statistics = statistics_of(checkpoint, regressor_model(checkpoint), calibration)
    return ranges_from(checkpoint, calibration, statistics, method)


def statistics_of(
    checkpoint: Checkpoint,
    model: ModelProto,
    calibration: CalibrationSet,
    on_done: Callable[[int], None] = lambda _: None,
) -> Statistics:
    """Look at the activations of a float graph of the checkpoint."""
    inputs, _ = regressor_specs(checkpoint.header.architecture, checkpoint.header.preprocessing)
    return gather(observed_model(model), [spec.name for spec in inputs], calibration, on_done)


def ranges_from(
    checkpoint: Checkpoint, calibration: CalibrationSet, statistics: Statistics, method: str
) -> Ranges:
    """Make ranges of what was seen, for the default recipe."""
    return Ranges(
        method=method,
        samples=len(calibration),
        calibration_sha256=calibration.digest,
        weights_sha256=checkpoint.weights_sha256,
        tensors=find_ranges(statistics, method),
        images_sha256=tuple(digest[:DIGITS] for digest in calibration.images_sha256),
    )
