"""Write a ``.tflite`` file, a flatbuffer, node by node with the schema of ``ai_edge_litert``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Named = Mapping[str, "Tensor"]

_ALIGNMENT = 16  # bytes, the schema's alignment of constants
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "int8": 9}  # schema.TensorType
# Operators whose version depends on the type of the first input; otherwise it is 1.
_VERSIONS = {("DEQUANTIZE", "float16"): 3, ("DEQUANTIZE", "int8"): 2, ("PAD", "int8"): 2}
_VERSIONS |= {("CONV_2D", "int8"): 3, ("DEPTHWISE_CONV_2D", "int8"): 3}


class Scales(NamedTuple):
    """Quantization of a tensor: ``real = scale * (integer - zero)``, one scale or one per index."""

    scale: tuple[float, ...]
    zero: int = 0
    axis: int = 0  # of the scales


class Tensor(NamedTuple):
    """A tensor of the file: its number, shape, dtype (NumPy's name) and quantization."""

    number: int
    shape: tuple[int, ...]
    dtype: str
    scales: Scales | None


class _Buffer(schema.BufferT):  # type: ignore[misc]  # the schema has no types
    """A constant, aligned as the schema demands; the schema's Python code does not align it."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # the schema's name
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class TfliteWriter:
    """Collects the operators and constants of one graph."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # number 0 stands for no data
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scales: Scales | None = None,
        data: bytes | None = None,
    ) -> Tensor:
        """Add an input, a tensor that an operator writes, or a constant with ``data``."""
        buffer = 0 if data is None else self._buffer(data)
        added = schema.TensorT(shape=list(shape), type=_TYPES[dtype], buffer=buffer, name=name)
        if scales is not None:
            added.quantization = schema.QuantizationParametersT(
                scale=list(scales.scale),
                zeroPoint=[scales.zero] * len(scales.scale),
                quantizedDimension=scales.axis,
            )
        self._tensors.append(added)
        return Tensor(len(self._tensors) - 1, tuple(shape), dtype, scales)

    def constant(
        self, name: str, value: npt.NDArray[np.generic], scales: Scales | None = None
    ) -> Tensor:
        """Add a constant of float32, float16, int32 or int8."""
        return self.tensor(name, value.shape, value.dtype.name, scales, value.tobytes())

    def node(
        self, operator: str, inputs: Sequence[Tensor], output: Tensor, options: Any = None
    ) -> Tensor:
        """Add an operator of the schema with its options, and return its output."""
        version = _VERSIONS.get((operator, inputs[0].dtype), 1)
        code = (getattr(schema.BuiltinOperator, operator), version)
        added = schema.OperatorT(
            opcodeIndex=self._codes.setdefault(code, len(self._codes)),
            inputs=[tensor.number for tensor in inputs],
            outputs=[output.number],
        )
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            added.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            added.builtinOptions = options
        self._operators.append(added)
        return output

    def serialize(
        self, inputs: Named, outputs: Named, description: str, metadata: Mapping[str, bytes]
    ) -> bytes:
        """Return the file's bytes, the same for the same calls, with documents in ``metadata``."""
        sides = [
            [schema.TensorMapT(name, tensor.number) for name, tensor in side.items()]
            for side in (inputs, outputs)
        ]
        numbers = [[item.tensorIndex for item in side] for side in sides]
        model = schema.ModelT(
            version=3,
            operatorCodes=[
                # The first field for a code ends at 127, above all of these.
                schema.OperatorCodeT(code, version=version, builtinCode=code)
                for code, version in self._codes
            ],
            subgraphs=[schema.SubGraphT(self._tensors, *numbers, self._operators, "main")],
            description=description,
            metadata=[schema.MetadataT(key, self._buffer(data)) for key, data in metadata.items()],
            signatureDefs=[schema.SignatureDefT(*sides, signatureKey="serving_default")],
            buffers=self._buffers,
        )
        builder = flatbuffers.Builder(2**20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        self._buffers.append(_Buffer(data))
        return len(self._buffers) - 1
