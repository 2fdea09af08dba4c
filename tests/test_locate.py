"""The hand's box and what speaks against it: on drawn maps, on phantoms, and on what is no hand."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bakit.errors import ImageError
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.found import NOT_FOUND, LocalizerOutput
from bakit.hand.locate import LEAST_CONFIDENCE, SURE, choose_hand, run_localizer
from bakit.hand.prepare import OpenLocalizer, find
from bakit.hand.weights import get_localizer
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.settings import Preprocessing, StudentSettings, UnrolledSettings

REAL = Path(__file__).parents[2] / "shared" / "data"
SIDE = 64
STUDENT = StudentSettings()
REASONS = {"no_hand_found", "two_hands", "hand_cut_off", "methods_disagree", "inverted", "turned"}


class Drawn:
    """A localizer that answers with one map, whatever the image."""

    provider = "drawn"

    def __init__(self, output):
        self.output = output

    def run(self, _feeds):
        name = "hand" if self.output.dtype == np.float32 else "labels"
        return {name: self.output}


def certain(*boxes, sure=0.97):
    """A map of rectangles that are the hand's."""
    drawn = np.zeros((SIDE, SIDE), np.float32)
    for box in boxes:
        drawn[box.y0 : box.y1, box.x0 : box.x1] = sure
    return drawn


