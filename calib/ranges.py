"""The lowest and highest value of every activation, gathered with ONNX Runtime."""

from __future__ import annotations

import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

from bakit.checkpoint import Ranges
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bakit.calib.dataset import CalibrationSet
    from bakit.targets import Tensors

PERCENTILE = 99.99
"""Share of the values that the range keeps: a few outliers must not cost everyone's resolution."""

# ONNX Runtime keeps every activation of the images it was given until it has counted them.
_CHUNK = 16


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
    """Hands a few feeds to ONNX Runtime."""

    def __init__(self, feeds: Sequence[Tensors], inputs: Sequence[str]) -> None:
        self._feeds: Iterator[Tensors] = iter(feeds)
        self._inputs = inputs

    def get_next(self) -> dict[str, Any] | None:
        feed = next(self._feeds, None)
        return None if feed is None else {name: feed[name] for name in self._inputs}


def collect_ranges(
    model: bytes,
    inputs: Sequence[str],
    calibration: CalibrationSet,
    weights_sha256: str,
) -> Ranges:
    """Measure activation ranges of a float regressor.

    Args:
        model: The float ONNX model.
        inputs: Names of its inputs.
        calibration: Images to run it on.
        weights_sha256: Digest of the model's weights, so that ranges are not used for others.

    Returns:
        The range of every tensor that ONNX Runtime's calibrator looks at, by name.
    """
    feeds = list(calibration)
    # ONNX Runtime prints what it does.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        path = Path(folder) / "float.onnx"
        path.write_bytes(model)
        calibrator = create_calibrator(
            path,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE, "num_bins": 2048, "symmetric": False},
        )
        for start in range(0, len(feeds), _CHUNK):
            chunk = feeds[start : start + _CHUNK]
            calibrator.collect_data(_Reader(chunk, inputs))
        data = calibrator.compute_data()
    tensors = {}
    for name in sorted(data.keys()):
        low, high = (float(value.item()) for value in data[name].range_value)
        tensors[name] = (low, high)
    return Ranges(
        method=f"percentile {PERCENTILE}",
        samples=len(calibration),
        calibration_sha256=calibration.digest,
        weights_sha256=weights_sha256,
        tensors=tensors,
    )


def read_ranges(path: Path) -> Ranges:
    """Read a file of ranges that ``bakit calibrate`` wrote.

    Raises:
        InputError: If it is missing or something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ranges)
    except OSError as error:
        message = f"{path}: no such file of ranges ({error.strerror or error})"
        raise InputError(message) from error
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        message = f"{path}: not a file of ranges that bakit calibrate wrote ({error})"
        raise InputError(message) from error
