"""Check a graph against a profile: every rule on the file and on every graph inside it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import checker, shape_inference

from bakit.errors import VerificationError, first_line
from bakit.export.check import limits
from bakit.export.check.findings import RULES, Finding, Severity
from bakit.export.check.nodes import check_node
from bakit.export.check.profiles import PROFILES
from bakit.export.check.quantized import check_quantized
from bakit.export.check.scope import Scope, equation_of
from bakit.export.check.tensors import check_borders, check_tensors
from bakit.export.onnx.writer import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bakit.bundle import Build
    from bakit.export.check.profiles import Profile

DEFAULT = ("", "ai.onnx")
"""Names of the default domain."""

_INVALID = (checker.ValidationError, ValueError, RuntimeError, TypeError)


class Prepared(NamedTuple):
    """A model for ``check_prepared``."""

    model: onnx.ModelProto  # with the shapes and types that ONNX infers
    invalid: str  # error of ONNX's checker; empty if the model is valid


def prepare(model: onnx.ModelProto) -> Prepared:
    """Return a model for ``check_prepared``; the slow part of a check.

    ONNX's own code can crash on a damaged file: see ``bakit.export.check.isolated``.
    """
    try:
        checker.check_model(model)
    except _INVALID as error:
        return Prepared(model, first_line(error))
    return Prepared(_inferred(model), "")


def check_builds(models: Mapping[str, onnx.ModelProto], builds: Sequence[Build]) -> None:
    """Check each graph, by its path, against every profile whose TensorRT builds from it.

    Raises:
        VerificationError: If a graph would be rejected, with the first reason.
    """
    for path, model in models.items():
        prepared = prepare(model)
        for profile in PROFILES.values():
            if not any(build.path == path and profile.uses(build) for build in builds):
                continue
            for item in check_prepared(prepared, profile):
                if item.severity == "error":
                    where = f"{profile.name} (TensorRT {profile.tensorrt})"
                    message = (
                        f"{path} would be rejected by {where}: "
                        f"{item.operator} {item.node}: {item.message} ({item.rule}); {item.remedy}"
                    )
                    raise VerificationError(message)


def check_model(model: onnx.ModelProto, profile: Profile) -> tuple[Finding, ...]:
    """Return the findings on a model, errors first, otherwise in the order of the nodes.

    Nothing is run, and the model is not changed; its external data must have been loaded. Bodies of
    Loop, If and Scan and the functions of a file are checked too.
    """
    return check_prepared(prepare(model), profile)


def check_prepared(prepared: Prepared, profile: Profile) -> tuple[Finding, ...]:
    """Return the findings of ``check_model`` on a prepared model."""
    model = prepared.model
    findings = [*_check_file(prepared, profile)]
    scopes = [Scope(model.graph, "main")]
    findings += check_borders(scopes[0], profile)
    functions = {(item.domain, item.name) for item in model.functions}
    if profile.oldest >= limits.FUNCTIONS:
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
    if profile.oldest >= limits.FUNCTIONS and (node.domain, node.op_type) in functions:
        return
    name = f"{node.domain}::{node.op_type}"
    if limits.OPERATORS.get(node.op_type, (99, 0)) <= profile.oldest:
        message = f"{name} would be read as ONNX's own {node.op_type}, whose meaning may differ"
        yield scope.finding("domain", node, message, severity="warning")
    else:
        yield scope.finding("domain", node, f"{name} is not an operator of ONNX")


def _check_file(prepared: Prepared, profile: Profile) -> Iterator[Finding]:
    model = prepared.model
    if prepared.invalid:
        yield about_file("invalid-model", prepared.invalid)
    opset = default_opset(model)
    lowest, highest = profile.opsets
    if not lowest <= opset <= highest:
        supported = f"TensorRT {profile.tensorrt} supports {lowest} to {highest}"
        yield about_file("opset", f"opset {opset}; {supported}")
    if model.ir_version > profile.max_ir:
        old = profile.old_onnxruntime
        reader = "ONNX Runtime 1.10" if old else "the parser"
        message = f"format version {model.ir_version}; {reader} supports up to {profile.max_ir}"
        yield about_file("ir-version", message, "error" if old else None)
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
    """Return a finding on the whole file, of the rule's own severity when None."""
    _, remedy, kind = RULES[rule]
    return Finding(severity or kind, rule, "", "", "", message, remedy)


def default_opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set, 0 if none is imported."""
    return max((item.version for item in model.opset_import if item.domain in DEFAULT), default=0)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a valid model with the shapes and types that ONNX can infer; unchanged if it cannot.

    Without data propagation, which creates lists as long as any axis in the file.
    """
    nodes = chain(walk(model.graph), *(item.node for item in model.functions))
    if any(node.op_type == "Einsum" and equation_of(node) is None for node in nodes):
        return model  # ONNX's inference never ends on an invalid equation
    try:
        return shape_inference.infer_shapes(model)
    except (*_INVALID, shape_inference.InferenceError):
        return model
