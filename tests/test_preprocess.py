"""Image files to model inputs: every format the same pixels, and nothing wild gets through."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bakit.errors import ImageError
from bakit.hand.prepare import OpenLocalizer, crop
from bakit.hand.working import working_image
from bakit.image.box import Box
from bakit.image.read import MIN_SIDE, decode
from bakit.phantoms import make_phantom
from bakit.settings import Preprocessing

SETTINGS = Preprocessing(96)
REAL = Path(__file__).parents[1].parent / "shared/data/originals/images"


@pytest.fixture(scope="module")
def grey():
    """An 8-bit radiograph, higher than wide, ``(H, W)``."""
    return make_phantom(3, height=160, nuisances=()).image


def encode(pixels, suffix=".png"):
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


def multiples(pixels):
    """Return 255 times the pixels, which must be whole numbers in 0..255."""
    whole = np.rint(pixels * 255)
    assert np.array_equal(whole.astype(np.float32) / np.float32(255), pixels)
    return whole.astype(np.uint8)


# Formats


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_path_bytes_and_array_are_the_same_pixels(tmp_path, grey, depth):
    pixels = grey if depth is np.uint8 else grey.astype(np.uint16) * 257
    path = tmp_path / "hand.png"
    path.write_bytes(encode(pixels))
    expected = grey.astype(np.float32) / np.float32(255)
    for source in (path, str(path), path.read_bytes(), pixels, pixels[:, :, None]):
        assert np.array_equal(decode(source), expected)


def test_floats_are_taken_as_they_are(grey):
    pixels = grey / 255.0
    assert np.array_equal(decode(pixels), pixels.astype(np.float32))


def test_a_jpeg_is_its_decoded_array(grey):
    data = encode(grey, ".jpg")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.ndim == 2
    assert np.array_equal(decode(data), decode(pixels))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_stored_as_colour_stays_grey(grey, suffix):
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    difference = decode(encode(colour, suffix)) - decode(encode(grey, suffix))
    assert np.abs(difference).max() <= 1.01 / 255


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_an_array_is_rgb_and_a_file_agrees_with_it(depth, channels):
    """Red, green and blue weigh differently: a mix-up of their order shows."""
    top = 2**depth - 1
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, top + 1, (20, 24, channels)).astype(f"uint{depth}")
    luma = (rgb[:, :, :3] @ [0.299, 0.587, 0.114]) / top
    assert np.allclose(decode(rgb), luma, atol=1e-6)
    order = [2, 1, 0, 3][:channels]
    assert np.allclose(decode(encode(rgb[:, :, order])), luma, atol=1.01 / 255)


TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_a_jpeg_is_turned_as_its_exif_says(grey, orientation):
    data = encode(grey, ".jpg")
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    exif = b"Exif\0\0" + tiff
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    assert np.array_equal(decode(turned), TURNED[orientation](decode(data)))


def test_twelve_bits_of_sixteen_keep_their_contrast():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 4095, 128 * 128).reshape(128, 128).astype(np.uint16)
    noisy = np.clip(ramp + rng.integers(0, 64, ramp.shape), 0, 4095).astype(np.uint16)
    narrow = crop(decode(encode(noisy)), None, False, SETTINGS)
    full = crop(decode(encode(noisy * 16)), None, False, SETTINGS)
    assert np.abs(narrow - full).max() <= 2 / 255
    assert len(np.unique(narrow)) > 200


# What is refused


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((20, 20), np.nan), "NaN or infinite"),
        (np.full((20, 20), np.inf), "NaN or infinite"),
        (np.linspace(-0.1, 1, 400).reshape(20, 20), "floats must lie in 0..1"),
        (np.linspace(0, 255, 400).reshape(20, 20), "floats must lie in 0..1"),
        (np.zeros((20, 20), np.uint8), "blank"),
        (np.full((20, 20), 65535, np.uint16), "blank"),
        (np.eye(20, MIN_SIDE - 1, dtype=np.uint8), "15x20 pixels; at least 16x16"),
        (np.zeros((0, 20), np.uint8), "20x0 pixels"),
        (np.zeros(400, np.uint8), r"shape \(400,\)"),
        (np.zeros((20, 20, 2), np.uint8), r"shape \(20, 20, 2\)"),
        (np.eye(20, dtype=np.int64), "dtype int64"),
        (np.eye(20, dtype=bool), "dtype bool"),
        (np.eye(20, dtype=complex), "dtype complex128"),
    ],
)
def test_an_array_that_is_no_radiograph_is_refused(pixels, reason):
    with pytest.raises(ImageError, match=f"^the array.*{reason}"):
        decode(pixels)


@pytest.mark.parametrize(("suffix", "mark", "end"), [(".png", 8, 8), (".jpg", 3, 1)])
@given(length=st.integers(0, 10_000))
def test_a_file_cut_anywhere_is_refused(suffix, mark, end, length):
    """OpenCV would fill up what is missing: ``mark`` bytes name the format, ``end`` close it."""
    data = encode(np.eye(40, dtype=np.uint8) * 255, suffix)
    cut = data[: length % (len(data) - end)]
    with pytest.raises(
        ImageError, match="incomplete" if len(cut) >= mark else "not a supported|empty"
    ):
        decode(cut)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM"]))
def test_bytes_that_are_no_image_are_refused(data, start):
    with pytest.raises(ImageError, match=r"^the bytes: "):
        decode(start + data)


arrays = st.one_of(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=40)),
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=40)),
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=40),
        elements=st.floats(0, 1),
    ),
    hnp.arrays(np.uint8, (17, 19, 3)),
)
"""Radiographs at their wildest; hypothesis likes them nearly blank."""


@given(arrays, st.data(), st.booleans(), st.floats(0, 1))
def test_no_image_or_box_escapes_0_to_1(pixels, data, equalize, margin):
    try:
        grey = decode(pixels)
    except ImageError as error:
        assert "blank" in str(error)  # noqa: PT017  # the one reason left
        return
    assert grey.dtype == np.float32
    assert 0 <= grey.min() < grey.max() <= 1
    box = data.draw(boxes_inside(grey.shape[1], grey.shape[0]) | st.none())
    settings = Preprocessing(equalize=equalize, margin=margin)
    prepared = crop(grey, box, False, settings)
    assert prepared.shape == (settings.image_size, settings.image_size)
    assert prepared.dtype == np.float32
    multiples(prepared)
    assert prepared.min() >= 0
    assert prepared.max() <= 1
    working = working_image(grey, 32)
    assert working.shape == (32, 32)
    assert working.dtype == np.float32
    assert 0 <= working.min() <= working.max() <= 1


def test_the_box_is_what_is_read(grey):
    """Pixels outside the box and its margin do not matter."""
    exact = Preprocessing(margin=0)
    box = Box(20, 30, 80, 120)
    other = decode(grey).copy()
    other[:30] = other[120:] = 0
    other[:, :20] = other[:, 80:] = 1
    assert np.array_equal(crop(decode(grey), box, False, exact), crop(other, box, False, exact))
    assert not np.array_equal(
        crop(decode(grey), box, False, SETTINGS), crop(other, box, False, SETTINGS)
    )


def test_shrinking_averages():
    """One column in three is bright: sampling would see all of them or none."""
    stripes = np.zeros((288, 288), np.uint8)
    stripes[:, ::3] = 255
    pixels = crop(decode(stripes), None, False, Preprocessing(96, equalize=False))
    assert np.array_equal(multiples(pixels), np.full((96, 96), 85))


def test_equalization_is_a_setting(grey):
    plain = crop(decode(grey), None, False, Preprocessing(96, equalize=False))
    assert not np.array_equal(plain, crop(decode(grey), None, False, SETTINGS))


@pytest.mark.parametrize("size", [96, 128, 224, 500])
def test_the_size_is_a_setting(grey, size):
    assert crop(decode(grey), None, False, Preprocessing(image_size=size)).shape == (size, size)


@pytest.mark.parametrize("size", [-96, 0, 64, 97, 100])
def test_sizes_that_the_network_was_not_made_for_are_refused(size):
    with pytest.raises(ValueError, match=f"image size {size} is not possible"):
        Preprocessing(image_size=size)


# One path for all


def test_training_calibration_and_devices_see_the_same_pixels(
    labelled, fake_bundle, checkpoint, monkeypatch
):
    from bakit.backends.fake import FakeSession
    from bakit.calib import command, dataset, select
    from bakit.runtime import Runtime
    from bakit.training.crops import load_part

    # A device: what reaches the regressor through Runtime.predict.
    feeds = []
    run = FakeSession.run

    def recording(self, feed):
        if self.role == "regressor":
            feeds.append(feed["image"][0, 0])
        return run(self, feed)

    monkeypatch.setattr(FakeSession, "run", recording)
    with Runtime(fake_bundle) as runtime:
        for sample in labelled.samples:
            runtime.predict(sample.path, "F", allow_rejected=True)
        places = {s.id: runtime.find(decode(s.path)).place for s in labelled.samples}
    # Training, on the boxes that the device found.
    part = load_part(labelled.samples, places, checkpoint.header.preprocessing)
    trained = list((part.images.float() / 255).numpy()[:, 0])
    assert all(map(np.array_equal, feeds, trained))
    assert len(feeds) == len(trained) == len(labelled.samples)
    # Calibration, with the same localizer.
    localizer = OpenLocalizer(FakeSession("localizer"), checkpoint.header.localizer)
    monkeypatch.setattr(dataset, "open_localizer", lambda *_: localizer)
    monkeypatch.setattr(command, "ranges_on", lambda checkpoint, images, method: images)
    monkeypatch.setattr(select, "MIN_SAMPLES", 1)
    images = command.calibrate(checkpoint, labelled.folder, all_images=True)
    of_id = dict(zip((sample.id for sample in labelled.samples), feeds, strict=True))
    assert len(images) == 12
    for sample, feed in zip(images.samples, images, strict=True):
        assert np.array_equal(feed["image"][0, 0], of_id[sample.id])


@pytest.mark.skipif(not REAL.is_dir(), reason="real radiographs are not part of the repository")
def test_real_radiographs_use_the_whole_range():
    for path in sorted(REAL.iterdir())[:3]:
        prepared = multiples(crop(decode(path), None, False, SETTINGS))
        assert prepared.max() - prepared.min() > 200
        assert len(np.unique(prepared)) > 50


# Boxes


def boxes_inside(width, height):
    def build(xs, ys):
        return Box(min(xs), min(ys), max(xs), max(ys))

    def pair(end):
        return st.lists(st.integers(0, end), min_size=2, max_size=2, unique=True)

    return st.builds(build, pair(width), pair(height))


any_box = st.builds(Box, *[st.integers(-50, 50)] * 4)


@given(any_box, any_box)
def test_overlap_is_symmetric_and_in_0_to_1(a, b):
    assert a.iou(b) == b.iou(a)
    assert 0 <= a.iou(b) <= 1


@given(boxes_inside(60, 40))
def test_overlap_with_itself_is_whole(box):
    assert box.iou(box) == 1


@given(boxes_inside(60, 40), boxes_inside(60, 40))
def test_overlap_counts_pixels(a, b):
    canvas = np.zeros((2, 40, 60), bool)
    for mask, box in zip(canvas, (a, b), strict=True):
        mask[box.y0 : box.y1, box.x0 : box.x1] = True
    assert a.area == canvas[0].sum()
    assert a.iou(b) == (canvas[0] & canvas[1]).sum() / (canvas[0] | canvas[1]).sum()


@given(boxes_inside(60, 40), st.floats(0, 1))
def test_a_grown_box_covers_the_old_one_and_stays_inside(box, margin):
    grown = box.expand(margin, 60, 40)
    assert 0 <= grown.x0 <= box.x0 < box.x1 <= grown.x1 <= 60
    assert 0 <= grown.y0 <= box.y0 < box.y1 <= grown.y1 <= 40


@given(boxes_inside(64, 48), st.integers(1, 3000), st.integers(1, 3000))
def test_a_scaled_box_stays_inside_and_covers_a_pixel(box, width, height):
    scaled = box.scale((48, 64), (height, width))
    assert 0 <= scaled.x0 < scaled.x1 <= width
    assert 0 <= scaled.y0 < scaled.y1 <= height


@given(boxes_inside(64, 48), st.integers(1, 20))
def test_scaling_up_and_back_is_the_same_box(box, factor):
    large = (48 * factor, 64 * factor)
    assert box.scale((48, 64), large).scale(large, (48, 64)) == box
