"""How far the ages of correct evaluators of one model lie apart: the tolerance of its goldens.

Two correct libraries round in another order, fuse other layers and may hold 10 bits of a mantissa
(float16, TF32). In INT8, a difference of the last bit before a rounding becomes a whole step, so
single ages move by months while their mean hardly moves. Here the model itself is evaluated several
times, each time with noise of that size on all of its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from bakit.backends.ort import OrtSession
from bakit.export.onnx.int8 import SYMMETRIC, quantize, quantize_weights, round_once
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import copy_of, serialize
from bakit.files import sha256
from bakit.hand.prepare import crop
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.types import Precision
from bakit.verify import MOST_MONTHS, mean_change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bakit.bundle import Golden
    from bakit.model.checkpoint import Checkpoint
    from bakit.session import Tensors
    from bakit.targets import ExportRequest

SEEDS = range(5)
"""Seeds of the noise, one evaluator each."""

NOISE = 2.0**-11
"""Largest relative change of a parameter: half a step of a mantissa of 10 bits."""

MARGIN = 2.0
"""Tolerance over the largest change of an evaluator."""

LEAST_MONTHS = 0.05
"""Least tolerance, for models that the noise does not move."""

_SPREADS: dict[str, float] = {}
"""Largest changes by model and images: one model is exported to several targets."""


def golden_tolerance(
    checkpoint: Checkpoint, request: ExportRequest, folder: Path, golden: Sequence[Golden]
) -> float:
    """Return the largest allowed mean change of the golden ages, in months.

    INT8 is evaluated in the symmetric form, whose steps are the largest.
    """
    is_weights_only = request.precision is Precision.INT8_WEIGHTS
    images = [(item.path, item.box, item.inverted, item.turn, item.sex) for item in golden]
    key = sha256(
        msgspec.json.encode((checkpoint.weights_sha256, request.ranges, is_weights_only, images))
    )
    if key not in _SPREADS:
        model = regressor_model(checkpoint)
        if request.ranges is not None:
            model = round_once(quantize(model, request.ranges, SYMMETRIC))
        elif is_weights_only:
            model = quantize_weights(model)
        _SPREADS[key] = _spread(model, list(_feeds(checkpoint, folder, golden)))
    most = MOST_MONTHS[request.precision]
    return round(min(max(MARGIN * _SPREADS[key], LEAST_MONTHS), most), 3)


def _feeds(checkpoint: Checkpoint, folder: Path, golden: Sequence[Golden]) -> Iterator[Tensors]:
    for item in golden:
        grey = decode((folder / item.path).read_bytes())
        preprocessing = checkpoint.header.preprocessing
        pixels = crop(grey, item.box, item.inverted, preprocessing, item.turn)
        sex = np.array([[is_male(item.sex)]], np.float32)
        yield {"image": pixels[None, None], "sex": sex}


def _spread(model: onnx.ModelProto, feeds: Sequence[Tensors]) -> float:
    before = evaluate(model, feeds)
    return max(mean_change(evaluate(perturbed(model, seed), feeds), before) for seed in SEEDS)


def evaluate(model: onnx.ModelProto, feeds: Iterable[Tensors]) -> list[float]:
    """Return the ages in months of a regressor, in ONNX Runtime."""
    session = OrtSession(serialize(model), wide=True)
    return [float(session.run(item)["age_months"].item()) for item in feeds]


def perturbed(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a model whose float parameters have relative noise of at most ``NOISE``."""
    copy = copy_of(model)
    random = np.random.default_rng(seed)
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor)
            noisy = value * (1 + NOISE * random.uniform(-1, 1, value.shape))
            tensor.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), tensor.name))
    return copy
