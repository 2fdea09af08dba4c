"""Export for Core ML: the graphs as ``.mlpackage`` folders for iOS 17 and macOS 14."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.export.artifact import artifact
from bakit.export.coreml_graph import program
from bakit.export.coreml_writer import convert, write_package
from bakit.export.onnx.int8 import SYMMETRIC, int8_share, quantize, quantize_weights, round_once
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.regressor import regressor_model
from bakit.export.ort import checked_ranges
from bakit.settings import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

DESCRIPTIONS: dict[Role, str] = {
    "localizer": "Finds the hand in a radiograph, for cropping before the bone-age model.",
    "regressor": "Says the skeletal age in months of a cropped hand radiograph. Not a medical "
    "device.",
}
FEATURES = {
    "image": "Grey radiograph (1, 1, S, S), float32 in 0..1; prepared as docs/ios.md says.",
    "sex": "(1, 1): 1 for male, 0 for female.",
    "age_months": "(1, 1): skeletal age, in months.",
    "hand": "(S, S): how likely each pixel is the hand, 0..1.",
    "labels": "(S, S): the segment of each pixel, an integer.",
}
UNVERIFIED = "unverified on Apple hardware; verify on a Mac: bakit verify BUNDLE --on-device"


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.mlpackage`` and ``localizer.mlpackage``.

    The localizer stays float32: it is small, and its threshold decides on single pixels.

    * FP16: weights and arithmetic of the regressor are float16, its last layer float32.
    * INT8: weights INT8 per output channel, activations INT8 around zero per tensor, everything
      else float16.
    * INT8 weights: the same weights, no ranges, float16 arithmetic.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
        UnsupportedTargetError: If the translation of an operator is not implemented.
    """
    header = checkpoint.header
    regressor = regressor_model(checkpoint)
    share = 0.0
    if request.precision is Precision.INT8:
        ranges = checked_ranges(checkpoint, request)
        regressor = round_once(quantize(regressor, ranges, SYMMETRIC))
        share = int8_share(regressor)
    elif request.precision is Precision.INT8_WEIGHTS:
        regressor = quantize_weights(regressor)
    localizer = localizer_model(checkpoint.localizer, header.localizer, request.localizer_form)
    artifacts = []
    graphs: dict[Role, ModelProto] = {"localizer": localizer, "regressor": regressor}
    for role, graph in graphs.items():
        half = role == "regressor" and request.precision is not Precision.FP32
        name = f"{role}.mlpackage"
        metadata = {
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": checkpoint.sha256,
            "precision": request.precision.value if role == "regressor" else "fp32",
            "verified": UNVERIFIED,
        }
        files = write_package(
            convert(program(graph), half=half), out / name, DESCRIPTIONS[role], FEATURES, metadata
        )
        first, *others = (f"{name}/{path}" for path in files)
        written = share if role == "regressor" else 0.0
        artifacts.append(artifact(role, out, first, header, written, tuple(others)))
    return artifacts
