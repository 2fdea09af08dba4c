"""The regressor as an ONNX graph, written from the checkpoint's weights without torch.

Batch norms are folded into the convolutions before them; the grey channel's replication to three
and its scale into the first convolution; the de-standardisation into the last layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import shape_inference

from bakit.errors import CheckpointError, first_line
from bakit.export.onnx.writer import GraphWriter, make_model
from bakit.session import regressor_specs
from bakit.settings import GREY_MEAN, GREY_SD

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.hand.unrolled import Array
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Architecture
    from bakit.types import Weights

NORM_EPSILON = 1e-3
"""Added to the variance by torchvision's MobileNetV3."""


class Block(NamedTuple):
    """One inverted residual of MobileNetV3-Large (the paper's Table 1)."""

    kernel: int  # side of the depthwise kernel
    expanded: int  # channels inside
    out: int  # channels after
    squeeze: bool  # whether it has squeeze-and-excitation
    hardswish: bool  # h-swish instead of ReLU
    stride: int  # of the depthwise convolution


BLOCKS = (
    Block(3, 16, 16, squeeze=False, hardswish=False, stride=1),
    Block(3, 64, 24, squeeze=False, hardswish=False, stride=2),
    Block(3, 72, 24, squeeze=False, hardswish=False, stride=1),
    Block(5, 72, 40, squeeze=True, hardswish=False, stride=2),
    Block(5, 120, 40, squeeze=True, hardswish=False, stride=1),
    Block(5, 120, 40, squeeze=True, hardswish=False, stride=1),
    Block(3, 240, 80, squeeze=False, hardswish=True, stride=2),
    Block(3, 200, 80, squeeze=False, hardswish=True, stride=1),
    Block(3, 184, 80, squeeze=False, hardswish=True, stride=1),
    Block(3, 184, 80, squeeze=False, hardswish=True, stride=1),
    Block(3, 480, 112, squeeze=True, hardswish=True, stride=1),
    Block(3, 672, 112, squeeze=True, hardswish=True, stride=1),
    Block(5, 672, 160, squeeze=True, hardswish=True, stride=2),
    Block(5, 960, 160, squeeze=True, hardswish=True, stride=1),
    Block(5, 960, 160, squeeze=True, hardswish=True, stride=1),
)

STEM_CHANNELS = 16


def regressor_model(checkpoint: Checkpoint) -> ModelProto:
    """Write the regressor.

    Raises:
        CheckpointError: If a weight is missing, unknown or of another shape.
    """
    header = checkpoint.header
    emitter = _Emitter(checkpoint.regressor)
    try:
        _emit(emitter, header.architecture)
    except KeyError as error:
        message = f"the checkpoint lacks the weight {error.args[0]!r}"
        raise CheckpointError(message) from error
    except (IndexError, ValueError) as error:  # numpy, folding a batch norm into another shape
        raise CheckpointError(_misfit(error)) from error
    if emitter.weights:
        message = f"the checkpoint has a weight that its architecture lacks: {min(emitter.weights)}"
        raise CheckpointError(message)
    specs = regressor_specs(header.architecture, header.preprocessing)
    try:
        return make_model(emitter.writer.graph("regressor", *specs))
    except shape_inference.InferenceError as error:
        raise CheckpointError(_misfit(error)) from error


def _misfit(error: Exception) -> str:
    return f"the checkpoint's weights do not fit its architecture: {first_line(error)}"


def _emit(emitter: _Emitter, architecture: Architecture) -> None:
    maps = emitter.stem("image")
    for index, block in enumerate(BLOCKS, start=1):
        maps = emitter.block(maps, block, index)
    maps = emitter.convolution(maps, f"features.{len(BLOCKS) + 1}", "last/conv")
    maps = emitter.hardswish(maps, "last")
    emitter.head(maps, architecture)


