"""Rules on single nodes: operators, attributes, and inputs that have to be constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from bakit.export.check.operators import (
    ATTRIBUTES,
    CONSTANTS,
    EINSUM_IN_FULL,
    FIRST_OUTPUT_ONLY,
    FLOATS_ONLY,
    FOLDS_CONSTANTS,
    IF_OUTPUTS_ALIKE,
    OPERATORS,
    REPLACEMENTS,
    RUNTIME_CONV_BIAS,
    RUNTIME_CONV_WEIGHTS,
)
from bakit.export.check.scope import attribute_values, bodies, equation_of, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, NodeProto

    from bakit.export.check.findings import Finding
    from bakit.export.check.profiles import Profile, Version
    from bakit.export.check.scope import Scope

_CONVOLUTIONS = {"Conv", "ConvTranspose"}
_INTEGERS = {TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8}


def check_node(scope: Scope, node: NodeProto, profile: Profile) -> Iterator[Finding]:
    """Yield what stands against a node of the default domain."""
    since = OPERATORS.get(node.op_type)
    if since is None or since > profile.oldest:
        yield _unsupported(scope, node, profile, since)
        return
    yield from _attributes(scope, node, profile.oldest)
    yield from _constant_inputs(scope, node, profile.oldest)
    yield from _types(scope, node, profile.oldest)
    if node.op_type in FIRST_OUTPUT_ONLY and any(
        _is_used(scope, name) for name in node.output[1:] if name
    ):
        what = FIRST_OUTPUT_ONLY[node.op_type]
        yield scope.finding("output", node, f"its output {what} is used")
    if node.op_type in _CONVOLUTIONS:
        yield from _convolution(scope, node, profile.oldest)
    elif node.op_type == "Loop":
        yield from _loop(scope, node)
    elif node.op_type == "If" and profile.oldest < IF_OUTPUTS_ALIKE:
        yield from _branches(scope, node)


def _unsupported(scope: Scope, node: NodeProto, profile: Profile, since: Version | None) -> Finding:
    found = "no TensorRT that bakit knows has it"
    if since is not None:
        found = f"it came with {since[0]}.{since[1]}"
    message = f"TensorRT {profile.oldest[0]}.{profile.oldest[1]} has no {node.op_type}: {found}"
    return scope.finding("operator", node, message, REPLACEMENTS.get(node.op_type, ""))


def _attributes(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    for row in ATTRIBUTES:
        if node.op_type not in row.operators.split() or (row.until and version >= row.until):
            continue
        refused = [v for v in attribute_values(node, row.attribute) if v not in row.values]
        if refused:
            taken = ", ".join(map(str, row.values))
            message = f"{row.attribute} is {refused[0]}; the parser takes {taken}"
            yield scope.finding("attribute", node, message)
    if node.op_type in {*_CONVOLUTIONS, "MaxPool", "AveragePool", "LpPool"}:
        kernel = attribute_values(node, "kernel_shape")
        if len(kernel) > 3:
            message = f"a kernel of {len(kernel)} axes; the parser takes at most 3"
            yield scope.finding("attribute", node, message)
    if node.op_type == "Einsum":
        yield from _einsum(scope, node, version)


def _einsum(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    equation = equation_of(node)
    if equation is None:
        yield scope.finding("attribute", node, "its equation is none", "write one like ij,jk->ik")
        return
    terms = equation.partition("->")[0].split(",")
    repeated = any(len(set(term)) < len(term) for term in terms)  # the three dots too
    if version < EINSUM_IN_FULL and repeated:
        message = f"equation {equation}: before 9.1 no ellipsis and no axis twice in a term"
        remedy = "name every axis once, or write it with MatMul and Transpose"
        yield scope.finding("attribute", node, message, remedy)


def _constant_inputs(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    for row in CONSTANTS:
        if node.op_type not in row.operators.split() or (row.until and version >= row.until):
            continue
        name = node.input[row.place] if len(node.input) > row.place else ""
        fixed = _is_fixed(scope, name, version if row.folded else (0, 0))
        if name and not fixed:
            message = f"its input {row.what} ({name}) is computed at run time"
            yield scope.finding("constant-input", node, message)


def _convolution(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    weights = node.input[1] if len(node.input) > 1 else ""
    if version < RUNTIME_CONV_WEIGHTS and weights and not _is_fixed_weight(scope, weights):
        message = (
            f"its weights ({weights}) are computed at run time; TensorRT {version[0]}.{version[1]} "
            "has no such convolution"
        )
        yield scope.finding("conv-constant-weights", node, message)
    bias = node.input[2] if len(node.input) > 2 else ""
    if version < RUNTIME_CONV_BIAS and bias and not _is_fixed(scope, bias, version):
        maker = scope.producer(bias)
        sources = maker.input[:1] if maker and maker.op_type == "DequantizeLinear" else ()
        if all(scope.type_of(name) != TensorProto.INT32 for name in sources):  # else qdq-bias
            message = f"its bias ({bias}) is computed at run time"
            yield scope.finding("conv-constant-bias", node, message)


def _types(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    if node.op_type not in FLOATS_ONLY or not node.input:
        return
    until = FLOATS_ONLY[node.op_type]
    kind = scope.type_of(node.input[0])
    if kind in _INTEGERS and (until is None or version < until):
        later = f" before {until[0]}.{until[1]}" if until else ""
        message = f"it is given {type_name(kind)}; TensorRT computes it in floats alone{later}"
        yield scope.finding("operator-type", node, message)


def _loop(scope: Scope, node: NodeProto) -> Iterator[Finding]:
    """Yield what a Loop carries in one shape or type and leaves in another."""
    for _, body in bodies(node):
        carried = len(node.input) - 2
        for before, after in zip(body.input[2:], body.output[1 : carried + 1], strict=False):
            first, last = _declared(body, before.name), _declared(body, after.name)
            if first != last and None not in (first, last):
                message = f"{before.name} enters a step as {first} and leaves it as {last}"
                yield scope.finding("loop-state-shape", node, message)


def _declared(body: GraphProto, name: str) -> str | None:
    """Return shape and type of a body's input or output in words; None if they are open."""
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
    """Say whether a tensor is a constant to the parser of a version."""
    return scope.is_derived(name) if version >= FOLDS_CONSTANTS else scope.is_constant(name)


def _is_fixed_weight(scope: Scope, name: str) -> bool:
    """Say whether weights are a constant, quantized and dequantized or not."""
    for operator in ("DequantizeLinear", "QuantizeLinear"):
        maker = scope.producer(name)
        if maker is not None and maker.op_type == operator and maker.input:
            name = maker.input[0]
    return scope.is_constant(name)


def _is_used(scope: Scope, name: str) -> bool:
    outputs = {getattr(item, "name", item) for item in scope.graph.output}
    return name in scope.readers or name in outputs
