"""Judge a graph against a profile: every rule on the file, and on every graph inside it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import checker, shape_inference

from bakit.export.check.findings import RULES, Finding, Severity
from bakit.export.check.nodes import check_node
from bakit.export.check.operators import FUNCTIONS, OPERATORS
from bakit.export.check.quantized import check_quantized
from bakit.export.check.scope import Scope, equation_of
from bakit.export.check.tensors import check_borders, check_tensors
from bakit.export.onnx.writer import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.export.check.profiles import Profile

DEFAULT = ("", "ai.onnx")
"""Names of the default domain."""


class Prepared(NamedTuple):
    """A model as it is judged against any profile.

    Attributes:
        model: The model with the shapes and types that ONNX infers.
        invalid: What ONNX's own checker says against it; empty if nothing.
    """

    model: onnx.ModelProto
    invalid: str


def prepare(model: onnx.ModelProto) -> Prepared:
    """Return a model for ``check_prepared``; the costly part of judging it.

    ONNX's own code does it, which can crash on a damaged file: ``bakit.export.check.isolated``.
    """
    try:
        checker.check_model(model)
    except (checker.ValidationError, ValueError, RuntimeError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return Prepared(model, reason)
    return Prepared(_inferred(model), "")


def check_model(model: onnx.ModelProto, profile: Profile) -> tuple[Finding, ...]:
    """Return what stands against a model, the worst first and otherwise as the nodes stand.

    Nothing is run. Bodies of Loop, If and Scan are judged like the graph around them, and so are
    the functions of a file.

    Args:
        model: The model; it is not changed. Values of external data must have been loaded.
        profile: Where it is to run.
    """
    return check_prepared(prepare(model), profile)


def check_prepared(prepared: Prepared, profile: Profile) -> tuple[Finding, ...]:
    """Return what ``check_model`` does, of a model that was prepared once for several profiles."""
    model = prepared.model
    findings = [*_check_file(prepared, profile)]
    scopes = [Scope(model.graph, "main")]
    findings += check_borders(scopes[0], profile)
    functions = {(item.domain, item.name) for item in model.functions}
    if profile.oldest >= FUNCTIONS:
        scopes += [Scope(item, f"function {item.domain}::{item.name}") for item in model.functions]
    opset = default_opset(model)
    while scopes:
        scope = scopes.pop(0)
        findings += check_tensors(scope, profile)
        for node in scope.graph.node:
            if node.domain not in DEFAULT:
                findings += _foreign(scope, node, profile, functions)
                continue
            findings += check_node(scope, node, profile)
            findings += check_quantized(scope, node, profile, opset)
        scopes[:0] = scope.children()
    return tuple(sorted(findings, key=lambda item: item.severity))


def _foreign(
    scope: Scope, node: onnx.NodeProto, profile: Profile, functions: set[tuple[str, str]]
) -> Iterator[Finding]:
    """Yield what stands against a node of another domain."""
    if profile.oldest >= FUNCTIONS and (node.domain, node.op_type) in functions:
        return
    name = f"{node.domain}::{node.op_type}"
    if OPERATORS.get(node.op_type, (99, 0)) <= profile.oldest:
        message = f"{name} would be read as ONNX's own {node.op_type}, whose meaning may differ"
        yield scope.finding("domain", node, message, severity="warning")
    else:
        yield scope.finding("domain", node, f"{name} is not an operator of ONNX")


def _check_file(prepared: Prepared, profile: Profile) -> Iterator[Finding]:
    """Yield what is about the whole file."""
    model = prepared.model
    if prepared.invalid:
        yield about_file("invalid-model", prepared.invalid)
    opset = default_opset(model)
    lowest, highest = profile.opsets
    if not lowest <= opset <= highest:
        yield about_file(
            "opset",
            f"opset {opset}; the parser of TensorRT {profile.tensorrt} was made for {lowest} to "
            f"{highest}",
        )
    if model.ir_version > profile.max_ir:
        reader = "ONNX Runtime 1.10" if profile.old_onnxruntime else "the parser"
        yield about_file(
            "ir-version",
            f"format version {model.ir_version}; {reader} knows up to {profile.max_ir}",
            "error" if profile.old_onnxruntime else None,
        )
    if profile.old_onnxruntime:
        used = {node.domain for node in walk(model.graph)}
        for item in model.opset_import:
            if item.domain not in DEFAULT and item.domain not in used:
                message = f"imports {item.domain} {item.version}, which no node uses"
                yield about_file("unused-domain", message)
    nodes = sum(node.op_type != "Constant" for node in walk(model.graph))
    if profile.many_nodes is not None and nodes > profile.many_nodes:
        yield about_file("many-nodes", f"{nodes} nodes; over {profile.many_nodes} is in doubt")


def about_file(rule: str, message: str, severity: Severity | None = None) -> Finding:
    """Return a finding about no single graph; of the rule's own severity if None is given."""
    kind, _, remedy = RULES[rule]
    return Finding(severity or kind, rule, "", "", "", message, remedy)


def default_opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set, 0 if none is imported."""
    return max((item.version for item in model.opset_import if item.domain in DEFAULT), default=0)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a valid model with the shapes and types that ONNX can infer; as it is if it cannot.

    Data propagation is left out: it makes a list as long as any axis that a file names.
    """
    nodes = chain(walk(model.graph), *(item.node for item in model.functions))
    if any(node.op_type == "Einsum" and equation_of(node) is None for node in nodes):
        return model  # on an equation that is none, ONNX's inference never ends
    try:
        return shape_inference.infer_shapes(model)
    except (
        shape_inference.InferenceError,
        checker.ValidationError,
        ValueError,
        RuntimeError,
        TypeError,
    ):
        return model
