"""Export for OpenVINO: the ONNX models as IR, an ``.xml`` with the weights in a ``.bin``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.backends.openvino import DEVICE, openvino
from bakit.export.onnx.int8 import round_once
from bakit.export.onnx.metadata import properties
from bakit.export.onnx.writer import serialize
from bakit.export.ort import write_models, write_onnx
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
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
        _fold_constants(core, model)
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


def _fold_constants(core: Any, model: Any) -> None:  # noqa: ANN401
    """Replace expressions of constants and static shapes by constants, in place.

    OpenVINO reads a convolution's bias as a dozen nodes that reshape it: most of the ``.xml``, and
    folded at every load. INT8 weights stay as they are: they would become floats.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ShapeOf" and node.input(0).get_partial_shape().is_static:
            shape = list(node.input(0).get_shape())
            _replace(node.output(0), np.array(shape, node.output(0).get_element_type().to_dtype()))
    known: dict[str, bool] = {}
    borders = {}  # constant outputs with a reader that is not constant
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        sources = [item.get_source_output() for item in node.inputs()]
        if kind == "Constant":
            known[node.get_name()] = node.get_element_type().get_type_name() not in {"i8", "u8"}
            continue
        flags = [known[source.get_node().get_name()] for source in sources]
        known[node.get_name()] = kind != "Parameter" and all(flags)
        if not known[node.get_name()]:
            for source, is_known in zip(sources, flags, strict=True):
                if is_known and source.get_node().get_type_name() != "Constant":
                    borders[source.get_node().get_name(), source.get_index()] = source
    if not borders:
        return
    values = core.compile_model(
        openvino.Model(list(borders.values()), [], "constants"),
        DEVICE,
        {"INFERENCE_PRECISION_HINT": "f32"},
    )({})
    for index, source in enumerate(borders.values()):
        _replace(source, values[index].astype(source.get_element_type().to_dtype()))


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
            if factors == {source.get_node().get_name(), node.get_name()}:
                name = product.get_friendly_name()
                _connect(product.output(0), openvino.opset5.hswish(source), name)
            else:
                name = node.get_friendly_name()
                _connect(node.output(0), openvino.opset5.hsigmoid(source), name)


def _replace(output: Any, value: npt.NDArray[np.generic]) -> None:  # noqa: ANN401
    """Connect all readers of an output to a constant instead."""
    constant = openvino.op.Constant(np.ascontiguousarray(value).reshape(value.shape))
    name = output.get_node().get_friendly_name()
    _connect(output, constant, f"{name}/{output.get_index()}")


def _connect(output: Any, node: Any, name: str) -> None:  # noqa: ANN401
    """Connect all readers of an output to a node instead, and name this."""
    node.set_friendly_name(name)
    for reader in output.get_target_inputs():
        reader.replace_source_output(node.output(0))
