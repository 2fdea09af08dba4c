"""coremltools, imported without its warnings about missing parts, and the layout of packages."""

from __future__ import annotations

import json
import logging
import re
import warnings
from typing import TYPE_CHECKING, Any

from bakit.errors import BundleError, first_line
from bakit.session import TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.sealed import SealedFiles
    from bakit.session import Specs

# Off a Mac it warns once for each native part that is missing, and of any torch newer than itself.
# Neither matters here: no torch model is converted, and missing parts raise errors where needed.
_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as coremltools
        from coremltools.converters.mil import Builder as Builder
        from coremltools.converters.mil.frontend.milproto import load as milproto
        from coremltools.converters.mil.mil import Function as Function
        from coremltools.converters.mil.mil import Program as Program
        from coremltools.converters.mil.mil import types as types
finally:
    logging.disable(_disabled)

__all__ = ["Builder", "Function", "Program", "coremltools", "milproto", "remote_parts", "types"]

MODEL = "Data/com.apple.CoreML/model.mlmodel"
"""Path of the model file in an ``.mlpackage``."""

WEIGHTS = "Data/com.apple.CoreML/weights"
"""Path of the weights' folder."""


_DTYPES = {65552: "float16", 65568: "float32", 131104: "int32"}
"""NumPy's names by ``ArrayFeatureType.ArrayDataType``."""

_PATHS = {path.removeprefix("Data/") for path in (MODEL, WEIGHTS)}
_BLOB_FILE = re.compile(r'\bfileName: "(.*)"')
"""A reference to weights in the text form of a specification, where quotes in texts are escaped."""

_BLOBS = f"@model_path/{WEIGHTS.rpartition('/')[2]}/weight.bin"


def copy_package(files: SealedFiles, model: str, to: Path) -> tuple[Path, Specs]:
    """Copy the ``.mlpackage`` of a model file; return the copy and the model's inputs and outputs.

    Core ML and coremltools open the files of a package themselves: they get those whose digests
    were checked, in a private folder.

    ``to`` is an empty folder.

    Raises:
        BundleError: If a file in the package is damaged or not sealed, or refers to one outside.
    """
    package = model.removesuffix(f"/{MODEL}")
    path = files.root / package
    try:
        content = {name: files.read(name) for name in files.digests}
        spec = coremltools.proto.Model_pb2.Model()
        spec.ParseFromString(content[f"{package}/{MODEL}"])
        listed = json.loads(content[f"{package}/Manifest.json"])
        entries = listed["itemInfoEntries"]
        paths = {item["path"] for item in entries.values()}
        root = entries[listed["rootModelIdentifier"]]["path"]
        kind, blobs = spec.WhichOneof("Type"), set(_BLOB_FILE.findall(str(spec)))
    except BundleError:
        raise
    except Exception as error:  # protobuf's errors have no common base with those of JSON
        message = f"{path}: not a readable Core ML program: {first_line(error)}"
        raise BundleError(message) from error
    if unsealed := files.unsealed(folder=package):
        message = f"{path}: {unsealed[0]!r} is not sealed; remove it, or export the bundle again"
        raise BundleError(message)
    if kind != "mlProgram" or paths - _PATHS or f"Data/{root}" != MODEL or blobs - {_BLOBS}:
        message = f"{path}: refers to files outside of the package; export the bundle again"
        raise BundleError(message)
    for name, data in content.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(data)
    return to / package, (_specs(spec.description.input), _specs(spec.description.output))


def _specs(features: Any) -> tuple[TensorSpec, ...]:  # noqa: ANN401  # coremltools has no types
    arrays = ((feature.name, feature.type.multiArrayType) for feature in features)
    return tuple(
        TensorSpec(name, tuple(array.shape), _DTYPES.get(array.dataType, "unknown"))
        for name, array in arrays
    )


def remote_parts() -> tuple[Any, Any, Any, Any]:
    """Return coremltools' classes for devices: model, credentials, device and kinds of device.

    coremltools calls this part experimental, so it is imported only when it is used.
    """
    from coremltools.models.ml_program.experimental.async_wrapper import (  # noqa: PLC0415
        MLModelAsyncWrapper,
    )
    from coremltools.models.ml_program.experimental.remote_device import (  # noqa: PLC0415
        AppSigningCredentials,
        Device,
        DeviceType,
    )

    return MLModelAsyncWrapper, AppSigningCredentials, Device, DeviceType
