"""Correct evaluators of a regressor's graph, and broken copies of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

from bakit.export import spread
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import copy_of, serialize
from bakit.hand.prepare import crop
from bakit.image.read import decode
from bakit.prediction import is_male

try:
    import openvino
except ModuleNotFoundError:
    openvino = None

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from bakit.bundle import Bundle
    from bakit.model.checkpoint import Checkpoint
    from bakit.session import Tensors

SEEDS = range(101, 113)
"""Twelve seeds of noise, none of them those of the export."""


def golden_feeds(bundle: Bundle) -> list[Tensors]:
    """Return the inputs of the goldens."""
    feeds = []
    for item in bundle.manifest.golden:
        grey = decode(bundle.files.read(item.path))
        place = (item.box, item.inverted, bundle.manifest.preprocessing, item.turn)
        sex = np.array([[is_male(item.sex)]], np.float32)
        feeds.append({"image": crop(grey, *place)[None, None], "sex": sex})
    return feeds


def literally(model: ModelProto, feeds: Sequence[Tensors]) -> list[float]:
    """Return ages from the graph as it is written, without any fusion."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        serialize(model), options, providers=["CPUExecutionProvider"]
    )
    return [float(session.run(None, dict(item))[0].item()) for item in feeds]


def in_openvino(model: ModelProto, feeds: Sequence[Tensors]) -> list[float]:
    """Return ages from OpenVINO, with float32 where the graph has it."""
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(serialize(model)), "CPU", hints)
    return [float(compiled(dict(item))[0].item()) for item in feeds]


def in_tf32(model: ModelProto) -> ModelProto:
    """Return the graph with all factors of its products rounded to 11 bits."""
    copy, nodes = copy_of(model), []
    copy.graph.initializer.append(numpy_helper.from_array(np.float32(2**13 + 1), "veltkamp"))
    for node in copy.graph.node:
        for index in range(2 if node.op_type in {"Conv", "Gemm"} else 0):
            value, name = node.input[index], f"{node.name}/factor{index}"
            nodes += [
                helper.make_node("Mul", [value, "veltkamp"], [f"{name}/large"]),
                helper.make_node("Sub", [f"{name}/large", value], [f"{name}/rest"]),
                helper.make_node("Sub", [f"{name}/large", f"{name}/rest"], [name]),
            ]
            node.input[index] = name
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def correct(model: ModelProto, feeds: Sequence[Tensors]) -> dict[str, Callable[[], list[float]]]:
    """Return the correct evaluators, by name."""
    runs: dict[str, Callable[[], list[float]]] = {
        "ONNX Runtime": lambda: spread.evaluate(model, feeds),
        "ONNX Runtime, literally": lambda: literally(model, feeds),
        "TF32 emulated": lambda: literally(in_tf32(model), feeds),
    }
    if openvino is not None:
        runs["OpenVINO"] = lambda: in_openvino(model, feeds)
    for seed in SEEDS:
        runs[f"noise {seed}"] = lambda seed=seed: spread.evaluate(  # type: ignore[misc]
            spread.perturbed(model, seed), feeds
        )
    return runs


def edited(
    model: ModelProto, name: str, change: Callable[[npt.NDArray], npt.NDArray]
) -> ModelProto:
    """Return a model with another value of an initializer."""
    copy = copy_of(model)
    tensor = next(item for item in copy.graph.initializer if item.name == name)
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), tensor.name))
    return copy


def broken(
    model: ModelProto, feeds: Sequence[Tensors], other: Checkpoint, *, is_int8: bool
) -> dict[str, Callable[[], list[float]]]:
    """Return evaluators of broken models, by name; ``other`` is another checkpoint."""
    scale = "block5/project.weight" + ("_scale" if is_int8 else "")
    weight = "block7/expand.weight" + ("_quantized" if is_int8 else "")
    side = other.header.preprocessing.image_size
    small = [
        {**item, "image": cv2.resize(item["image"][0, 0], (side, side))[None, None]}
        for item in feeds
    ]
    swapped = [{**item, "sex": 1 - item["sex"]} for item in feeds]
    changed = {
        "wrong scale": (scale, lambda v: v * 2),
        "shifted weights": (weight, lambda v: np.roll(v, 1, 0)),
        "missing bias": ("block5/depthwise.bias", np.zeros_like),
    }
    runs: dict[str, Callable[[], list[float]]] = {
        name: lambda edit=edit: spread.evaluate(edited(model, *edit), feeds)  # type: ignore[misc]
        for name, edit in changed.items()
    }
    runs["swapped sex"] = lambda: spread.evaluate(model, swapped)
    runs["other checkpoint"] = lambda: spread.evaluate(regressor_model(other), small)
    return runs
