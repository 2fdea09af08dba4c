"""Frames, shutters and padding are taken off; cuts are seen; any turn is read upright."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bakit.export.onnx.localizer import open_localizer
from bakit.hand.field import exposed_field, window_of, with_air
from bakit.hand.masks import contacts
from bakit.hand.prepare import find, prepare
from bakit.hand.weights import get_localizer
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.settings import Preprocessing

SETTINGS = Preprocessing(image_size=96)
SEEDS = (6001, 6004, 7001)


@pytest.fixture(scope="module")
def localizer():
    student = get_localizer("student")
    opened = open_localizer(student.weights, student.settings, 1)
    yield opened
    opened.session.close()


def clean(seed):
    return decode(make_phantom(seed, height=320, nuisances=()).image)


def noisy(height, width, seed=0):
    """A film without a line of one grey."""
    return np.random.default_rng(seed).integers(60, 200, (height, width)).astype(np.uint8)


@given(
    top=st.integers(0, 60),
    bottom=st.integers(0, 60),
    left=st.integers(0, 60),
    right=st.integers(0, 60),
    grey=st.sampled_from([0, 30, 128, 255]),
    floats=st.booleans(),
    jpeg=st.booleans(),
)
def test_frames_are_taken_off_whatever_their_grey(top, bottom, left, right, grey, floats, jpeg):
    film = noisy(240, 300)
    framed = np.pad(film, ((top, bottom), (left, right)), constant_values=grey)
    if jpeg:
        framed = cv2.imdecode(cv2.imencode(".jpg", framed)[1], cv2.IMREAD_GRAYSCALE)
    whole = Box(0, 0, framed.shape[1], framed.shape[0])
    given_film = framed.astype(np.float32) / np.float32(255) if floats else framed
    for field in exposed_field(given_film):
        # A side of less than 1 % of the film stays; JPEG blurs an edge over a block.
        expected = Box(left, top, left + 300, top + 240)
        slack = 8 if jpeg else 2
        assert field.inside(whole) == field
        assert max(abs(a - b) for a, b in zip(field, expected, strict=True)) <= slack


def test_a_dark_background_is_no_frame_but_ends_the_field():
    film = np.zeros((200, 160), np.uint8)
    cv2.ellipse(film, (80, 100), (30, 60), 0, 0, 360, 180, -1)
    field, frame = exposed_field(film)
    assert frame == Box(0, 0, 160, 200)
    assert max(abs(a - b) for a, b in zip(field, (50, 40, 111, 161), strict=True)) <= 2


@pytest.mark.parametrize("film", [np.full((40, 40), 9, np.uint8), np.eye(16, dtype=np.float32)])
def test_a_film_of_nothing_but_border_stays_whole(film):
    assert exposed_field(film) == (Box(0, 0, *film.shape[::-1]),) * 2


def test_air_has_the_grey_of_the_films_edge():
    film = noisy(50, 40)
    film[[0, -1]] = 70
    film[:, [0, -1]] = 70
    frame = Box(0, 0, 40, 50)
    aired = window_of(film, with_air(frame), frame)
    assert aired.dtype == np.uint8
    assert aired.shape == (62, 50)
    assert np.array_equal(aired[6:-6, 5:-5], film)
    assert set(aired[:6].ravel()) == {70}


@pytest.mark.parametrize("grey", [0.0, 1.0, 0.4])
@pytest.mark.parametrize("seed", SEEDS[:2])  # the third has a border of its own
def test_a_frame_changes_neither_box_nor_crop(localizer, seed, grey):
    film = clean(seed)
    film += np.random.default_rng(seed).normal(0, 0.01, film.shape).astype(np.float32)
    film = film.clip(0.02, 0.98)
    bare = prepare(film, localizer, SETTINGS)
    for width in (7, 40, 90):
        framed = prepare(np.pad(film, width, constant_values=grey), localizer, SETTINGS)
        assert framed.found.box == bare.found.box.moved(width, width)
        assert framed.found.reasons == bare.found.reasons
        assert np.array_equal(framed.pixels, bare.pixels)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_hand_is_turned_upright(localizer, seed, turn, inverted):
    film = clean(seed)
    upright = prepare(film, localizer, SETTINGS)
    shown = np.ascontiguousarray(np.rot90(1 - film if inverted else film, -turn))
    hand = prepare(shown, localizer, SETTINGS)
    assert (hand.found.turn, hand.found.inverted) == (turn, inverted)
    assert "turned" not in hand.found.reasons
    assert np.abs(hand.pixels - upright.pixels).mean() < 0.08
    width, height = shown.shape[::-1]
    assert hand.found.box.inside(Box(0, 0, width, height)) == hand.found.box


@pytest.mark.parametrize("fill", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("part", ["fingers", "wrist"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_inside_the_film_is_a_contact(localizer, seed, part, fill):
    film = clean(seed)
    film += np.random.default_rng(seed).normal(0, 0.02, film.shape).astype(np.float32)
    film = film.clip(0.03, 0.97)
    box = find(film, localizer, SETTINGS)[1].box
    cut = np.full_like(film, fill)
    half = (box.y0 + box.y1) // 2
    rows = slice(half, box.y1) if part == "fingers" else slice(box.y0, half)
    cut[rows, box.x0 : box.x1] = film[rows, box.x0 : box.x1]
    output, found = find(cut, localizer, SETTINGS)
    if found.box is None:  # rejected: no contact to measure
        return
    top, _, bottom, _ = contacts(output.regions[0].mask, output.field)
    assert (top if part == "fingers" else bottom) > 0.4


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_bytes_and_floats_have_the_same_field(step):
    """Faint films have borders of a few greys, at the limit of what is flat."""
    for base in range(0, 240, 7):
        film = np.full((96, 80), base, np.uint8)
        film[6:12] += step
        film[12:] = np.arange(80, dtype=np.uint8) * 2
        floats = film.astype(np.float32) / np.float32(255)
        assert exposed_field(film) == exposed_field(floats), base
