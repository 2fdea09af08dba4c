"""Gather the INT8 ranges of a checkpoint on its training images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.backends.ort import OrtSession
from bakit.calib.dataset import CalibrationSet
from bakit.calib.ranges import collect_ranges
from bakit.calib.select import choose_samples
from bakit.checkpoint import Checkpoint
from bakit.dataset import read_samples, split
from bakit.export.onnx_graph import regressor_model
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import serialize
from bakit.files import write_file
from bakit.preprocess import decode, preprocess
from bakit.runtime import locate
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
    on_done: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Choose training images of a labelled folder and gather activation ranges on them.

    Args:
        checkpoint: The float checkpoint.
        data: The labelled folder. Only the training part of its 7:2:1 split is touched, made with
            the checkpoint's own seed and exclusions: no image that a score is taken on.
        count: Images to choose.
        seed: Seed of the choice.
        on_done: Called with the number of images done since the last call.

    Raises:
        LabelsError: If the folder cannot be read.
        ImageError: If an image cannot be used.
    """
    record = checkpoint.header.training
    parts = split(
        read_samples(data),
        record.split_seed if record else 0,
        record.excluded_ids if record else (),
    )
    header = checkpoint.header
    localizer = OrtSession(serialize(localizer_model(checkpoint.localizer, header.localizer)))

    def prepare(sample: Sample) -> Grey:
        grey = decode(sample.path)
        box = None
        if header.preprocessing.localize:
            box = locate(grey, localizer, header.localizer.size)
        on_done(1)
        return preprocess(grey, box, header.preprocessing)

    chosen = choose_samples(parts.train, count, seed)
    return ranges_on(checkpoint, CalibrationSet.load(chosen, prepare, data.name))


def calibrate_file(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
    on_done: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Run ``calibrate`` from a file to a file; arguments as there."""
    ranges = calibrate(Checkpoint.read(checkpoint), data, count=count, seed=seed, on_done=on_done)
    write_file(out, msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
    return ranges


def ranges_on(checkpoint: Checkpoint, calibration: CalibrationSet) -> Ranges:
    """Gather the ranges of the graph that export writes, on prepared images."""
    inputs = regressor_inputs(checkpoint.header.architecture, checkpoint.header.preprocessing)
    model = serialize(regressor_model(checkpoint))
    return collect_ranges(model, [spec.name for spec in inputs], calibration)
