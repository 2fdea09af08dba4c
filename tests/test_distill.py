"""Teaching the student: pictures with known hands, and a small run from a folder to a file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bakit.cli import main
from bakit.data.labels import read_samples
from bakit.data.splits import split
from bakit.errors import InputError
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import find
from bakit.hand.weights import read_localizer
from bakit.image.read import decode
from bakit.settings import Preprocessing, StudentSettings
from bakit.training.distill import Lessons, _loss, distill
from bakit.training.hand_pictures import SIDE, changed, empty_picture, phantom_picture, square

LESSONS = Lessons(images=3, phantoms=4, empties=2, steps=4, batch_size=4)
SMALL = StudentSettings(widths=(3, 4, 5))


@pytest.fixture(scope="module")
def taught(labelled, tmp_path_factory):
    """A student of four steps, its file, and what was told meanwhile."""
    out = tmp_path_factory.mktemp("distill") / "student.safetensors"
    done = {}
    torch.set_num_threads(1)  # more only wait for each other on a busy machine

    def on_progress(step, count, total):
        assert 0 < count <= total
        done[step] = done.get(step, 0) + 1

    found = distill(
        labelled.folder, out, LESSONS, settings=SMALL, workers=1, on_progress=on_progress
    )
    return found, out, done


def test_a_run_leaves_a_file_that_localizes(taught, labelled):
    found, out, done = taught
    again = read_localizer(out)
    assert again.sha256 == found.sha256
    assert again.settings == SMALL
    assert "3 training images" in again.origin
    assert done == {"teacher masks": 3, "drawing phantoms": 4, "training": 4}
    localizer = open_localizer(again.weights, again.settings, 1)
    find(decode(labelled.samples[0].path), localizer, Preprocessing())


def test_the_same_seed_gives_the_same_file(taught, labelled, tmp_path):
    again = tmp_path / "again.safetensors"
    distill(labelled.folder, again, LESSONS, settings=SMALL, workers=1)
    assert again.read_bytes() == taught[1].read_bytes()


def test_only_training_images_are_asked_about(labelled, tmp_path, monkeypatch):
    asked = []

    def remember(paths, *_):
        asked.extend(paths)
        return iter(())

    monkeypatch.setattr("bakit.training.distill._taught", remember)
    lessons = Lessons(images=100, phantoms=4, empties=0, steps=2, batch_size=2)
    out = tmp_path / "a.safetensors"
    distill(labelled.folder, out, lessons, settings=SMALL, workers=1, split_seed=3)
    train = split(read_samples(labelled.folder), 3, set()).train
    assert sorted(asked) == sorted(sample.path for sample in train)


def test_the_command_writes_the_default_student(labelled, tmp_path):
    out = tmp_path / "student.safetensors"
    numbers = "--images 1 --phantoms 2 --empties 1 --steps 2 --batch-size 2 --workers 1"
    command = ["distill", str(labelled.folder), "--out", str(out), *numbers.split()]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    found = read_localizer(out)
    assert found.settings == StudentSettings()
    weights = sum(value.size for value in found.weights.values())
    assert result.stdout == f"{out}  {weights} weights\n"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": 3, "phantoms": 4, "batch_size": 8}, "with 3 images and 4 phantoms"),
        ({"learning_rate": 1.0}, "--learning-rate must be between 0 and 1"),
    ],
)
def test_impossible_numbers_are_refused(labelled, tmp_path, changes, text):
    with pytest.raises(InputError, match=text):
        distill(labelled.folder, tmp_path / "a.safetensors", Lessons(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_that_knows_no_hand_is_said(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr("bakit.training.distill._taught", lambda *_: iter(()))
    lessons = Lessons(images=4, phantoms=0, empties=1, steps=2, batch_size=2)
    with pytest.raises(InputError, match="too few hands; use more --images"):
        distill(labelled.folder, tmp_path / "a.safetensors", lessons)
    assert list(tmp_path.iterdir()) == []


def test_a_drawn_hand_costs_less_than_another_place():
    wanted = torch.zeros(2, 1, 64, 64)
    wanted[:, :, 10:40, 20:50] = 1
    good, shifted, none = (wanted - 0.5) * 12, (wanted.roll(20, 3) - 0.5) * 12, wanted * 0 - 12
    assert _loss(good, wanted) < 0.05 < _loss(shifted, wanted)
    assert _loss(good, wanted) < _loss(none, wanted)
    assert _loss(none, torch.zeros_like(wanted)) < 0.05  # nothing, where nothing is


# Pictures


def test_a_phantom_s_mask_is_its_hand():
    picture, mask = phantom_picture(2_000_001)
    assert picture.shape == mask.shape == (SIDE, SIDE)
    assert picture.dtype == mask.dtype == np.uint8
    assert 0.05 < (mask > 127).mean() < 0.6
    assert np.array_equal(phantom_picture(2_000_001)[0], picture)


@pytest.mark.parametrize("seed", range(12))
def test_an_empty_picture_has_no_hand(seed):
    picture, mask = empty_picture(seed)
    assert picture.shape == (SIDE, SIDE)
    assert picture.dtype == np.uint8
    assert not mask.any()
    assert np.array_equal(empty_picture(seed)[0], picture)


@pytest.mark.parametrize("shape", [(20, 300), (64, 64), (128, 128), (700, 130)])
def test_any_shape_becomes_a_square(shape):
    assert np.array_equal(square(np.ones(shape, np.float32)), np.full((SIDE, SIDE), 255))


def moved(masks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return changed(torch.zeros_like(masks) + 0.1 + 0.8 * masks, masks, generator)


def test_changed_pictures_are_working_images():
    masks = torch.zeros(64, 1, SIDE, SIDE)
    cv2.circle(masks[0, 0].numpy(), (60, 70), 25, 1.0, -1)
    masks[:] = masks[0]
    images, wanted = moved(masks)
    again = moved(masks)
    assert images.shape == wanted.shape == (64, 1, 64, 64)
    for values in (images, wanted):
        assert values.min() >= 0
        assert values.max() <= 1
        assert torch.isfinite(values).all()
    assert torch.equal(images, again[0])
    assert not torch.equal(images, moved(masks, 1)[0])
    # Nearly everywhere the mask goes where the disk goes: it is brighter, or darker if inverted.
    inside, outside = (
        (images * part).sum((1, 2, 3)) / part.sum((1, 2, 3)).clamp(min=1)
        for part in (wanted, 1 - wanted)
    )
    shown = wanted.sum((1, 2, 3)) > 20
    assert ((inside - outside).abs()[shown] > 0.1).float().mean() > 0.8
    assert (inside > outside)[shown].float().mean() > 0.6
