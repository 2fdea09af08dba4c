"""Rules on single nodes: operators, attributes, and inputs that have to be constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from bakit.export.check import limits
from bakit.export.check.scope import attribute_values, bodies, equation_of, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, NodeProto

    from bakit.export.check.findings import Finding
    from bakit.export.check.limits import Constant, Values
    from bakit.export.check.profiles import Profile, Version
    from bakit.export.check.scope import Scope

_CONVOLUTIONS = {"Conv", "ConvTranspose"}
_INTEGERS = {TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8}


def check_node(scope: Scope, node: NodeProto, profile: Profile) -> Iterator[Finding]:
    """Yield findings on a node of the default domain."""
    since = limits.OPERATORS.get(node.op_type)
    if since is None or since > profile.oldest:
        found = f"it came with {since[0]}.{since[1]}" if since else "no known TensorRT has it"
        version = f"TensorRT {profile.oldest[0]}.{profile.oldest[1]}"
        message = f"{version} has no {node.op_type}: {found}"
        yield scope.finding("operator", node, message, limits.REPLACEMENTS.get(node.op_type, ""))
        return
    yield from _attributes(scope, node, profile.oldest)
    yield from _constant_inputs(scope, node, profile.oldest)
    yield from _types(scope, node, profile.oldest)
    second = limits.FIRST_OUTPUT_ONLY.get(node.op_type)
    further = [name for name in node.output[1:] if name]
    if second and any(name in scope.readers or name in scope.outputs for name in further):
        yield scope.finding("output", node, f"its output {second} is used")
    if node.op_type in _CONVOLUTIONS:
        yield from _convolution(scope, node, profile.oldest)
    elif node.op_type == "Loop":
        yield from _loop(scope, node)
    elif node.op_type == "If" and profile.oldest < limits.IF_OUTPUTS_ALIKE:
        yield from _branches(scope, node)


def _applies(row: Values | Constant, node: NodeProto, version: Version) -> bool:
    """Return whether a row of a table is about a node, for a version of TensorRT."""
    return node.op_type in row.operators.split() and not (row.until and version >= row.until)


def _attributes(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    for row in limits.ATTRIBUTES:
        if not _applies(row, node, version):
            continue
        bad = [v for v in attribute_values(node, row.attribute) if v not in row.values]
        if bad:
            message = f"{row.attribute} is {bad[0]}; the parser supports "
            message += ", ".join(map(str, row.values))
            yield scope.finding("attribute", node, message)
    if node.op_type in {*_CONVOLUTIONS, "MaxPool", "AveragePool", "LpPool"}:
        kernel = attribute_values(node, "kernel_shape")
        if len(kernel) > 3:
            message = f"a kernel of {len(kernel)} axes; the parser supports at most 3"
            yield scope.finding("attribute", node, message)
    if node.op_type == "Einsum":
        yield from _einsum(scope, node, version)


def _einsum(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    equation = equation_of(node)
    if equation is None:
        yield scope.finding(
            "attribute", node, "its equation is invalid", "write one like ij,jk->ik"
        )
        return
    terms = equation.partition("->")[0].split(",")
    repeated = any(len(set(term)) < len(term) for term in terms)  # the dots of an ellipsis too
    if version < limits.EINSUM_IN_FULL and repeated:
        message = f"equation {equation}: before 9.1 no ellipsis and no axis twice in a term"
        remedy = "name every axis once, or write it with MatMul and Transpose"
        yield scope.finding("attribute", node, message, remedy)


def _constant_inputs(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    for row in limits.CONSTANTS:
        if not _applies(row, node, version):
            continue
        name = node.input[row.place] if len(node.input) > row.place else ""
        fixed = _is_fixed(scope, name, version if row.folded else (0, 0))
        if name and not fixed:
            message = f"its input {row.what} ({name}) is computed at run time"
            yield scope.finding("constant-input", node, message)


def _convolution(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    weights = node.input[1] if len(node.input) > 1 else ""
    if version < limits.RUNTIME_CONV_WEIGHTS and weights and not _is_fixed_weight(scope, weights):
        message = f"its weights ({weights}) are computed at run time"
        yield scope.finding("conv-constant-weights", node, message)
    bias = node.input[2] if len(node.input) > 2 else ""
    if version < limits.RUNTIME_CONV_BIAS and bias and not _is_fixed(scope, bias, version):
        maker = scope.producer(bias)
        sources = maker.input[:1] if maker and maker.op_type == "DequantizeLinear" else ()
        if all(scope.type_of(name) != TensorProto.INT32 for name in sources):  # else qdq-bias
            message = f"its bias ({bias}) is computed at run time"
            yield scope.finding("conv-constant-bias", node, message)


def _types(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    if node.op_type not in limits.FLOATS_ONLY or not node.input:
        return
    until = limits.FLOATS_ONLY[node.op_type]
    kind = scope.type_of(node.input[0])
    if kind in _INTEGERS and (until is None or version < until):
        later = f" before {until[0]}.{until[1]}" if until else ""
        message = f"its input is {type_name(kind)}; TensorRT supports only floats{later}"
        yield scope.finding("operator-type", node, message)


def _loop(scope: Scope, node: NodeProto) -> Iterator[Finding]:
    """Yield the states of a Loop that change their shape or type."""
    for _, body in bodies(node):
        carried = len(node.input) - 2
        for before, after in zip(body.input[2:], body.output[1 : carried + 1], strict=False):
            first, last = _declared(body, before.name), _declared(body, after.name)
            if first != last and None not in (first, last):
                message = f"{before.name} is {first} before a step and {last} behind it"
                yield scope.finding("loop-state-shape", node, message)


def _declared(body: GraphProto, name: str) -> str | None:
    """Return type and shape of a body's input or output as text; None if they are not declared."""
    for item in (*body.input, *body.output):
        kind = item.type.tensor_type
        if item.name == name and kind.HasField("shape") and kind.elem_type:
            axes = kind.shape.dim
            if all(axis.HasField("dim_value") for axis in axes):
                return f"{type_name(kind.elem_type)} {tuple(a.dim_value for a in axes)}"
    return None


def _branches(scope: Scope, node: NodeProto) -> Iterator[Finding]:
    names = [{item.name for item in body.output} for _, body in bodies(node)]
    both = set.intersection(*names) if len(names) == 2 else set()
    if both:
        yield scope.finding("if-outputs", node, f"both branches have an output {min(both)}")


def _is_fixed(scope: Scope, name: str, version: Version) -> bool:
    """Return whether a tensor is constant for the parser of a version."""
    return scope.is_derived(name) if version >= limits.FOLDS_CONSTANTS else scope.is_constant(name)


def _is_fixed_weight(scope: Scope, name: str) -> bool:
    """Return whether weights are constant, possibly quantized and dequantized."""
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        maker = scope.producer(name)
        if maker is not None and maker.op_type == operator and maker.input:
            name = maker.input[0]
    return scope.is_constant(name)