def found(certainty, working=None, shape=(640, 1280)):
    """What is chosen from a map; the image is as bright as the map unless another is given."""
    working = certainty if working is None else working
    grey = cv2.resize(working, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return choose_hand(run_localizer(grey, Drawn(certainty), STUDENT), grey.shape)


def reasons(*boxes):
    return found(certain(*boxes)).reasons


HAND = Box(20, 12, 44, 50)

# Maps


def test_box_is_in_pixels_of_the_image():
    got = found(certain(HAND))
    assert got.box == HAND.scale((SIDE, SIDE), (640, 1280))
    assert got.reasons == ()
    assert got.scores.confidence == pytest.approx(0.97, abs=1e-4)
    assert (got.scores.second, got.scores.border, got.scores.agreement) == (0, 0, 1)
    assert got.scores.contrast > 0.9


@pytest.mark.parametrize(("beside", "moved"), [(0.0, 0.0), (0.25, 1 / 6), (0.4, 1 / 3)])
def test_edges_lie_between_pixels_where_the_map_falls_to_a_half(beside, moved):
    drawn = certain(HAND, sure=1.0)
    drawn[HAND.y0 : HAND.y1, HAND.x0 - 1] = beside
    drawn[HAND.y1, HAND.x0 : HAND.x1] = beside
    box = found(drawn, shape=(6400, 6400)).box
    assert box.x0 == round((HAND.x0 - moved) * 100)
    assert box.y1 == round((HAND.y1 + moved) * 100)
    assert (box.y0, box.x1) == (HAND.y0 * 100, HAND.x1 * 100)


def test_a_hand_at_the_edge_ends_at_the_edge():
    assert found(certain(Box(0, 0, SIDE, SIDE))).box == Box(0, 0, 1280, 640)


def test_labels_have_whole_edges():
    labels = (certain(HAND) > 0).astype(np.int32)
    seen = LocalizerOutput(labels.astype(np.float32), labels, [(labels > 0, 0.3)])
    assert choose_hand(seen, (SIDE * 2, SIDE * 2)).box == Box(*(2 * side for side in HAND))


@pytest.mark.parametrize("sure", [0.0, SURE - 0.01, LEAST_CONFIDENCE - 0.01])
def test_what_is_not_sure_enough_is_no_hand(sure):
    assert found(certain(HAND, sure=sure), certain(HAND)) == NOT_FOUND


def test_specks_are_no_hand_and_no_second_one():
    speck = Box(2, 2, 7, 7)
    assert found(certain(speck)) == NOT_FOUND
    got = found(certain(HAND, speck))
    assert (got.reasons, got.scores.second) == ((), 0)


def test_a_map_of_nan_is_no_hand():
    grey = np.random.default_rng(0).random((50, 50), dtype=np.float32)
    assert (
        find(
            grey,
            OpenLocalizer(Drawn(np.full((SIDE, SIDE), np.nan, np.float32)), STUDENT),
            Preprocessing(),
        )[1]
        == NOT_FOUND
    )


def test_the_larger_of_two_hands_is_chosen_and_both_are_said():
    got = found(certain(Box(4, 10, 26, 50), Box(36, 10, 60, 50)))
    assert got.box == Box(36, 10, 60, 50).scale((SIDE, SIDE), (640, 1280))
    assert "two_hands" in got.reasons
    assert got.scores.second == pytest.approx(22 / 24, abs=1e-4)


def test_a_smaller_region_is_no_second_hand():
    assert reasons(HAND, Box(50, 10, 60, 30)) == ()


@pytest.mark.parametrize(
    ("boxes", "cut"),
    [
        ([Box(20, 12, 44, SIDE)], False),  # a forearm
        ([Box(22, 12, 30, SIDE), Box(22, 12, 40, 50), Box(36, 12, 40, SIDE)], False),  # two bones
        ([Box(20, 0, 44, SIDE)], True),  # the finger tips as well
        ([Box(20, 12, 44, SIDE), Box(40, 30, SIDE, 40)], True),  # the thumb
        ([Box(20, 12, 44, SIDE), Box(40, 30, SIDE, 34)], False),  # the thumb's tip just touches
        ([Box(0, 4, 30, SIDE)], True),  # half of the hand, around a corner
        ([Box(0, 40, 20, SIDE)], True),
        ([Box(0, 52, 20, SIDE)], False),  # a forearm that leaves through a corner
        ([Box(0, 0, SIDE, SIDE)], True),
    ],
)
def test_a_forearm_leaves_the_image_once_and_anything_else_is_cut_off(boxes, cut):
    assert ("hand_cut_off" in reasons(*boxes)) == cut


def test_darker_than_its_surroundings_is_inverted():
    drawn = certain(HAND)
    assert found(drawn, 1 - drawn).reasons == ("methods_disagree", "inverted")


def test_brightness_elsewhere_is_disagreement():
    working = 0.3 * certain(HAND) + certain(Box(48, 0, SIDE, SIDE))
    assert found(certain(HAND), working.astype(np.float32)).reasons == ("methods_disagree",)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 9999),
    blur=st.sampled_from([0, 1, 4, 12]),
    sharp=st.sampled_from([1.0, 4.0, 1e6]),
    kind=st.sampled_from(["hand", "labels"]),
)
@example(height=1, width=1, seed=0, blur=4, sharp=1e6, kind="hand")
@example(height=1, width=3000, seed=1, blur=4, sharp=1e6, kind="hand")
def test_any_image_and_any_map_give_a_box_inside_or_none(height, width, seed, blur, sharp, kind):
    rng = np.random.default_rng(seed)
    output = rng.random((32, 32), dtype=np.float32)
    if blur:
        output = cv2.GaussianBlur(output, (0, 0), blur).astype(np.float32)
        output = (output - output.min()) / np.ptp(output)
    if kind == "hand":
        output = ((output - 0.5) * sharp + 0.5).clip(0, 1).astype(np.float32)
        settings = StudentSettings(32, (2, 2))
    else:
        output = np.digitize(output, np.sort(rng.random(seed % 4))).astype(np.int32)
        settings = UnrolledSettings(size=32)
    grey = rng.random((height, width), dtype=np.float32)
    got = find(grey, OpenLocalizer(Drawn(output), settings), Preprocessing())[1]
    assert set(got.reasons) <= REASONS
    if got.box is None:
        assert got == NOT_FOUND
        return
    assert 0 <= got.box.x0 < got.box.x1 <= width
    assert 0 <= got.box.y0 < got.box.y1 <= height
    assert 0 <= got.scores.confidence <= 1
    assert 0 <= got.scores.second <= 1 or kind == "labels"
    assert 0 <= got.scores.border <= 4
    assert 0 <= got.scores.agreement <= 1
    assert -1 <= got.scores.contrast <= 1


