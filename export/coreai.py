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
from bakit.export.artifact import artifact
from bakit.export.onnx.int8 import FLOAT_BIASES, int8_share
from bakit.export.ort import onnx_models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

_WEIGHTS = re.compile(r"\bresource_\d+\b")


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.aimodel`` and ``localizer.aimodel``, which is float32.

    INT8 has the integers and scales of the target ``onnx``, with float32 biases: Core AI's converter
    rejects INT32 ones.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    artifacts = []
    for role, graph in onnx_models(checkpoint, request, FLOAT_BIASES).items():
        package = out / f"{role}.aimodel"
        _named(coreai_onnx.convert(graph)).save_asset(package, _metadata(graph))
        about = json.loads((package / ABOUT).read_bytes())
        about["creationDate"] = "19700101T000000Z"
        (package / ABOUT).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
        share = int8_share(graph) if role == "regressor" else 0.0
        first, *others = (f"{package.name}/{name}" for name in FILES)
        artifacts.append(artifact(role, out, first, checkpoint.header, share, tuple(others)))
    return artifacts


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


def _metadata(graph: ModelProto) -> Any:  # noqa: ANN401
    """Return the properties of ``bakit.export.onnx.metadata``, as Xcode shows them."""
    properties = {item.key: item.value for item in graph.metadata_props}
    about = AIModelAssetMetadata()
    about.author, about.license = "bakit", properties["license"]
    about.model_description = properties["description"]
    for key, value in properties.items():
        about.set_custom(key, value)
    return about
