"""The pages for app developers: their code parses, and their words give what bakit gives."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import label

pytest.importorskip("onnxruntime")

from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.prediction import is_male
from bakit.runtime import Runtime

SAMPLES = Path(__file__).parents[1] / "docs/samples"


@pytest.mark.parametrize(
    ("name", "language"),
    [("BoneAge.swift", "swift"), ("BoneAgeWhole.swift", "swift"), ("BoneAge.kt", "kotlin")],
)
def test_the_code_of_an_app_parses(name, language):
    tree_sitter = pytest.importorskip("tree_sitter")
    grammar = pytest.importorskip(f"tree_sitter_{language}")
    parser = tree_sitter.Parser(tree_sitter.Language(grammar.language()))
    code = (SAMPLES / name).read_bytes()
    assert not parser.parse(code).root_node.has_error
    assert parser.parse(code.rstrip()[:-1]).root_node.has_error, "a brace less is noticed"


def test_the_sizes_in_the_code_are_the_shipped_checkpoint_s():
    header = Checkpoint.read(SHIPPED).header
    working, side = header.localizer.size, header.preprocessing.image_size
    swift = (SAMPLES / "BoneAge.swift").read_text("utf-8")
    assert re.findall(r"tensor\(\w+, (\d+)\)", swift) == [str(working), str(side)]
    steps = (SAMPLES.parent / "app-steps.md").read_text("utf-8")
    for shape in (f"image (1, 1, {working}, {working})", f"image (1, 1, {side}, {side})"):
        assert f"`{shape}`" in steps


# What docs/app-steps.md says, done by its words alone: no OpenCV, nothing of bakit.


def averaging(length, size):
    """Return (size, length): the share that each old pixel has in each new one."""
    edges = np.arange(size + 1) * length / size
    old = np.arange(length)
    inside = np.minimum(old + 1, edges[1:, None]) - np.maximum(old, edges[:-1, None])
    return inside.clip(0) * size / length


def interpolating(length, size):
    """Return (size, length): bilinear weights between the centres of pixels."""
    at = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
    return (1 - np.abs(at[:, None] - np.arange(length))).clip(0)


def squashed(pixels, size):
    height, width = pixels.shape
    weights = averaging if min(pixels.shape) > size else interpolating
    return weights(height, size) @ pixels @ weights(width, size).T


def edge(profile):
    first = int(np.flatnonzero(profile >= 0.5)[0])
    if not first:
        return 0.0
    before, after = profile[first - 1], profile[first]
    return first - 0.5 + (0.5 - before) / (after - before)


def box_of(hand, width, height):
    regions, count = label(hand >= 0.5, np.ones((3, 3)))
    masks = [regions == number for number in range(1, count + 1)]
    masks = [m for m in masks if m.sum() >= 0.012 * hand.size and hand[m].mean() >= 0.85]
    best = max(masks, key=lambda m: hand[m].sum())
    rows, columns = np.nonzero(best)
    near = np.zeros_like(best)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            y, x = rows + down, columns + right
            there = (y >= 0) & (y < len(hand)) & (x >= 0) & (x < len(hand))
            near[y[there], x[there]] = True
    kept = np.where(near, hand, 0)
    across, along = kept.max(0), kept.max(1)
    size = len(hand)
    edges = (edge(across), edge(along), size - edge(across[::-1]), size - edge(along[::-1]))
    return [round(e * side / size) for e, side in zip(edges, (width, height) * 2, strict=True)]


def crop_of(grey, box, margin, size):
    x0, y0, x1, y1 = box
    right, down = round((x1 - x0) * margin), round((y1 - y0) * margin)
    part = grey[max(y0 - down, 0) : y1 + down, max(x0 - right, 0) : x1 + right]
    whole = np.rint((part - part.min()) / (part.max() - part.min()) * 255).astype(int)
    counts = np.bincount(whole.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    above = counts.copy()
    above[: first + 1] = 0
    levels = np.rint(255 * above.cumsum() / (whole.size - counts[first]))
    return np.rint(squashed(levels[whole], size)) / 255


def test_the_steps_for_an_iphone_are_bakit_s(shipped):
    manifest = shipped.manifest
    changes = []
    with Runtime(shipped) as runtime:
        for golden in manifest.golden:
            grey = decode(shipped.root / golden.path).astype(np.float64)
            height, width = grey.shape
            small = squashed(grey, manifest.localizer.size)
            low, high = np.percentile(small, [1, 99])
            working = ((small - low) / (high - low)).clip(0, 1).astype(np.float32)
            expected = working_image(grey.astype(np.float32), manifest.localizer.size)
            assert np.abs(working - expected).max() < 1e-5
            outputs = runtime.localizer.session.run({"image": working[None, None]})
            found = box_of(outputs["hand"], width, height)
            assert np.abs(np.subtract(found, golden.box)).max() <= 1
            settings = manifest.preprocessing
            crop = crop_of(grey, golden.box, settings.margin, settings.image_size)
            own = runtime.preprocess(grey.astype(np.float32), golden.box, inverted=golden.inverted)
            assert (np.rint(255 * np.abs(crop - own)) <= 1).all()
            age = runtime.regress(crop.astype(np.float32), male=is_male(golden.sex))
            changes.append(abs(age - golden.bundle_months))
    # A grey level in some pixels moves an age further than another evaluator does.
    assert np.mean(changes) <= 0.5
