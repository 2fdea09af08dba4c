"""The localizer: autograd, the hand-written backward pass and the exported graphs agree."""

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch

from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import serialize
from bakit.hand.masks import bounds
from bakit.hand.regions import hand_candidates
from bakit.hand.unrolled import initial_weights, localize, weight_shapes
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.localizers import localize_autograd
from bakit.phantoms import make_phantom
from bakit.settings import UnrolledSettings

ORIGINALS = Path(__file__).parents[1].parent / "shared" / "data" / "originals" / "images"
SMALL = UnrolledSettings(size=24, features=6, labels=5, steps=3)


def find_hand(labels, working):
    """The box of the best candidate, in working pixels; None if nothing looks like a hand."""
    candidates = hand_candidates(labels, working)
    return bounds(candidates[0].mask) if candidates else None


def random_weights(settings, seed=0):
    """Weights away from the special start, where some gradients vanish."""
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(settings)
    return {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}


def relative_error(found, expected):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("seed", range(5))
def test_one_step_agrees_with_autograd_in_float64(seed):
    image = np.random.default_rng(seed).random((24, 20))
    weights = random_weights(SMALL, seed)
    ours, reference = {}, {}
    localize(image, weights, SMALL, lambda step, w: ours.setdefault(step, dict(w)))
    localize_autograd(
        torch.from_numpy(image),
        {name: torch.from_numpy(value) for name, value in weights.items()},
        SMALL,
        lambda step, w: reference.setdefault(
            step, {name: value.detach().numpy().copy() for name, value in w.items()}
        ),
    )

    errors = {name: relative_error(ours[1][name], reference[1][name]) for name in weights}
    assert max(errors.values()) <= 1e-9, errors
    changed = {name for name in weights if relative_error(ours[1][name], weights[name]) > 1e-7}
    # What batch norm takes away again has no gradient.
    assert changed == set(weights) - {"norm2.bias", "conv3.bias"}


def test_changing_the_image_changes_the_weights_of_every_step():
    rng = np.random.default_rng(0)
    image = rng.random((24, 24))
    other = image.copy()
    other[5:9, 5:9] = 1 - other[5:9, 5:9]
    weights = initial_weights(SMALL)
    seen = []
    for pixels in (image, other):
        steps = {}
        localize(pixels, weights, SMALL, lambda k, w, steps=steps: steps.setdefault(k, dict(w)))
        seen.append(steps)

    for step in (1, 2, 3):
        for name in ("conv1.weight", "conv2.weight", "conv3.weight", "norm3.weight"):
            assert relative_error(seen[0][step][name], seen[1][step][name]) > 1e-6, (step, name)


@pytest.mark.parametrize("form", ["loop", "unrolled"])
def test_graph_agrees_with_the_reference(form):
    settings = msgspec.structs.replace(SMALL, steps=2)
    image = working_image(decode(make_phantom(3, height=160).image), settings.size)
    weights = initial_weights(settings)
    model = serialize(localizer_model(weights, settings, form))
    session = onnxruntime.InferenceSession(model)

    labels = session.run(None, {"image": image[None, None]})[0]
    expected = localize(image, weights, settings)

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
        session = onnxruntime.InferenceSession(serialize(localizer_model(weights, settings)))
        results.append(session.run(None, {"image": image})[0])
    assert (results[0] != results[1]).any()


def test_both_forms_of_the_graph_agree():
    image = working_image(decode(make_phantom(4, height=160).image), SMALL.size)[None, None]
    weights = initial_weights(SMALL)
    results = []
    for form in ("loop", "unrolled"):
        session = onnxruntime.InferenceSession(serialize(localizer_model(weights, SMALL, form)))
        results.append(session.run(None, {"image": image})[0])
    assert (results[0] == results[1]).mean() > 0.99


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="real radiographs are not in the repository")
def test_boxes_of_graph_and_reference_agree_on_real_radiographs():
    settings = UnrolledSettings()
    weights = initial_weights(settings)
    parameters = {name: torch.from_numpy(value) for name, value in weights.items()}
    session = onnxruntime.InferenceSession(serialize(localizer_model(weights, settings)))
    overlaps = []
    for path in sorted(ORIGINALS.iterdir())[::4]:
        image = working_image(decode(path), settings.size)
        found = find_hand(session.run(None, {"image": image[None, None]})[0], image)
        reference = localize_autograd(torch.from_numpy(image), parameters, settings).numpy()
        overlaps.append(found.iou(find_hand(reference, image)))
    # 0.9985 was measured over all; 50 steps amplify the last digits of a float32 sum.
    assert np.mean(overlaps) >= 0.97


def test_never_fewer_than_two_labels_on_a_structured_image():
    settings = msgspec.structs.replace(SMALL, steps=50, continuity=500.0)  # drives all to one
    image = np.zeros((24, 24))
    image[8:16, 8:16] = 1
    labels = localize(image, initial_weights(settings), settings)
    assert len(np.unique(labels)) >= 2


def test_initial_weights_are_fixed():
    weights = initial_weights(UnrolledSettings())
    assert list(weights) == list(weight_shapes(UnrolledSettings()))
    # Golden: a change here is a change of every label map.
    assert float(weights["conv2.weight"].sum()) == pytest.approx(-1.63935, abs=1e-4)
