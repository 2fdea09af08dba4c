"""Export for Core ML: the graphs as ``.mlpackage`` folders for iOS 17 and macOS 14.

The same checkpoint always gives the same bytes.
"""

from __future__ import annotations

import io
import json
import shutil
import uuid
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakit import __version__
from bakit.backends.coreml_library import MODEL, WEIGHTS, coremltools
from bakit.export.artifact import artifact
from bakit.export.coreml_graph import program
from bakit.export.onnx.int8 import SYMMETRIC, int8_share, quantize, quantize_weights, round_once
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.metadata import TENSORS, metadata
from bakit.export.onnx.regressor import regressor_model
from bakit.export.ort import checked_ranges
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

UNVERIFIED = "unverified on Apple hardware; verify on a Mac: bakit verify BUNDLE --on-device"

WEIGHTS_FILE = f"{WEIGHTS}/weight.bin"
PACKAGE_MANIFEST = "Manifest.json"
_SPACE = uuid.UUID("6f0f2a39-5a6e-5c1e-9d0b-8f5c2f0b7a11")


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
        precision = request.precision if role == "regressor" else Precision.FP32
        properties = metadata(checkpoint, role, precision) | {"verified": UNVERIFIED}
        files = write_package(convert(program(graph), half=half), out / name, properties)
        first, *others = (f"{name}/{path}" for path in files)
        written = share if role == "regressor" else 0.0
        artifacts.append(artifact(role, out, first, header, written, tuple(others)))
    return artifacts


def convert(program: Any, *, half: bool) -> Any:  # coremltools has no types
    """Return a MIL program as a Core ML model, computed in float16 if ``half``.

    The last layer stays float32: between 128 and 256 months, float16 has steps of 1/8 month.
    """
    precision = coremltools.precision.FLOAT32
    if half:
        precision = coremltools.transform.FP16ComputePrecision(
            op_selector=lambda op: not op.name.startswith("age_months")
        )
    # It draws progress bars, and leaves a temporary folder to the garbage collector.
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return coremltools.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            compute_precision=precision,
            minimum_deployment_target=coremltools.target.iOS17,
            skip_model_load=True,
        )


def write_package(
    model: Any,
    package: Path,
    properties: Mapping[str, str],
) -> tuple[str, ...]:
    """Write a model of ``convert`` as an ``.mlpackage``; return its files, the one to open first.

    Core ML's own writer adds random identifiers and the date; here they follow from names. Xcode
    shows the properties and what the inputs and outputs hold.
    """
    spec = model.get_spec()
    about = spec.description.metadata
    about.shortDescription, about.author = properties["description"], "bakit"
    about.license = properties["license"]
    about.versionString = __version__
    about.userDefined.clear()
    for key, value in properties.items():
        about.userDefined[key] = value
    for item in (*spec.description.input, *spec.description.output):
        item.shortDescription = TENSORS.get(item.name, "")
    (package / WEIGHTS_FILE).parent.mkdir(parents=True)
    (package / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    shutil.copyfile(Path(model.weights_dir) / "weight.bin", package / WEIGHTS_FILE)
    entries = {}
    for path, name in ((MODEL, "Model Specification"), (WEIGHTS, "Model Weights")):
        inside = path.removeprefix("Data/")
        entries[str(uuid.uuid5(_SPACE, inside)).upper()] = {
            "author": "com.apple.CoreML",
            "description": f"CoreML {name}",
            "name": Path(inside).name,
            "path": inside,
        }
    content = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": next(iter(entries)),
    }
    (package / PACKAGE_MANIFEST).write_text(json.dumps(content, indent=4, sort_keys=True) + "\n")
    return MODEL, PACKAGE_MANIFEST, WEIGHTS_FILE
