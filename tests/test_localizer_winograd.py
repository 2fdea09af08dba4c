"""Every form of the unrolled localizer is the same function as torch's autograd."""

import msgspec
import numpy as np
import pytest
import torch
from onnx import helper

from bakit.errors import InputError
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.tiles import TileEmitter
from bakit.export.onnx.unrolled import PARAMETERS
from bakit.export.onnx.writer import GraphWriter, make_model, serialize
from bakit.hand.unrolled import initial_weights, weight_shapes
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.localizers import localize_autograd
from bakit.phantoms import make_phantom
from bakit.session import TensorSpec
from bakit.settings import UnrolledSettings
from tests.graphs import open_graph

SMALL = UnrolledSettings(size=24, features=6, labels=5, steps=1)


def weights_after(image, weights, settings, form):
    """Run the graph and return what its Loop has made of the weights."""
    model = localizer_model(weights, settings, form)
    trained = [f"body/after/{name}" for name in PARAMETERS]
    for name in trained:
        model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    session = open_graph(serialize(model))
    values = session.run(trained, {"image": image[None, None].astype(np.float32)})
    return dict(zip(PARAMETERS, values, strict=True))


def labels_of(image, weights, settings):
    """The labels of torch's autograd."""
    parameters = {name: torch.from_numpy(value) for name, value in weights.items()}
    return localize_autograd(torch.from_numpy(image), parameters, settings).numpy()


def in_graph_order(name, value):
    if name == "conv2.weight":
        return value.transpose(2, 3, 0, 1).reshape(9, *value.shape[:2])
    return value.reshape(len(value), -1)


FORMS = [("winograd", 24), ("winograd", 26), ("loop", 24), ("loop", 25)]  # tiles of 4, 2, 1 and 1


@pytest.mark.parametrize(("form", "size"), FORMS)
@pytest.mark.parametrize("features", [6, 14])  # as they are, and filled up to 16
@pytest.mark.parametrize("seed", range(3))
def test_one_step_agrees_with_autograd(seed, features, form, size):
    settings = msgspec.structs.replace(SMALL, size=size, features=features)
    rng = np.random.default_rng(seed)
    image = rng.random((size, size))
    shapes = weight_shapes(settings)
    weights = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    reference = {}
    localize_autograd(
        torch.from_numpy(image),
        {name: torch.from_numpy(value) for name, value in weights.items()},
        settings,
        lambda _, w: reference.update({name: value.detach().numpy() for name, value in w.items()}),
    )

    found = weights_after(image, weights, settings, form)

    for name in PARAMETERS:
        expected = in_graph_order(name, reference[name])
        error = np.abs(found[name] - expected).max() / np.abs(expected).max()
        assert error <= 1e-5, (name, error)


@pytest.mark.parametrize("size", [24, 26])
def test_labels_agree_with_the_reference(size):
    settings = msgspec.structs.replace(SMALL, size=size, steps=3)
    image = working_image(decode(make_phantom(3, height=160).image), size)
    weights = initial_weights(settings)
    session = open_graph(serialize(localizer_model(weights, settings, "winograd")))
    labels = session.run(None, {"image": image[None, None]})[0]
    assert labels.dtype == np.int32
    assert (labels == labels_of(image, weights, settings)).mean() > 0.99


def test_without_steps_it_is_one_forward_pass():
    settings = msgspec.structs.replace(SMALL, steps=0)
    image = working_image(decode(make_phantom(3, height=160).image), settings.size)
    weights = initial_weights(settings)
    session = open_graph(serialize(localizer_model(weights, settings, "winograd")))
    labels = session.run(None, {"image": image[None, None]})[0]
    assert (labels == labels_of(image, weights, settings)).all()


@pytest.mark.parametrize("size", [24, 26])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_constant_stays_constant_to_the_bit(backend, size):
    """Else a flat background would get differences of random sign, where the loss has none."""
    pytest.importorskip(backend)
    settings = msgspec.structs.replace(SMALL, size=size)
    writer = GraphWriter()
    emitter = TileEmitter(writer, settings, "winograd")
    count, across = emitter.phases + 2, emitter.across
    transformed = emitter.transform("maps")
    emitter.op("Identity", emitter.outputs(transformed, "Relu"), name="outputs")
    writer.node("Identity", transformed, name="elements")
    shape = (emitter.phases**2, 1, emitter.tiles)
    model = serialize(
        make_model(
            writer.graph(
                "transform",
                [TensorSpec("maps", shape, "float32")],
                [
                    TensorSpec("elements", (count**2, 1, emitter.tiles), "float32"),
                    TensorSpec("outputs", shape, "float32"),
                ],
            )
        )
    )
    run = runner(backend, model)
    for value in np.random.default_rng(0).random(20).astype(np.float32):
        elements, outputs = run(np.full(shape, value, np.float32))
        inner = elements.reshape(count, count, across, across)[:, :, 1:-1, 1:-1]
        assert (inner[1, 1] != 0).all()
        inner[1, 1] = 0
        assert not inner.any()
        inner = outputs.reshape(-1, across, across)[:, 1:-1, 1:-1]
        assert (inner == inner[0, 0, 0]).all()


def runner(backend, model):
    if backend == "onnxruntime":
        session = open_graph(model)
        return lambda maps: session.run(None, {"maps": maps})
    import openvino

    compiled = openvino.Core().compile_model(openvino.Core().read_model(model), "CPU")
    return lambda maps: [value.copy() for value in compiled({"maps": maps}).to_tuple()]


def test_an_odd_size_is_refused():
    settings = msgspec.structs.replace(SMALL, size=25)
    with pytest.raises(InputError, match="even working size"):
        localizer_model(initial_weights(settings), settings, "winograd")
