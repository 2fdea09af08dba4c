"""Write an ONNX graph node by node: the portable profile, the same bytes for the same graph.

Profile: opset 13, IR 7, the default operator domain only, static shapes. It loads from ONNX
Runtime 1.10 (Jetson Nano) up to today's runtimes. The whole graph needs opset 16 and IR 8 (ONNX
Runtime 1.12), and its film has any size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    checker,
    helper,
    numpy_helper,
)

from bakit import __version__
from bakit.errors import VerificationError
from bakit.session import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt


class Profile(NamedTuple):
    """What a graph may use."""

    opset: int
    ir_version: int
    any_size: tuple[str, ...] = ()  # inputs of any shape


PORTABLE = Profile(13, 7)
WHOLE = Profile(16, 8, ("film",))

# Unknown to TensorRT before 8.6.
FORBIDDEN_OPERATORS = frozenset({"HardSwish", "OneHot", "Mod"})


class GraphWriter:
    """Collects the nodes and constants of one graph.

    Args:
        parent: The graph around this one, if this is a loop's body; it stores the constants.
        prefix: Prefix of every generated name.
    """

    def __init__(self, parent: GraphWriter | None = None, prefix: str = "") -> None:
        self._root: GraphWriter = parent._root if parent else self
        self._prefix = prefix
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._counts: dict[str, int] = {}

    def constant(
        self, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None, name: str | None = None
    ) -> str:
        """Add an initializer and return its name; equal ones without a name are stored once.

        Its dtype is the array's own, and its name generated, when None.
        """
        root = self._root
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype)).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if name is None:
            if key in root._shared:
                return root._shared[key]
            name = root._unique("const")
            root._shared[key] = name
        root._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def node(
        self,
        operator: str,
        *inputs: str | np.generic | npt.NDArray[Any],
        name: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return the output's name; arrays become constants."""
        name = name or self._unique(operator)
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        return self.nodes(operator, *names, outputs=[name], **attributes)[0]

    def nodes(
        self, operator: str, *inputs: str, outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Add a node with named outputs."""
        self._nodes.append(
            helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)
        )
        return list(outputs)

    def inline(self, graph: GraphProto, prefix: str, names: Mapping[str, str]) -> None:
        """Add the nodes and constants of a graph without subgraphs.

        ``names`` are its inputs and outputs, with their names here; others get the prefix.
        """
        for tensor in graph.initializer:
            name = f"{prefix}/{tensor.name}"
            self._root._initializers[name] = TensorProto()
            self._root._initializers[name].CopyFrom(tensor)
            self._root._initializers[name].name = name
        for node in graph.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{prefix}/{node.name}"
            for side in (copy.input, copy.output):
                side[:] = [names.get(name, name and f"{prefix}/{name}") for name in side]
            self._nodes.append(copy)

    def loop(
        self,
        state: Mapping[str, str],
        step: Callable[[GraphWriter, dict[str, str], str], tuple[dict[str, str], str]],
        count: int | str = "",
        prefix: str = "body/",
    ) -> dict[str, str]:
        """Add a Loop that carries tensors; return their names after it.

        Args:
            state: Names of the tensors at the start, by what they are. Constants have their shape
                and dtype in the body; others are float32 of any shape.
            step: Writes one step into the body from the names of the state there and that of the
                step's number; returns the new names, and whether another step follows (a name,
                empty if it always does).
            count: Most steps, a number or an int64 scalar; no limit if empty.
            prefix: Prefix of the names in the body.
        """
        if count == 0:
            return dict(state)
        number, condition = f"{prefix}step", f"{prefix}condition"
        body = GraphWriter(self, prefix)
        entering = {name: f"{prefix}in/{name}" for name in state}
        leaving, proceed = step(body, entering, number)
        proceed = body.node("Identity", proceed or condition, name=f"{prefix}proceed")
        sides: tuple[list[TensorSpec | str], list[TensorSpec | str]] = (
            [TensorSpec(number, (), "int64"), TensorSpec(condition, (), "bool")],
            [TensorSpec(proceed, (), "bool")],
        )
        for name, initial in state.items():
            output = body.node("Identity", leaving[name], name=f"{prefix}out/{name}")
            for side, inside in zip(sides, (entering[name], output), strict=True):
                side.append(self._like(initial, inside))
        results = self.nodes(
            "Loop",
            self.constant(np.int64(count)) if isinstance(count, int) else count,
            self.constant(np.bool_(True)),
            *state.values(),
            outputs=[f"{prefix}after/{name}" for name in state],
            body=body.graph("step", *sides),
        )
        return dict(zip(state, results, strict=True))

    def choose(self, condition: str, *branches: Callable[[GraphWriter], str]) -> str:
        """Add an If of two float32 tensors and return its result; the other is not computed.

        Each branch writes its nodes into a graph and returns the name of its tensor.
        """
        name = self._unique("If")
        graphs = {}
        for kind, write in zip(("then_branch", "else_branch"), branches, strict=True):
            inner = GraphWriter(self, f"{name}/{kind}/")
            graphs[kind] = inner.graph(kind, [], [write(inner)])
        return self.node("If", condition, name=name, **graphs)

    def graph(
        self, name: str, inputs: Sequence[TensorSpec | str], outputs: Sequence[TensorSpec | str]
    ) -> GraphProto:
        """Return the finished graph; a name alone is a float32 tensor of any shape."""
        return helper.make_graph(
            self._nodes,
            name,
            [_value_info(spec) for spec in inputs],
            [_value_info(spec) for spec in outputs],
            list(self._initializers.values()),
        )

    def _like(self, constant: str, name: str) -> TensorSpec | str:
        """Return a tensor like a constant; its name if that is none."""
        tensor = self._root._initializers.get(constant)
        if tensor is None:
            return name
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return TensorSpec(name, tuple(tensor.dims), np.dtype(dtype).name)

    def _unique(self, stem: str) -> str:
        root = self._root
        key = f"{self._prefix}{stem}"
        root._counts[key] = root._counts.get(key, -1) + 1
        return f"{key}_{root._counts[key]}"


def make_model(graph: GraphProto, profile: Profile = PORTABLE) -> ModelProto:
    """Wrap a graph in a model of a profile and check it."""
    model = helper.make_model(
        graph,
        producer_name="bakit",
        producer_version=__version__,
        ir_version=profile.ir_version,
        opset_imports=[helper.make_opsetid("", profile.opset)],
    )
    check_profile(model, profile)
    return model


def check_profile(model: ModelProto, profile: Profile = PORTABLE) -> None:
    """Check that a model follows a profile.

    Raises:
        VerificationError: If it does not; the message lists the problems.
    """
    problems = []
    if model.ir_version != profile.ir_version:
        problems.append(f"IR version {model.ir_version}, not {profile.ir_version}")
    imports = {opset.domain: opset.version for opset in model.opset_import}
    if imports != {"": profile.opset}:
        problems.append(f"operator sets {imports}, not only the default one at {profile.opset}")
    problems += [
        f"operator {node.domain}::{node.op_type} at node {node.name}"
        for node in walk(model.graph)
        if node.domain or node.op_type in FORBIDDEN_OPERATORS
    ]
    problems += [
        f"{value.name} has a dynamic shape"
        for value in [*model.graph.input, *model.graph.output]
        if value.name not in profile.any_size
        and any(not axis.HasField("dim_value") for axis in value.type.tensor_type.shape.dim)
    ]
    if problems:
        message = "the ONNX file leaves its profile: " + "; ".join(problems)
        raise VerificationError(message)
    checker.check_model(model, full_check=True)


def copy_of(model: ModelProto) -> ModelProto:
    """Return a copy of a model."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def readers_of(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each tensor."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def walk(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield every node, including those of loop bodies."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from walk(attribute.g)


def strip_opset_imports(model: ModelProto) -> None:
    """Remove unused operator sets: old runtimes reject a file that imports new ones."""
    used = {node.domain for node in walk(model.graph)}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def serialize(model: ModelProto) -> bytes:
    """Return the model's bytes, the same for the same graph."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _value_info(spec: TensorSpec | str) -> ValueInfoProto:
    if isinstance(spec, str):
        return helper.make_tensor_value_info(spec, TensorProto.FLOAT, None)
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    shape = [f"{spec.name}_{axis}" if n < 0 else n for axis, n in enumerate(spec.shape)]
    return helper.make_tensor_value_info(spec.name, dtype, shape)
