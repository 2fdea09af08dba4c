"""Write a Core ML program as an ``.mlpackage``, the same bytes for the same program."""

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
from bakit.backends.coreml_library import MODEL, coremltools
from bakit.backends.coreml_library import WEIGHTS as WEIGHTS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

WEIGHTS = f"{WEIGHTS_FOLDER}/weight.bin"
PACKAGE_MANIFEST = "Manifest.json"
_SPACE = uuid.UUID("6f0f2a39-5a6e-5c1e-9d0b-8f5c2f0b7a11")


def convert(program: Any, *, half: bool) -> Any:  # coremltools has no types
    """Return a MIL program as a Core ML model for iOS 17 and macOS 14.

    Args:
        program: A ``coremltools`` program.
        half: Whether the arithmetic is float16. The last layer stays float32: between 128 and 256
            months, float16 has steps of 1/8 month.
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
    description: str,
    features: Mapping[str, str],
    metadata: Mapping[str, str],
) -> tuple[str, ...]:
    """Write a model of ``convert`` as an ``.mlpackage``; return its files, the one to open first.

    Core ML's own writer adds random identifiers and the date; here they follow from names.

    Args:
        model: The model.
        package: The folder to write.
        description: Description of the model, shown in Xcode.
        features: Description of each input and output, by name.
        metadata: Further entries, by name.
    """
    spec = model.get_spec()
    about = spec.description.metadata
    about.shortDescription, about.author = description, "bakit"
    about.versionString = __version__
    about.userDefined.clear()
    for key, value in metadata.items():
        about.userDefined[key] = value
    for item in (*spec.description.input, *spec.description.output):
        item.shortDescription = features[item.name]
    (package / WEIGHTS).parent.mkdir(parents=True)
    (package / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    shutil.copyfile(Path(model.weights_dir) / "weight.bin", package / WEIGHTS)
    entries = {}
    for path, name in ((MODEL, "Model Specification"), (WEIGHTS_FOLDER, "Model Weights")):
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
    return MODEL, PACKAGE_MANIFEST, WEIGHTS
