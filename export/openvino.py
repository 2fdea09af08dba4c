"""Export for OpenVINO: the ONNX models as IR, an ``.xml`` with the weights in a ``.bin``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakit.backends.openvino import openvino
from bakit.export.onnx.int8 import round_once
from bakit.export.onnx.metadata import properties
from bakit.export.onnx.writer import serialize
from bakit.export.ort import write_models, write_onnx
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.xml``, ``localizer.xml`` and a ``.bin`` for each.

    The whole graph, if it is requested, is the file ``whole.onnx`` of the target ``onnx``.

    The localizer stays float32: 50 SGD steps need its digits.

    * FP16: the regressor's weights are stored as float16. The arithmetic depends on the CPU:
      float16 if the CPU supports it, else float32.
    * INT8: the quantize-dequantize model of the target ``onnx``, with the same 7-bit weights and
      fewer roundings (``round_once``).

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    core = openvino.Core()

    def write(role: Role, graph: ModelProto) -> list[str]:
        if role == "whole":
            return write_onnx(out, role, graph)
        if role == "regressor":
            graph = round_once(graph)
        # Not openvino.convert_model, which also writes its arguments into the file.
        model = core.read_model(serialize(graph))
        _name_nodes(model)
        _fold_constants(model)
        _fuse_hardswish(model)
        for key, value in properties(graph).items():
            model.set_rt_info(value, ["bakit", key])
        half = role == "regressor" and request.precision is Precision.FP16
        openvino.save_model(model, str(out / f"{role}.xml"), compress_to_fp16=half)
        return [f"{role}.xml", f"{role}.bin"]

    return write_models(checkpoint, request, out, write)


def _name_nodes(model: Any, prefix: str = "") -> None:  # noqa: ANN401  # OpenVINO has no types
    """Name nodes without a name by their position.

    OpenVINO numbers them through all models of a process: a second export would differ.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{prefix}{node.get_type_name()}:{index}")
        if hasattr(node, "get_function"):  # a loop's body
            _name_nodes(node.get_function(), f"{node.get_friendly_name()}/")


def _fold_constants(model: Any) -> None:  # noqa: ANN401
    """Replace expressions of constants and static shapes by constants, in place.

    OpenVINO reads a convolution's bias as a dozen nodes that reshape it: most of the ``.xml``, and
    folded at every load. INT8 weights stay as they are: they would become floats.
    """
    from openvino.passes import ConstantFolding, Manager  # noqa: PLC0415  # after the backend

    weights = [
        (node, openvino.opset1.parameter(node.shape, node.get_element_type()))
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and node.get_element_type().bitwidth == 8
    ]
    model.add_parameters([stand_in for _, stand_in in weights])
    for node, stand_in in weights:
        _connect(node.output(0), stand_in)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    for node, stand_in in weights:
        _connect(stand_in.output(0), node)
        model.remove_parameter(stand_in)


def _fuse_hardswish(model: Any) -> None:  # noqa: ANN401
    """Replace HardSigmoid, and its product with its input, by HSigmoid and HSwish, in place.

    OpenVINO fuses these with the layer before them. HardSigmoid is a step of its own between two
    changes of the layout: 10 % of FP32's time, and 25 ms of its load.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "HardSigmoid":  # alpha is 1/6 and beta 0.5
            source = node.input(0).get_source_output()
            (reader,) = node.output(0).get_target_inputs()
            product = reader.get_node()
            factors = {item.get_source_output().get_node().get_name() for item in product.inputs()}
            is_hardswish = factors == {source.get_node().get_name(), node.get_name()}
            old = product if is_hardswish else node
            new = (openvino.opset4.hswish if is_hardswish else openvino.opset5.hsigmoid)(source)
            new.set_friendly_name(old.get_friendly_name())
            _connect(old.output(0), new)


def _connect(output: Any, node: Any) -> None:  # noqa: ANN401
    """Connect all readers of an output to a node instead."""
    for reader in output.get_target_inputs():
        reader.replace_source_output(node.output(0))
