"""Hands in many images: box and polarity, remembered between runs."""

import cv2
import msgspec
import numpy as np

from bakit.data.labels import Sample, read_samples
from bakit.hand.found import Place
from bakit.hand.prepare import OpenLocalizer, crop, find, prepare
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import Localizer, get_localizer
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom, write_phantoms
from bakit.settings import Preprocessing, UnrolledSettings
from bakit.training.boxes import places_by_id

TINY = UnrolledSettings(size=32, features=4, labels=4, steps=2)


def places(samples, localizer, cache):
    found = places_by_id(samples, Preprocessing(), localizer, cache, workers=1)
    assert list(found) == [sample.id for sample in samples]
    return list(found.values())


def test_hands_are_remembered(tmp_path):
    samples = read_samples(write_phantoms(tmp_path / "data", 3, height=96))
    localizer = Localizer(TINY, initial_weights(TINY), "tiny")
    cache = tmp_path / "boxes.json"
    first = places(samples, localizer, tmp_path)
    remembered = msgspec.json.decode(cache.read_bytes())
    # Changed on purpose: only a remembered hand can come back like this.
    other = Place(Box(1, 2, 3, 4), inverted=True)
    cache.write_bytes(msgspec.json.encode(dict.fromkeys(remembered, other)))

    second = places(samples, localizer, tmp_path)

    assert len(first) == 3
    assert second == [other] * 3


def test_polarity_is_found_with_the_box(tmp_path):
    film = make_phantom(3, height=300)
    paths = [tmp_path / "film.png", tmp_path / "negative.png"]
    grey = np.rint(decode(film.image) * 255).astype(np.uint8)
    for path, pixels in zip(paths, (grey, 255 - grey), strict=True):
        cv2.imwrite(str(path), pixels)
    samples = [Sample(path.stem, path, 100.0, male=True) for path in paths]
    found = places(samples, get_localizer("student"), tmp_path)
    assert [hand.inverted for hand in found] == [False, True]
    assert all(hand.box.iou(film.box) > 0.7 for hand in found)


def test_the_rule_of_the_box_is_not_mixed_up(tmp_path):
    samples = read_samples(write_phantoms(tmp_path / "data", 1, height=96))
    small = UnrolledSettings(size=32, features=8, labels=8, steps=5)
    literal = msgspec.structs.replace(small, box_rule="literal")
    found = [
        places(samples, Localizer(settings, initial_weights(small), "small"), tmp_path)
        for settings in (small, literal)
    ]
    assert found[0] != found[1]
    assert len(msgspec.json.decode((tmp_path / "boxes.json").read_bytes())) == 2


def test_the_papers_rule_looks_at_the_whole_film_and_never_outside_the_frame(tmp_path):
    """The box of the paper's rule may be the film; outside the exposed field there is no hand."""
    grey = np.zeros((96, 96), np.float32)
    grey[20:76, 20:76] = np.random.default_rng(0).uniform(0.3, 0.9, (56, 56))

    class Drawn:
        def run(self, _):
            labels = np.zeros((32, 32), np.int32)
            labels[place] = 1
            return {"labels": labels}

    settings = msgspec.structs.replace(TINY, box_rule="literal")
    place = (slice(8, 24), slice(8, 24))
    found = find(grey, OpenLocalizer(Drawn(), settings), Preprocessing())[1]
    assert found.box == Box(24, 24, 72, 72)
    place = (slice(4, 24), slice(8, 24))  # partly on the frame, which is cut off the crop
    hand = prepare(grey, OpenLocalizer(Drawn(), settings), Preprocessing())
    assert hand.found.box == Box(24, 12, 72, 72)
    place_alone = (grey, hand.found.box, hand.found.inverted, Preprocessing(), hand.found.turn)
    assert np.array_equal(hand.pixels, crop(*place_alone))
    place = (slice(0, 6), slice(0, 32))  # the frame above
    assert find(grey, OpenLocalizer(Drawn(), settings), Preprocessing())[1].box is None
