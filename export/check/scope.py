"""A graph for the rules: constants, types, shapes, producers and readers of its tensors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onnx import AttributeProto, TensorProto, helper, numpy_helper

from bakit.export.check.findings import RULES, Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    from onnx import FunctionProto, GraphProto, NodeProto, ValueInfoProto

_DISTRIBUTIONS = ("RandomNormal", "RandomUniform")
_RANDOM = {"Bernoulli", "Multinomial", *_DISTRIBUTIONS, *(f"{n}Like" for n in _DISTRIBUTIONS)}

_TERM = r"[A-Za-z]*(?:\.\.\.)?[A-Za-z]*"
_EQUATION = re.compile(rf"{_TERM}(?:,{_TERM})*(?:->{_TERM})?")

_NUMBERS = {
    "value_float": TensorProto.FLOAT,
    "value_floats": TensorProto.FLOAT,
    "value_int": TensorProto.INT64,
    "value_ints": TensorProto.INT64,
}
_LISTS = {AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS}
_PLAIN = {AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING, *_LISTS}


class Scope:
    """One graph, with the graphs around it.

    Attributes:
        graph: The graph, or a function's body.
        path: Its place in the file.
        parent: The graph around it.
        outputs: Names of its outputs.
        readers: The nodes that read a tensor, with the input's index; for a body, -1.
        producers: The node of this graph that writes a tensor.
        constants: Its initializers and values of Constant nodes, by name.
    """

    def __init__(
        self, graph: GraphProto | FunctionProto, path: str, parent: Scope | None = None
    ) -> None:
        self.graph = graph
        self.path = path
        self.parent = parent
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.readers: dict[str, list[tuple[NodeProto, int]]] = {}
        self.constants: dict[str, TensorProto] = {}
        self.outputs = {getattr(item, "name", item) for item in graph.output}
        self._derived: set[str] = set()
        self._arrays: dict[str, npt.NDArray[np.generic] | None] = {}
        self._types = {
            item.name: item.type.tensor_type
            for item in _values(graph)
            if item.type.HasField("tensor_type")
        }
        for tensor in getattr(graph, "initializer", ()):
            self.constants[tensor.name] = tensor
        for sparse in getattr(graph, "sparse_initializer", ()):
            self._derived.add(sparse.values.name)
        self._local = {*self.constants, *self._derived, *self.producers}
        self._local.update(getattr(item, "name", item) for item in graph.input)
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, index))
            value = constant_value(node)
            if value is not None:
                self.constants[node.output[0]] = value
            elif self._follows(node):
                self._derived.update(node.output)
            for _, body in bodies(node):
                for name in _outer_names(body):
                    self.readers.setdefault(name, []).append((node, -1))

    def _follows(self, node: NodeProto) -> bool:
        """Return whether a node's outputs depend only on constants and fixed shapes."""
        if node.op_type in _RANDOM or any(bodies(node)):
            return False
        if node.op_type == "Constant":
            return True
        if node.op_type in {"Shape", "Size"}:
            shape = self.axes(node.input[0]) if node.input else None
            return shape is not None and None not in shape
        names = [name for name in node.input if name]
        return bool(names) and all(self.is_derived(name) for name in names)

    def _owner(self, name: str) -> Scope:
        """Return the graph, this one or one around it, that has a tensor of this name.

        Without one it is the outermost, which knows nothing of the tensor either.
        """
        scope = self
        while scope.parent is not None and name not in scope._local:
            scope = scope.parent
        return scope

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is an initializer or a Constant node's output."""
        return name in self._owner(name).constants

    def is_derived(self, name: str) -> bool:
        """Return whether a tensor is a constant or a constant expression."""
        owner = self._owner(name)
        return name in owner.constants or name in owner._derived

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that writes a tensor; None for inputs and initializers."""
        return self._owner(name).producers.get(name)

    def array(self, name: str) -> npt.NDArray[np.generic] | None:
        """Return a constant's value; None if it is not constant or cannot be read."""
        owner = self._owner(name)
        if name in owner.constants and name not in owner._arrays:
            owner._arrays[name] = tensor_array(owner.constants[name])
        return owner._arrays.get(name)

    def type_of(self, name: str) -> int:
        """Return a tensor's element type, 0 if unknown."""
        owner = self._owner(name)
        if name in owner.constants:
            return owner.constants[name].data_type
        found = owner._types.get(name)
        return 0 if found is None else int(found.elem_type)

    def axes(self, name: str) -> tuple[int | None, ...] | None:
        """Return a tensor's shape, with None for unknown lengths; None if nothing is known."""
        owner = self._owner(name)
        if name in owner.constants:
            return tuple(owner.constants[name].dims)
        found = owner._types.get(name)
        if found is None or not found.HasField("shape"):
            return None
        return tuple(
            axis.dim_value if axis.HasField("dim_value") else None for axis in found.shape.dim
        )

    def children(self) -> Iterator[Scope]:
        """Yield the bodies of this graph's nodes."""
        for node in self.graph.node:
            for name, body in bodies(node):
                yield Scope(body, f"{self.path}/{node.op_type}({label(node)})/{name}", self)

    def finding(
        self,
        rule: str,
        node: NodeProto | str,
        message: str,
        remedy: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        """Return a finding on a node, or on a tensor by its name.

        Remedy and severity are the rule's own unless given.
        """
        return Finding(
            severity or RULES[rule].severity,
            rule,
            self.path,
            node if isinstance(node, str) else label(node),
            "" if isinstance(node, str) else node.op_type,
            message,
            remedy or RULES[rule].remedy,
        )


def label(node: NodeProto) -> str:
    """Return a node's name, or that of its output."""
    return node.name or next((name for name in node.output if name), "") or "without a name"


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """Yield the graphs among a node's attributes, by name."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for index, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{index}", graph


def attribute_values(node: NodeProto, name: str) -> list[int | float | str]:
    """Return an attribute as a list of numbers or strings; empty if it is absent."""
    for attribute in node.attribute:
        if attribute.name == name and attribute.type in _PLAIN:
            value = helper.get_attribute_value(attribute)
            items = value if attribute.type in _LISTS else [value]
            return [
                item.decode(errors="replace") if isinstance(item, bytes) else item for item in items
            ]
    return []


def whole_number(node: NodeProto, name: str, default: int) -> int:
    """Return an integer attribute."""
    values = attribute_values(node, name)
    return values[0] if len(values) == 1 and isinstance(values[0], int) else default


def equation_of(node: NodeProto) -> str | None:
    """Return an Einsum's equation; None if it is invalid."""
    equation = "".join(str(item) for item in attribute_values(node, "equation")).replace(" ", "")
    return equation if _EQUATION.fullmatch(equation) else None


def constant_value(node: NodeProto) -> TensorProto | None:
    """Return the value of a Constant node; None for other nodes, and for strings."""
    if node.op_type != "Constant" or node.domain or not node.output:
        return None
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor: TensorProto = attribute.t
            return tensor
        if attribute.name in _NUMBERS:
            kind = _NUMBERS[attribute.name]
            value = helper.get_attribute_value(attribute)
            is_list = attribute.name.endswith("s")
            dims, numbers = ([len(value)], value) if is_list else ([], [value])
            return helper.make_tensor(node.output[0], kind, dims, numbers)
    return None


def tensor_array(tensor: TensorProto) -> npt.NDArray[np.generic] | None:
    """Return a tensor's values; None if they are external or do not fit its shape."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError, KeyError, MemoryError):
        return None


def type_name(kind: int) -> str:
    """Return ONNX's name of an element type."""
    names: dict[int, str] = {value: name for name, value in TensorProto.DataType.items()}
    return names.get(kind, f"type {kind}")


def _values(graph: GraphProto | FunctionProto) -> Iterator[ValueInfoProto]:
    for field in ("input", "output", "value_info"):
        for item in getattr(graph, field, ()):
            if not isinstance(item, str):
                yield item


def _outer_names(graph: GraphProto) -> set[str]:
    """Return the names of outer tensors that a body reads."""
    inside = {item.name for item in (*graph.input, *graph.initializer)}
    names: set[str] = set()
    for node in graph.node:
        names.update(name for name in node.input if name)
        for _, body in bodies(node):
            names |= _outer_names(body)
        inside.update(node.output)
    names.update(item.name for item in graph.output)
    return names - inside
