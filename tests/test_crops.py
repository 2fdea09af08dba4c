"""Crops of training images: the runtime's own, others near to them, and the cache."""

import numpy as np
import pytest

from bakit.hand.found import Place
from bakit.hand.prepare import crop
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.settings import Preprocessing
from bakit.training import crops
from bakit.training.crops import ONE_CROP, Jitter, load_part, phantom_part

SETTINGS = Preprocessing()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    cache = tmp_path_factory.mktemp("phantoms")
    return phantom_part(12, SETTINGS, cache, Jitter(2, 0.05), first=500, workers=1), cache


def test_phantoms_are_cropped_to_their_hand_at_any_size(phantoms):
    """Half of them are squashed to a square: the box must be squashed with them."""
    part, _ = phantoms
    for index in range(12):
        phantom = make_phantom(500 + index, height=400)
        expected = crop(decode(phantom.image), phantom.box, False, SETTINGS)
        found = part.images[index, 0].numpy() / 255
        # Another size of the same phantom: alike, not equal. A wrong box gives less than 0.7.
        assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.8
        assert part.ages_months[index] == phantom.age_months
        assert part.sexes[index] == phantom.male


def test_other_crops_are_near_to_the_first(phantoms):
    images = phantoms[0].images.numpy().astype(float)
    for first, other in images:
        assert not np.array_equal(first, other)
        assert np.corrcoef(first.ravel(), other.ravel())[0, 1] > 0.5


def test_prepared_images_are_taken_from_the_cache(phantoms, monkeypatch):
    part, cache = phantoms
    monkeypatch.setattr(crops, "in_processes", None)
    again = phantom_part(12, SETTINGS, cache, Jitter(2, 0.05), first=500)
    assert np.array_equal(again.images.numpy(), part.images.numpy())
    with pytest.raises(TypeError):  # other phantoms are not in it
        phantom_part(12, SETTINGS, cache, Jitter(2, 0.05), first=600)
    assert len(list(cache.iterdir())) == 1  # and what failed left nothing


def test_cache_knows_images_boxes_and_settings(labelled, tmp_path):
    samples = labelled.samples[:3]
    whole = dict.fromkeys((sample.id for sample in samples), Place(None))
    boxed = dict.fromkeys(whole, Place(Box(2, 2, 40, 40)))
    inverted = dict.fromkeys(whole, Place(Box(2, 2, 40, 40), inverted=True))
    for boxes, settings, jitter in (
        (whole, SETTINGS, ONE_CROP),
        (boxed, SETTINGS, ONE_CROP),
        (inverted, SETTINGS, ONE_CROP),
        (whole, Preprocessing(equalize=False), ONE_CROP),
        (whole, SETTINGS, Jitter(3, 0.1)),
        (whole, SETTINGS, Jitter(3, 0.1, seed=1)),
    ):
        fresh = load_part(samples, boxes, settings, None, jitter)
        kept = load_part(samples, boxes, settings, tmp_path, jitter)
        assert np.array_equal(fresh.images.numpy(), kept.images.numpy())
    assert len(list(tmp_path.iterdir())) == 5


def test_a_part_shows_its_progress(labelled, tmp_path):
    samples, done = labelled.samples[:3], []
    boxes = dict.fromkeys((sample.id for sample in samples), None)
    load_part(samples, boxes, SETTINGS, tmp_path, on_progress=lambda *told: done.append(told))
    assert done == [("cropping", count, 3) for count in (1, 2, 3)]
