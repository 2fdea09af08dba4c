"""``bakit localize``: by a method or a bundle, as text, as JSON and as pictures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.cli import main
from bakit.hand.found import Found, LocalizerOutput, Scores
from bakit.hand.overlay import GAP, HEADER, SIDE, draw_overlay
from bakit.hand.prepare import Hand
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import Localizer, write_localizer
from bakit.image.box import Box
from bakit.phantoms import make_phantom
from bakit.settings import UnrolledSettings
from bakit.studies.localize import localize_files


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A hand, an inverted one, two, and none; with the box of the first."""
    folder = tmp_path_factory.mktemp("pictures")
    phantom = make_phantom(6100, height=160, nuisances=())
    hand = phantom.image
    images = {
        "hand": hand,
        "inverted": 255 - hand,
        "two": np.hstack([hand, hand[:, ::-1]]),
        "none": np.tile(np.arange(64, dtype=np.uint8), (48, 1)),
    }
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder, phantom.box


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A file of an unrolled localizer that takes no time."""
    path = tmp_path_factory.mktemp("localizer") / "tiny.safetensors"
    settings = UnrolledSettings(size=32, features=4, labels=4, steps=2)
    write_localizer(path, Localizer(settings, initial_weights(settings), "drawn"))
    return path


def run(*arguments):
    result = CliRunner().invoke(main, ["localize", *map(str, arguments)])
    told = [line.partition(": ")[0] for line in result.stderr.splitlines()]
    assert result.exit_code == 0, result.output
    assert set(told) <= {"next", "overlays"}
    return result.stdout


def test_the_student_is_used_when_nothing_is_said(pictures):
    folder, expected = pictures
    row = json.loads(run(folder / "hand.png", "--json"))
    assert set(row) == {"image", "box", "method", "ms", "reasons", "scores", "turn"}
    assert row["image"] == str(folder / "hand.png")
    assert row["method"] == "student"
    assert row["ms"] > 0
    assert row["reasons"] == []
    assert set(row["scores"]) == {"confidence", "second", "border", "agreement", "contrast"}
    assert Box(*row["box"]).iou(expected) >= 0.9


def test_a_line_an_image_says_what_speaks_against_it(pictures):
    folder, _ = pictures
    names = ("hand", "inverted", "two", "none")
    lines = run(*(folder / f"{name}.png" for name in names)).splitlines()
    tails = [
        line.removeprefix(f"{folder / name}.png: ") for line, name in zip(lines, names, strict=True)
    ]
    assert all(part.isdigit() for part in tails[0].split())
    assert tails[1].endswith("  (inverted)")
    assert "two hands" in tails[2]
    assert tails[3] == "no hand found"


def test_what_is_no_hand_has_no_box_and_no_scores(pictures):
    row = json.loads(run(pictures[0] / "none.png", "--json"))
    assert (row["box"], row["scores"], row["reasons"]) == (None, None, ["no_hand_found"])


def test_a_file_of_weights_is_a_method(pictures, tiny):
    row = json.loads(run(pictures[0] / "hand.png", "--json", "--method", tiny))
    assert row["method"] == "unrolled"


def test_the_papers_steps_are_a_method(pictures):
    folder, expected = pictures
    row = json.loads(run(folder / "hand.png", "--json", "--method", "unrolled", "--threads", 1))
    assert row["method"] == "unrolled"
    assert Box(*row["box"]).iou(expected) >= 0.8


def test_a_bundle_s_own_localizer_runs(pictures, fake_bundle):
    row = json.loads(run(pictures[0] / "hand.png", "--json", "--bundle", fake_bundle))
    assert row["method"] == "unrolled"
    assert row["box"] is not None


@pytest.mark.parametrize("by", ["student", "file", "bundle"])
def test_pictures_are_drawn_and_change_nothing(pictures, tiny, fake_bundle, tmp_path, by):
    folder, _ = pictures
    how = {"student": [], "file": ["--method", tiny], "bundle": ["--bundle", fake_bundle]}[by]
    images = [folder / "hand.png", folder / "none.png"]
    out = tmp_path / "new" / "pictures"

    plain, drawn = (
        [json.loads(line) for line in run(*images, "--json", *how, *more).splitlines()]
        for more in ([], ["--overlay", out])
    )

    assert [row["box"] for row in plain] == [row["box"] for row in drawn]
    assert sorted(path.name for path in out.iterdir()) == ["hand.png", "none.png"]
    for path in out.iterdir():
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert picture.shape[0] == HEADER + SIDE + GAP
        assert picture.shape[1] > 4 * SIDE // 4
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3


def test_two_images_of_one_name_have_no_picture_each(refused, pictures, tmp_path):
    folder, _ = pictures
    (tmp_path / "hand.jpg").write_bytes((folder / "hand.png").read_bytes())
    line = refused("localize", folder / "hand.png", "hand.jpg", "--overlay", "out")
    assert line == "bakit: --overlay: two images are named 'hand'; use a folder for each"


@pytest.mark.parametrize("name", [".", "link"])
def test_a_picture_does_not_replace_an_image(refused, pictures, tmp_path, name):
    (tmp_path / "hand.png").write_bytes((pictures[0] / "hand.png").read_bytes())
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    line = refused("localize", "hand.png", "--overlay", name)
    assert line == "bakit: --overlay: would overwrite the image hand.png; choose another folder"


def test_an_overlay_that_is_a_file_is_refused(refused, pictures, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "--overlay" in refused("localize", pictures[0] / "hand.png", "--overlay", "file")


@pytest.mark.parametrize("how", [[], ["--overlay", "out"]])
def test_an_unusable_image_is_one_line(refused, how):
    line = refused("localize", "nowhere.png", *how)
    assert line == "bakit: nowhere.png: cannot be read (No such file or directory)"


def test_images_before_an_unusable_one_are_told(pictures):
    found = localize_files([pictures[0] / "hand.png", pictures[0] / "absent.png"])
    assert next(found)[1].box is not None


# Pictures

CROP = np.zeros((96, 96), np.float32)
SCORES = Scores(0.97, 0.0, 0.0, 1.0, 0.5)


def draw(grey, output, found):
    """The overlay of a radiograph whose hand was found so."""
    return draw_overlay(grey, Hand(CROP, found, output))


@pytest.mark.parametrize("shape", [(100, 80), (16, 4000), (4000, 16), (300, 20000)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_any_shape_of_image_can_be_drawn(shape, dtype):
    grey = np.random.default_rng(0).random(shape, dtype=np.float32)
    mask = np.zeros((64, 64), np.bool_)
    mask[10:40, 20:50] = True
    seen = LocalizerOutput(grey[:64, :64], mask.astype(dtype), [(mask, 0.9), (~mask, 0.3)])
    box = Box(3, 2, shape[1] - 2, shape[0] - 1)
    found = Found(box, ("two_hands", "hand_cut_off", "methods_disagree", "inverted"), SCORES)
    picture = draw(grey, seen, found)
    assert picture.shape[0] == HEADER + SIDE + GAP
    assert picture.shape[1] <= 3 * (3 * SIDE + GAP) + SIDE + 2 * GAP


def test_one_label_and_no_region_can_be_drawn():
    grey = np.random.default_rng(0).random((50, 40), dtype=np.float32)
    seen = LocalizerOutput(grey, np.full((64, 64), 3, np.int32), [])
    picture = draw(grey, seen, Found(None, ("no_hand_found",)))
    assert picture.ndim == 3


def test_the_box_is_drawn_where_it_is():
    grey = np.full((SIDE, SIDE), 0.2, np.float32)
    grey[0, 0] = 0.3
    seen = LocalizerOutput(grey, np.zeros((64, 64), np.float32), [])
    nothing = Found(None, ("no_hand_found",))
    boxed = Found(Box(100, 50, 200, 150), (), SCORES)
    without, with_box = (draw(grey, seen, f) for f in (nothing, boxed))
    left = 3 * GAP + 2 * SIDE
    changed = (without != with_box).any(2)[HEADER : HEADER + SIDE, left : left + SIDE]
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs(rows[[0, -1]] - [50, 149]).max() <= 1
    assert abs(columns[[0, -1]] - [100, 199]).max() <= 1
