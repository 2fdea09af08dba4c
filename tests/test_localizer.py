"""The localizer: autograd and the exported graphs, with their backward pass, agree."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import serialize
from bakit.hand.regions import hand_candidates
from bakit.hand.unrolled import initial_weights, weight_shapes
from bakit.hand.working import working_image
from bakit.image.box import bounds
from bakit.image.read import decode
from bakit.model.localizers import localize_autograd
from bakit.phantoms import make_phantom
from bakit.settings import UnrolledSettings
from tests.graphs import open_graph

ORIGINALS = Path(__file__).parents[1].parent / "shared" / "data" / "originals" / "images"
SMALL = UnrolledSettings(size=24, features=6, labels=5, steps=3)


def find_hand(labels, working):
    """The box of the best candidate, in working pixels; None if nothing looks like a hand."""
    candidates = hand_candidates(labels, working)
    return bounds(candidates[0].mask) if candidates else None


def reference(image, weights, settings):
    """The labels of torch's autograd."""
    parameters = {name: torch.from_numpy(value) for name, value in weights.items()}
    return localize_autograd(torch.from_numpy(image), parameters, settings).numpy()


@pytest.mark.parametrize("form", ["loop", "unrolled"])
def test_graph_agrees_with_the_reference(form):
    settings = msgspec.structs.replace(SMALL, steps=2)
    image = working_image(decode(make_phantom(3, height=160).image), settings.size)
    weights = initial_weights(settings)
    model = serialize(localizer_model(weights, settings, form))
    session = open_graph(model)

    labels = session.run(None, {"image": image[None, None]})[0]
    expected = reference(image, weights, settings)

    assert labels.dtype == np.int32
    assert len(np.unique(labels)) > 1
    # float32 sums in another order move a few pixels across a boundary
    assert (labels == expected).mean() > 0.99


def test_graph_follows_the_number_of_steps():
    image = working_image(decode(make_phantom(3, height=160).image), SMALL.size)[None, None]
    weights = initial_weights(SMALL)
    results = []
    for steps in (1, 20):
        settings = msgspec.structs.replace(SMALL, steps=steps)
        session = open_graph(serialize(localizer_model(weights, settings)))
        results.append(session.run(None, {"image": image})[0])
    assert (results[0] != results[1]).any()


def test_both_forms_of_the_graph_agree():
    image = working_image(decode(make_phantom(4, height=160).image), SMALL.size)[None, None]
    weights = initial_weights(SMALL)
    results = []
    for form in ("loop", "unrolled"):
        session = open_graph(serialize(localizer_model(weights, SMALL, form)))
        results.append(session.run(None, {"image": image})[0])
    assert (results[0] == results[1]).mean() > 0.99


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="real radiographs are not in the repository")
def test_boxes_of_graph_and_reference_agree_on_real_radiographs():
    settings = UnrolledSettings()
    weights = initial_weights(settings)
    session = open_graph(serialize(localizer_model(weights, settings)))
    overlaps = []
    for path in sorted(ORIGINALS.iterdir())[::4]:
        image = working_image(decode(path), settings.size)
        found = find_hand(session.run(None, {"image": image[None, None]})[0], image)
        expected = reference(image, weights, settings)
        overlaps.append(found.iou(find_hand(expected, image)))
    # 0.9985 was measured over all; 50 steps amplify the last digits of a float32 sum.
    assert np.mean(overlaps) >= 0.97


def test_never_fewer_than_two_labels_on_a_structured_image():
    settings = msgspec.structs.replace(SMALL, steps=50, continuity=500.0)  # drives all to one
    image = np.zeros((24, 24))
    image[8:16, 8:16] = 1
    labels = reference(image, initial_weights(settings), settings)
    assert len(np.unique(labels)) >= 2


def test_initial_weights_are_fixed():
    weights = initial_weights(UnrolledSettings())
    assert list(weights) == list(weight_shapes(UnrolledSettings()))
    # Golden: a change here is a change of every label map.
    assert float(weights["conv2.weight"].sum()) == pytest.approx(-1.63935, abs=1e-4)