# The shipped student


@pytest.fixture(scope="module")
def shipped():
    """What finds the hand in grey values, with the shipped student."""
    student = get_localizer("student")
    with open_localizer(student.weights, student.settings, 1).session as session:
        yield lambda grey: find(grey, OpenLocalizer(session, student.settings), Preprocessing())[1]


def clean(seed):
    """A hand without nuisances, and its box."""
    phantom = make_phantom(seed, height=160, nuisances=())
    return decode(phantom.image), phantom.box


CLEAN = range(6100, 6104)


def test_student_finds_phantoms_that_nobody_taught_it(shipped):
    overlaps = []
    for seed in range(6000, 6016):
        phantom = make_phantom(seed, height=160)
        got = shipped(decode(phantom.image))
        overlaps.append(got.box.iou(phantom.box))
        assert set(got.reasons) == {"inverted"} & set(phantom.nuisances)
    assert np.mean(overlaps) >= 0.9
    assert min(overlaps) >= 0.8


@pytest.mark.parametrize("seed", CLEAN)
def test_an_inverted_hand_is_found_and_said(shipped, seed):
    grey, box = clean(seed)
    got = shipped(1 - grey)
    assert got.box.iou(box) >= 0.85
    assert "inverted" in got.reasons


@pytest.mark.parametrize("seed", CLEAN)
def test_two_hands_are_said_and_one_of_them_is_the_box(shipped, seed):
    (left, first), (right, second) = clean(seed), clean(seed + 10)
    right = right[:, ::-1]
    wide, shift = right.shape[1], left.shape[1]
    second = Box(shift + wide - second.x1, second.y0, shift + wide - second.x0, second.y1)
    got = shipped(np.ascontiguousarray(np.hstack([left, right])))
    assert "two_hands" in got.reasons
    assert max(got.box.iou(first), got.box.iou(second)) >= 0.85