class _Emitter:
    """Emits layers, and removes each weight from ``weights`` when it is used."""

    def __init__(self, weights: Weights) -> None:
        self.writer = GraphWriter()
        self.weights = {key: value.astype(np.float64) for key, value in weights.items()}

    def constant(self, value: Array, name: str) -> str:
        return self.writer.constant(value.astype(np.float32), name=name)

    def folded(self, prefix: str) -> tuple[Array, Array]:
        """Return a convolution's weight and bias with its batch norm folded in, float64."""
        weight = self.weights.pop(f"{prefix}.0.weight")
        parts = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (self.weights.pop(f"{prefix}.1.{part}") for part in parts)
        factor = scale / np.sqrt(variance + NORM_EPSILON)
        return weight * factor[:, None, None, None], shift - mean * factor

    def stem(self, image: str) -> str:
        """Emit the first convolution on one grey channel.

        The mean is subtracted in the graph: folded into the bias it would be wrong at the border,
        where the padding is zero *after* the normalisation.
        """
        weight, bias = self.folded("features.0")
        weight = weight.sum(1, keepdims=True) / GREY_SD
        grey_mean = self.constant(np.array(GREY_MEAN), "grey_mean")
        centred = self.writer.node("Sub", image, grey_mean, name="stem/centred")
        maps = self.conv(centred, weight, bias, "stem/conv", stride=2)
        return self.hardswish(maps, "stem")

    def conv(self, maps: str, weight: Array, bias: Array, name: str, stride: int = 1) -> str:
        """Emit a convolution with "same" padding; depthwise when the weight has one input."""
        outputs, inputs, kernel, _ = weight.shape
        pad = kernel // 2
        return self.writer.node(
            "Conv",
            maps,
            self.constant(weight, f"{name}.weight"),
            self.constant(bias, f"{name}.bias"),
            name=name,
            kernel_shape=[kernel, kernel],
            pads=[pad] * 4,
            strides=[stride, stride],
            group=outputs if inputs == 1 and name.endswith("depthwise") else 1,
        )

    def convolution(self, maps: str, prefix: str, name: str, stride: int = 1) -> str:
        return self.conv(maps, *self.folded(prefix), name, stride)

    def hardswish(self, maps: str, name: str) -> str:
        """Emit h-swish, eq. 5, as HardSigmoid and Mul: the operator HardSwish is too new."""
        gate = self.writer.node("HardSigmoid", maps, name=f"{name}/gate", alpha=1 / 6, beta=0.5)
        return self.writer.node("Mul", maps, gate, name=f"{name}/hardswish")

    def activation(self, maps: str, block: Block, name: str) -> str:
        if block.hardswish:
            return self.hardswish(maps, name)
        return self.writer.node("Relu", maps, name=f"{name}/relu")

    def block(self, maps: str, block: Block, index: int) -> str:
        """Emit one inverted residual."""
        name, prefix = f"block{index}", f"features.{index}.block"
        entered, layer = maps, 0
        if f"{prefix}.2.0.weight" in self.weights or block.squeeze:  # there is an expansion
            maps = self.convolution(maps, f"{prefix}.0", f"{name}/expand")
            maps = self.activation(maps, block, f"{name}/expand")
            layer = 1
        maps = self.convolution(maps, f"{prefix}.{layer}", f"{name}/depthwise", block.stride)
        maps = self.activation(maps, block, f"{name}/depthwise")
        if block.squeeze:
            layer += 1
            maps = self.squeeze(maps, f"{prefix}.{layer}", f"{name}/squeeze")
        maps = self.convolution(maps, f"{prefix}.{layer + 1}", f"{name}/project")
        inputs = STEM_CHANNELS if index == 1 else BLOCKS[index - 2].out
        if block.stride == 1 and inputs == block.out:
            maps = self.writer.node("Add", maps, entered, name=f"{name}/add")
        return maps

    def squeeze(self, maps: str, prefix: str, name: str) -> str:
        """Emit squeeze-and-excitation."""
        gate = self.writer.node("GlobalAveragePool", maps, name=f"{name}/pool")
        for layer in ("fc1", "fc2"):
            weight = self.weights.pop(f"{prefix}.{layer}.weight")
            bias = self.weights.pop(f"{prefix}.{layer}.bias")
            gate = self.conv(gate, weight, bias, f"{name}/{layer}")
            if layer == "fc1":
                gate = self.writer.node("Relu", gate, name=f"{name}/relu")
        gate = self.writer.node("HardSigmoid", gate, name=f"{name}/gate", alpha=1 / 6, beta=0.5)
        return self.writer.node("Mul", maps, gate, name=f"{name}/scale")

    def dense(self, values: str, weight: Array, bias: Array, name: str) -> str:
        weight_name = self.constant(weight, f"{name}.weight")
        return self.writer.node(
            "Gemm", values, weight_name, self.constant(bias, f"{name}.bias"), name=name, transB=1
        )

    def layer(self, values: str, prefix: str, name: str) -> str:
        weight, bias = self.weights.pop(f"{prefix}.weight"), self.weights.pop(f"{prefix}.bias")
        return self.dense(values, weight, bias, name)

    def head(self, maps: str, architecture: Architecture) -> None:
        """Emit the head, from the pool to the age."""
        pooled = self.writer.node("GlobalAveragePool", maps, name="head/pool")
        values = self.writer.node("Flatten", pooled, name="head/flatten", axis=1)
        values = self.hardswish(self.layer(values, "project", "head/project"), "head/project")
        if architecture.sex:
            sex = self.layer("sex", "sex", "head/sex")
            sex = self.writer.node("Relu", sex, name="head/sex/relu")
            values = self.writer.node("Concat", values, sex, name="head/joined", axis=1)
        for index in range(architecture.head_layers):
            values = self.layer(values, f"hidden.{index}", f"head/hidden{index}")
            values = self.writer.node("Relu", values, name=f"head/hidden{index}/relu")
        mean, sd = self.weights.pop("mean_months"), self.weights.pop("sd_months")
        weight = self.weights.pop("output.weight") * sd
        self.dense(values, weight, self.weights.pop("output.bias") * sd + mean, "age_months")
