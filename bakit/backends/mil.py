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

from bakit.backends.coreml_library import MODEL, WEIGHTS, copy_package, coremltools, milproto
from bakit.backends.mil_operators import OPERATORS
from bakit.errors import BundleError, first_line
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Specs, Tensors

    Values = dict[int, Any]


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
            program = milproto.load(spec, spec.specificationVersion, weights)
            function = program.functions["main"]
        except Exception as error:  # protobuf's, coremltools' and the system's have no common base
            message = f"{package}: not a readable Core ML program: {first_line(error)}"
            raise BundleError(message) from error
        self._dtypes = dict(dtypes)
        self._program = program  # a value's key is the identity of its variable, kept alive here
        self._inputs = {name: id(variable) for name, variable in function.inputs.items()}
        self._outputs = {variable.name: id(variable) for variable in function.outputs}
        self._constants: Values = {}
        self._steps = self._compile(function, package)
        if set(self._outputs) != set(dtypes):
            message = (
                f"{package}: outputs {sorted(self._outputs)}; the manifest names {sorted(dtypes)}"
            )
            raise BundleError(message)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        values = self._constants | {
            key: np.asarray(feeds[name], np.float32) for name, key in self._inputs.items()
        }
        for step in self._steps:
            step(values)
        return {
            name: values[self._outputs[name]].astype(dtype) for name, dtype in self._dtypes.items()
        }

    def close(self) -> None:
        """Free the weights."""
        self._steps, self._constants, self._program = [], {}, None

    def _compile(self, block: Any, package: Path) -> list[Callable[[Values], None]]:  # noqa: ANN401
        """Return a step for each operation; constant expressions are computed at once."""
        steps: list[Callable[[Values], None]] = []
        for operation in block.operations:
            kind = operation.op_type
            if kind == "const":
                self._constants[id(operation.outputs[0])] = _constant(operation.outputs[0].val)
            elif kind == "while_loop":
                steps.append(self._loop(operation, package))
            elif kind in OPERATORS:
                step = _step(operation)
                if all(key in self._constants for key in _keys(operation)):
                    step(self._constants)
                else:
                    steps.append(step)
            else:
                message = (
                    f"{package}: the reference runtime does not implement the operator {kind!r} "
                    f"({operation.name})"
                )
                raise BundleError(message)
        return steps

    def _loop(self, operation: Any, package: Path) -> Callable[[Values], None]:  # noqa: ANN401
        """Return the step of a ``while_loop``."""
        start = [id(variable) for variable in operation.inputs["loop_vars"]]
        results = [id(variable) for variable in operation.outputs]
        condition, body = operation.blocks
        tests, steps = (self._compile(block, package) for block in (condition, body))
        tested = [id(variable) for variable in condition.inputs]
        entering = [id(variable) for variable in body.inputs]
        proceed = id(condition.outputs[0])
        leaving = [id(variable) for variable in body.outputs]

        def run(values: Values) -> None:
            state = [values[key] for key in start]
            while True:
                values.update(zip(tested, state, strict=True))
                for test in tests:
                    test(values)
                if not values[proceed]:
                    break
                values.update(zip(entering, state, strict=True))
                for step in steps:
                    step(values)
                state = [values[key] for key in leaving]
            values.update(zip(results, state, strict=True))

        return run


def _step(operation: Any) -> Callable[[Values], None]:  # noqa: ANN401
    """Return the step of one operation: it adds the output to the values."""
    compute = OPERATORS[operation.op_type]
    output = operation.outputs[0]
    result = id(output)
    half = coremltools.converters.mil.mil.types.builtin_to_string(output.dtype) == "fp16"
    arguments = {
        key: [id(item) for item in value] if isinstance(value, (list, tuple)) else id(value)
        for key, value in operation.inputs.items()
        if value is not None
    }

    def run(values: Values) -> None:
        given = {
            key: [values[item] for item in source] if isinstance(source, list) else values[source]
            for key, source in arguments.items()
        }
        value = compute(**given)
        values[result] = _round_half(value) if half else value

    return run


def _keys(operation: Any) -> list[int]:  # noqa: ANN401
    """Return the keys of an operation's inputs."""
    values = [value for value in operation.inputs.values() if value is not None]
    lists = [value if isinstance(value, (list, tuple)) else [value] for value in values]
    return [id(item) for items in lists for item in items]


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
