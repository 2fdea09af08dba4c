"""Changes of a radiograph that leave the age as it is, and what they are measured by."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bakit.backends.fake import FakeSession
from bakit.bundle import Bundle
from bakit.cli import main
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.studies.evaluate.choose import choose_images
from bakit.studies.evaluate.document import Data, Model
from bakit.studies.stress import perturb
from bakit.studies.stress.perturb import KINDS, perturbations
from bakit.studies.stress.run import Condition, Stress, stress, stress_figure
from bakit.types import Precision

GREYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=16, max_side=70),
    elements=st.floats(0, 1, width=32),
)


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def condition(name="turned", rise=1.0, upper=2.0, over_24=0.1):
    return Condition("rotation", name, 9, 5.0, rise, (0.0, upper), 3.0, 4.0, 0.2, over_24, 0.0, 0.0)


def result(*conditions):
    model = Model("bundle", "model", "c" * 64, "b", "b" * 64, "fake", Precision.FP32, "fake")
    data = Data("radiographs", 9, "all", 9, False, "")
    return Stress(2, model, data, 0, condition("untouched", 0.0, 0.0), conditions)


def test_there_are_ten_kinds_and_names_are_unique():
    assert KINDS == (
        "rotation", "flip", "brightness", "contrast", "inversion", "resolution", "marker",
        "size", "compression", "frame",
    )  # fmt: skip
    names = [item.name for item in perturbations()]
    assert len(set(names)) == len(names)
    text = " ".join(run("stress", "--help").stdout.split())
    assert f"each runs {len(names) + 1} times" in text
    assert ", ".join(KINDS[:-1]) + f" or {KINDS[-1]}" in text
    assert {item.kind for item in perturbations(["flip", "marker"])} == {"flip", "marker"}


@settings(max_examples=20)
@given(GREYS)
def test_every_change_gives_an_image_and_leaves_its_own_alone(grey):
    before = grey.copy()
    for item in perturbations():
        changed = item.apply(grey)
        assert changed.dtype == np.float32
        assert changed.ndim == 2
        assert np.isfinite(changed).all()
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert np.array_equal(grey, before)


@given(GREYS)
def test_what_can_be_undone_is(grey):
    assert np.array_equal(perturb.rotated(perturb.rotated(grey, 90), -90), grey)
    assert np.array_equal(perturb.rotated(grey, 180), perturb.flipped(perturb.flipped(grey, 0), 1))
    assert np.allclose(perturb.inverted(perturb.inverted(grey)), grey, atol=1e-6)
    assert np.array_equal(perturb.coarse(grey, 1), grey)


def test_a_rotation_keeps_all_of_the_hand_and_its_direction():
    grey = np.zeros((60, 100), np.float32)
    grey[0:4, 96:100] = 1  # the upper right corner
    turned = perturb.rotated(grey, 45)
    assert turned.shape == (113, 113)
    assert turned.sum() == pytest.approx(grey.sum(), rel=0.05)
    row, _ = np.unravel_index(turned.argmax(), turned.shape)
    assert row < 20, "counter-clockwise, an upper right corner comes to the top"


def test_amounts_are_what_the_names_say():
    grey = np.full((20, 20), 0.4, np.float32)
    grey[0] = 0.6
    assert perturb.lit(grey, 0.1)[1, 1] == pytest.approx(0.5)
    assert np.ptp(perturb.contrasted(grey, 0.5)) == pytest.approx(0.1)
    large = decode(make_phantom(1, height=400).image)
    assert perturb.coarse(large, 8).shape == large.shape
    assert perturb.coarse(large, 8).std() < large.std()
    for letter, side in (("L", np.s_[:, :200]), ("R", np.s_[:, -200:])):
        moved = np.argwhere(perturb.marked(large, letter) != large)
        assert len(moved) > 100
        assert (moved[:, 0] < 100).all(), f"{letter} in an upper corner"
        centre = moved[:, 1].mean() / large.shape[1]
        assert (centre < 0.25) if letter == "L" else (centre > 0.75), side


def test_sizes_are_those_of_the_longest_side_and_nothing_is_enlarged():
    large = decode(make_phantom(1, height=400).image)
    sizes = {p.name: p.apply(large).shape for p in perturbations(["size"])}
    assert [max(shape) for shape in sizes.values()] == [299, 150, 100]
    for height, width in sizes.values():
        assert width / height == pytest.approx(large.shape[1] / large.shape[0], abs=0.01)
    small = perturb.shrunk(large, 100)
    assert np.array_equal(perturb.shrunk(small, 150), small)


def test_jpeg_changes_little_and_lower_quality_more():
    grey = decode(make_phantom(1, height=200).image)
    far = [np.abs(perturb.compressed(grey, quality) - grey).mean() for quality in (95, 50, 5)]
    assert 0 < far[0] < far[1] < far[2]
    assert far[1] < 0.02


@given(GREYS)
def test_a_border_is_added_and_cut_off_again(grey):
    wide = perturb.framed(grey, 0.05)
    rows, columns = (round(0.05 * side) for side in grey.shape)
    height, width = grey.shape
    assert wide.shape == (height + 2 * rows, width + 2 * columns)
    assert np.array_equal(wide[rows : rows + height, columns : columns + width], grey)
    if rows:
        outer = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        assert np.unique(wide[:rows]) == np.median(outer).astype(np.float32)
    cut = perturb.framed(grey, -0.05)
    assert np.array_equal(cut, grey[rows : height - rows, columns : width - columns])


def test_numbers_are_those_of_the_ages(fake_bundle, labelled, monkeypatch):
    """The model reads 60 months plus 100 times the mean grey: each change is known."""
    ages: list[float] = []

    def read(self, feeds):
        answers = FakeSession.run.original(self, feeds)
        if "age_months" in answers:
            answers["age_months"] = np.float32([[60 + 100 * feeds["image"].mean()]])
            ages.append(answers["age_months"].item())
        return answers

    read.original = FakeSession.run
    monkeypatch.setattr(FakeSession, "run", read)
    bundle = Bundle.read(fake_bundle)
    images = choose_images(labelled.folder, bundle, limit=6)
    found = stress(bundle, images, ["flip", "contrast"], workers=1)
    assert [item.kind for item in found.conditions] == ["flip"] * 2 + ["contrast"] * 6
    assert found.untouched.samples == 6
    before, *after = np.reshape(ages, (6, 9)).T
    for item, other in zip(found.conditions, after, strict=True):
        assert item.mean_abs_change_months == pytest.approx(np.mean(np.abs(other - before)))
        assert item.p95_abs_change_months == pytest.approx(
            np.percentile(np.abs(other - before), 95)
        )
    assert found.untouched.mae_rise_ci95_months == (0, 0)
    swapped = found.conditions[0]
    assert swapped.mean_abs_change_months < 3
    for item in found.conditions:
        assert item.mae_months == pytest.approx(
            found.untouched.mae_months + item.mae_rise_months, abs=1e-9
        )
        low, high = item.mae_rise_ci95_months
        assert low <= item.mae_rise_months <= high
        assert 0 <= item.over_24_months <= item.over_12_months <= 1


def test_limits_name_what_is_over_them():
    mild, hard = condition(), condition("upside down", 7.0, 8.5, 0.4)
    assert result(mild, hard).failures() == []
    assert result(mild).failures(2.0, 0.1) == []
    found = result(mild, hard).failures(3.0, 0.2)
    assert found == [
        "upside down: MAE +7.00 months, upper end of its 95 % interval +8.50, limit 3",
        "upside down: 40.0% of the images have an error above 24 months, limit 20.0%",
    ]
    assert result(condition(upper=float("nan"))).failures(3.0), "NaN is within no limit"


def test_the_picture_has_a_row_for_each_change():
    pytest.importorskip("matplotlib")
    left, right = stress_figure(result(condition(), condition("upside down"))).axes
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "untouched", "turned", "upside down",
    ]  # fmt: skip
    assert len(right.lines) == 2


def test_the_command_measures_gates_and_draws(fake_bundle, labelled, tmp_path):
    words = ["stress", labelled.folder, "--bundle", fake_bundle, "--limit", 4, "--workers", 1]
    plain = run(*words, "--kind", "flip", "--plots", tmp_path / "plots")
    assert plain.exit_code == 0, plain.output
    assert "left and right swapped" in plain.stdout
    assert (tmp_path / "plots" / "stress.png").read_bytes()[:4] == b"\x89PNG"
    parsed = run(*words, "--kind", "flip", "--json")
    document = msgspec.json.decode(parsed.stdout, type=Stress)
    assert json.loads(parsed.stdout)["untouched"]["samples"] == 4
    assert [item.name for item in document.conditions] == [
        "left and right swapped", "top and bottom swapped",
    ]  # fmt: skip
    far = run(*words, "--kind", "flip", "--max-over-24-percent", 0)
    assert far.exit_code == (1 if any(c.over_24_months for c in document.conditions) else 0)


def test_bad_input_is_one_line(refused, fake_bundle, labelled):
    words = ("stress", labelled.folder, "--bundle", fake_bundle)
    assert "unknown kind 'wind'" in refused(*words, "--kind", "wind")
    assert "not both" in refused(*words, "--checkpoint", "x.safetensors")
