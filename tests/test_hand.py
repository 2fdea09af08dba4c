"""The hand's box: found on drawn scenes, None on what is no hand, and never an error."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import serialize
from bakit.hand.regions import LEAST_SCORE, hand_candidates, largest_regions
from bakit.hand.unrolled import initial_weights
from bakit.hand.working import working_image
from bakit.image.box import Box, bounds
from bakit.image.read import decode
from bakit.settings import UnrolledSettings
from tests.graphs import open_graph

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Grey

    Labels = npt.NDArray[np.int32]

SIDE = 96
ORIGINALS = Path(__file__).resolve().parents[2] / "shared" / "data" / "originals"
FINGERS = ((26, 40), (38, 22), (48, 16), (58, 22), (74, 46))


def draw_hand(fade: float = 0.0) -> Grey:
    """Return how much each pixel is hand, ``(96, 96)`` in 0..1; fingers are darker by ``fade``."""
    canvas = np.zeros((SIDE * 4, SIDE * 4), np.float32)
    for x, y in FINGERS:
        cv2.line(canvas, (48 * 4, 62 * 4), (x * 4, y * 4), 1.0 - fade, 20)
    cv2.ellipse(canvas, (48 * 4, 60 * 4), (56, 60), 0, 0, 360, 1.0, -1)
    cv2.rectangle(canvas, (40 * 4, 64 * 4), (56 * 4, SIDE * 4), 1.0, -1)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)


def find_hand(labels: Labels, working: Grey) -> Box | None:
    """The box of the best candidate, in working pixels; None if nothing looks like a hand."""
    candidates = hand_candidates(labels, working)
    return bounds(candidates[0].mask) if candidates else None


def truth(hand: Grey) -> Box:
    rows, columns = np.flatnonzero((hand > 0.3).any(1)), np.flatnonzero((hand > 0.3).any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def quantize(working: Grey, *edges: float) -> Labels:
    """Label pixels by grey value, which is what the localizer does at its simplest."""
    return np.digitize(working, edges).astype(np.int32)


def grainy(working: Grey, amount: float = 0.01) -> Grey:
    noise = np.random.default_rng(0).normal(0, amount, working.shape)
    return np.clip(working + noise, 0, 1).astype(np.float32)


def assert_found(labels: Labels, working: Grey, expected: Box, least: float = 0.9) -> None:
    box = find_hand(labels, working)
    assert box is not None
    assert box.iou(expected) >= least, (box, expected)


def test_plain_hand() -> None:
    hand = draw_hand()
    working = grainy(0.1 + 0.6 * hand)
    assert_found(quantize(working, 0.4), working, truth(hand), 0.95)


def test_label_numbers_do_not_matter() -> None:
    hand = draw_hand(0.3)
    working = grainy(0.1 + 0.6 * hand)
    labels = quantize(working, 0.3, 0.6)
    renamed = np.array([-7, 3, 900], np.int32)[2 - labels]
    assert find_hand(labels, working) == find_hand(renamed, working)


def test_finger_tips_lost_to_the_background_come_back() -> None:
    hand = draw_hand(0.5)
    working = grainy(0.1 + 0.6 * hand)
    labels = quantize(working, 0.5)
    labels[:30] = 0
    assert_found(labels, working, truth(hand), 0.95)


def test_halo_goes() -> None:
    hand = draw_hand()
    working = grainy(0.1 + 0.6 * hand)
    halo = cv2.dilate((hand > 0.3).astype(np.uint8), np.ones((9, 9), np.uint8))
    labels = quantize(working, 0.4) + halo.astype(np.int32)
    assert_found(labels, working, truth(hand), 0.95)


def test_bright_field_is_not_the_hand() -> None:
    hand = draw_hand()
    working = np.zeros((SIDE, SIDE), np.float32)
    working[8:, 12:88] = 0.5
    working = grainy(np.where(working > 0, working + 0.3 * hand, 0).astype(np.float32))
    expected = truth(hand)
    assert_found(quantize(working, 0.25, 0.65), working, expected)
    assert_found(quantize(working, 0.25), working, expected)  # the field is all the labels show


def test_tilted_plate_is_looked_into() -> None:
    tilt = np.array([[0.6, 0.2, 10], [-0.2, 0.6, 26]])
    hand = cv2.warpAffine(draw_hand(), tilt, (SIDE, SIDE)).astype(np.float32)
    corners = np.array([[6, 26], [66, 6], [90, 78], [30, 95]], np.int32)
    plate = cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.float32), corners, 0.6)
    hand = (hand * (plate > 0)).astype(np.float32)
    working = grainy((plate + 0.25 * hand).astype(np.float32))
    assert_found(quantize(working, 0.3), working, truth(hand), 0.8)


def test_dark_field_in_a_bright_surround() -> None:
    hand = draw_hand(0.2)
    hand[84:] = 0
    working = np.full((SIDE, SIDE), 0.45, np.float32)
    working[8:84, 10:86] = 0.05
    working[8:84, 10:86] += 0.6 * hand[8:84, 10:86]
    working = grainy(working)
    assert_found(quantize(working, 0.25, 0.7), working, truth(hand), 0.85)


def test_frame_and_marker_stay_outside() -> None:
    hand = draw_hand()
    working = 0.1 + 0.6 * hand
    working[:2] = working[-2:] = working[:, :2] = working[:, -2:] = 0.9
    working[6:18, 6:16] = 1.0
    working = grainy(working)
    expected = truth(hand)
    assert_found(quantize(working, 0.4), working, expected)
    assert_found(quantize(working, 0.4, 0.8), working, expected)


def test_holes_are_filled_and_candidates_are_sorted() -> None:
    hand = draw_hand()
    working = 0.1 + 0.6 * hand
    working[58:64, 45:51] = 0.1
    candidates = hand_candidates(quantize(working, 0.4), working)
    assert candidates[0].mask[61, 48]
    scores = [candidate.score for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= LEAST_SCORE
    for mask, _ in candidates:
        box = bounds(mask)
        assert mask[box.y0 : box.y1, box.x0 : box.x1].sum() == mask.sum()


@pytest.mark.parametrize("seed", range(5))
def test_a_few_wrong_labels_hardly_move_the_box(seed: int) -> None:
    hand = draw_hand(0.4)
    working = grainy(0.1 + 0.6 * hand)
    labels = quantize(working, 0.3, 0.55)
    rng = np.random.default_rng(seed)
    changed = np.where(rng.random(labels.shape) < 0.02, rng.integers(0, 4, labels.shape), labels)
    first, second = find_hand(labels, working), find_hand(changed.astype(np.int32), working)
    assert first is not None
    assert second is not None
    assert first.iou(second) >= 0.97


@pytest.mark.parametrize("side", [32, 64, 96])
@pytest.mark.parametrize("seed", range(4))
def test_noise_is_no_hand(side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    working = rng.random((side, side), dtype=np.float32)
    labels = rng.integers(0, 2 + 3 * seed, (side, side)).astype(np.int32)
    assert find_hand(labels, working) is None


def test_nothing_plausible_is_none() -> None:
    blank = np.full((SIDE, SIDE), 0.5, np.float32)
    rng = np.random.default_rng(0)
    assert find_hand(np.zeros((SIDE, SIDE), np.int32), draw_hand()) is None  # a single label
    assert find_hand(rng.integers(0, 4, (SIDE, SIDE)).astype(np.int32), blank) is None
    halves = np.repeat(np.array([0.2, 0.8], np.float32), SIDE // 2)[None].repeat(SIDE, 0)
    assert find_hand(quantize(halves, 0.5), halves) is None


SHAPES = st.tuples(st.integers(8, 72), st.integers(8, 72))


@settings(max_examples=60, deadline=None)
@given(
    labels=SHAPES.flatmap(lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(-3, 15))),
    seed=st.integers(0, 99),
    blur=st.integers(0, 6),
    follows=st.booleans(),
)
def test_any_label_map_gives_a_box_inside_or_none(
    labels: Labels, seed: int, blur: int, *, follows: bool
) -> None:
    rng = np.random.default_rng(seed)
    working = rng.random(labels.shape, dtype=np.float32)
    if blur:
        working = cv2.GaussianBlur(working, (0, 0), blur).astype(np.float32)
        working = (working - working.min()) / max(float(np.ptp(working)), 1e-6)
    if follows:
        labels = np.where(labels > 13, labels, quantize(working, 0.3, 0.6)).astype(np.int32)
    box = find_hand(labels, working)
    if box is not None:
        assert 0 <= box.x0 < box.x1 <= labels.shape[1]
        assert 0 <= box.y0 < box.y1 <= labels.shape[0]


@pytest.mark.parametrize("shape", [(8, 8), (8, 400), (400, 8), (9, 64)])
def test_extreme_shapes(shape: tuple[int, int]) -> None:
    working = np.zeros(shape, np.float32)
    working[2:-2, 2:-2] = 1
    for labels in (quantize(working, 0.5), np.arange(working.size, dtype=np.int32).reshape(shape)):
        for candidate in hand_candidates(labels % 16, working):
            assert candidate.mask.shape == shape


@pytest.mark.skipif(not ORIGINALS.exists(), reason="the radiographs are not at hand")
def test_real_radiographs() -> None:
    small = UnrolledSettings(size=64, features=16, labels=16, steps=50)
    weights = initial_weights(small)
    with (ORIGINALS / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:8:4]
    graph = serialize(localizer_model(weights, small, "loop"))
    session = open_graph(graph)
    shares = []
    for row in rows:
        grey = decode(ORIGINALS / "images" / f"{row['id']}.png")
        working = working_image(grey, small.size)
        box = find_hand(session.run(None, {"image": working[None, None]})[0], working)
        assert box is not None
        expected = Box(*(int(row[name]) for name in ("x0", "y0", "x1", "y1")))
        shape = (grey.shape[0], grey.shape[1])
        shares.append(box.scale(working.shape, shape).iou(expected))
    assert min(shares) >= 0.8
    assert np.mean(shares) >= 0.9


def test_the_papers_rule_takes_the_largest_region_without_the_background() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[2:30, 3:20] = 7  # the hand, of two labels
    labels[10:20, 5:15] = 5
    labels[30:39, 25:39] = 7  # a marker of the same label
    labels[0, 0] = 3  # too small to be a candidate
    first, second = largest_regions(labels)
    assert bounds(first.mask) == Box(3, 2, 20, 30)
    assert first.mask.sum() == 28 * 17  # both labels
    assert bounds(second.mask) == Box(25, 30, 39, 39)
    assert first.score == pytest.approx(28 * 17 / (28 * 17 + 9 * 14 + 1))
    assert largest_regions(np.full((9, 9), 4, np.int32)) == []


def test_the_papers_rule_keeps_a_bright_field_that_ours_looks_into() -> None:
    hand = draw_hand()
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[:] = 1  # the collimated field
    labels[hand > 0.5] = 2
    labels[:, :27] = labels[:, 69:] = 0
    assert bounds(largest_regions(labels)[0].mask) == Box(27, 0, 69, SIDE)


@settings(max_examples=25, deadline=None)
@given(
    labels=SHAPES.flatmap(lambda shape: hnp.arrays(np.int32, shape, elements=st.integers(-3, 5)))
)
def test_regions_of_the_papers_rule_are_sorted_and_hold_no_background(labels: Labels) -> None:
    names, counts = np.unique(labels, return_counts=True)
    background = names[counts.argmax()]
    regions = largest_regions(labels)
    areas = [int(region.mask.sum()) for region in regions]
    assert areas == sorted(areas, reverse=True)
    for mask, score in regions:
        assert not (mask & (labels == background)).any()
        assert 0 < score <= 1