@pytest.mark.parametrize("side", ["top", "left", "right"])
@pytest.mark.parametrize("seed", CLEAN)
def test_a_hand_that_is_cut_off_is_said(shipped, seed, side):
    grey, box = clean(seed)
    rows = slice(box.y0 + box.height // 4, None) if side == "top" else slice(None)
    first = box.x0 + box.width // 3 if side == "left" else 0
    last = box.x1 - box.width // 3 if side == "right" else None
    assert "hand_cut_off" in shipped(np.ascontiguousarray(grey[rows, first:last])).reasons


def text_page():
    page = np.full((700, 500), 245, np.uint8)
    for y in range(40, 680, 24):
        words = "Dear colleague, thank you for the hand"
        cv2.putText(page, words, (20, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 20, 1, cv2.LINE_AA)
    return page


def foot():
    """Heel, ball and five toes in a row."""
    picture = np.full((400, 260), 12, np.uint8)
    cv2.ellipse(picture, (130, 300), (52, 84), 0, 0, 360, 180, -1)
    cv2.ellipse(picture, (124, 170), (68, 80), 8, 0, 360, 190, -1)
    for x, length in zip((68, 96, 122, 148, 182), (20, 20, 22, 24, 32), strict=True):
        cv2.ellipse(picture, (x, 88), (11, length), 0, 0, 360, 165, -1)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return (cv2.GaussianBlur(picture, (0, 0), 2) + noise).clip(0, 255).astype(np.uint8)


NOISE = np.random.default_rng(3).integers(0, 256, (300, 220), np.uint8)
NO_HAND = {
    "nearly blank": np.pad(np.ones((1, 1), np.uint8), ((99, 100), (99, 100))),
    "noise": NOISE,
    "blurred noise": cv2.GaussianBlur(NOISE, (0, 0), 3),
    "noise, 20000x300": np.random.default_rng(4).integers(0, 256, (300, 20000), np.uint8),
    "text": text_page(),
    "inverted text": 255 - text_page(),
    "foot": foot(),
    "ramp": np.tile(np.arange(64, dtype=np.uint8), (48, 1)),
    "square": cv2.rectangle(np.zeros((90, 90), np.uint8), (30, 30), (60, 60), 200, -1),
    "disk": cv2.circle(np.zeros((90, 90), np.uint8), (45, 45), 25, 200, -1),
    "checks": (np.indices((128, 128)).sum(0) // 16 % 2).astype(np.float32),
    "strip, 16x20000": np.tile(np.arange(256, dtype=np.uint8), (16, 80)),
}


@pytest.mark.parametrize("name", NO_HAND)
def test_what_is_no_hand_is_said_to_be_none(shipped, name):
    assert shipped(decode(NO_HAND[name])) == NOT_FOUND


@pytest.mark.parametrize(
    "picture", [np.full((50, 50), 7, np.uint8), NOISE[:8, :8], np.full((20, 20), np.nan)]
)
def test_what_cannot_be_used_is_refused_before_the_localizer(shipped, picture):
    with pytest.raises(ImageError):
        shipped(decode(picture))


@pytest.mark.parametrize("seed", CLEAN)
def test_a_hand_in_an_odd_file_is_found_all_the_same(shipped, seed):
    grey, box = clean(seed)
    shape = grey.shape
    odd = {
        "12 of 16 bits": ((grey * 4095).astype(np.uint16), shape),
        "colour": (np.dstack([np.rint(grey * 255).astype(np.uint8)] * 3), shape),
        "20000x300": (cv2.resize(grey, (20000, 300)).clip(0, 1), (300, 20000)),
        "tiny": (cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA), (32, 32)),
    }
    for name, (pixels, now) in odd.items():
        got = shipped(decode(pixels))
        assert got.box is not None, name
        assert got.box.iou(box.scale(shape, now)) >= 0.85, name
        assert got.reasons == (), name


def test_looking_and_choosing_is_locating(shipped):
    student = get_localizer("student")
    grey, _ = clean(6000)
    with open_localizer(student.weights, student.settings, 1).session as session:
        seen = run_localizer(grey, session, student.settings)
    assert choose_hand(seen, grey.shape) == shipped(grey)


# Real radiographs


@pytest.mark.skipif(not (REAL / "originals").is_dir(), reason="the radiographs are not at hand")
def test_student_on_the_originals(shipped):
    with (REAL / "originals" / "labels.csv").open() as table:
        rows = list(csv.DictReader(table))
    overlaps = []
    for row in rows:
        expected = Box(*(int(row[name]) for name in ("x0", "y0", "x1", "y1")))
        box = shipped(decode(REAL / "originals" / "images" / f"{row['id']}.png")).box
        overlaps.append(box.iou(expected) if box else 0.0)
    assert np.mean(overlaps) >= 0.90  # 0.975 was measured
    assert sum(overlap >= 0.7 for overlap in overlaps) >= 15


@pytest.mark.skipif(not (REAL / "rsna100").is_dir(), reason="the radiographs are not at hand")
def test_student_covers_the_bones_that_radiologists_marked(shipped):
    with (REAL / "rsna100" / "hull_boxes.csv").open() as table:
        rows = list(csv.DictReader(table))
    covered = 0
    for row in rows:
        grey = decode(REAL / "rsna100" / "images" / f"{row['id']}.png")
        box = shipped(grey).box
        if box is None:
            continue
        # The hull in pixels of the small image, not rounded.
        x0, x1 = (int(row[n]) * grey.shape[1] / int(row["width"]) for n in ("xmin", "xmax"))
        y0, y1 = (int(row[n]) * grey.shape[0] / int(row["height"]) for n in ("ymin", "ymax"))
        inside = max(min(box.x1, x1) - max(box.x0, x0), 0) * max(
            min(box.y1, y1) - max(box.y0, y0), 0
        )
        covered += inside >= 0.95 * (x1 - x0) * (y1 - y0)
    assert len(rows) == 298
    assert covered >= 290  # 297 was measured
