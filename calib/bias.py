"""Empirical bias correction (Nagel et al., ICCV 2019, section 4.2), layer by layer.

Quantization shifts the mean of each channel. The shift is measured on images after all earlier
layers are corrected, and subtracted from the layer's bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx

from bakit.backends.ort import OrtSession
from bakit.export.onnx.equalize import equalized_by
from bakit.export.onnx.int8 import FLOAT_BIASES, layer_names, quantize, shift_biases
from bakit.export.onnx.writer import copy_of, serialize
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.session import Tensors
    from bakit.settings import Ranges
    from bakit.types import Floats, OnProgress


def correct_biases(
    model: onnx.ModelProto,
    ranges: Ranges,
    feeds: Sequence[Tensors],
    on_progress: OnProgress = silent,
) -> Ranges:
    """Return the ranges with biases that correct the mean error of every INT8 layer."""
    layers = [name for name in layer_names(model) if name not in ranges.recipe.float_layers]
    float_model = equalized_by(ranges.recipe, model)
    quantized = quantize(model, msgspec.structs.replace(ranges, biases={}), FLOAT_BIASES)
    expected = _channel_means(float_model, layers, feeds)
    biases = {}
    for layer in track(layers, "correcting biases", on_progress):
        found = _channel_means(quantized, [layer], feeds)[layer]
        biases[layer] = tuple((expected[layer] - found).tolist())
        shift_biases(quantized, {layer: biases[layer]})
    return msgspec.structs.replace(ranges, biases=biases)


def _channel_means(
    model: onnx.ModelProto, layers: Sequence[str], feeds: Sequence[Tensors]
) -> dict[str, Floats]:
    """Return each layer's output mean per channel, before rounding and ReLU."""
    copy = copy_of(model)
    tensors = {node.name: node.output[0] for node in model.graph.node if node.name in set(layers)}
    there = {item.name for item in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name)
        for name in tensors.values()
        if name not in there
    )
    sums = dict.fromkeys(layers, np.zeros(()))
    with OrtSession(serialize(copy), threads=1) as session:
        for feed in feeds:
            outputs = session.run(feed)
            for layer in layers:
                values = np.asarray(outputs[tensors[layer]], np.float64)
                sums[layer] = sums[layer] + values.reshape(*values.shape[:2], -1).mean((0, 2))
    return {layer: total / len(feeds) for layer, total in sums.items()}
