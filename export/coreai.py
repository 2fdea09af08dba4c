"""Export for Core AI, Core ML's successor from iOS 27 and macOS 27: ``.aimodel`` folders. Beta.

The same checkpoint always gives the same bytes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import coreai_onnx
from coreai.authoring import AIProgram
from coreai.runtime import AIModelAssetMetadata

from bakit.backends.coreai import ABOUT, FILES
from bakit.export.onnx.int8 import FLOAT_BIASES
from bakit.export.onnx.metadata import properties
from bakit.export.ort import write_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

_WEIGHTS = re.compile(r"\bresource_\d+\b")


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.aimodel`` and ``localizer.aimodel``, which is float32.

    INT8 has the integers and scales of the target ``onnx``, but float32 biases: the converter
    rejects INT32 ones.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """

    def write(role: Role, graph: ModelProto) -> list[str]:
        package = out / f"{role}.aimodel"
        _named(coreai_onnx.convert(graph)).save_asset(package, _metadata(properties(graph)))
        about = json.loads((package / ABOUT).read_bytes()) | {"creationDate": "19700101T000000Z"}
        (package / ABOUT).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
        return [f"{package.name}/{name}" for name in FILES]

    return write_models(checkpoint, request, out, write, FLOAT_BIASES._replace(fitted=True))


def _named(program: Any) -> Any:  # noqa: ANN401  # Core AI has no types
    """Return a program whose weights are named by their position.

    Core AI names them by a hash that differs in each process. Only its text form can be renamed.
    """
    module = program._module._mlir_module  # nothing public gives the text
    numbers: dict[str, int] = {}
    text = _WEIGHTS.sub(
        lambda name: f"weights_{numbers.setdefault(name[0], len(numbers))}",
        module.operation.get_asm(),
    )
    return AIProgram._from_mlir_module(type(module).parse(text, module.context))


def _metadata(about: Mapping[str, str]) -> Any:  # noqa: ANN401
    """Return a model's properties, as Xcode shows them."""
    metadata = AIModelAssetMetadata()
    metadata.author, metadata.license = "bakit", about["license"]
    metadata.model_description = about["description"]
    for key, value in about.items():
        metadata.set_custom(key, value)
    return metadata
