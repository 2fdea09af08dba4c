"""A reference runtime for Core ML programs: runs an ``.mlpackage`` in numpy, without a Mac.

It follows the definition of each operator: float16 results are rounded to float16, and quantized
values are integers. It checks the file and does not simulate a phone: products are summed in
float32, and Apple's hardware sums in its own order and width.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.backends.coreml_library import (
    MODEL,
    WEIGHTS,
    copy_package,
    coremltools,
    milproto,
    types,
)
from bakit.backends.mil_operators import OPERATORS
from bakit.errors import BundleError, first_line
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Specs, Tensors

    Values = dict[Any, Any]
    """Arrays by the variables of the program."""


class MilSession(Closing):
    """The program of an ``.mlpackage``, opened in numpy, with its outputs' dtypes.

    Raises:
        BundleError: If it cannot be read, or an operator is not implemented here.
    """

    provider = "coreml-reference-numpy"
    specs: Specs | None = None

    def __init__(self, package: Path, dtypes: Mapping[str, str]) -> None:
        try:
            spec = coremltools.proto.Model_pb2.Model()
            spec.ParseFromString((package / MODEL).read_bytes())
            weights = str(package / WEIGHTS)
            program: Any = milproto.load(spec, spec.specificationVersion, weights)
            self._main: Any = program.functions["main"]
        except Exception as error:  # protobuf's, coremltools' and the system's have no common base
            message = f"{package}: not a readable Core ML program: {first_line(error)}"
            raise BundleError(message) from error
        self._dtypes = dict(dtypes)
        self._constants: Values = {}
        self._prepare(self._main, package)
        outputs = sorted(variable.name for variable in self._main.outputs)
        if outputs != sorted(dtypes):
            message = f"{package}: outputs {outputs}; the manifest names {sorted(dtypes)}"
            raise BundleError(message)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        inputs = {
            variable: np.asarray(feeds[name], np.float32)
            for name, variable in self._main.inputs.items()
        }
        results = self._execute(self._main, self._constants | inputs)
        return {
            variable.name: value.astype(self._dtypes[variable.name])
            for variable, value in zip(self._main.outputs, results, strict=True)
        }

    def close(self) -> None:
        """Free the weights."""
        self._constants, self._main = {}, None

    def _prepare(self, block: Any, package: Path) -> None:  # noqa: ANN401
        """Compute the constants of a block and of those inside it; refuse unknown operators."""
        for operation in block.operations:
            kind, output = operation.op_type, operation.outputs[0]
            if kind == "const":
                self._constants[output] = _constant(output.val)
            elif kind not in OPERATORS and kind != "while_loop":
                message = (
                    f"{package}: the reference runtime does not implement the operator {kind!r} "
                    f"({operation.name})"
                )
                raise BundleError(message)
            elif kind.startswith("constexpr_"):
                self._constants[output] = _compute(operation, self._constants)
            for inner in operation.blocks:
                self._prepare(inner, package)

    def _execute(self, block: Any, values: Values) -> list[Any]:  # noqa: ANN401
        """Return a block's outputs; ``values`` are the constants and what it may read."""
        for operation in block.operations:
            if operation.op_type == "while_loop":
                state = [values[variable] for variable in operation.inputs["loop_vars"]]
                condition, body = operation.blocks
                while self._execute(condition, _entering(condition, state, values))[0]:
                    state = self._execute(body, _entering(body, state, values))
                values.update(zip(operation.outputs, state, strict=True))
            elif operation.outputs[0] not in self._constants:
                values[operation.outputs[0]] = _compute(operation, values)
        return [values[variable] for variable in block.outputs]


def _entering(block: Any, state: Sequence[Any], values: Values) -> Values:  # noqa: ANN401
    return values | dict(zip(block.inputs, state, strict=True))


def _compute(operation: Any, values: Values) -> Any:  # noqa: ANN401
    """Return the output of one operation."""
    given = {
        key: [values[item] for item in value] if isinstance(value, (list, tuple)) else values[value]
        for key, value in operation.inputs.items()
        if value is not None
    }
    function = OPERATORS[operation.op_type]
    if isinstance(function, np.ufunc):  # its operands have no names
        result = function(*(given[name] for name in ("x", "y") if name in given))
    else:
        result = function(**given)
    return _round_half(result) if operation.outputs[0].dtype is types.fp16 else result


def _round_half(value: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Round to float16 and return float32, in which numpy computes faster."""
    with np.errstate(over="ignore"):  # beyond 65504 it is infinite, as on the device
        return value.astype(np.float16).astype(np.float32)


def _constant(value: Any) -> Any:  # noqa: ANN401
    """Return a constant's value; float16 as float32."""
    if isinstance(value, (str, bool)):
        return value
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> MilSession:
    """Open a copy of the package that contains the model file; numpy chooses its threads.

    Raises:
        BundleError: If it cannot be read, or an operator is not implemented here.
    """
    del threads
    with TemporaryDirectory(prefix="bakit-") as folder:
        package, specs = copy_package(files, artifact.path, Path(folder))
        session = MilSession(package, {spec.name: spec.dtype for spec in artifact.outputs})
    session.specs = specs
    return session
