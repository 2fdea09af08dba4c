"""Ranges of activations: what is seen, what is made of it, and what is refused."""

from __future__ import annotations

import csv
import shutil
from functools import partial

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bakit.calib.command import calibrate, ranges_of
from bakit.calib.dataset import CalibrationSet
from bakit.calib.methods import METHODS, find_ranges
from bakit.calib.ranges import DIGITS, read_ranges
from bakit.calib.statistics import BINS, Statistics, gather
from bakit.cli import main
from bakit.export import command
from bakit.export.onnx.int8 import observed_model, observed_tensors
from bakit.export.onnx.regressor import regressor_model
from bakit.image.read import decode, pixel_digest
from bakit.phantoms import write_phantoms


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a folder with enough phantoms to calibrate on."""
    return write_phantoms(tmp_path_factory.mktemp("many") / "phantoms", 34, height=96)


def statistics_of(*tensors):
    """Return the statistics of tensors, each given by its values on each image ``(N, K)``."""
    low = np.array([values.min() for values in tensors])
    high = np.array([values.max() for values in tensors])
    tails = np.array([np.percentile(values, (0.01, 99.99), axis=1) for values in tensors])
    counts = [
        np.histogram(v, BINS, (a, b + (b <= a)))[0]
        for v, a, b in zip(tensors, low, high, strict=True)
    ]
    names = tuple(f"t{index}" for index in range(len(tensors)))
    return Statistics(names, low, high, tails, np.array(counts))


values = st.tuples(
    st.integers(1, 40), st.integers(1, 200), st.integers(0, 99), st.sampled_from([0.01, 1.0, 300])
)


@given(values, st.sampled_from(sorted(METHODS)))
def test_a_range_lies_within_what_was_seen(shape, method):
    images, size, seed, scale = shape
    seen = np.random.default_rng(seed).standard_normal((images, size)) * scale
    (low, high) = find_ranges(statistics_of(seen), method)["t0"]
    slack = (seen.max() - seen.min() + 1e-9) / BINS * 1.01
    assert seen.min() - slack <= low <= high <= seen.max() + slack


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_relu_s_range_starts_at_zero_and_a_constant_has_one(method):
    seen = np.maximum(np.random.default_rng(1).standard_normal((20, 500)), 0)
    ranges = find_ranges(statistics_of(seen, np.full((20, 4), 3.0)), method)
    assert ranges["t0"][0] == pytest.approx(0, abs=0.01)
    assert ranges["t0"][1] > 1
    assert np.isfinite(ranges["t1"]).all()


def test_one_odd_image_widens_minmax_and_hardly_the_others():
    seen = np.random.default_rng(2).standard_normal((100, 2000))
    odd = seen.copy()
    odd[0, 0] = 1000.0
    for method, most in {"minmax": 1000, "tails": 300, "percentile-99.99": 10}.items():
        high = find_ranges(statistics_of(odd), method)["t0"][1]
        assert high <= most
    assert find_ranges(statistics_of(odd), "minmax")["t0"][1] == 1000


def test_mse_clips_what_costs_less_than_coarse_levels():
    """99 % of the mass within 1, the rest at 10: 256 levels up to 10 waste nine tenths of them."""
    seen = np.r_[np.linspace(0, 1, 9999), 10.0][None]
    _, high = find_ranges(statistics_of(seen), "mse")["t0"]
    assert high < 10


def test_what_is_gathered_is_what_the_model_computes(checkpoint, labelled):
    """Lowest, highest and tails of each tensor, recomputed on one image."""
    sample = labelled.samples[0]
    images = CalibrationSet.load([sample], lambda s: cv2.resize(decode(s.path), (96, 96)))
    model = regressor_model(checkpoint)
    seen = gather(observed_model(model), images)
    assert set(seen.names) == observed_tensors(model) | {"image", "sex", "age_months"}
    place = seen.names.index("image")
    pixels = images.pixels[0]
    assert seen.low[place] == pixels.min()
    assert seen.high[place] == pixels.max()
    np.testing.assert_allclose(seen.tails[place, :, 0], np.percentile(pixels, (0.01, 99.99)))
    assert (seen.counts.sum(1) > 0).all()
    assert seen.counts[place].sum() == pixels.size
    assert images.images_sha256 == [pixel_digest(decode(sample.path))]


def test_calibration_writes_ranges_that_export_takes(checkpoint, many, tmp_path, monkeypatch):
    out = tmp_path / "ranges.json"
    arguments = ["calibrate", many, "--checkpoint", checkpoint.path, "--all-images"]
    arguments += ["--samples", 32, "--method", "mse", "--out", out]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert (result.exit_code, result.stderr.partition("next: ")[0]) == (0, "")
    ranges = read_ranges(out)
    assert (ranges.samples, ranges.method) == (32, "mse")
    assert set(ranges.tensors) == set(checkpoint.header.ranges.tensors)
    assert len(set(ranges.images_sha256)) == 32
    assert {len(digest) for digest in ranges.images_sha256} == {DIGITS}
    given = []
    monkeypatch.setattr(command, "export_bundle", lambda *_, ranges, **__: given.append(ranges))
    find_ranges = partial(ranges_of, source=out)
    command.export_all(checkpoint.path, ["onnx"], ["int8"], tmp_path, find_ranges=find_ranges)
    assert given == [ranges]


def test_too_few_images_are_refused(refused, checkpoint, labelled):
    line = refused("calibrate", labelled.folder, "--checkpoint", checkpoint.path, "--all-images")
    assert "12 calibration images; at least 32 are needed" in line
    assert "--samples" in refused("calibrate", labelled.folder, "--samples", "31")


def test_one_sex_is_refused(refused, checkpoint, many, tmp_path):
    folder = shutil.copytree(many, tmp_path / "girls")
    rows = list(csv.DictReader((folder / "labels.csv").read_text("utf-8").splitlines()))
    girls = [row | {"male": "False"} for row in rows]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(girls)
    line = refused("calibrate", folder, "--checkpoint", checkpoint.path, "--all-images")
    assert "all calibration images show girls; the model needs both sexes" in line


def test_a_constant_image_is_refused(refused, checkpoint, many, tmp_path):
    folder = shutil.copytree(many, tmp_path / "grey")
    path = sorted((folder / "images").iterdir())[3]
    cv2.imwrite(str(path), np.full((96, 96), 90, np.uint8))
    line = refused(
        "calibrate", folder, "--checkpoint", checkpoint.path, "--all-images", "--samples", 34
    )
    assert f"{path}: blank" in line


def test_nothing_is_measured_on_calibration_images(refused, checkpoint, many, tmp_path):
    """They are known by their pixels, in whatever file."""
    ranges = calibrate(checkpoint, many, count=32, all_images=True)
    stored = checkpoint.with_header(ranges=ranges).write(tmp_path / "seen.safetensors")
    for precision in ("--fp32", "--int8"):
        words = ["export", stored.path, "--target", "onnx", precision, "--out", tmp_path]
        assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    fp32, int8 = tmp_path / "seen-onnx-fp32", tmp_path / "seen-onnx-int8"
    folder = shutil.copytree(many, tmp_path / "again")
    line = refused("bench", fp32, int8, "--data", folder)
    assert "seen-onnx-int8 was calibrated on this image" in line
    assert "calibrated on this image" in refused("evaluate", folder, "--bundle", int8)
