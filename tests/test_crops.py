"""Crops of training images: the runtime's own, others near to them, and the cache."""

import cv2
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
from bakit.training.degrade import degrade

SETTINGS = Preprocessing(96)


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
    (file,) = cache.iterdir()  # and what failed left nothing
    for damage in (b"", b"no array", file.read_bytes()[:-9]):
        file.write_bytes(damage)
        with pytest.raises(TypeError):  # it is made again
            phantom_part(12, SETTINGS, cache, Jitter(2, 0.05), first=500)


def test_cache_knows_images_boxes_and_settings(labelled, tmp_path):
    samples = labelled.samples[:3]
    whole = dict.fromkeys((sample.id for sample in samples), Place(None))
    boxed = dict.fromkeys(whole, Place(Box(2, 2, 40, 40)))
    inverted = dict.fromkeys(whole, Place(Box(2, 2, 40, 40), inverted=True))
    for places, settings, jitter in (
        (whole, SETTINGS, ONE_CROP),
        (boxed, SETTINGS, ONE_CROP),
        (inverted, SETTINGS, ONE_CROP),
        (whole, Preprocessing(96, equalize=False), ONE_CROP),
        (whole, SETTINGS, Jitter(3, 0.1)),
        (whole, SETTINGS, Jitter(3, 0.1, seed=1)),
        (whole, SETTINGS, Jitter(3, 0.1, degrade=0.5)),
    ):
        fresh = load_part(samples, places, settings, None, jitter)
        kept = load_part(samples, places, settings, tmp_path, jitter)
        assert np.array_equal(fresh.images.numpy(), kept.images.numpy())
    assert len(list(tmp_path.iterdir())) == 7


def test_a_part_shows_its_progress(labelled, tmp_path):
    samples, done = labelled.samples[:3], []
    hands = dict.fromkeys((sample.id for sample in samples), Place(None))
    load_part(samples, hands, SETTINGS, tmp_path, on_progress=lambda *told: done.append(told))
    assert done == [("cropping", count, 3) for count in (1, 2, 3)]


def test_an_inverted_radiograph_gives_the_crop_of_the_original(labelled, tmp_path):
    sample = labelled.samples[0]
    grey = np.rint(decode(sample.path) * 255).astype(np.uint8)
    negative = sample._replace(path=tmp_path / "negative.png")
    cv2.imwrite(str(negative.path), 255 - grey)
    box, plain = Box(4, 4, 60, 70), Preprocessing(96, equalize=False)

    first = load_part([sample], {sample.id: Place(box)}, plain)
    other = load_part([negative], {sample.id: Place(box, inverted=True)}, plain)

    assert np.array_equal(first.images.numpy(), other.images.numpy())
    runtime = crop(255 - grey, box, True, SETTINGS)
    trained = load_part([negative], {sample.id: Place(box, inverted=True)}, SETTINGS)
    assert np.array_equal(np.rint(runtime * 255), trained.images[0, 0].numpy())


def test_degraded_crops_are_a_function_of_seed_and_image(labelled):
    samples = labelled.samples[:4]
    hands = dict.fromkeys((sample.id for sample in samples), Place(None))

    def images(**changes):
        jitter = Jitter(3, 0.05, **changes)
        return load_part(samples, hands, SETTINGS, None, jitter).images.numpy()

    plain, worse = images(), images(degrade=1.0)
    assert np.array_equal(worse, images(degrade=1.0))
    assert np.array_equal(worse[:, 0], plain[:, 0])  # the localizer's crop is never degraded
    assert not np.array_equal(worse[:, 1:], images(degrade=1.0, seed=1)[:, 1:])
    pairs = list(zip(plain[:, 1:].reshape(8, -1), worse[:, 1:].reshape(8, -1), strict=True))
    # Equalization undoes a mere change of the tone curve.
    assert sum(not np.array_equal(before, after) for before, after in pairs) >= 5
    assert all(np.corrcoef(before, after)[0, 1] > 0.7 for before, after in pairs)


def test_degraded_radiographs_are_small_faint_and_in_bytes():
    ramp = np.tile(np.linspace(0.1, 0.9, 320, dtype=np.float32), (240, 1))
    sides, spreads = [], []
    for seed in range(60):
        worse = degrade(ramp, np.random.default_rng(seed))
        np.testing.assert_allclose(worse * 255, np.rint(worse * 255), atol=1e-4)
        low, high = np.percentile(worse, (2, 98)) * 255
        sides.append(max(worse.shape))
        spreads.append(high - low)
        assert worse.shape[0] / worse.shape[1] == pytest.approx(240 / 320, abs=0.01)
    assert 100 <= min(sides) < 200 < max(sides) == 320
    assert 13 <= min(spreads) < 40
    assert 15 < sum(spread < 125 for spread in spreads) < 45  # half of them
    blank = degrade(np.full((40, 40), 0.5, np.float32), np.random.default_rng(0))
    assert np.isfinite(blank).all()
