"""LiteRT, formerly TensorFlow Lite, on a CPU: XNNPACK, and LiteRT's own kernels for the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import ai_edge_litert
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import Model

from bakit.errors import BundleError, first_line
from bakit.processes import quiet
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Tensors

DELEGATE, BUILT_IN = "litert-xnnpack", "litert-builtin"
_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


class LiteRtSession(Closing):
    """A ``.tflite`` model, opened in LiteRT's interpreter.

    Attributes:
        executed: Shares of the multiply-adds by unit and number format.
        provider: The unit with the largest share: ``litert-xnnpack`` or ``litert-builtin``.
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded, or its constants are in other files.
    """

    def __init__(self, model: bytes, threads: int = 1, *, name: str = "the model") -> None:
        try:
            if Model.GetRootAs(model, 0).ExternalBufferGroupsLength():
                message = "its constants are in other files; export the bundle again"
                raise ValueError(message)  # noqa: TRY301
            with quiet():  # it announces XNNPACK on stderr, without a setting against it
                self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except Exception as error:  # neither LiteRT's errors nor flatbuffers' have a common base
            version = ai_edge_litert.__version__
            message = f"{name}: LiteRT {version} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        self._inputs = {item["name"]: item["index"] for item in inputs}
        self._outputs = {item["name"]: item["index"] for item in outputs}
        self.specs = _specs(inputs), _specs(outputs)
        self.executed = executed_shares(self._layers())
        self.provider = self.executed[0].unit if self.executed else BUILT_IN

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, np.ascontiguousarray(feeds[name]))
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(i) for name, i in self._outputs.items()}

    def _layers(self) -> Iterator[tuple[str, str, int]]:
        """Yield unit, number format and multiply-adds of each layer.

        The interpreter keeps every operator of the file and adds its delegate's. It runs those that
        the outputs need; if a delegate writes a tensor, the file's operator does not run.
        """
        operators = self._interpreter._get_ops_details()  # nothing public lists them
        tensors = {item["index"]: item for item in self._interpreter.get_tensor_details()}
        operators.sort(key=lambda item: item["op_name"] == "DELEGATE")
        writers = {int(index): item for item in operators for index in item["outputs"]}
        waiting, running = [*self._outputs.values()], set()
        while waiting:
            item = writers.get(int(waiting.pop()))
            if item is not None and item["index"] not in running:
                running.add(item["index"])
                waiting.extend(item["inputs"])
        for item in operators:
            if item["op_name"] in _LAYERS:
                weight = tensors[item["inputs"][1]]
                pixels = math.prod(tensors[item["outputs"][0]]["shape"][:-1].tolist())
                unit = BUILT_IN if item["index"] in running else DELEGATE
                precision = "int8" if weight["dtype"] == np.int8 else "f32"
                yield unit, precision, pixels * math.prod(weight["shape"].tolist())

    def close(self) -> None:
        """Free the model."""
        self._interpreter = None


def _specs(details: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(i["name"], tuple(i["shape_signature"].tolist()), np.dtype(i["dtype"]).name)
        for i in details
    )


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> LiteRtSession:
    """Open a ``.tflite`` file.

    Raises:
        BundleError: If it cannot be loaded, or its constants are in other files.
    """
    name = str(files.root / artifact.path)
    return LiteRtSession(files.read(artifact.path), threads, name=name)
