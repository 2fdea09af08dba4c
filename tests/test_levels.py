"""Means of areas and histograms, held to the library whose numbers they are."""

import platform

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bakit.files import sha256
from bakit.hand.working import working_image
from bakit.image.equalize import as_grey, levels
from bakit.image.resize import area_means, pays, resize

SIDES = st.integers(16, 90)
CROPS = hnp.arrays(np.uint8, st.tuples(SIDES, SIDES), elements=st.integers(0, 255))


@st.composite
def tall_images(draw):
    """A side, and an image with four times as many rows and more columns, noise in it."""
    size = draw(st.integers(4, 40))
    height = draw(st.integers(4 * size, 9 * size))
    width = draw(st.integers(size + 1, 6 * size))
    noise = np.random.default_rng(draw(st.integers(0, 2**32)))
    return size, noise.integers(0, 256, (height, width), np.uint8)


def opencv(pixels, size):
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)


@given(tall_images())
def test_means_are_those_of_inter_area(drawn):
    size, pixels = drawn
    assert pays(pixels, size)
    expected = opencv(pixels.astype(np.float32), size)
    # float32 sums in another order: 255 * 2^-23 times the rows of a sum.
    assert np.abs(area_means(pixels, size) - expected).max() <= 1e-3
    grey = as_grey(pixels)
    assert np.abs(area_means(grey, size) - opencv(grey, size)).max() <= 4e-6


@given(tall_images())
def test_a_crop_of_an_image_is_shrunk_like_its_copy(drawn):
    size, pixels = drawn
    framed = np.pad(pixels, 3)[3:-3, 3:-3]
    assert np.array_equal(area_means(framed, size), area_means(pixels, size))


@given(tall_images())
def test_bytes_of_grey_and_numbers_make_the_same_working_image(drawn):
    size, pixels = drawn
    assert np.abs(working_image(pixels, size) - working_image(as_grey(pixels), size)).max() <= 1e-4


def test_a_film_of_whole_multiples():
    film = np.random.default_rng(0).integers(0, 256, (640, 384), np.uint8)
    assert np.array_equal(resize(film, 128), opencv(film, 128))


@pytest.mark.parametrize("shape", [(511, 400), (640, 128), (128, 128), (100, 900), (60, 50)])
def test_where_it_does_not_pay_opencv_does_it(shape):
    film = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    method = cv2.INTER_AREA if min(shape) > 128 else cv2.INTER_LINEAR
    assert not pays(film, 128)
    assert np.array_equal(resize(film, 128), cv2.resize(film, (128, 128), interpolation=method))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="OpenCV's arithmetic on x86")
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 260), st.integers(0, 9))
def test_bytes_are_resized_as_opencv_does_on_x86(height, width, size, seed):
    """As whole numbers, or summed in one order, which every machine does alike."""
    levels_of_grey = 256 if seed % 2 else 3  # few levels have means at a half
    film = np.random.default_rng(seed).integers(0, levels_of_grey, (height, width), np.uint8)
    method = cv2.INTER_AREA if min(height, width) > size else cv2.INTER_LINEAR
    if pays(film, size):  # rows are summed first, in another order than OpenCV's
        film = film[: 4 * size - 1]
    expected = cv2.resize(film, (size, size), interpolation=method)
    assert np.array_equal(resize(film, size), expected)


def test_a_resized_film_is_the_same_on_every_machine():
    sides = ((196, 154), (277, 186), (299, 230), (1000, 321))  # the last by its rows first
    films = [np.random.default_rng(i).integers(0, 256, s, np.uint8) for i, s in enumerate(sides)]
    digests = [sha256(resize(film, 224).tobytes())[:16] for film in films]
    assert digests == [
        "95e10cd6cbcaad6a",
        "fbc9c53a6176b3dd",
        "6373b3603b28e1de",
        "e3742a5f127c48e9",
    ]


@given(CROPS, st.booleans())
def test_bytes_are_equalized_as_opencv_does(crop, inverted):
    # `levels` on numbers calls cv2.equalizeHist itself.
    expected = levels(as_grey(crop), equalize=True, inverted=inverted)
    assert np.array_equal(levels(crop, equalize=True, inverted=inverted), expected)


@given(CROPS, st.booleans())
def test_bytes_are_stretched_to_their_range(crop, inverted):
    found = levels(crop, equalize=False, inverted=inverted)
    assert np.array_equal(found, levels(as_grey(crop), equalize=False, inverted=inverted))
    if crop.min() < crop.max():
        assert (found.min(), found.max()) == (0, 255)


def test_a_crop_of_one_grey():
    crop = np.full((20, 20), 77, np.uint8)
    expected = levels(as_grey(crop), equalize=True, inverted=False)
    assert np.array_equal(levels(crop, equalize=True, inverted=False), expected)
