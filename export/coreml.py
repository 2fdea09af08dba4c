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
from bakit.export.coreml_graph import program
from bakit.export.onnx.int8 import SYMMETRIC, round_once
from bakit.export.onnx.metadata import TENSORS, properties
from bakit.export.ort import write_models
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

    def write(role: Role, graph: ModelProto) -> list[str]:
        is_regressor = role == "regressor"
        half = is_regressor and request.precision is not Precision.FP32
        model = convert(program(round_once(graph) if is_regressor else graph), half=half)
        name = f"{role}.mlpackage"
        about = properties(graph) | {"verified": UNVERIFIED}
        return [f"{name}/{path}" for path in write_package(model, out / name, about)]

    return write_models(checkpoint, request, out, write, SYMMETRIC)


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
    about: Mapping[str, str],
) -> tuple[str, ...]:
    """Write a model of ``convert`` as an ``.mlpackage``; return its files, the one to open first.

    Core ML's own writer adds random identifiers and the date; here they follow from names. Xcode
    shows the properties and what the inputs and outputs hold.
    """
    spec = model.get_spec()
    metadata = spec.description.metadata
    metadata.shortDescription, metadata.author = about["description"], "bakit"
    metadata.license = about["license"]
    metadata.versionString = __version__
    metadata.userDefined.clear()
    for key, value in about.items():
        metadata.userDefined[key] = value
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
