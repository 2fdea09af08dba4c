"""INT8 ranges of a checkpoint: computed on a calibration set, or read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.calib.methods import DEFAULT_METHOD, find_ranges
from bakit.calib.statistics import gather
from bakit.data.overlap import id_hashes
from bakit.documents import read_versioned
from bakit.errors import InputError
from bakit.export.onnx.int8 import observed_model
from bakit.export.onnx.regressor import regressor_model
from bakit.files import write_file
from bakit.settings import Ranges

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.calib.dataset import CalibrationSet
    from bakit.calib.statistics import Statistics
    from bakit.model.checkpoint import Checkpoint

DIGITS = 16
"""Hex digits stored per image digest; enough to identify one of thousands of images."""


def ranges_on(
    checkpoint: Checkpoint, calibration: CalibrationSet, method: str = DEFAULT_METHOD
) -> Ranges:
    """Compute ranges for the default float layers on prepared images."""
    statistics = gather(observed_model(regressor_model(checkpoint)), calibration)
    return ranges_from(checkpoint, calibration, statistics, method)


def ranges_from(
    checkpoint: Checkpoint, calibration: CalibrationSet, statistics: Statistics, method: str
) -> Ranges:
    """Compute ranges from statistics, for the default float layers."""
    return Ranges(
        method=method,
        samples=len(calibration),
        calibration_sha256=calibration.digest,
        weights_sha256=checkpoint.weights_sha256,
        tensors=find_ranges(statistics, method),
        images_sha256=tuple(digest[:DIGITS] for digest in calibration.images_sha256),
        # Made-up sets have samples and no images.
        id_hashes=id_hashes(calibration.samples) if calibration.images_sha256 else "",
    )


def read_ranges(path: Path) -> Ranges:
    """Read a ``ranges.json`` of ``bakit calibrate``.

    Raises:
        InputError: If it is missing or another kind of file.
    """
    ranges, _ = read_versioned(
        path,
        Ranges,
        1,
        InputError,
        missing="{path}: no such ranges file ({reason})",
        wrong="not a ranges file of bakit calibrate",
    )
    return ranges


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges as JSON."""
    write_file(path, msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
