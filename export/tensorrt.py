"""Export for TensorRT: graphs from which each device builds its own engine.

An engine runs only with the TensorRT and on the GPU that built it, so a bundle contains graphs:

* ``regressor.onnx``: float32, opset 13, for weak typing, where builder flags set the precision. The
  Jetson Nano's TensorRT 8.2 has no other mode; TensorRT 11 has removed it.
* ``regressor.cache``: scales of the activations, in TensorRT's text format, for INT8 before 8.5.
* ``regressor-qdq.onnx``: INT8 as symmetric quantize-dequantize pairs, biases in float32, from 8.5.
* ``regressor-qdq-fp16.onnx``: the same, with float16 between the pairs, strongly typed, from 10.
* ``regressor-fp16.onnx``: float16, strongly typed, opset 19, from 10.
* ``*-depthwise.onnx``: INT8 with float depthwise layers, built if TensorRT cannot build the first
  graph: 8.6 has no INT8 kernels for some depthwise layers (NVIDIA/TensorRT issue 4060).
* ``localizer.onnx``: always float32.

No convolution has weights that are computed at run time: TensorRT before 8.5 rejects these.
"""

from __future__ import annotations

import importlib.util
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from bakit.bundle import Build
from bakit.errors import MissingBackendError, UnsupportedTargetError
from bakit.export.artifact import artifact
from bakit.export.check.judge import check_builds
from bakit.export.onnx.float16 import LAST, half_model
from bakit.export.onnx.int8 import (
    LAYERS,
    SYMMETRIC,
    depthwise_layers,
    int8_share,
    quantize,
    round_once,
)
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.metadata import describe, metadata
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.export.ort import checked_ranges
from bakit.runtime import Runtime
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Bundle, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.targets import ExportRequest

OLDEST = "8.2"
"""Version in JetPack 4.6.1, the last one for the Jetson Nano; 8.0 lacks operators of the models."""

EXPLICIT_INT8 = "8.5"
STRONG_TYPES = "10.0"

FLOAT, FLOAT16, INT8 = "regressor.onnx", "regressor-fp16.onnx", "regressor-qdq.onnx"
INT8_HALF = "regressor-qdq-fp16.onnx"
FALLBACKS = ("regressor-qdq-depthwise.onnx", "regressor-qdq-fp16-depthwise.onnx")
CACHE = "regressor.cache"
BOTH: Final = ("fp16", "int8")
"""Flags of an INT8 engine: without the first, its float layers are float32."""
LOCALIZER = "localizer.onnx"


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write the graphs of both models.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
        VerificationError: If a TensorRT that builds a graph would reject it
            (``bakit.export.check``).
    """
    header = checkpoint.header
    regressor = regressor_model(checkpoint)
    models = {FLOAT: regressor}
    cache = b""
    path, share = FLOAT, 0.0
    builds: tuple[Build, ...] = (Build(FLOAT, OLDEST),)
    if request.precision is Precision.FP16:
        path = FLOAT16
        models[FLOAT16] = half_model(regressor)
        builds = (
            Build(FLOAT, OLDEST, STRONG_TYPES, ("fp16",)),
            Build(FLOAT16, STRONG_TYPES, strongly_typed=True),
        )
    elif request.precision is Precision.INT8:
        path = INT8
        ranges = with_float_layers(checked_ranges(checkpoint, request), (LAST,))
        depthwise = with_float_layers(ranges, depthwise_layers(regressor))
        for names, item in (((INT8, INT8_HALF), ranges), (FALLBACKS, depthwise)):
            quantized = round_once(quantize(regressor, item, SYMMETRIC))
            models |= {names[0]: quantized, names[1]: half_model(quantized)}
        share = int8_share(models[INT8])
        models[FLOAT] = regressor
        cache = calibration_cache(regressor, ranges)
        builds = (
            Build(FLOAT, OLDEST, EXPLICIT_INT8, BOTH, calibration_cache=CACHE),
            Build(INT8, EXPLICIT_INT8, STRONG_TYPES, BOTH),
            Build(INT8_HALF, STRONG_TYPES, strongly_typed=True),
            Build(FALLBACKS[0], EXPLICIT_INT8, STRONG_TYPES, BOTH),
            Build(FALLBACKS[1], STRONG_TYPES, strongly_typed=True),
        )
    localizer = localizer_model(checkpoint.localizer, header.localizer, request.localizer_form)
    models[LOCALIZER] = localizer
    localizer_builds = (Build(LOCALIZER, OLDEST),)
    check_builds(models, (*builds, *localizer_builds))
    files = {}
    for name, model in models.items():
        role: Role = "localizer" if name == LOCALIZER else "regressor"
        precision = request.precision if role == "regressor" else Precision.FP32
        files[name] = serialize(describe(model, metadata(checkpoint, role, precision)))
    if cache:
        files[CACHE] = cache
    for name, data in files.items():
        (out / name).write_bytes(data)
    others = tuple(name for name in files if name not in {path, LOCALIZER})
    return [
        artifact("localizer", out, LOCALIZER, header, builds=localizer_builds),
        artifact("regressor", out, path, header, share, others, builds),
    ]


def with_float_layers(ranges: Ranges, layers: Iterable[str]) -> Ranges:
    """Return INT8 ranges that leave further layers float."""
    kept = tuple(sorted({*ranges.float_layers, *layers}))
    return msgspec.structs.replace(ranges, float_layers=kept)


def finish(bundle: Bundle) -> None:
    """Build the engines now if this machine has TensorRT and a GPU that can run them.

    Otherwise the bundle is for another device, which builds them at first use.
    """
    if importlib.util.find_spec("tensorrt") is None:
        return
    with suppress(MissingBackendError, UnsupportedTargetError), Runtime(bundle):
        pass


def calibration_cache(model: ModelProto, ranges: Ranges) -> bytes:
    """Return the activations' scales as the text that TensorRT's calibrators read.

    One line per tensor: its name and its scale, the largest magnitude over 127, as a big-endian
    float32 in hexadecimal. Tensors of float layers only have no line, so these layers stay float.
    """
    kept = set(ranges.float_layers)
    touched = {
        name
        for node in model.graph.node
        if node.op_type in LAYERS and node.name not in kept
        for name in (node.input[0], node.output[0])
    }
    lines = ["TRT-8200-EntropyCalibration2"]
    for name, (low, high) in ranges.tensors.items():
        if name in touched:
            scale = max(abs(low), abs(high)) / 127
            lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return ("\n".join(lines) + "\n").encode()
