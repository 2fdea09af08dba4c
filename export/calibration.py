"""Gather the INT8 ranges of a checkpoint on its training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.calib.dataset import CalibrationSet
from bakit.calib.ranges import collect_ranges
from bakit.calib.select import choose_samples
from bakit.checkpoint import SHIPPED, Checkpoint
from bakit.dataset import known_split, read_samples
from bakit.errors import InputError
from bakit.export.onnx_graph import regressor_model
from bakit.export.onnx_writer import serialize
from bakit.export.session import open_localizer
from bakit.files import write_file
from bakit.locate import locate
from bakit.preprocess import decode, preprocess
from bakit.tensors import regressor_inputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bakit.checkpoint import Ranges
    from bakit.dataset import Sample
    from bakit.preprocess import Grey

SAMPLES = 256
"""Calibration images by default."""


def calibrate(
    checkpoint: Checkpoint,
    data: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
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
        all_images: Use any image of the folder, which holds none of the training data.
        on_done: Called with the number of images done since the last call.

    Raises:
        InputError: If it is another folder than the checkpoint was trained on.
        LabelsError: If the folder cannot be read.
        ImageError: If an image cannot be used.
    """
    record = checkpoint.header.training
    samples = read_samples(data)
    if not all_images:
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
        samples = parts.train
    header = checkpoint.header
    localizer = open_localizer(checkpoint.localizer, header.localizer)

    def prepare(sample: Sample) -> Grey:
        grey = decode(sample.path)
        box = None
        if header.preprocessing.localize:
            box = locate(grey, localizer, header.localizer).box
        on_done(1)
        return preprocess(grey, box, header.preprocessing)

    return ranges_on(checkpoint, CalibrationSet.load(choose_samples(samples, count, seed), prepare))


def calibrate_file(
    checkpoint: Path | None,
    data: Path,
    out: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
    all_images: bool = False,
    on_done: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Run ``calibrate`` on a file, or the shipped checkpoint when None, and write a file."""
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    ranges = calibrate(loaded, data, count=count, seed=seed, all_images=all_images, on_done=on_done)
    write_file(out, msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
    return ranges


def ranges_on(checkpoint: Checkpoint, calibration: CalibrationSet) -> Ranges:
    """Gather the ranges of the graph that export writes, on prepared images."""
    inputs = regressor_inputs(checkpoint.header.architecture, checkpoint.header.preprocessing)
    model = serialize(regressor_model(checkpoint))
    names = [spec.name for spec in inputs]
    return collect_ranges(model, names, calibration, checkpoint.weights_sha256)
