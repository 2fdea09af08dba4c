"""The student: training module, folded weights and exported graph are one function."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from bakit.export.onnx.localizer import localizer_model, open_localizer
from bakit.export.onnx.writer import serialize
from bakit.hand import student
from bakit.hand.weights import FOLDER, get_localizer
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.localizers import StudentInTraining, draw_hand
from bakit.phantoms import make_phantom
from bakit.settings import StudentSettings

SHAPES = [StudentSettings(), StudentSettings(32, (3, 5)), StudentSettings(48, (4, 6, 9, 5, 2))]


def untrained(settings):
    """A module whose batch norms have seen something, so that folding them matters."""
    torch.set_num_threads(1)  # more only wait for each other on a busy machine
    torch.manual_seed(0)
    model = StudentInTraining(settings)
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean") or (name.startswith("norms.") and "bias" in name):
            value.normal_(0, 0.3)
        elif name.startswith("norms.") and name.endswith("weight"):
            value.uniform_(-1.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("settings", SHAPES, ids=lambda s: f"{s.size}-{len(s.widths)}")
def test_module_folded_weights_and_graph_agree(settings):
    model = untrained(settings)
    weights = model.folded()
    size = settings.size
    images = np.random.default_rng(1).random((2, 1, size, size), dtype=np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).sigmoid().numpy()
        folded = draw_hand(torch.from_numpy(images), weights, settings).numpy()
    arrays = {name: value.numpy() for name, value in weights.items()}
    with open_localizer(arrays, settings, 1).session as session:
        drawn = [session.run({"image": image[None]})["hand"] for image in images]

    assert np.ptp(expected) > 0.01  # a constant map would agree with anything
    assert np.abs(folded - expected).max() <= 1e-5
    assert np.abs(np.stack(drawn)[:, None] - expected).max() <= 1e-5


def test_shipped_graph_says_what_torch_says_of_a_phantom():
    shipped = get_localizer("student")
    image = working_image(decode(make_phantom(6000, height=160).image), shipped.settings.size)
    weights = {name: torch.from_numpy(value) for name, value in shipped.weights.items()}
    with torch.inference_mode():
        expected = draw_hand(torch.from_numpy(image)[None, None], weights, shipped.settings)
    with open_localizer(shipped.weights, shipped.settings, 1).session as session:
        hand = session.run({"image": image[None, None]})["hand"]

    assert hand.shape == (64, 64)
    assert hand.dtype == np.float32
    assert np.abs(hand - expected.numpy()[0, 0]).max() <= 1e-5


def test_graph_is_small_and_has_only_common_operators():
    shipped = get_localizer("student")
    model = localizer_model(shipped.weights, shipped.settings)
    operators = {node.op_type for node in model.graph.node}
    data = serialize(model)

    assert operators == {"Conv", "Relu", "Resize", "Add", "Sigmoid", "Reshape"}
    assert len(data) <= 1_000_000
    assert (FOLDER / "localizer-student.safetensors").stat().st_size <= 1_000_000
    assert serialize(localizer_model(shipped.weights, shipped.settings)) == data


def test_shapes_are_known_before_the_graph_runs():
    settings = StudentSettings(32, (3, 5))
    weights = {
        name: np.zeros(shape, np.float32) for name, shape in student.weight_shapes(settings).items()
    }
    graph = onnx.shape_inference.infer_shapes(localizer_model(weights, settings), strict_mode=True)
    shapes = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in (*graph.graph.value_info, *graph.graph.output)
    }
    assert shapes["encode1"] == [1, 5, 16, 16]
    assert shapes["hand"] == [32, 32]
    assert all(all(shape) for shape in shapes.values())


@pytest.mark.parametrize("settings", SHAPES, ids=lambda s: f"{s.size}-{len(s.widths)}")
def test_folded_weights_have_the_shapes_that_are_promised(settings):
    folded = StudentInTraining(settings).folded()
    shapes = {name: tuple(value.shape) for name, value in folded.items()}
    assert shapes == student.weight_shapes(settings)


def test_the_graph_follows_a_weight():
    settings = StudentSettings(32, (3, 5))
    weights = {name: value.numpy() for name, value in untrained(settings).folded().items()}
    image = np.random.default_rng(0).random((1, 1, 32, 32), dtype=np.float32)
    hands = []
    for shift in (0.0, 1.0):
        changed = weights | {"narrow0.bias": weights["narrow0.bias"] + np.float32(shift)}
        with open_localizer(changed, settings, 1).session as session:
            hands.append(session.run({"image": image})["hand"])
    assert np.abs(hands[0] - hands[1]).max() > 1e-3


@pytest.mark.parametrize(("size", "levels"), [(60, 5), (100, 4), (33, 2)])
def test_a_size_that_cannot_be_halved_is_refused(size, levels):
    with pytest.raises(ValueError, match=f"size {size} is not a multiple of {2 ** (levels - 1)}"):
        StudentSettings(size, (4,) * levels)
