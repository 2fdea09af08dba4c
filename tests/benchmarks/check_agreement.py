"""Does ``bakit check`` say of ONNX's own operator tests what NVIDIA's compiler says?

    python tests/benchmarks/check_agreement.py

Each graph of ONNX's test suite for operators whose opset is within the profile tensorrt-11's is
judged against that profile, and parsed by TensorRT-RTX, which needs no GPU.
"""

from __future__ import annotations

import json
import warnings
from typing import NamedTuple

from bakit.export.check import PROFILES, check_model

PROFILE = PROFILES["tensorrt-11"]

PLUGINS = {"DeformConv", "NonMaxSuppression", "NonZero", "RoiAlign", "ScatterElements"}
"""Operators that TensorRT has as plugins, which TensorRT-RTX comes without."""


class Agreement(NamedTuple):
    """How often both say the same.

    Attributes:
        cases: Graphs that both have judged.
        refused: Of these, how many both refuse.
        taken: How many both take.
        disagreements: Names of the others, with what only one of them has against it.
    """

    cases: int
    refused: int
    taken: int
    disagreements: dict[str, str]

    @property
    def share(self) -> float:
        """Share of the graphs on which both agree, 0..1."""
        return (self.refused + self.taken) / self.cases


def agreement() -> Agreement:
    """Judge ONNX's operator tests."""
    import tensorrt_rtx_bindings as rtx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some tests divide by zero on purpose
        from onnx.backend.test.case.node import collect_testcases

        models = {case.name: case.model for case in collect_testcases(None)}
    logger = rtx.Logger(rtx.Logger.INTERNAL_ERROR)
    lowest, highest = PROFILE.opsets
    refused = taken = 0
    disagreements = {}
    for name, model in models.items():
        opset = max((item.version for item in model.opset_import if not item.domain), default=0)
        operators = {node.op_type for node in model.graph.node}
        if not lowest <= opset <= highest or operators & PLUGINS:
            continue
        builder = rtx.Builder(logger)
        network = builder.create_network(0)  # named: the parser does not keep it alive
        parser = rtx.OnnxParser(network, logger)
        parsed = parser.parse(model.SerializeToString())
        findings = check_model(model, PROFILE)
        # Parsing is not building: what decides a shape is refused there, at the latest.
        errors = [f for f in findings if f.severity == "error" and f.rule != "dynamic-shape"]
        open_shapes = any(finding.rule == "dynamic-shape" for finding in findings)
        if parsed and not errors:
            taken += 1
        elif not parsed and (errors or open_shapes):
            refused += 1
        else:
            reason = errors[0].message if parsed else str(parser.get_error(0)).strip()
            disagreements[name] = f"{'bakit' if parsed else 'TensorRT-RTX'}: {reason}"
    return Agreement(refused + taken + len(disagreements), refused, taken, disagreements)


if __name__ == "__main__":
    result = agreement()
    print(json.dumps(result._asdict() | {"share": round(result.share, 4)}, indent=2))
